"""First contact: init, check, validate; and what makes a rule run again."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import mrcfile
import numpy as np
import pandas as pd
import pytest
import yaml

from cryoetgan.cli import STAGES
from cryoetgan.code_hash import UNTRACKED, code_files
from cryoetgan.config import Config, load
from cryoetgan.io.files import provenance, sidecar, write_json
from cryoetgan.io.mrc import PROTEIN_BRIGHT, write_volume
from cryoetgan.io.volume_set import write_volume_set
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.setup.cost import count_multiplications, estimate
from cryoetgan.setup.inputs import check_inputs
from cryoetgan.tables import ClassRow, TomogramRow, read_classes, read_tomograms
from cryoetgan.translation.cyclegan.settings import CycleGANSettings
from cryoetgan.translation.residual.settings import ResidualSettings
from tests.conftest import ROOT, refused


@pytest.fixture(autouse=True)
def disk(monkeypatch):
    """Say what is free; what this machine has left is none of these tests' business."""

    def free(gigabytes):
        usage = SimpleNamespace(free=gigabytes * 1e9)
        monkeypatch.setattr("cryoetgan.setup.check.shutil.disk_usage", lambda _: usage)

    free(1000)
    return free


@pytest.fixture
def tomograms(tmp_path):
    folder = tmp_path / "my tomograms"
    folder.mkdir()
    for name, size in (("TS_01", 13.48), ("TS_02", 0.0)):
        with mrcfile.new(folder / f"{name}.mrc") as file:
            file.set_data(np.zeros((4, 6, 8), np.int16))
            file.voxel_size = size
    (folder / "TS_01.rawtlt").write_text("-51.0\n-48.0\n0\n54.0\n")
    return folder


def test_init_fills_config_and_tables_from_the_headers(cryoetgan, tomograms):
    said = cryoetgan("init", tomograms).stderr
    assert "TS_02" in said
    # a path with a blank can be pasted as it stands
    assert f"cryoetgan check --config '{tomograms / 'config.yaml'}'" in said
    rows = pd.read_csv(tomograms / "tomograms.tsv", sep="\t")
    assert rows["voxel_size"][0] == pytest.approx(13.48)
    assert np.isnan(rows["voxel_size"][1])
    assert (rows["tilt_low"][0], rows["tilt_high"][0]) == (-51, 54)
    # what is not known has to be filled in: check says so
    wanted = ("row 3", "tilt_low is missing")
    refused(cryoetgan("check", "--config", tomograms / "config.yaml", code=2), *wanted)
    text = (tomograms / "tomograms.tsv").read_text().replace("\t\t\t\t\t", "\t10\t-60\t60\t3\t", 1)
    (tomograms / "tomograms.tsv").write_text(text)
    cryoetgan("check", "--config", tomograms / "config.yaml")
    # what a person has edited is left alone
    cryoetgan("init", tomograms)
    assert (tomograms / "tomograms.tsv").read_text() == text


def test_init_reads_what_lies_beside_a_tomogram(cryoetgan, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in (
        "TS_7_rec_bin4.mrc",
        "TS_7_rec_bin4.rec",
        "own.mrc",
        "own_labels.mrc",
        "own_mask.mrc",
    ):
        write_volume(folder / "v.mrc", np.zeros((4, 6, 8), np.float32), 9.5)
        (folder / "v.mrc").rename(folder / name)
    mdoc = "Voltage = 200\n" + "".join(
        f"[ZValue = {n}]\nTiltAngle = {angle}\nTargetDefocus = -3.5\n"
        for n, angle in enumerate((0.02, -54.0, 60.01))
    )
    (folder / "TS_7.mdoc").write_text(mdoc)
    (folder / "TS_7_annotations.csv").write_text("x,y,z,class\n")
    write_volume(folder / "own.mrc", np.zeros((4, 6, 8), np.float32), 9.5, [PROTEIN_BRIGHT])
    recorded = Acquisition(tilt_low=-45, tilt_high=48, defocus=2.5, ctf="phase-flipped")
    write_json(sidecar(folder / "own.mrc"), {"acquisition": recorded.to_json()})
    said = cryoetgan("init", folder).stderr
    assert f"cryoetgan check --config {folder / 'config.yaml'}" in said
    rows = pd.read_csv(folder / "tomograms.tsv", sep="\t", dtype=str).set_index("tomogram")
    # a label volume or a mask is no tomogram; a name that occurs twice gets a number
    assert list(rows.index) == ["TS_7_rec_bin4", "TS_7_rec_bin4_2", "own"]
    row = rows.loc["TS_7_rec_bin4"]
    assert list(row[["tilt_low", "tilt_high", "voltage", "defocus"]]) == [
        "-54",
        "60.01",
        "200",
        "3.5",
    ]
    assert row["annotations"] == str(folder / "TS_7_annotations.csv")
    assert (row["contrast"], row["ctf"]) == ("dark", "raw")
    # our own file says that protein is bright in it, and how it was recorded
    row = rows.loc["own"]
    assert list(row[["tilt_low", "tilt_high", "defocus"]]) == ["-45", "48", "2.5"]
    assert (row["contrast"], row["ctf"]) == ("bright", "phase-flipped")
    assert row["mask"] == str(folder / "own_mask.mrc")
    assert "One of: paper" not in (text := (folder / "config.yaml").read_text())
    assert "Any of: relion, copick, plain." in text
    # 1.3 times the largest of the example's particles fits the box
    assert yaml.safe_load(text)["densities"]["box"] == 40


def test_what_init_writes_is_what_the_workflow_takes(cryoetgan, tomograms):
    cryoetgan("init", tomograms)
    assert load(tomograms / "config.yaml").run == "my_tomograms"
    assert len(read_classes(tomograms / "classes.tsv")) == 2


def test_check_prints_json_and_names_a_missing_input(cryoetgan, tomograms):
    found = json.loads(cryoetgan("check", "--json", cwd=ROOT).stdout)
    assert {row["state"] for row in found["machine"]} <= {"ok", "missing", "optional", "warning"}
    assert {"conda", "EMAN2", "GPU", "Slurm", "disk"} <= {row["what"] for row in found["machine"]}
    assert found["run"]["classes"] == 4
    cryoetgan("init", tomograms)
    text = (tomograms / "tomograms.tsv").read_text().replace("\t\t\t\t\t", "\t10\t-60\t60\t3\t", 1)
    (tomograms / "tomograms.tsv").write_text(text)
    (tomograms / "TS_02.mrc").unlink()
    refused(cryoetgan("check", "--config", tomograms / "config.yaml", code=2), "missing")


ATOM = "ATOM  {:5d}  CA  ALA A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00           C\n"


@pytest.mark.parametrize(
    ("box", "state", "words"),
    [
        (16, "warning", "16 cuts it; set 28 or more"),
        (24, "warning", "24 is narrow; 28"),
        (28, "ok", "28 voxels; rod measures 200 angstrom"),
        (40, "ok", "40 voxels"),
        (80, "warning", "28 is large enough and takes 4 % of the time of 80"),
    ],
)
def test_check_says_whether_the_box_fits_the_largest_particle(tmp_path, box, state, words):
    atoms = [(n, n, x, 0, 0) for n, x in enumerate((-100, 0, 100), start=1)]
    (tmp_path / "rod.pdb").write_text("".join(ATOM.format(*atom) for atom in atoms))
    config = Config.model_validate({"densities": {"box": box, "voxel_size": 10}})
    rows = [ClassRow.model_validate({"class": "rod", "source": str(tmp_path / "rod.pdb")})]
    found = {what: (state, said) for what, state, said in check_inputs(config, rows, [])}
    assert found["box"][0] == state
    assert words in found["box"][1]
    assert found["classes"][0] == "missing"  # one class alone


def test_check_names_a_source_that_is_neither_file_nor_pdb_id():
    rows = [
        ClassRow.model_validate({"class": name, "source": source})
        for name, source in (("good", "4v6x"), ("short", "4v6"), ("odd", "maps/a.txt"))
    ]
    said = [text for _, state, text in check_inputs(Config(), rows, []) if state == "missing"]
    assert len(said) == 2
    assert "class short" in said[0]
    assert "'maps/a.txt'" in said[1]
    assert "a file ends in .pdb" in said[1]


def test_check_names_a_tomogram_that_could_not_be_imported(tomograms):
    (tomograms / "TS_03.mrc").write_text("no tomogram")
    rows = [
        TomogramRow(tomogram=name, path=str(tomograms / f"{name}.mrc"), tilt_low=-60, tilt_high=60)
        for name in ("TS_01", "TS_02", "TS_03")
    ]
    said = [text for _, state, text in check_inputs(Config(), [], rows) if state == "missing"]
    assert len(said) == 2
    assert "TS_02.mrc: its header has no voxel size" in said[0]
    assert "TS_03.mrc: cannot be read as MRC" in said[1]
    sized = [rows[1].model_copy(update={"voxel_size": 10.0})]
    assert not [text for _, state, text in check_inputs(Config(), [], sized) if state == "missing"]


def test_the_generators_multiplications_are_the_papers():
    # the paper's generator: 7.2e9 at 40^3 (counted layer by layer for PAPER.md's table)
    assert count_multiplications(CycleGANSettings()) * 40**3 == pytest.approx(7.2e9, rel=0.02)
    # of the residual generator each filter and its adjoint count, but not the density estimator
    small = ResidualSettings(diffusion_steps=2, filters=3)
    assert count_multiplications(small) == 2 * 2 * 3 * 27
    assert count_multiplications(small.replace(width=64)) == count_multiplications(small)


def test_the_cost_grows_with_what_is_asked_for(tomograms, cryoetgan):
    cryoetgan("init", tomograms)
    config = load(tomograms / "config.yaml")
    classes = read_classes(tomograms / "classes.tsv")
    rows = [
        TomogramRow(tomogram="a", path=str(tomograms / "TS_01.mrc"), tilt_low=-60, tilt_high=60)
    ]

    def cost(**sections):
        changed = {
            name: getattr(config, name).model_copy(update=keys) for name, keys in sections.items()
        }
        return estimate(config.model_copy(update=changed), classes, rows, cores=4)

    base = cost()
    paper = cost(translation={"preset": "paper"})
    assert (
        paper["minutes_training"] > 50 * cost(translation={"preset": "smoke"})["minutes_training"]
    )
    assert paper["minutes"] > paper["minutes_training"] > 60
    twice = cost(densities={"count": 2 * config.densities.count})
    assert 1.3 * base["disk_gb"] < twice["disk_gb"] < 2.1 * base["disk_gb"]
    longer = cost(translation={"steps": 100}), cost(translation={"steps": 200})
    assert longer[1]["minutes_training"] == pytest.approx(2 * longer[0]["minutes_training"])
    drawn = cost(tomograms={"synthetic": 3})
    x, y, z = config.tomograms.shape
    assert drawn["disk_gb"] - base["disk_gb"] == pytest.approx(3 * 12e-9 * x * y * z)
    assert drawn["minutes"] > base["minutes"]
    assert cost(particles={"picker": "match"})["minutes"] > base["minutes"]
    also = cost(evaluation={"second_network": "cb3d"})
    alone = cost(evaluation={"network": "cb3d", "learning_curve": []})
    assert also["minutes"] > alone["minutes"] > base["minutes"]
    both = [row.model_copy(update={"group": name}) for row in rows for name in ("titan", "talos")]
    own = config.translation.model_copy(update={"per_group": True})
    each = estimate(config.model_copy(update={"translation": own}), classes, both, cores=4)
    assert each["minutes_training"] == pytest.approx(2 * base["minutes_training"])
    quick = estimate(config, classes, rows, gpu=True, cores=4)
    assert quick["minutes"] < base["minutes"]


def test_check_takes_several_files_as_snakemake_does(cryoetgan, tomograms, tmp_path):
    cryoetgan("init", tomograms)
    (tmp_path / "small.yaml").write_text("translation: {steps: 3}\nseed: 7\n")
    whole = load(tomograms / "config.yaml", tmp_path / "small.yaml")
    assert (whole.seed, whole.translation.steps, whole.translation.preset) == (7, 3, "recommended")
    text = (tomograms / "tomograms.tsv").read_text().replace("\t\t\t\t\t", "\t10\t-60\t60\t3\t", 1)
    (tomograms / "tomograms.tsv").write_text(text)
    words = ("check", "--json", "--config", tomograms / "config.yaml")
    base, small = (
        json.loads(cryoetgan(*words, *more).stdout)["run"]["minutes_training"]
        for more in ((), ("--config", tmp_path / "small.yaml"))
    )
    assert small < base / 100


@pytest.mark.parametrize("name", ["se1", "se2", "czii"])
def test_what_stands_beside_a_full_size_configuration_is_todays_estimate(name):
    path = ROOT / "config" / f"{name}.yaml"
    config = load(path)
    tables = [read_classes(ROOT / config.structures.table)]
    tables.append(read_tomograms(ROOT / config.tomograms.table))
    on_cores = estimate(config, *tables, cores=2)
    on_gpu = estimate(config, *tables, gpu=True, cores=16)
    hours, training, gpu, disk = map(
        float,
        re.search(
            r"([\d.]+) hours on two cores, ([\d.]+) of them training.*?([\d.]+) with a GPU\. "
            r"([\d.]+) GB of disk",
            path.read_text().replace("\n# ", " "),
        ).groups(),
    )
    assert hours == pytest.approx(on_cores["minutes"] / 60, rel=0.1)
    assert training == pytest.approx(on_cores["minutes_training"] / 60, rel=0.1)
    assert gpu == pytest.approx(on_gpu["minutes"] / 60, rel=0.1)
    assert disk == pytest.approx(on_cores["disk_gb"], rel=0.1)


def test_check_says_what_the_demo_takes(cryoetgan):
    said = cryoetgan("check", cwd=ROOT).stdout
    assert "4 classes, 3 tomograms" in said
    assert "minutes on this machine" in said
    assert re.search(r"ok +disk +1000 GB free", said)


def test_check_says_that_the_disk_is_too_small(cryoetgan, disk):
    disk(0.2)
    done = cryoetgan("check", cwd=ROOT, code=2)
    refused(done, "disk")
    assert re.search(r"missing +disk +0.2 GB free, [\d.]+ needed", done.stdout)


def test_validate_finds_each_planted_corruption(cryoetgan, tmp_path):
    folder = tmp_path / "results"
    star = folder / "set.star"
    table = pd.DataFrame({"cryoetganClass": ["a", "b"]})
    write_volume_set(star, np.ones((2, 8, 8, 8), np.float32), table, 10.0)
    write_json(sidecar(star), {"provenance": provenance("test")})
    (folder / "x.json").write_text("{}")
    assert "no problems" in cryoetgan("validate", folder).stdout
    whole = {path: path.read_bytes() for path in folder.iterdir()}

    def spoil(name, change):
        for path, content in whole.items():
            path.write_bytes(content)
        path = folder / name
        path.write_bytes(change(path.read_bytes()))
        refused(cryoetgan("validate", folder, code=2), str(folder))

    spoil("x.json", lambda text: text[:-1])
    spoil("set.star", lambda text: b"\n".join(text.splitlines()[:-1]) + b"\n")
    spoil("set.mrcs", lambda data: data[:-4])
    spoil("set.mrcs", lambda data: data[:-4] + np.float32("nan").tobytes())
    spoil("set.star.json", lambda text: b"")
    for path, content in whole.items():
        path.write_bytes(content)
    (folder / ".set.12345678.part.star").write_text("half")
    refused(cryoetgan("validate", folder, code=2), "1 of")


# in a process that has loaded none of ours, a fork for each stage: torch is loaded once
LOAD = """
import importlib, json, os, sys
import scipy.ndimage, torch
for stage, modules in json.loads(sys.argv[1]).items():
    if os.fork() == 0:
        for name in modules:
            importlib.import_module(name)
        found = [name for name in sys.modules if name.startswith("cryoetgan.")]
        print(json.dumps([stage, found]), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, stage
"""


def test_the_list_of_modules_a_stage_consists_of_is_honest():
    """Whatever of ours a stage's modules load at run time is in its list."""
    files = {stage: code_files(ROOT / "cryoetgan", stage) for stage in STAGES}
    modules = {
        stage: [
            "cryoetgan." + name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            for name in names
            if name.startswith(f"{stage}/") and name.endswith(".py")
        ]
        for stage, names in files.items()
    }
    done = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps(modules)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = dict(map(json.loads, done.stdout.splitlines()))
    assert set(loaded) == set(STAGES)
    for stage, found in loaded.items():
        assert set(modules[stage]) <= set(found)
        for module in found:
            path = module.removeprefix("cryoetgan.").replace(".", "/")
            if path.split("/")[0] in UNTRACKED:
                continue
            named = {f"{path}.py", f"{path}/__init__.py"}
            assert named & set(files[stage]), f"{stage} misses {module}"
    # and the stage next door is not in it: an edit there must not run this one again
    assert not [name for name in files["structures"] if name.startswith("translation")]


def test_an_import_is_found_wherever_it_stands(tmp_path):
    places = {
        "plain": "from cryoetgan import plain",
        "several": "from cryoetgan.many import (\n    one,\n    several,\n)",
        "function": "def f():\n    class C:\n        import cryoetgan.function",
        "attempt": "try:\n    pass\nexcept OSError:\n    import cryoetgan.attempt",
        "finally_": "try:\n    pass\nfinally:\n    import cryoetgan.finally_",
        "otherwise": "if 1:\n    pass\nelse:\n    with x:\n        import cryoetgan.otherwise",
        "case": "match x:\n    case 1:\n        for y in x:\n            import cryoetgan.case",
    }
    package = tmp_path / "cryoetgan"
    (package / "stage").mkdir(parents=True)
    (package / "many").mkdir()
    (package / "stage" / "all.py").write_text("\n".join(places.values()))
    for name in places:
        (package / f"{name}.py").write_text("")
    (package / "many" / "several.py").write_text("")
    (package / "several.py").unlink()
    wanted = {f"{name}.py" for name in places} - {"several.py"} | {"many/several.py"}
    assert set(code_files(package, "stage")) == {"stage/all.py", *wanted}

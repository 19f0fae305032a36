"""The command check: missing software and inputs, the box, disk space."""

import json
import re

import pytest

from cryoetgan.config import Config, load
from cryoetgan.setup.inputs import check_inputs
from cryoetgan.tables import ClassRow, TomogramRow
from tests.conftest import ROOT, refused


def test_check_prints_json(cryoetgan):
    found = json.loads(cryoetgan("check", "--json", cwd=ROOT).stdout)
    assert {row["state"] for row in found["machine"]} <= {"ok", "missing", "optional", "warning"}
    assert {"conda", "EMAN2", "GPU", "Slurm", "disk"} <= {row["what"] for row in found["machine"]}
    assert found["run"]["classes"] == 4


def test_a_missing_input_is_an_error(cryoetgan, configured):
    (configured / "TS_02.mrc").unlink()
    refused(cryoetgan("check", "--config", configured / "config.yaml", code=2), "missing")


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
def test_the_box_is_compared_with_the_largest_particle(tmp_path, box, state, words):
    atoms = [(n, n, x, 0, 0) for n, x in enumerate((-100, 0, 100), start=1)]
    (tmp_path / "rod.pdb").write_text("".join(ATOM.format(*atom) for atom in atoms))
    config = Config.model_validate({"densities": {"box": box, "voxel_size": 10}})
    rows = [ClassRow.model_validate({"class": "rod", "source": str(tmp_path / "rod.pdb")})]
    found = {what: (state, said) for what, state, said in check_inputs(config, rows, [])}
    assert found["box"][0] == state
    assert words in found["box"][1]
    assert "classes" not in found  # one class is enough


def test_a_source_that_is_neither_a_file_nor_a_pdb_id_is_named():
    rows = [
        ClassRow.model_validate({"class": name, "source": source})
        for name, source in (("good", "4v6x"), ("short", "4v6"), ("odd", "maps/a.txt"))
    ]
    said = [text for _, state, text in check_inputs(Config(), rows, []) if state == "missing"]
    assert len(said) == 2
    assert "class short" in said[0]
    assert "'maps/a.txt'" in said[1]
    assert "a file ends in .pdb" in said[1]


def test_a_tomogram_that_cannot_be_imported_is_named(tomograms):
    (tomograms / "TS_03.mrc").write_text("no tomogram")
    rows = [
        TomogramRow(tomogram=name, path=str(tomograms / f"{name}.mrc"), tilt_low=-60, tilt_high=60)
        for name in ("TS_01", "TS_02", "TS_03")
    ]
    said = [text for _, state, text in check_inputs(Config(), [], rows) if state == "missing"]
    assert len(said) == 2
    assert "TS_02.mrc: the header's voxel size is 0 A" in said[0]
    assert "TS_03.mrc: cannot be read as MRC" in said[1]
    sized = [rows[1].model_copy(update={"voxel_size": 10.0})]
    assert not [text for _, state, text in check_inputs(Config(), [], sized) if state == "missing"]


def test_check_takes_several_files_as_snakemake_does(cryoetgan, configured, tmp_path):
    (tmp_path / "small.yaml").write_text("translation: {steps: 3}\nseed: 7\n")
    whole = load(configured / "config.yaml", tmp_path / "small.yaml")
    assert (whole.seed, whole.translation.steps, whole.translation.preset) == (7, 3, "recommended")
    words = ("check", "--json", "--config", configured / "config.yaml")
    base, small = (
        json.loads(cryoetgan(*words, *more).stdout)["run"]["minutes_training"]
        for more in ((), ("--config", tmp_path / "small.yaml"))
    )
    assert small < base / 100


def test_the_cost_of_the_demo_is_printed(cryoetgan):
    said = cryoetgan("check", cwd=ROOT).stdout
    assert "4 classes, 3 tomograms" in said
    assert "minutes on this machine" in said
    assert re.search(r"ok +disk +1000 GB free", said)


def test_a_full_disk_is_an_error(cryoetgan, disk):
    disk(0.2)
    done = cryoetgan("check", cwd=ROOT, code=2)
    refused(done, "disk")
    assert re.search(r"missing +disk +0.2 GB free, [\d.]+ needed", done.stdout)

"""The command check: missing software and inputs, the box, disk space."""

import json
import re
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryoetgan.config import Config, load
from cryoetgan.errors import UserError
from cryoetgan.io.mrc import write_volume
from cryoetgan.setup.input_files import check_inputs, refuse_unsafe_tables
from cryoetgan.tables import ClassRow, SubtomogramRow, TomogramRow
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


@pytest.mark.parametrize(("chains", "radius", "said"), [("A", 90, False), (None, 90, True)])
def test_two_classes_of_the_same_atoms_are_said(chains, radius, said):
    rows = [
        ClassRow.model_validate({"class": "a", "source": "4v6x"}),
        ClassRow.model_validate(
            {"class": "b", "source": "4v6x", "chains": chains, "radius": radius}
        ),
    ]
    texts = [text for _, state, text in check_inputs(Config(), rows, []) if state == "warning"]
    assert any("classes a and b have one source, 4v6x" in text for text in texts) == said


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


def rows(*specs, annotations=None):
    """Rows of the table of tomograms from pairs of path and split."""
    return [
        TomogramRow(
            tomogram=f"t{n}", path=str(path), split=split, tilt_low=-60, tilt_high=60,
            annotations=annotations,
        )
        for n, (path, split) in enumerate(specs)
    ]  # fmt: skip


def findings(*specs, state="missing", **how):
    found = check_inputs(Config(), [], rows(*specs, **how))
    return [text for what, state_, text in found if state_ == state and "no such file" not in text]


def test_half_tomograms_are_on_the_grid_of_their_tomogram(tmp_path):
    sizes = {"t": (8, 9, 10), "even": (8, 9, 10), "odd": (8, 10, 9)}
    files = {name: tmp_path / f"{name}.mrc" for name in sizes}
    for name, path in files.items():
        write_volume(path, np.zeros(sizes[name], np.float32), 10.0)
    halves = {half: str(files[half]) for half in ("even", "odd")}
    row = rows((files["t"], "train"))[0].model_copy(update=halves)
    (problem,) = (
        text for _, state, text in check_inputs(Config(), [], [row]) if state == "missing"
    )
    for word in ("odd.mrc", "9x10x8", "10x9x8", "column odd"):
        assert word in problem
    files["even"].unlink()
    assert any("even.mrc: no such file" in text for _, _, text in check_inputs(Config(), [], [row]))


def test_one_specimen_on_both_sides_of_a_split_is_refused(tmp_path, rng):
    paths = [tmp_path / f"{name}.mrc" for name in ("a", "b", "c", "TS_1_EVN", "TS_1_ODD")]
    data = rng.standard_normal((40, 64, 64)).astype(np.float32)
    for path in paths:
        write_volume(
            path,
            data if path.stem in "ab" else rng.permutation(data.ravel()).reshape(data.shape),
            10.0,
        )
    a, b, c, even, odd = paths
    assert findings((a, "train"), (c, "test")) == []
    for first, second, reason in (
        (a, a, "are the same file"),
        (a, b, "have the same content"),
        (even, odd, "show the same specimen"),
    ):
        (said,) = findings((first, "train"), (c, "validation"), (second, "test"))
        assert f"t0 and t2 {reason}" in said
        assert "splits train and test" in said
        # in one split they count twice; without splits, blocks of both would mix
        (said,) = findings((first, "train"), (second, "train"), (c, "test"), state="warning")
        assert "counts twice" in said
        (said,) = findings((first, None), (second, None))
        assert "its blocks" in said
        with pytest.raises(UserError, match=reason):
            refuse_unsafe_tables(Config(), rows((first, "train"), (second, "test")), Path)
    assert findings(("simulate", "train"), ("simulate", "test")) == []


def test_check_and_the_workflow_agree_on_sets(tmp_path, rng):
    with mrcfile.new_mmap(tmp_path / "s.mrcs", (3, 8, 8, 8), mrc_mode=2) as file:
        file.data[:] = rng.standard_normal(file.data.shape)
        file.voxel_size = 10
    # the second name hides that the file is the same
    (tmp_path / "t.mrcs").symlink_to(tmp_path / "s.mrcs")
    sets = [
        SubtomogramRow(
            name=name,
            path=str(tmp_path / file),
            split=split,
            tilt_low=-60,
            tilt_high=60,
            group=name,
        )
        for name, file, split in (("a", "s.mrcs", "train"), ("b", "t.mrcs", "test"))
    ]
    with pytest.raises(UserError, match="same") as caught:
        refuse_unsafe_tables(Config(), sets, Path)
    said = [text for _, state, text in check_inputs(Config(), [], sets) if state == "missing"]
    assert said == [str(caught.value)]
    # a set for testing: the blocks of the tomograms are not mixed
    write_volume(tmp_path / "a.mrc", rng.standard_normal((40, 64, 64)), 10.0)
    twice = [*rows((tmp_path / "a.mrc", "train"), (tmp_path / "a.mrc", "train")), sets[1]]
    found = [state for _, state, text in check_inputs(Config(), [], twice) if "same file" in text]
    assert found == ["warning"]


def test_copies_that_only_look_alike_are_a_warning(tmp_path, rng):
    data = rng.standard_normal((64, 96, 96)).astype(np.float32)
    noise = rng.standard_normal((2, *data.shape)).astype(np.float32)
    paths = [tmp_path / f"{name}.mrc" for name in ("one", "two", "three")]
    for path, volume in zip(paths, (data, data + 0.5 * noise[0], noise[1]), strict=True):
        write_volume(path, volume, 10.0)
    specs = [(path, split) for path, split in zip(paths, ("train", "test", "test"), strict=True)]
    (said,) = findings(*specs, state="warning")
    assert "t0 and t1 look alike" in said


def test_annotations_of_several_tomograms_must_name_them(tmp_path, rng):
    for name in "ab":
        write_volume(tmp_path / f"{name}.mrc", rng.standard_normal((40, 64, 64)), 10.0)
    specs = [(tmp_path / "a.mrc", "train"), (tmp_path / "b.mrc", "test")]
    for name, text, count in (
        ("all.csv", "x,y,z\n", 1),
        ("all.csv", "run_name,x,y,z\n", 0),
        ("all.coords", "1 2 3\n", 1),
        ("all.json", '{"run_name": "a"}', 0),
    ):
        (tmp_path / name).write_text(text)
        said = findings(*specs, annotations=str(tmp_path / name))
        assert len(said) == count
        assert all("annotations of t0, t1" in text for text in said)


def test_a_table_that_contradicts_a_header_and_a_tilt_series_are_named(tmp_path, rng):
    write_volume(tmp_path / "a.mrc", rng.standard_normal((40, 64, 64)), 10.0)
    (row,) = rows((tmp_path / "a.mrc", None))
    found = check_inputs(Config(), [], [row.model_copy(update={"voxel_size": 5.0})])
    assert [state for _, state, text in found if "its header says 10" in text] == ["warning"]
    with mrcfile.new(tmp_path / "TS_1_st.mrc") as file:
        file.set_data(np.zeros((41, 128, 128), np.int16))
        file.set_image_stack()
        file.voxel_size = 5
    (said,) = findings((tmp_path / "TS_1_st.mrc", None))
    assert "is a tilt series or an image stack" in said


def test_a_home_that_cannot_be_written_is_said_with_the_way_out(cryoetgan, tmp_path):
    done = cryoetgan("check", code=2, HOME="/proc/none", XDG_CACHE_HOME="")
    assert "export XDG_CACHE_HOME=" in done.stderr
    done = cryoetgan("check", code=2, HOME="/proc/none", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert "XDG_CACHE_HOME" not in done.stderr

"""Invalid output names, and folders that hold other files."""

import numpy as np
import pandas as pd
import pytest

from cryoetgan.io.files import atomic, read_json, sha256, sidecar
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.volume_set import write_volume_set
from tests.conftest import refused

MAP = ("densities", "membrane", "--voxel-size", "20", "--box", "16", "-o")
WRITERS = {
    ".mrc": MAP,
    ".cif": ("structures", "phantom", "tric", "-o"),
    ".star": ("densities", "pose", "m.mrc", "--count", "2", "-o"),
    ".html": ("report", "build", "r", "-o"),
    "": ("export", "plain", "g.star", "-o"),
}


@pytest.fixture
def small(tmp_path, rng):
    (tmp_path / "r").mkdir()
    write_volume(tmp_path / "m.mrc", np.abs(rng.standard_normal((16, 16, 16))), 20.0)
    table = pd.DataFrame({"cryoetganClass": ["a", "b"]})
    write_volume_set(tmp_path / "g.star", rng.standard_normal((2, 16, 16, 16)), table, 20.0)
    (tmp_path / "a file").write_text("kept")
    return tmp_path


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_invalid_output_is_named_as_it_was_typed(cryoetgan, small, suffix):
    name = f"a folder{suffix}" if suffix else "a file"
    if suffix:
        (small / name).mkdir()
        (small / name / "theirs").write_text("kept")
    before = sorted(small.rglob("*"))
    for target in (f"a file/x{suffix}", name):
        done = cryoetgan(*WRITERS[suffix], target, code=2)
        refused(done, target.removesuffix(suffix))
        assert ".part" not in done.stderr
    assert "Traceback" not in cryoetgan(*WRITERS[suffix], "", code=2).stderr
    assert sorted(small.rglob("*")) == before
    assert (small / "a file").read_text() == "kept"


@pytest.mark.parametrize("verb", ["plain", "relion", "copick"])
def test_an_export_replaces_an_export_and_nothing_else(cryoetgan, small, verb):
    if verb == "copick":
        pytest.importorskip("copick")
    words = ("export", verb, "g.star", "-o")
    (small / "theirs").mkdir()
    (small / "theirs" / "thesis.tex").write_text("years of work")
    for folder in ("theirs", "."):
        refused(cryoetgan(*words, folder, code=2), folder, "would delete")
    assert (small / "theirs" / "thesis.tex").read_text() == "years of work"
    (small / "empty").mkdir()
    cryoetgan(*words, "empty")
    cryoetgan(*words, "empty")
    other = "plain" if verb == "relion" else "relion"
    refused(cryoetgan("export", other, "g.star", "-o", "empty", code=2), "would delete")


def test_the_record_of_a_result_holds_the_hashes_of_all_inputs(cryoetgan, small):
    cryoetgan("densities", "pose", "m.mrc", "--count", 2, "-o", "poses.star")
    cryoetgan(
        "imaging", "simulate", "poses.star", "--snr", 1, "--tilts=-60,60", "-o", "simulated.star"
    )
    inputs = read_json(sidecar(small / "simulated.star"))["provenance"]["inputs"]
    # the stack counts too
    assert inputs == {name: sha256(small / name) for name in ("poses.star", "poses.mrcs")}


def test_no_command_overwrites_its_input(cryoetgan, small):
    cryoetgan("structures", "phantom", "tric", "-o", "s.cif")
    (small / "link.mrc").symlink_to("m.mrc")
    (small / "c.star").write_text("data_")
    for words in (
        ("structures", "import", "s.cif", "-o", "s.cif"),
        ("densities", "import", "m.mrc", "--voxel-size", 20, "--box", 16, "-o", "link.mrc"),
        ("tomograms", "import", "m.mrc", "-o", "./m.mrc"),
        ("particles", "pick", "m.mrc", "--sigma", 20, "-o", "m.mrc"),
        ("particles", "select", "c.star", "-o", "c.star"),
        ("particles", "gallery", "g.star", "-o", "g.star"),
        ("densities", "pose", "m.mrc", "--count", 2, "-o", "link.mrc"),
    ):
        before = (small / words[2]).read_bytes()
        refused(cryoetgan(*words, code=2), words[-1].removeprefix("./"), "another name")
        assert (small / words[2]).read_bytes() == before


def test_a_folder_instead_of_a_file_is_an_error(cryoetgan, small):
    refused(cryoetgan("check", "--config", "r", code=2), "r: is a folder")
    refused(cryoetgan("init", "a file", code=2), "a file", "is a file")


@pytest.mark.parametrize("kind", ["file", "folder", "dangling"])
def test_a_link_stays_and_its_target_is_written(tmp_path, kind):
    target, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(target)
    if kind == "file":
        target.write_text("old")
    if kind == "folder":
        target.mkdir()
    with atomic(link) as part:
        if kind == "folder":
            part.mkdir()
            (part / "x").write_text("new")
        else:
            part.write_text("new")
    assert link.is_symlink()
    assert (target / "x" if kind == "folder" else target).read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]

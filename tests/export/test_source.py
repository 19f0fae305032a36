"""The exported set follows the choice, and the README gives its reason."""

import json

import numpy as np
import pytest

from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import read_star
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.setup.validate import find_problems
from tests.conftest import refused
from tests.export.conftest import VOXEL


@pytest.fixture
def sets(tmp_path, generated):
    """A generated set g.star, a simulated set f.star, and a choice of each."""
    volumes, table = generated
    made = read_volume_set(tmp_path / "g.star")
    simulated = table.assign(cryoetganSource="simulated")
    write_volume_set(tmp_path / "f.star", volumes + 9, simulated, VOXEL, made.optics)
    for exported in ("generated", "fitted"):
        content = {
            "exported": exported,
            "requested": "auto",
            "reason": f"Here is {exported}: KID 3 < 4.",
        }
        (tmp_path / f"{exported}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("verb", ["relion", "plain", "copick"])
@pytest.mark.parametrize(("exported", "source"), [("generated", "g.star"), ("fitted", "f.star")])
def test_the_chosen_set_is_exported_with_its_reason(
    cryoetgan, tmp_path, sets, verb, exported, source
):
    if verb == "copick":
        pytest.importorskip("copick")
    words = ("--fitted", "f.star", "--choice", f"{exported}.json")
    cryoetgan("export", verb, "g.star", *words, "-o", "chosen")
    cryoetgan("export", verb, source, "-o", "alone")
    readme = (tmp_path / "chosen/README.md").read_text()
    alone = (tmp_path / "alone/README.md").read_text()
    assert readme.startswith(alone)
    assert f"Here is {exported}: KID 3 < 4." in readme
    assert "Exported set" not in alone
    files = {
        path.relative_to(tmp_path / "alone")
        for path in (tmp_path / "alone").rglob("*")
        if path.suffix == ".mrc" or path.name == "particles.star"
    }
    assert files or verb == "copick"
    for name in files:
        assert (tmp_path / "chosen" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    inputs = json.loads((tmp_path / "chosen/provenance.json").read_text())["provenance"]["inputs"]
    assert {source, f"{exported}.json"} <= set(inputs)
    assert find_problems(tmp_path / "chosen")[0] == []


def test_a_set_that_is_not_the_chosen_one_is_refused(cryoetgan, tmp_path, sets):
    words = ("export", "relion", "-o", "x")
    for chosen, star, found in (("fitted", "g", "generated"), ("generated", "f", "simulated")):
        done = cryoetgan(*words, f"{star}.star", "--choice", f"{chosen}.json", code=2)
        refused(done, f"{chosen}.json", f"{star}.star", f"'{chosen}'", found)
    refused(cryoetgan(*words, "g.star", "--fitted", "f.star", code=2), "--choice")
    assert not (tmp_path / "x").exists()
    cryoetgan(*words, "f.star", "--choice", "fitted.json")  # already the chosen set
    assert set(read_star(tmp_path / "x/particles.star").particles["cryoetganSource"]) == {
        "simulated"
    }


@pytest.mark.parametrize("exported", ["generated", "fitted"])
def test_chosen_tomograms_replace_those_of_their_name(cryoetgan, tmp_path, sets, exported):
    copick = pytest.importorskip("copick")
    rng = np.random.default_rng(3)
    (tmp_path / "physics").mkdir()
    for name in ("TS_1.mrc", "synthetic_1.mrc", "physics/synthetic_1.mrc"):
        write_volume(tmp_path / name, rng.standard_normal((12, 14, 16)).astype(np.float32), VOXEL)
    words = ("--fitted", "physics/synthetic_1.mrc", "--choice", f"{exported}.json")
    cryoetgan("export", "copick", "TS_1.mrc", "synthetic_1.mrc", *words, "-o", "c")
    root = copick.from_file(str(tmp_path / "c/config.json"))
    taken = {"TS_1": "TS_1.mrc", "synthetic_1": "synthetic_1.mrc"}
    taken |= {"synthetic_1": "physics/synthetic_1.mrc"} if exported == "fitted" else {}
    assert {run.name for run in root.runs} == set(taken)
    for name, path in taken.items():
        (tomogram,) = root.get_run(name).voxel_spacings[0].tomograms
        assert np.allclose(np.abs(tomogram.numpy()), np.abs(read_volume(tmp_path / path).data))
    assert f"Synthetic tomograms. Here is {exported}" in (tmp_path / "c/README.md").read_text()
    unknown = ("export", "copick", "TS_1.mrc", *words, "-o", "d")
    refused(cryoetgan(*unknown, code=2), "--fitted", "synthetic_1.mrc", "TS_1.mrc")

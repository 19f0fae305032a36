"""Values that are not finite in input files and options end in one message."""

import mrcfile
import numpy as np
import pandas as pd
import pytest

from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, write_star
from cryoetgan.io.volume_set import write_volume_set
from tests.conftest import refused

TILTS = "--tilts=-60,60"
SCORE = ("particles", "score", "t.mrc", "picks.star", "--template", "a.mrc", TILTS)
MATCH = ("particles", "match", "t.mrc", "--template", "a.mrc", TILTS, "--rotations", "8")
AVERAGE = ("particles", "average", "set.star", "--template", "a.mrc", "--iterations", "1")
SELECT = ("particles", "select", "scores.star", "--top", "2")
READERS_OF_MAPS = {
    "score": SCORE,
    "match": MATCH,
    "average": (*AVERAGE, "--rotations", "8"),
    "pick": ("particles", "pick", "t.mrc", "--density", "a.mrc"),
    "scene": ("tomograms", "scene", "a.mrc", "--copies", "1", "--shape=24,24,24"),
    "simulate": ("tomograms", "simulate", "a.mrc", "--copies", "1", "--shape=24,24,24", "--snr", 1),
    "pose": ("densities", "pose", "a.mrc", "--count", "1"),
    "fit": ("imaging", "fit", "t.mrc", "--particles", "picks.star", "--density", "a.mrc", TILTS),
    "measure": (
        "evaluation", "measure", "--real", "set.star", "--generated", "set.star", "--map", "a.mrc",
    ),
    "copick": ("export", "copick", "t.mrc", "--density", "a.mrc"),
}  # fmt: skip
OUTPUTS = {"scene": "o.mrc", "simulate": "o.mrc", "average": "o.mrc", "fit": "o.json"}


@pytest.fixture
def files(tmp_path, rng):
    """A tomogram, picks in it, scores of them, a volume set and a map."""
    write_volume(tmp_path / "t.mrc", rng.standard_normal((24, 32, 32)), 20.0)
    write_volume(tmp_path / "a.mrc", np.abs(rng.standard_normal((16, 16, 16))), 20.0)
    table = pd.DataFrame(rng.uniform(9, 14, (4, 3)), columns=COORDINATES)
    table[ANGLES] = rng.uniform(0, 90, (4, 3))
    table["rlnTomoName"], table["cryoetganClass"] = "t", "a"
    table["cryoetganId"] = [f"p{n}" for n in range(4)]
    table["cryoetganScore"] = [0.4, 0.3, 0.2, 0.1]
    for name in ("picks", "scores"):
        write_star(tmp_path / f"{name}.star", table)
    write_volume_set(tmp_path / "set.star", rng.standard_normal((4, 16, 16, 16)), table, 20.0)
    return tmp_path


def spoil(path, value):
    with mrcfile.mmap(path, mode="r+") as file:
        file.data[(0,) * file.data.ndim] = value


@pytest.mark.parametrize("name", READERS_OF_MAPS)
def test_a_broken_map_is_named(cryoetgan, files, name):
    before = sorted(files.iterdir())
    words = (*READERS_OF_MAPS[name], "-o", OUTPUTS.get(name, "o.star" if name != "copick" else "o"))
    spoil(files / "a.mrc", np.nan)
    refused(cryoetgan(*words, code=2), "a.mrc", "not finite")
    write_volume(files / "a.mrc", np.full((16, 16, 16), -1.0), 20.0)
    refused(cryoetgan(*words, code=2), "a.mrc", "no voxel ")
    assert sorted(files.iterdir()) == before


@pytest.mark.parametrize("name", ["score", "match", "pick", "fit", "extract"])
def test_a_broken_tomogram_is_named(cryoetgan, files, name):
    if name == "extract":
        words = ("particles", "extract", "picks.star", "--tomogram", "t.mrc", "--box", "12")
    else:
        words = READERS_OF_MAPS[name]
    words = (*words, "-o", OUTPUTS.get(name, "o.star"))
    before = sorted(files.iterdir())
    spoiled = np.random.default_rng(1).standard_normal((24, 32, 32)).astype(np.float32)
    write_volume(files / "t.mrc", spoiled, 20.0)
    with mrcfile.mmap(files / "t.mrc", mode="r+") as file:
        file.data[12, 12, 12] = np.nan
    refused(cryoetgan(*words, code=2), "t", "not finite")
    write_volume(files / "t.mrc", np.ones((24, 32, 32)), 20.0)
    if name != "extract":
        refused(cryoetgan(*words, code=2), "t.mrc")
    assert sorted(files.iterdir()) == before


def test_broken_volumes_and_missing_angles_are_not_averaged(cryoetgan, files):
    words = ("particles", "average", "set.star", "-o", "o.mrc")
    spoil(files / "set.mrcs", np.inf)
    refused(cryoetgan(*words, code=2), "set.star", "volume 1", "not finite")
    spoil(files / "set.mrcs", 0)
    text = (files / "set.star").read_text().splitlines()
    rows = [n for n, line in enumerate(text) if "@set.mrcs" in line]
    angle = text[rows[1]].split()[4]
    text[rows[1]] = text[rows[1]].replace(angle, "nan")
    (files / "set.star").write_text("\n".join(text))
    refused(cryoetgan(*words, code=2), "set.star", "row 2 has no angles")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*SELECT, "--test-fraction", "nan"), ("--test-fraction", "0 to below 1")),
        ((*SELECT, "--test-fraction=-1"), ("--test-fraction", "-1")),
        ((*SELECT, "--top", "0"), ("--top",)),
        ((*SELECT, "--box", "0"), ("--box",)),
        ((*MATCH, "--score-threshold-sd=-inf"), ("--score-threshold-sd", "-inf")),
    ],
)
def test_an_invalid_number_is_named_with_its_option(cryoetgan, files, words, said):
    refused(cryoetgan(*words, "-o", "o.star", code=2), *said)
    assert not (files / "o.star").exists()


def test_the_gallery_shows_no_nan(cryoetgan, files):
    text = (files / "set.star").read_text()
    (files / "set.star").write_text(text.replace("0.400000", "nan"))
    cryoetgan("particles", "gallery", "set.star", "-o", "g.html")
    assert "NaN" not in (files / "g.html").read_text()

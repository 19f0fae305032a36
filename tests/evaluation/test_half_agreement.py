"""Halves of the data: particles are found again in independent noise, noise is not."""

import numpy as np
import pandas as pd
import pytest

from cryoetgan.evaluation.half_agreement import (
    CHANCE,
    MOST_LIKENESS,
    compare_halves,
    record,
    tail_probability,
    warn_of_halves,
)
from cryoetgan.io.files import read_json
from cryoetgan.io.mrc import Volume, read_volume, write_volume
from cryoetgan.io.star import COORDINATES, write_star
from cryoetgan.particles.matching.template import SearchOptions
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import random_rotations, rotate_volume
from tests.conftest import refused

BOX, VOXEL, SHAPE = 16, 10.0, (36, 112, 148)
SEARCH = SearchOptions(acquisition=Acquisition(), lowpass=30.0, rotations=64, highpass_shells=1)
WORDS = ("--tilts=-60,60", "--rotations", 64, "--highpass-shells", 1)


@pytest.fixture(scope="module")
def specimen():
    """A map, places of 24 particles, places without, and two halves of independent noise."""
    rng = np.random.default_rng(4)
    z, y, x = np.indices((BOX,) * 3) - BOX // 2
    blobs = [(-4, 0, 0), (3, -3, 1), (0, 4, -2), (2, 2, 4)]
    density = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 4) for a, b, c in blobs)
    places = np.array([(x, y, 18) for x in range(14, 140, 24) for y in range(14, 100, 26)], float)
    signal = np.zeros(SHAPE, np.float32)
    for place, rotation in zip(places, random_rotations(len(places), rng), strict=True):
        x, y, z = (int(v) - BOX // 2 for v in place)
        signal[z : z + BOX, y : y + BOX, x : x + BOX] += rotate_volume(density, rotation)
    halves = {half: signal + rng.normal(0, 0.4, SHAPE) for half in ("even", "odd")}
    halves = {half: Volume(np.float32(data), VOXEL) for half, data in halves.items()}
    return density.astype(np.float32), places, places + np.array([12, 13, 0]), halves


def table(places, **columns):
    return pd.DataFrame(places, columns=COORDINATES).assign(rlnTomoName="t", **columns)


def judge(specimen, halves, particles=None):
    density, places, empty, _ = specimen
    places = places if particles is None else particles
    rows = table(places, cryoetganClass="a"), table(empty)
    return compare_halves(halves, *rows, {"a": density}, SEARCH, np.random.default_rng(0))


def test_particles_are_confirmed_and_other_places_are_not(specimen):
    found = judge(specimen, specimen[3])
    assert found["all"]["share"] > 0.9
    assert found["classes"] == {"a": found["all"]}
    assert found["others"]["share"] < 0.2
    assert found["warning"] is None


@pytest.mark.parametrize("control", ["another place", "white noise", "swapped contrast"])
def test_controls_that_must_fail_do_fail(specimen, rng, control):
    halves = dict(specimen[3])
    changes = {
        "another place": lambda data: np.roll(data, (0, 13, 12), (0, 1, 2)),
        "white noise": lambda data: rng.standard_normal(data.shape, np.float32),
        "swapped contrast": np.negative,
    }
    halves["odd"] = Volume(changes[control](halves["odd"].data), VOXEL)
    found = judge(specimen, halves)
    assert found["all"]["share"] < 0.15
    assert "even and odd are halves of this tomogram" in found["warning"]


def test_particles_that_are_none_are_not_confirmed(specimen):
    """Also if both halves belong to the tomogram."""
    found = judge(specimen, specimen[3], specimen[2])
    assert found["all"]["share"] < 0.2
    assert found["warning"]


@pytest.mark.parametrize(
    ("particles", "others", "words"),
    [
        # structure without a map is confirmed as often as particles
        ((12, 12), (50, 60), None),
        ((38, 40), (240, 300), None),
        ((9, 10), (40, 60), None),
        ((35, 50), (10, 50), None),
        ((35, 50), (0, 0), None),
        ((1, 50), (2, 50), ["2 % of 50 particles;", "noise", "particles.threshold"]),
        ((1, 50), (0, 0), ["2 % of 50 particles;", "noise", "particles.threshold"]),
        ((30, 60), (55, 60), ["50 % of 60 particles and 92 % of 60 picks", "which is more"]),
    ],
)
def test_the_warning_is_given_for_bad_particles_alone(particles, others, words):
    found = [
        record(np.arange(n)[:, None].repeat(2, axis=1) < both) for both, n in (particles, others)
    ]
    warning = warn_of_halves(*found)
    if words is None:
        assert warning is None
    else:
        for text in [*words, "check that even and odd are halves of this tomogram"]:
            assert text in warning


def test_noise_is_confirmed_as_often_as_chance_says(rng):
    scores = rng.standard_normal((4000, 200))
    p = tail_probability(scores[:, 0], scores[:, 1:])
    for level in (CHANCE, 0.1, 0.5):
        assert np.mean(p <= level) == pytest.approx(level, abs=4 * np.sqrt(level / 4000))


def test_the_command_and_its_refusals(cryoetgan, tmp_path, specimen):
    density, places, empty, halves = specimen
    write_volume(tmp_path / "a.mrc", density, VOXEL)
    for name, data in halves.items():
        write_volume(tmp_path / f"{name}.mrc", data.data, VOXEL)
    write_volume(tmp_path / "t.mrc", sum(half.data for half in halves.values()), VOXEL)
    write_volume(tmp_path / "short.mrc", halves["odd"].data[:-1], VOXEL)
    write_star(tmp_path / "p.star", table(places, cryoetganClass="a", cryoetganId="p"))
    write_star(tmp_path / "o.star", table(empty, cryoetganClass="other"))

    def words(odd="odd.mrc", tomogram="t.mrc"):
        files = ("--tomogram", tomogram, "--even", "even.mrc", "--odd", odd, "--template", "a.mrc")
        return (
            "evaluation",
            "halves",
            "p.star",
            "--others",
            "o.star",
            *files,
            *WORDS,
            "-o",
            "x.json",
        )

    refused(cryoetgan(*words("even.mrc"), code=2), "even.mrc", "1.000", "independent")
    refused(cryoetgan(*words("short.mrc"), code=2), "short.mrc", "148x112x35", "148x112x36")
    assert not (tmp_path / "x.json").exists()
    cryoetgan(*words())
    found = read_json(tmp_path / "x.json")
    assert found["all"]["n"] == len(places)
    assert found["others"]["n"] == len(empty)
    assert found["all"]["share"] > 0.9
    # none of the selected particles lies in another tomogram
    write_volume(tmp_path / "u.mrc", read_volume(tmp_path / "t.mrc").data, VOXEL)
    cryoetgan(*words(tomogram="u.mrc"))
    assert (found := read_json(tmp_path / "x.json"))["all"]["n"] == 0
    assert (found["all"]["share"], found["warning"]) == (None, None)
    even, odd = (half.data.ravel() for half in halves.values())
    assert np.corrcoef(even, odd)[0, 1] < MOST_LIKENESS

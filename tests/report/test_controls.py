"""Controls that must fail do fail: wrong particles and wrong sets never end in "use it".

The classifiers of the run are as good as they can be, so the label-free checks decide alone.
"""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from cryoetgan.evaluation.labelled_sets import LabelledSet
from cryoetgan.evaluation.measurement.c2st import c2st_auc
from cryoetgan.evaluation.measurement.metrics_io import MetricInputs
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, write_star
from cryoetgan.physics.geometry import (
    mirror,
    random_rotations,
    relion_from_rotation,
    rotate_volume,
)
from cryoetgan.report.label_free import headline_checks
from cryoetgan.report.results import open_results
from cryoetgan.report.run import load_run
from cryoetgan.report.verdict import conclude, find_level
from tests.conftest import refused

BOX, VOXEL, NOISE = 16, 10.0, 0.4
SEARCH = ("--tilts=-90,90", "--rotations", 400, "--highpass-shells", 1)
SHAPE = (24, 100, 136)


def blobs(centres):
    """A density of equal blobs at x, y, z from the middle of the box."""
    z, y, x = np.indices((BOX,) * 3) - BOX // 2
    parts = [np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 3) for a, b, c in centres]
    return np.sum(parts, axis=0).astype(np.float32)


TURNS = np.linspace(0, 1.5 * np.pi, 9)
HELIX = np.column_stack([3.4 * np.cos(TURNS), 3.4 * np.sin(TURNS), 2 * TURNS])
HELIX -= HELIX.mean(axis=0)


@dataclass(frozen=True)
class Scene:
    """A tomogram of touching particles in noise, and its particles."""

    volume: np.ndarray
    table: pd.DataFrame
    densities: np.ndarray
    """The rotated density of each particle."""

    def crops(self):
        places = self.table[COORDINATES].to_numpy(int)[:, ::-1] - BOX // 2
        slices = (tuple(slice(a, a + BOX) for a in place) for place in places)
        return np.array([self.volume[part] for part in slices])


def crowd(seed):
    rng = np.random.default_rng(seed)
    places = np.array([(x, y, 12) for x in range(8, 128, 11) for y in range(8, 92, 11)], float)
    turns = random_rotations(len(places), rng)
    densities = np.array([rotate_volume(blobs(HELIX), turn) for turn in turns])
    volume = rng.normal(0, NOISE, SHAPE).astype(np.float32)
    for (x, y, z), density in zip(places.astype(int) - BOX // 2, densities, strict=True):
        volume[z : z + BOX, y : y + BOX, x : x + BOX] += density
    table = pd.DataFrame(places, columns=COORDINATES)
    table[ANGLES] = relion_from_rotation(turns)
    names = [f"p{i}" for i in range(len(table))]
    return Scene(volume, table.assign(rlnTomoName="t1", cryoetganId=names), densities)


@pytest.fixture(scope="module")
def scenes():
    return crowd(1), crowd(2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, scenes):
    """A folder with two tomograms, of particles and of noise, their picks, and three maps."""
    folder, rng = tmp_path_factory.mktemp("controls"), np.random.default_rng(3)
    write_volume(folder / "t1.mrc", scenes[0].volume, VOXEL)
    noise = rng.normal(0, scenes[0].volume.std(), SHAPE).astype(np.float32)
    (folder / "noise").mkdir()
    write_volume(folder / "noise/t1.mrc", noise, VOXEL)
    write_star(folder / "t1_picks.star", scenes[0].table.drop(columns=ANGLES))
    # as many blobs with the same radius of gyration: equal mass and size
    other = rng.normal(0, 1, HELIX.shape)
    other -= other.mean(axis=0)
    other *= np.linalg.norm(HELIX) / np.linalg.norm(other)
    right = blobs(HELIX)
    maps = {"right": right, "wrong": blobs(other), "mirrored": mirror(right)}
    for name, density in maps.items():
        write_volume(folder / f"{name}.mrc", density, VOXEL)
    return folder


def crops(volumes, scene):
    return LabelledSet(volumes, np.array(["a"] * len(volumes)), scene.table)


def two_sample(real, volumes, scene):
    """The AUC of synthetic volumes against the crops of the tomogram."""
    inputs = MetricInputs(crops(real.crops(), real), crops(volumes, scene), voxel_size=VOXEL)
    return c2st_auc(inputs, {}, 0, torch.device("cpu"))


@pytest.fixture(scope="module")
def right_auc(scenes):
    return two_sample(scenes[0], scenes[1].crops(), scenes[1])


def level(run):
    """The level of a results folder, and its label-free checks."""
    found = load_run(open_results(run), 4)
    checks = headline_checks(found)
    verdict = conclude(found.accuracies, found.label_source, False, found.exported)
    return find_level(verdict, checks, found.label_source), checks


@pytest.fixture
def run(make_run, tmp_path, right_auc):
    """A run without annotated crops in which everything is right; its particles are replaced."""
    folder = make_run(tmp_path / "run", annotated=False, simulated=False)
    write_auc(folder, right_auc)
    return folder


def write_auc(run, record):
    (run / "evaluation/measure.json").write_text(json.dumps({"c2st_auc": record}))


def score(cryoetgan, run, folder, tomogram, name):
    """Score the picks with a map, and judge the hands that they prefer."""
    words = ("--template", folder / f"{name}.mrc", *SEARCH)
    scores, output = run / "t1_scores.star", run / "evaluation/hand_t1.json"
    cryoetgan("particles", "score", tomogram, folder / "t1_picks.star", *words, "-o", scores)
    cryoetgan("evaluation", "hand", scores, "--tomogram", tomogram, *words, "-o", output)


def select(cryoetgan, run, fdr, code=0):
    """Select particles at a false discovery rate."""
    (run / "config.yaml").write_text(f"run: small\nparticles: {{fdr: {fdr}}}\n")
    words = ("--box", BOX, "--fdr", fdr, "-o", run / "particles/selected.star")
    return cryoetgan("particles", "select", run / "t1_scores.star", *words, code=code)


def test_the_right_particles_and_the_right_set_are_used(cryoetgan, run, folder):
    score(cryoetgan, run, folder, folder / "t1.mrc", "right")
    select(cryoetgan, run, 0.05)
    found, checks = level(run)
    assert [check.tone for check in checks] == ["good"] * 3
    assert found.title == "Use it"


@pytest.mark.parametrize(
    ("tomogram", "name", "words"),
    [
        ("noise/t1.mrc", "right", "no pick fits it best"),
        ("t1.mrc", "wrong", "no pick fits it best"),
        ("t1.mrc", "mirrored", "wrong hand"),
    ],
)
def test_wrong_particles_are_refused_or_named(cryoetgan, run, folder, tomogram, name, words):
    """White noise, a wrong structure of the same mass, and a mirrored structure."""
    score(cryoetgan, run, folder, folder / tomogram, name)
    refused(select(cryoetgan, run, 0.05, code=2), name, words)
    # a user who accepts them in the gallery, or with a higher rate, reads why not
    if name != "mirrored":
        select(cryoetgan, run, 1)
    found, (rates, hand, _) = level(run)
    assert found.title == "Do not use it"
    assert hand.tone == "bad"
    assert ("is wrong: flip" in hand.text) == (name == "mirrored")
    assert rates.tone == ("good" if name == "mirrored" else "bad")


@pytest.mark.parametrize("name", ["white noise", "no neighbours"])
def test_a_set_that_differs_is_not_used(cryoetgan, run, folder, scenes, make_run, tmp_path, name):
    real, other = scenes
    rng = np.random.default_rng(5)
    volumes = rng.normal(0, NOISE, other.densities.shape) + other.densities
    if name == "white noise":
        volumes = rng.normal(0, real.crops().std(), volumes.shape)
    record = two_sample(real, volumes.astype(np.float32), other)
    write_auc(run, record)
    score(cryoetgan, run, folder, folder / "t1.mrc", "right")
    select(cryoetgan, run, 0.05)
    found, checks = level(run)
    assert found.title == "Do not use it"
    assert [check.tone for check in checks] == ["good", "good", "bad"]
    assert "AUC" in found.reason
    # classifiers on annotated crops may still be good on such a set
    annotated = make_run(tmp_path / "annotated", annotated=True, simulated=False)
    write_auc(annotated, record)
    found, _ = level(annotated)
    assert found.title == "Use it with care"
    assert "AUC" in found.reason

"""Distances between particles: measured, drawn, pasted."""

import numpy as np
import pytest

from cryoetgan.imaging.pair_correlation import Crowding, measured_crowding
from cryoetgan.imaging.scenes import Neighbours, paste, scene_around
from tests.imaging.conftest import BOX, VOXEL

SHAPE = (60, 90, 80)


def test_particles_anywhere_have_a_correlation_of_one(rng):
    places = rng.uniform(0, SHAPE[::-1], (3000, 3))
    found = measured_crowding(places, SHAPE, 10.0, 250.0, 0)
    assert found.density == pytest.approx(3000 / np.prod(SHAPE) / 1000)
    assert found.correlation[8:] == pytest.approx(1, abs=0.1)


def test_hard_balls_keep_their_distance(rng):
    kept = np.empty((0, 3))
    for place in rng.uniform(0, SHAPE[::-1], (1200, 3)):
        if not len(kept) or np.linalg.norm(kept - place, axis=1).min() > 9:
            kept = np.vstack([kept, place])
    found = measured_crowding(kept, SHAPE, 10.0, 280.0, 0)
    assert np.all(found.at(np.array([10.0, 50.0, 79.0])) == 0)
    assert found.at(np.array([105.0]))[0] > 1
    spaced = found.calibrated(280.0, rng)
    drawn = [spaced.draw(280.0, rng) for _ in range(30)]
    gaps = [np.linalg.norm(d, axis=1).min() for d in drawn if len(d)]
    assert min(gaps) > 79


def test_as_many_neighbours_are_drawn_as_there_are():
    """Without correlation the number in a cube is density times volume."""
    numbers = np.random.default_rng(0)
    crowding = Crowding(2e-7, 10.0, np.ones(20))
    counts = [len(crowding.draw(300.0, numbers)) for _ in range(400)]
    assert np.mean(counts) == pytest.approx(2e-7 * 300**3, rel=0.1)
    assert crowding.expected(300.0) == pytest.approx(2e-7 * 300**3)
    hard = Crowding(2e-7, 10.0, np.r_[np.zeros(10), np.ones(10)]).calibrated(300.0, numbers)
    counts = [len(hard.draw(300.0, numbers)) for _ in range(400)]
    assert np.mean(counts) == pytest.approx(hard.expected(300.0), rel=0.12)


def test_crowding_comes_back_from_its_mapping():
    before = Crowding(1e-7, 12.5, np.array([0.0, 0.5, 1.25]), 1.5)
    after = Crowding.from_json(before.to_json())
    assert after.to_json() == before.to_json()


def test_a_box_is_pasted_with_its_centre_where_it_belongs(rng):
    scene = np.zeros((12, 12, 12), np.float32)
    box = rng.normal(size=(4, 4, 4)).astype(np.float32)
    paste(scene, box, (7, 6, 5))  # xyz
    assert scene[5, 6, 7] == box[2, 2, 2]
    assert scene.sum() == pytest.approx(box.sum(), rel=1e-5)
    corner = np.zeros((12, 12, 12), np.float32)
    paste(corner, box, (0, 0, 0))
    assert np.array_equal(corner[:2, :2, :2], box[2:, 2:, 2:])
    assert np.count_nonzero(corner) == 8
    paste(corner, box, (90, 0, 0))
    assert np.count_nonzero(corner) == 8


def test_neighbours_lie_about_the_particle_not_about_the_box(maps):
    """With an exclusion of 8 voxels about a shifted centre, nothing lies nearer to it."""
    crowding = Crowding(3e-7, VOXEL, np.r_[np.zeros(8), np.ones(10)])
    shift = np.array([5.0, 0.0, 0.0])
    others = Neighbours({"dot": dot()}, {"dot": 1.0})
    near = []
    for seed in range(60):
        numbers = np.random.default_rng(seed)
        scene = scene_around(None, shift, 2 * BOX, VOXEL, crowding, others, numbers)
        middle = BOX + shift
        places = np.argwhere(scene > 0.5)[:, ::-1]
        if len(places):
            near.append(np.linalg.norm(places - middle, axis=1).min())
    assert len(near) > 30
    assert min(near) > 6  # half a voxel of rounding an axis
    alone = scene_around(
        maps["ball"], shift, 2 * BOX, VOXEL, None, others, np.random.default_rng(0)
    )
    assert np.array_equal(alone[8:24, 8:24, 8:24], maps["ball"])
    assert alone.sum() == pytest.approx(maps["ball"].sum(), rel=1e-5)


def dot() -> np.ndarray:
    density = np.zeros((8, 8, 8), np.float32)
    density[4, 4, 4] = 1
    return density


def test_neighbours_occur_as_often_as_their_shares_say(maps):
    others = Neighbours(maps, {"ball": 0.8, "rod": 0.2, "empty": 0.5})
    numbers = np.random.default_rng(0)
    mass = {name: others._turned(name).sum(axis=(1, 2, 3)) for name in maps}
    found = [others.one(numbers).sum() for _ in range(400)]
    balls = [np.abs(mass["ball"] - m).min() < 1e-3 for m in found]
    assert np.mean(balls) == pytest.approx(0.8, abs=0.06)

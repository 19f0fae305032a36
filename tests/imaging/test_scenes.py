"""Density scenes: boxes are added at their centres, neighbours keep their distance."""

from dataclasses import replace

import numpy as np
import pytest

from cryoetgan.imaging.pair_correlation import PairCorrelation
from cryoetgan.imaging.scenes import NeighbourSampler, add_box
from tests.imaging.conftest import BOX, VOXEL


def test_a_box_is_added_with_voxel_n_half_at_its_centre(rng):
    scene = np.zeros((12, 12, 12), np.float32)
    box = rng.normal(size=(4, 4, 4)).astype(np.float32)
    add_box(scene, box, (7, 6, 5))  # xyz
    assert scene[5, 6, 7] == box[2, 2, 2]
    assert scene.sum() == pytest.approx(box.sum(), rel=1e-5)


def test_a_box_is_clipped_at_the_faces_of_the_scene(rng):
    scene = np.zeros((12, 12, 12), np.float32)
    box = rng.normal(size=(4, 4, 4)).astype(np.float32)
    add_box(scene, box, (0, 0, 0))
    assert np.array_equal(scene[:2, :2, :2], box[2:, 2:, 2:])
    add_box(scene, box, (90, 0, 0))
    assert np.count_nonzero(scene) == 8


def test_neighbours_surround_the_particle_and_not_the_box(known):
    """With an exclusion of 8 voxels around a shifted centre, none lies nearer to it."""
    dot = np.zeros((8, 8, 8), np.float32)
    dot[4, 4, 4] = 1
    spacing = PairCorrelation(3e-7, VOXEL, np.r_[np.zeros(8), np.ones(10)])
    fractions = {"dot": 1.0}
    model = replace(known, pair_correlation=spacing, maps={"dot": dot}, class_fractions=fractions)
    shift = np.array([5.0, 0.0, 0.0])
    near = []
    for seed in range(60):
        scene = model.build_scene(None, shift, np.random.default_rng(seed))
        places = np.argwhere(scene > 0.5)[:, ::-1]
        if len(places):
            near.append(np.linalg.norm(places - (BOX + shift), axis=1).min())
    assert len(near) > 30
    assert min(near) > 6  # half a voxel of rounding along each axis


def test_without_neighbours_the_scene_holds_the_target_alone(known, maps, rng):
    scene = known.build_scene(maps["ball"], np.ones(3), rng, neighbours=False)
    assert np.array_equal(scene[8:24, 8:24, 8:24], maps["ball"])
    assert scene.sum() == pytest.approx(maps["ball"].sum(), rel=1e-5)


def test_neighbours_occur_in_their_class_fractions(maps):
    sampler = NeighbourSampler(maps, {"ball": 0.8, "rod": 0.2, "empty": 0.5})
    rng = np.random.default_rng(0)
    balls = sampler.orientations("ball").sum(axis=(1, 2, 3))
    drawn = [np.abs(balls - sampler.draw(rng).sum()).min() < 1e-3 for _ in range(400)]
    assert np.mean(drawn) == pytest.approx(0.8, abs=0.06)

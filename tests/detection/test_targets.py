"""Targets, patches and calibration of the detector; nothing here needs the network."""

import numpy as np
import pandas as pd
import pytest
import torch

from cryoetgan.detection.align_picks import (
    implied_precision,
    precision_of_all,
    precision_of_winners,
)
from cryoetgan.detection.augment import NOISY, TrainingTomogram, change, draw_patch
from cryoetgan.detection.calibration import Calibration, match_picks
from cryoetgan.detection.grey import GreyValues
from cryoetgan.detection.predict import Detections
from cryoetgan.detection.train_detector import split_off
from cryoetgan.detection.truth import Truth, choose_named, measure_radii, paint_labels
from cryoetgan.io.mrc import Volume

CPU = torch.device("cpu")


def test_labels_are_balls_about_particles():
    place = np.array([[15.5, 20.5, 17.5]])
    labels = paint_labels((32, 40, 36), Truth(place, np.array([1])), np.array([5.0, 3.0]), None, ())
    at = 2 * np.argwhere(labels == 1) + 0.5
    np.testing.assert_allclose(at.mean(axis=0), place[0], atol=1e-9)
    assert np.linalg.norm(at - place[0], axis=1).max() <= 5
    assert len(at) == pytest.approx(4 / 3 * np.pi * 5**3 / 8, rel=0.15)


def test_radii_are_of_the_labelled_volume():
    grid = np.indices((40, 40, 40)) - 20
    labels = ((grid**2).sum(axis=0) <= 8**2).astype(np.int16)
    truth = Truth(np.array([[20.0, 20, 20]]), np.array([1]))
    radii = measure_radii([truth], [(labels, {1: "a"})], ["a"])
    assert radii[0] == pytest.approx(8, rel=0.02)


def test_unnamed_rows_are_no_classes():
    table = pd.DataFrame({"cryoetganClass": ["a", "crowder_x", "other", "b", "background"]})
    assert choose_named([table], None) == ["a", "b"]
    assert choose_named([table], ["b"]) == ["b"]


@pytest.mark.parametrize("axes", [(), (0, 2), (0, 1), (1, 2)])
def test_a_turned_patch_keeps_its_labels(rng, axes):
    data = np.zeros((64, 64, 64), np.float32)
    data[20:24, 30:34, 40:44] = 50
    data += rng.standard_normal(data.shape, np.float32) * 0.1
    truth = Truth(np.array([[21.5, 31.5, 41.5]]), np.array([1]))
    labels = paint_labels(data.shape, truth, np.array([3.0, 3.0]), None, ())
    grey = GreyValues(Volume(data, 10.0), "t")
    tomogram = TrainingTomogram(grey, truth, labels, (axes,), (64, 64, 64))
    flat = [np.zeros((32, 32, 17), np.float32)]
    patch, found = draw_patch([tomogram], flat, 1, 32, rng)
    while found.sum() < labels.sum():  # the whole ball, and all bright voxels
        patch, found = draw_patch([tomogram], flat, 1, 32, rng)
    bright = np.argwhere(patch > 0.5 * patch.max()).mean(axis=0)
    np.testing.assert_allclose(2 * np.argwhere(found == 1).mean(axis=0) + 0.5, bright, atol=0.2)


def test_patches_leave_the_held_out_part_alone(rng):
    end, low = split_off((40, 48, 96))
    assert end == (40, 48, low[2])
    assert low[2] % 8 == 0
    data = rng.standard_normal((40, 48, 96), np.float32)
    grey = GreyValues(Volume(data, 10.0), "t")
    truth = Truth(np.array([[20.0, 20, low[2] - 1], [20, 20, low[2] + 1]]), np.array([1, 1]))
    labels = np.zeros((20, 24, 48), np.uint8)
    tomogram = TrainingTomogram(grey, truth, labels, ((),), end)
    corners = [tomogram.corner(32, rng) for _ in range(50)]
    corners += [tomogram.corner_at(truth.places[0], 32, rng) for _ in range(50)]
    assert all(corner[2] + 32 <= low[2] for corner in corners)


def calibration(hits, truth=10):
    count = len(hits)
    scores, hits = np.linspace(0.9, 0.1, count), np.array(hits, bool)
    return Calibration(scores, np.ones(count, int), hits, hits, np.array([truth]))


def test_the_threshold_has_the_highest_f1():
    found = calibration([1, 1, 1, 0, 1, 0, 0, 0, 0], truth=5)
    best = found.best_threshold()
    assert best == found.scores[4]
    assert found.scores_at(best)["f1"] == max(found.scores_at(s)["f1"] for s in found.scores)


def test_the_expected_precision_of_held_out_picks_is_theirs(rng):
    found = calibration(rng.random(500) < np.linspace(1, 0, 500), truth=300)
    value, low, high = found.expected_precision(found.scores)
    assert value == pytest.approx(found.hits.mean(), abs=1e-6)
    assert low < value < high
    best, *_ = found.expected_precision(found.scores[:100])
    assert best == pytest.approx(found.hits[:100].mean(), abs=0.05)


def test_a_particle_is_hit_once():
    truth = Truth(np.array([[5.0, 5, 5], [20, 20, 20]]), np.array([1, 2]))
    found = Detections(
        np.array([[5.0, 5, 6], [5, 6, 5], [20, 20, 21]]), np.array([1, 1, 1]), np.ones(3)
    )
    hits, places = match_picks(found, truth, np.array([3.0, 3, 3]))
    assert hits.tolist() == [True, False, False]
    assert places.tolist() == [True, False, True]


@pytest.mark.parametrize("decoys", ["mirror", "small,large"])
def test_decoys_imply_the_share_of_right_picks(rng, decoys):
    """Right picks prefer their map, wrong ones any of K + 1 maps alike."""
    share, count = 0.7, 20000
    k = decoys.count(",") + 1
    right = rng.random(count) < share
    own = right | (rng.random(count) < 1 / (k + 1))
    table = pd.DataFrame({"cryoetganClass": "a", "cryoetganScore": own * 1.0})
    table = table.assign(cryoetganDecoyScore=0.5, cryoetganDecoys=decoys)
    for precision, true in (
        (precision_of_all, share),
        (precision_of_winners, right.sum() / own.sum()),
    ):
        found = implied_precision(table, precision)
        assert found["value"] == pytest.approx(true, abs=0.02)
        assert found["interval"][0] < true < found["interval"][1]


def test_noise_that_is_added_has_the_spectrum_given_and_some_patches_have_it():
    edge, waves = 12, np.fft.rfftfreq(12)
    amplitudes = np.zeros((edge, edge, edge // 2 + 1), np.float32)
    amplitudes[..., waves < 0.2], amplitudes[..., waves < 0.1] = 1.0, 2.0
    changed = [
        change(np.zeros((edge,) * 3, np.float32), amplitudes, np.random.default_rng(seed))
        for seed in range(500)
    ]
    spread = np.array([patch.std() for patch in changed])
    assert (spread > 1e-6).mean() == pytest.approx(NOISY, abs=0.06)
    power = np.mean([abs(np.fft.rfftn(patch - patch.mean())) ** 2 for patch in changed], axis=0)
    power = power.mean(axis=(0, 1))
    assert power[0] / power[2] == pytest.approx(4.0, rel=0.1)
    assert power[waves > 0.2].max() < 1e-9 * power[0]

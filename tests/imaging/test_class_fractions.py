"""Class fractions: features of shape, label shift undone, false picks a class."""

import numpy as np
import pytest

from cryoetgan.imaging.fit.class_fractions import (
    LinearDiscriminant,
    ShapeFeatures,
    combine_with_matching,
    cut_brightest_blob,
    em_class_priors,
    estimate_class_fractions,
    simulate_picks,
)
from tests.imaging.conftest import BOX


def two_kinds(rng, first, second):
    """Points around 0 and around 1.5 on the first of two axes, of variance 1."""
    labels = np.r_[np.zeros(first, int), np.ones(second, int)]
    points = rng.normal(size=(len(labels), 2))
    points[:, 0] += 1.5 * labels
    return points, labels


def test_probabilities_are_those_of_two_gaussians(rng):
    fitted = LinearDiscriminant.fit(*two_kinds(rng, 4000, 4000))
    x = np.array([-1.0, 0.75, 1.2])
    found = fitted.probabilities(np.stack([x, np.zeros(3)], axis=1))
    odds = np.exp(1.5 * x - 1.5**2 / 2)
    assert found[:, 1] == pytest.approx(odds / (1 + odds), abs=0.03)


def test_label_shift_is_undone_although_counting_is_biased(rng):
    simulated = two_kinds(rng, 2000, 2000)
    real, _ = two_kinds(rng, 2700, 300)
    found = estimate_class_fractions(simulated, real, ["a", "b"], 0)
    counted = LinearDiscriminant.fit(*simulated).probabilities(real).argmax(axis=1).mean()
    assert counted > 0.2
    assert found.fractions == pytest.approx([0.9, 0.1], abs=3 * found.errors[0] + 0.01)
    assert 0.003 < found.errors[0] < 0.04
    assert found.posterior.mean(axis=0) == pytest.approx(found.fractions, abs=1e-3)


def test_the_confusion_matrix_has_the_known_error_rate(rng):
    simulated = two_kinds(rng, 2000, 2000)
    found = estimate_class_fractions(simulated, simulated[0], ["a", "b"], 0, resamplings=2)
    assert found.confusion.sum(axis=1) == pytest.approx(1)
    # half the distance of the means is 0.75 standard deviations: 77 % are right
    assert np.diag(found.confusion) == pytest.approx(0.773, abs=0.03)


def test_matching_corrects_a_biased_classifier(rng):
    """Wrong physics moves all real picks towards class b; matching is right for 0.9 of them."""
    points, labels = two_kinds(rng, 2000, 2000)
    empty = rng.normal(size=(2000, 2)) - [0, 8]
    simulated = np.concatenate([points, empty]), np.r_[labels, np.full(2000, 2)]
    real, true = two_kinds(rng, 900, 300)
    shifted = np.concatenate([real + np.array([0.8, 0]), empty[:300]])
    matched = np.where(rng.random(1200) < 0.9, true, 1 - true)
    matched = np.r_[matched, rng.integers(2, size=300)]
    names = ["a", "b", "other"]
    without = estimate_class_fractions(simulated, shifted, names, 0)
    found = estimate_class_fractions(simulated, shifted, names, 0, matched)
    wanted = np.array([0.6, 0.2, 0.2])
    assert np.abs(found.fractions - wanted).max() < 0.1
    assert np.abs(without.fractions - wanted).max() > 0.15
    # false picks stay false, whatever class matching gives them
    assert found.posterior[1200:, 2].min() > 0.9


def test_matching_multiplies_the_odds_of_the_class_it_names():
    before = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    after = combine_with_matching(before, np.array([1, 0]), accuracy=0.9)
    odds = after / before
    assert odds[0, 1] / odds[0, 0] == pytest.approx(9)
    assert odds[1, 0] / odds[1, 1] == pytest.approx(9)
    # a false pick is as likely as on average over classes
    assert odds[:, 2] == pytest.approx(odds[:, :2].mean(axis=1))


def test_certain_answers_are_counted():
    certain = np.repeat(np.eye(3), [5, 3, 2], axis=0)
    assert em_class_priors(certain) == pytest.approx([0.5, 0.3, 0.2])


def test_a_false_pick_is_the_brightest_blob_nearby(rng):
    scene = 0.05 * rng.normal(size=(32, 32, 32))
    z, y, x = np.indices(scene.shape)
    near = np.exp(-((z - 17) ** 2 + (y - 15) ** 2 + (x - 18) ** 2) / 8)
    far = 3 * np.exp(-((z - 26) ** 2 + (y - 15) ** 2 + (x - 18) ** 2) / 8)
    whole = scene + near + far
    box = cut_brightest_blob(whole, 16, 2.0)
    assert np.array_equal(box, whole.astype(np.float32)[9:25, 7:23, 10:26])


def test_picks_of_every_class_and_false_picks_are_simulated(known):
    simulated = list(simulate_picks(known, 2.0, 0, per_class=20))
    names = [name for _, name in simulated]
    assert {name: names.count(name) for name in names} == {"ball": 20, "rod": 20, "other": 20}
    balls, false = (
        np.mean([box for box, name in simulated if name == kind], axis=0)
        for kind in ("ball", "other")
    )
    middle = (slice(BOX // 2 - 2, BOX // 2 + 3),) * 3
    assert balls[middle].mean() > 2 * false[middle].mean() > 0


def test_features_do_not_change_under_rotation(maps):
    features = ShapeFeatures(BOX, 4.0)
    rotated = np.roll(np.rot90(maps["rod"], axes=(0, 2)), 1, axis=0)  # about voxel n // 2
    plain = features.describe(maps["rod"])
    assert np.allclose(features.describe(rotated), plain, rtol=1e-3, atol=1e-3)


def test_features_change_less_under_a_shift_than_between_shapes(maps):
    features = ShapeFeatures(BOX, 4.0)
    plain = features.describe(maps["rod"])
    shifted = features.describe(np.roll(maps["rod"], (1, -2, 1), axis=(0, 1, 2)))
    other = features.describe(maps["ball"])
    assert np.linalg.norm(shifted - plain) < 0.5 * np.linalg.norm(other - plain)

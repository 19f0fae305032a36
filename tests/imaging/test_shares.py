"""Class shares: label shift undone, false picks as a class, what features ignore."""

import numpy as np
import pytest

from cryoetgan.imaging.fit.class_fractions import (
    EACH,
    Discriminant,
    estimated,
    explained,
    highest,
    simulated_picks,
    witnessed,
)
from cryoetgan.imaging.fit.features import Features
from tests.imaging.conftest import BOX


def two_kinds(rng, first, second):
    """Points about 0 and about 1.5, both of variance 1, on one of two axes."""
    labels = np.r_[np.zeros(first, int), np.ones(second, int)]
    points = rng.normal(size=(len(labels), 2))
    points[:, 0] += 1.5 * labels
    return points, labels


def test_probabilities_are_those_of_two_gaussians(rng):
    learnt = Discriminant.learnt(*two_kinds(rng, 4000, 4000))
    x = np.array([-1.0, 0.75, 1.2])
    found = learnt.probabilities(np.stack([x, np.zeros(3)], axis=1))
    odds = np.exp(1.5 * x - 1.5**2 / 2)
    assert found[:, 1] == pytest.approx(odds / (1 + odds), abs=0.03)


def test_label_shift_is_undone_where_counting_is_wrong(rng):
    points, labels = two_kinds(rng, 2000, 2000)
    real, _ = two_kinds(rng, 2700, 300)
    found = estimated(points, labels, real, ["a", "b"], 0)
    counted = Discriminant.learnt(points, labels).probabilities(real).argmax(axis=1).mean()
    assert counted > 0.2
    assert found.shares == pytest.approx([0.9, 0.1], abs=3 * found.errors[0] + 0.01)
    assert 0.003 < found.errors[0] < 0.04
    assert found.confusion.sum(axis=1) == pytest.approx(1)
    # half the distance of the means is 0.75 standard deviations: 77 % are right
    assert np.diag(found.confusion) == pytest.approx(0.773, abs=0.03)
    assert found.posterior.mean(axis=0) == pytest.approx(found.shares, abs=1e-3)


def test_matching_mends_a_classifier_that_leans_to_one_class(rng):
    """Physics that is wrong moves all real picks towards class b; matching is right for 0.9."""
    points, labels = two_kinds(rng, 2000, 2000)
    empty = rng.normal(size=(2000, 2)) - [0, 8]
    simulated = np.concatenate([points, empty])
    of = np.r_[labels, np.full(2000, 2)]
    real, true = two_kinds(rng, 900, 300)
    shifted = np.concatenate([real + np.array([0.8, 0]), empty[:300]])
    named = np.where(rng.random(1200) < 0.9, true, 1 - true)
    named = np.r_[named, rng.integers(2, size=300)]
    alone = estimated(simulated, of, shifted, ["a", "b", "empty"], 0)
    found = estimated(simulated, of, shifted, ["a", "b", "empty"], 0, named)
    wanted = np.array([0.6, 0.2, 0.2])
    assert np.abs(found.shares - wanted).max() < 0.1
    assert np.abs(alone.shares - wanted).max() > 0.15
    # what is no particle stays none, whatever matching names it
    assert found.posterior[1200:, 2].min() > 0.9


def test_a_witness_multiplies_the_odds_of_the_class_it_names():
    before = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    after = witnessed(before, np.array([1, 0]))
    odds = after / before
    assert odds[0, 1] / odds[0, 0] == pytest.approx(9)
    assert odds[1, 0] / odds[1, 1] == pytest.approx(9)
    # of false picks it says nothing: as likely as on average over classes
    assert odds[:, 2] == pytest.approx(odds[:, :2].mean(axis=1))


def test_shares_are_certain_where_answers_are():
    sure = np.repeat(np.eye(3), [5, 3, 2], axis=0)
    assert explained(sure) == pytest.approx([0.5, 0.3, 0.2])


def test_features_stay_when_a_particle_is_turned_or_moved(maps):
    features = Features(BOX, 4.0)
    box = maps["rod"]
    plain = features.of(box)
    turned = np.roll(np.rot90(box, axes=(0, 2)), 1, axis=0)  # about voxel n // 2
    assert np.allclose(features.of(turned), plain, rtol=1e-3, atol=1e-3)
    # the middle is found to a voxel
    moved = features.of(np.roll(box, (1, -2, 1), axis=(0, 1, 2)))
    other = features.of(maps["ball"])
    assert np.linalg.norm(moved - plain) < 0.5 * np.linalg.norm(other - plain)


def test_a_false_pick_is_the_brightest_blob_nearby(rng):
    scene = 0.05 * rng.normal(size=(32, 32, 32))
    z, y, x = np.indices(scene.shape)
    blob = np.exp(-((z - 17) ** 2 + (y - 15) ** 2 + (x - 18) ** 2) / 8)
    far = 3 * np.exp(-((z - 26) ** 2 + (y - 15) ** 2 + (x - 18) ** 2) / 8)
    box = highest(scene + blob + far, 16, 2.0)
    assert np.array_equal(box, (scene + blob + far).astype(np.float32)[9:25, 7:23, 10:26])


def test_picks_of_every_class_and_of_none_are_simulated(known):
    made = list(simulated_picks(known, 2.0, 0))
    names = [name for _, name in made]
    assert {name: names.count(name) for name in set(names)} == {
        "ball": EACH,
        "rod": EACH,
        "empty": EACH,
    }
    first = np.mean([box for box, name in made if name == "ball"], axis=0)
    none = np.mean([box for box, name in made if name == "empty"], axis=0)
    middle = (slice(BOX // 2 - 2, BOX // 2 + 3),) * 3
    assert first[middle].mean() > 2 * none[middle].mean() > 0

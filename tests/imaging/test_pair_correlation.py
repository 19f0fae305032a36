"""Neighbours: their pair correlation is measured and drawn from, classes keep their fractions."""

import numpy as np
import pytest

from cryoetgan.imaging.pair_correlation import (
    NeighbourSampler,
    PairCorrelation,
    measure_pair_correlation,
)

SHAPE = (60, 90, 80)


def test_independent_positions_have_a_correlation_of_one(rng):
    places = rng.uniform(0, SHAPE[::-1], (3000, 3))
    found = measure_pair_correlation(places, SHAPE, 10.0, 250.0, 0)
    assert found.density == pytest.approx(3000 / np.prod(SHAPE) / 1000)
    assert found.values[8:] == pytest.approx(1, abs=0.1)


def test_hard_balls_keep_their_distance(rng):
    kept = np.empty((0, 3))
    for place in rng.uniform(0, SHAPE[::-1], (1200, 3)):
        if not len(kept) or np.linalg.norm(kept - place, axis=1).min() > 9:
            kept = np.vstack([kept, place])
    found = measure_pair_correlation(kept, SHAPE, 10.0, 280.0, 0)
    assert np.all(found.evaluate(np.array([10.0, 50.0, 79.0])) == 0)
    assert found.evaluate(np.array([105.0]))[0] > 1
    calibrated = found.calibrate(280.0, rng)
    drawn = [calibrated.draw_neighbours(280.0, rng) for _ in range(30)]
    gaps = [np.linalg.norm(d, axis=1).min() for d in drawn if len(d)]
    assert min(gaps) > 79


@pytest.mark.parametrize("excluded_bins", [0, 10])
def test_the_expected_number_of_neighbours_is_drawn(excluded_bins):
    rng = np.random.default_rng(0)
    values = np.r_[np.zeros(excluded_bins), np.ones(20 - excluded_bins)]
    found = PairCorrelation(2e-7, 10.0, values).calibrate(300.0, rng)
    counts = [len(found.draw_neighbours(300.0, rng)) for _ in range(400)]
    assert np.mean(counts) == pytest.approx(found.expected_neighbours(300.0), rel=0.12)


def test_without_correlation_the_expected_number_is_density_times_volume():
    found = PairCorrelation(2e-7, 10.0, np.ones(20))
    assert found.expected_neighbours(300.0) == pytest.approx(2e-7 * 300**3)


def test_neighbours_occur_in_their_class_fractions(maps):
    sampler = NeighbourSampler(maps, {"ball": 0.8, "rod": 0.2, "other": 0.5})
    rng = np.random.default_rng(0)
    balls = sampler.orientations("ball").sum(axis=(1, 2, 3))
    drawn = [np.abs(balls - sampler.draw(rng).sum()).min() < 1e-3 for _ in range(400)]
    assert np.mean(drawn) == pytest.approx(0.8, abs=0.06)

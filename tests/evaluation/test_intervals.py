"""Intervals: they cover the truth, and correlated errors widen them."""

from types import SimpleNamespace

import numpy as np
import pytest

from cryoetgan.evaluation.statistics.intervals import (
    auc_interval,
    cluster_robust_wilson,
    half_sampling_interval,
    is_lower,
    mean_over_seeds,
    placement_values,
    wilson,
)


def test_wilson_is_the_published_one():
    assert wilson(80, 100) == pytest.approx((0.7112, 0.8666), abs=1e-3)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)


def test_a_share_lies_in_its_own_interval():
    for n in range(1, 400):
        for right in (0, n // 3, n):
            low, high = wilson(right, n)
            assert 0 <= low <= right / n <= high <= 1


def test_perfect_separation_of_a_few_volumes_is_not_certain():
    for n in (5, 10, 40):
        scores = np.zeros(n), np.ones(n)
        groups = np.arange(n).astype(str), np.arange(n).astype(str)
        low, high = auc_interval(placement_values([scores]), groups)
        assert high == 1
        assert low == pytest.approx(wilson(n, n)[0])
        assert auc_interval(placement_values([scores[::-1]]), groups)[1] == pytest.approx(1 - low)


def test_correlated_errors_widen_the_interval():
    right = np.repeat([True, False], 50)
    alone = cluster_robust_wilson(right, np.arange(100).astype(str))
    together = cluster_robust_wilson(right, np.repeat(["a", "b"], 50))
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_a_clustered_interval_covers_the_truth(rng):
    """Twenty tomograms, each with its own accuracy around 0.7."""
    hits = plain_hits = 0
    for _ in range(300):
        shares = np.clip(rng.normal(0.7, 0.15, 20), 0, 1)
        right = (rng.random((20, 30)) < shares[:, None]).ravel()
        low, high = cluster_robust_wilson(right, np.repeat(np.arange(20), 30).astype(str))
        hits += low <= 0.7 <= high
        low, high = wilson(right.sum(), right.size)
        plain_hits += low <= 0.7 <= high
    assert hits > 0.88 * 300
    assert plain_hits < 0.8 * 300


def test_a_subsampled_interval_covers_the_truth(rng):
    hits = 0
    for _ in range(150):
        x = rng.standard_normal(100) + 1
        one = np.arange(100).astype(str)
        low, high = half_sampling_interval(lambda rows, x=x: float(x[rows].mean()), one, rng)
        hits += low <= 1 <= high
    assert 0.86 * 150 <= hits < 150


def test_paired_differences_ignore_what_seeds_and_crops_share(rng):
    """Hard crops and bad seeds hurt both methods alike."""
    skill = rng.normal(0, 1, (5, 1)) + rng.normal(0, 1, (1, 200))
    a, b = skill > -0.1, skill > 0.0
    crops = np.arange(200).astype(str)
    mean, (low, high) = mean_over_seeds(a.astype(float) - b.astype(float), crops)
    assert 0 < low < mean < high
    alone = mean_over_seeds(a, crops)[1]
    assert high - low < (alone[1] - alone[0]) / 2


def test_an_interval_over_seeds_covers_the_truth(rng):
    hits = 0
    for _ in range(200):
        skill = rng.normal(0.8, 0.03, (5, 1)) + np.repeat(rng.normal(0, 0.1, (1, 20)), 10, axis=1)
        right = rng.random((5, 200)) < skill
        low, high = mean_over_seeds(right, np.repeat(np.arange(20), 10).astype(str))[1]
        hits += low <= 0.8 <= high
    assert hits > 0.9 * 200


def test_the_interval_of_an_auc_covers_if_scores_are_correlated(rng):
    """Ten blocks of ten real crops, each with its own brightness; the truth is Phi(1 / sqrt 3)."""
    truth = 0.7181
    grouped = alone = 0
    for _ in range(200):
        real = (rng.normal(0, 1, 10)[:, None] + rng.normal(0, 1, (10, 10))).ravel()
        made = rng.normal(1, 1, 100)
        values = placement_values([(real, made)])
        assert values[0].mean() == pytest.approx((made[None] > real[:, None]).mean())
        blocks, ones = np.repeat(np.arange(10), 10).astype(str), np.arange(100).astype(str)
        low, high = auc_interval(values, (blocks, ones))
        grouped += low <= truth <= high
        low, high = auc_interval(values, (ones, ones))
        alone += low <= truth <= high
    assert grouped > 0.87 * 200
    assert alone < 0.8 * 200


def test_folds_of_unequal_size_have_the_mean_of_their_areas(rng):
    """Scores of two classifiers are not comparable: the second adds 5, and its fold is uneven."""
    folds = [
        (rng.normal(0, 1, 30), rng.normal(1, 1, 90)),
        (rng.normal(5, 1, 150), rng.normal(6, 1, 80)),
    ]
    areas = [float((made[None] > real[:, None]).mean()) for real, made in folds]
    values = placement_values(folds)
    assert [v.mean() for v in values] == pytest.approx(
        [np.average(areas, weights=[2700, 12000])] * 2
    )
    apart = placement_values([(np.zeros(9), np.ones(90)), (np.full(40, 5.0), np.full(10, 6.0))])
    assert all((v == 1).all() for v in apart)


def test_a_difference_is_compared_with_the_error_of_both():
    first, second, third = (
        SimpleNamespace(value=value, low=value - 0.1, high=value + 0.1)
        for value in (0.6, 0.74, 0.75)
    )
    assert not is_lower(first, second)  # the error is 0.10 sqrt(2)
    assert is_lower(first, third)
    assert not is_lower(third, first)
    assert not is_lower(first, third, floor=0.65)

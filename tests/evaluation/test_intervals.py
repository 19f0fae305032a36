"""Intervals: they cover the truth, clusters widen them, halves keep clusters whole."""

import numpy as np
import pandas as pd
import pytest

from cryoetgan.evaluation.measurement.c2st import auc_interval
from cryoetgan.evaluation.statistics.intervals import (
    clustered,
    clusters,
    even_clusters,
    halves,
    over_seeds,
    subsampled,
    wilson,
)
from cryoetgan.io.star import ANGLES, COORDINATES


def test_wilson_is_the_published_one():
    assert wilson(80, 100) == pytest.approx((0.7112, 0.8666), abs=1e-3)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)


def test_a_share_lies_in_its_own_interval():
    for n in range(1, 400):
        for right in (0, n // 3, n):
            low, high = wilson(right, n)
            assert 0 <= low <= right / n <= high <= 1


def test_all_told_apart_by_few_is_no_certainty():
    for n in (5, 10, 40):
        scores = np.zeros(n), np.ones(n)
        groups = np.arange(n).astype(str), np.arange(n).astype(str)
        low, high = auc_interval(1.0, scores, groups)
        assert high == 1
        assert low == pytest.approx(wilson(n, n)[0])
        assert auc_interval(0.0, scores[::-1], groups)[1] == pytest.approx(1 - low)


def test_errors_that_go_together_widen_the_interval():
    right = np.repeat([True, False], 50)
    alone = clustered(right, np.arange(100).astype(str))
    together = clustered(right, np.repeat(["a", "b"], 50))
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_a_clustered_interval_covers_the_truth(rng):
    """Twenty tomograms, each with its own accuracy around 0.7."""
    hits = plain_hits = 0
    for _ in range(300):
        shares = np.clip(rng.normal(0.7, 0.15, 20), 0, 1)
        right = (rng.random((20, 30)) < shares[:, None]).ravel()
        low, high = clustered(right, np.repeat(np.arange(20), 30).astype(str))
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
        low, high = subsampled(lambda rows, x=x: float(x[rows].mean()), one, rng)
        hits += low <= 1 <= high
    assert 0.86 * 150 <= hits < 150


def test_halves_keep_groups_whole(rng):
    groups = np.repeat(["a", "b", "c", "d", "e"], [10, 20, 5, 12, 9])
    for _ in range(20):
        first, second = halves(groups, rng)
        assert not set(groups[first]) & set(groups[second])
        assert sorted([*first, *second]) == list(range(len(groups)))
        assert len(first)


def test_one_group_is_halved_row_by_row(rng):
    first, second = halves(np.full(40, "t"), rng)
    assert len(first) == len(second) == 20


def test_tomograms_are_drawn_where_there_are_enough_and_blocks_else(rng):
    places = pd.DataFrame(rng.uniform(0, [300, 200, 50], (120, 3)), columns=COORDINATES)
    few = clusters(places.assign(rlnTomoName=np.repeat(["a", "b"], 60)))
    assert len(np.unique(few)) == 18
    assert all(name.startswith(("a:", "b:")) for name in few)
    many = clusters(places.assign(rlnTomoName=np.repeat(list("abcdef"), 20)))
    assert set(many) == set("abcdef")


def test_draws_of_one_density_are_one_cluster(rng):
    angles = np.repeat(rng.uniform(0, 180, (10, 3)), 3, axis=0)
    assert len(np.unique(clusters(pd.DataFrame(angles, columns=ANGLES)))) == 10


def test_paired_differences_ignore_what_seeds_and_crops_share(rng):
    """Hard crops and bad seeds hurt both competitors alike."""
    skill = rng.normal(0, 1, (5, 1)) + rng.normal(0, 1, (1, 200))
    a, b = skill > -0.1, skill > 0.0
    crops = np.arange(200).astype(str)
    mean, (low, high) = over_seeds(a.astype(float) - b.astype(float), crops)
    assert 0 < low < mean < high
    alone = over_seeds(a, crops)[1]
    assert high - low < (alone[1] - alone[0]) / 2


def test_an_interval_over_seeds_covers_the_truth(rng):
    hits = 0
    for _ in range(200):
        skill = rng.normal(0.8, 0.03, (5, 1)) + np.repeat(rng.normal(0, 0.1, (1, 20)), 10, axis=1)
        right = rng.random((5, 200)) < skill
        low, high = over_seeds(right, np.repeat(np.arange(20), 10).astype(str))[1]
        hits += low <= 0.8 <= high
    assert hits > 0.9 * 200


def test_rows_without_a_pose_are_drawn_one_by_one():
    angles = pd.DataFrame([[1.0, 2.0, 3.0]] * 2 + [[np.nan] * 3] * 2, columns=ANGLES)
    assert len(np.unique(clusters(angles))) == 3


def test_one_large_tomogram_among_small_ones_is_drawn_in_blocks(rng):
    """Else a half is that tomogram, and equal numbers are those of the small ones."""
    places = pd.DataFrame(rng.uniform(0, 300, (600, 3)), columns=COORDINATES)
    names = np.repeat(list("abcdef"), [500, 20, 20, 20, 20, 20])
    groups = even_clusters(places.assign(rlnTomoName=names))
    # variances go by whole tomograms, whatever their size
    assert set(clusters(places.assign(rlnTomoName=names))) == set("abcdef")
    for _ in range(20):
        first, second = halves(groups, rng)
        assert min(len(first), len(second)) >= 250


def test_halves_are_as_equal_as_groups_allow(rng):
    sizes = rng.integers(1, 40, 12)
    groups = np.repeat([f"g{i}" for i in range(12)], sizes)
    seen = []
    for _ in range(200):
        first, second = halves(groups, rng)
        assert abs(len(first) - len(second)) <= sizes.max()
        seen.append(np.bincount(first, minlength=len(groups)))
    # each row is in the first half as often as not
    assert np.abs(np.mean(seen, axis=0) - 0.5).max() < 0.15


def test_the_interval_of_an_auc_covers_where_scores_go_together(rng):
    """Ten blocks of ten real crops, each with its own brightness; the truth is Phi(1 / sqrt 3)."""
    truth = 0.7181
    grouped = alone = 0
    for _ in range(200):
        real = (rng.normal(0, 1, 10)[:, None] + rng.normal(0, 1, (10, 10))).ravel()
        made = rng.normal(1, 1, 100)
        value = float((made[None] > real[:, None]).mean())
        blocks, ones = np.repeat(np.arange(10), 10).astype(str), np.arange(100).astype(str)
        low, high = auc_interval(value, (real, made), (blocks, ones))
        grouped += low <= truth <= high
        low, high = auc_interval(value, (real, made), (ones, ones))
        alone += low <= truth <= high
    assert grouped > 0.87 * 200
    assert alone < 0.8 * 200

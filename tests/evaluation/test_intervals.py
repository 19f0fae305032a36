"""Intervals: they cover the truth, clusters widen them, halves keep clusters whole."""

import numpy as np
import pandas as pd
import pytest

from cryoetgan.evaluation.intervals import (
    clustered,
    clusters,
    halves,
    paired,
    subsampled,
    wilson,
)
from cryoetgan.star import ANGLES, COORDINATES


def test_wilson_is_the_published_one():
    assert wilson(80, 100) == pytest.approx((0.7112, 0.8666), abs=1e-3)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)


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


def test_paired_differences_ignore_what_seeds_share(rng):
    seeds = rng.normal(0, 10, 6)
    a, b = seeds + 1 + rng.normal(0, 0.1, 6), seeds + rng.normal(0, 0.1, 6)
    mean, (low, high) = paired(a, b)
    assert low < mean < high
    assert low > 0.5
    assert high < 1.5

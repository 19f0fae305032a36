"""Clusters of volumes, and random halves that keep clusters whole."""

import numpy as np
import pandas as pd

from cryoetgan.evaluation.statistics.clusters import (
    cluster_labels,
    even_cluster_labels,
    random_halves,
)
from cryoetgan.io.star import ANGLES, COORDINATES


def test_halves_keep_clusters_whole(rng):
    groups = np.repeat(["a", "b", "c", "d", "e"], [10, 20, 5, 12, 9])
    for _ in range(20):
        first, second = random_halves(groups, rng)
        assert not set(groups[first]) & set(groups[second])
        assert sorted([*first, *second]) == list(range(len(groups)))
        assert len(first)


def test_one_cluster_is_halved_row_by_row(rng):
    first, second = random_halves(np.full(40, "t"), rng)
    assert len(first) == len(second) == 20


def test_clusters_are_tomograms_or_blocks_of_them(rng):
    places = pd.DataFrame(rng.uniform(0, [300, 200, 50], (120, 3)), columns=COORDINATES)
    few = cluster_labels(places.assign(rlnTomoName=np.repeat(["a", "b"], 60)))
    assert len(np.unique(few)) == 18
    assert all(name.startswith(("a:", "b:")) for name in few)
    many = cluster_labels(places.assign(rlnTomoName=np.repeat(list("abcdef"), 20)))
    assert set(many) == set("abcdef")


def test_draws_of_one_density_are_one_cluster(rng):
    angles = np.repeat(rng.uniform(0, 180, (10, 3)), 3, axis=0)
    assert len(np.unique(cluster_labels(pd.DataFrame(angles, columns=ANGLES)))) == 10


def test_rows_without_a_pose_are_drawn_one_by_one():
    angles = pd.DataFrame([[1.0, 2.0, 3.0]] * 2 + [[np.nan] * 3] * 2, columns=ANGLES)
    assert len(np.unique(cluster_labels(angles))) == 3


def test_one_large_tomogram_among_small_ones_is_divided_into_blocks(rng):
    """Else a half is that tomogram, and equal numbers are those of the small ones."""
    places = pd.DataFrame(rng.uniform(0, 300, (600, 3)), columns=COORDINATES)
    names = np.repeat(list("abcdef"), [500, 20, 20, 20, 20, 20])
    groups = even_cluster_labels(places.assign(rlnTomoName=names))
    # variances go by whole tomograms, whatever their size
    assert set(cluster_labels(places.assign(rlnTomoName=names))) == set("abcdef")
    for _ in range(20):
        first, second = random_halves(groups, rng)
        assert min(len(first), len(second)) >= 250


def test_halves_are_as_equal_as_clusters_allow(rng):
    sizes = rng.integers(1, 40, 12)
    groups = np.repeat([f"g{i}" for i in range(12)], sizes)
    seen = []
    for _ in range(200):
        first, second = random_halves(groups, rng)
        assert abs(len(first) - len(second)) <= sizes.max()
        seen.append(np.bincount(first, minlength=len(groups)))
    # each row is in the first half as often as not
    assert np.abs(np.mean(seen, axis=0) - 0.5).max() < 0.15

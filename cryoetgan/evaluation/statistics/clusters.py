"""Clusters of volumes that are not independent, and random halves of whole clusters."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.io.star import ANGLES, COORDINATES

MIN_TOMOGRAMS = 6
"""Number of tomograms from which whole tomograms are the clusters, not blocks of them."""
LARGEST_CLUSTER = 1 / 3
"""Largest fraction of the rows that a cluster of `even_cluster_labels` holds."""
BLOCKS_PER_AXIS = 3  # blocks along each of the two longest axes of a tomogram
Labels = NDArray[np.str_]
"""`(N,)`: the cluster or the class of each volume."""


def cluster_labels(table: Any) -> Labels:
    """Return the cluster of each volume; volumes of one cluster are not independent.

    Particles of one tomogram share noise, defocus and neighbours. The clusters are
    tomograms if there are at least six, otherwise blocks of space. Simulated and generated
    volumes of one density, that is, of equal class and pose, are one cluster. `table` holds the
    N rows of a volume set.
    """
    if "rlnTomoName" in table:
        names = table["rlnTomoName"].to_numpy(str)
        if len(np.unique(names)) >= MIN_TOMOGRAMS or not set(COORDINATES) <= set(table):
            return names
        return _spatial_blocks(table, names)
    if set(ANGLES) <= set(table):
        return np.array(
            [
                "{:.4f}:{:.4f}:{:.4f}".format(*row) if np.isfinite(row).all() else f"row {i}"
                for i, row in enumerate(table[ANGLES].to_numpy(float))
            ]
        )
    return np.arange(len(table)).astype(str)


def even_cluster_labels(table: Any) -> Labels:
    """Return clusters that can be divided into halves of equal size.

    They are the same as `cluster_labels`. If one tomogram holds over a third of the rows, they
    are blocks of space: otherwise one half would be that tomogram, and halves of equal size
    would be as small as the other tomograms. The differences between tomograms are then
    not part of the variance between halves.
    """
    labels = cluster_labels(table)
    has_coordinates = "rlnTomoName" in table and set(COORDINATES) <= set(table)
    _, counts = np.unique(labels, return_counts=True)
    if has_coordinates and counts.max() > LARGEST_CLUSTER * len(labels):
        return _spatial_blocks(table, table["rlnTomoName"].to_numpy(str))
    return labels


def _spatial_blocks(table: Any, names: Labels) -> Labels:
    """Return blocks of each tomogram along its two longest axes."""
    coordinates = table[COORDINATES].to_numpy(float)
    labels = np.empty(len(names), object)
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        points = coordinates[rows]
        position = (points - points.min(axis=0)) * BLOCKS_PER_AXIS
        position /= np.maximum(np.ptp(points, axis=0), 1e-9)
        blocks = np.minimum(position.astype(int), BLOCKS_PER_AXIS - 1)
        longest = np.argsort(np.ptp(points, axis=0))[-2:]
        labels[rows] = [f"{name}:{a}{b}" for a, b in blocks[:, longest]]
    return labels.astype(str)


def random_halves(
    clusters: Labels, rng: np.random.Generator
) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return the rows of two random halves; each cluster is whole in one of them.

    Clusters of over a quarter of the rows are assigned first, the others in random order,
    each to the half with fewer rows. If there is a single cluster, its rows are assigned
    one by one.
    """
    names, members = np.unique(clusters, return_inverse=True)
    if len(names) < 2:
        members = np.arange(len(clusters))
    sizes = np.bincount(members)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(sizes[order] <= len(clusters) / 4, kind="stable")]
    is_first, filled = np.zeros(len(sizes), bool), [0, 0]
    for cluster in order:
        side = int(filled[1] < filled[0])
        is_first[cluster], filled[side] = side == 0, filled[side] + int(sizes[cluster])
    if rng.random() < 0.5:  # the order of the halves is random, too
        is_first = ~is_first
    chosen = is_first[members]
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)

"""Splits of volume sets in which no voxel lies on both sides."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.evaluation.statistics.clusters import cluster_labels
from cryoetgan.io.star import COORDINATES

log = logging.getLogger("cryoetgan")
VALIDATION_FRACTION = 0.15
MIN_TRAINING_FRACTION = 0.5  # fraction of the rows that must be left for training


def has_coordinates(table: Any) -> NDArray[np.bool_]:
    """Return `(N,)` True for rows with a tomogram and a coordinate."""
    if "rlnTomoName" not in table or not set(COORDINATES) <= set(table.columns):
        return np.zeros(len(table), bool)
    known = table["rlnTomoName"].notna() & table[COORDINATES].notna().all(axis=1)
    return np.asarray(known, bool)


def spatial_split(
    table: Any, box: int, fraction: float, rng: np.random.Generator
) -> NDArray[np.int8] | None:
    """Return 1 for about `fraction` of the rows, 0 for the others, -1 for the rows between.

    Crops of a tomogram are separated by a plane with a gap of one box. Simulated and
    generated volumes are split by density: all volumes of one density are on one side, drawn by
    `rng`. A set, the N rows of `table`, can hold both kinds. The box edge is in voxels. The
    result is None if the crops are too few or too crowded for a split by space.
    """
    sides = np.zeros(len(table), np.int8)
    placed = has_coordinates(table)
    if not placed.all():
        other = table[~placed].drop(columns=COORDINATES, errors="ignore")
        if "rlnTomoName" in other and other["rlnTomoName"].isna().any():
            other = other.drop(columns="rlnTomoName")
        names, members = np.unique(cluster_labels(other), return_inverse=True)
        chosen = np.zeros(len(names), np.int8)
        chosen[rng.permutation(len(names))[: round(fraction * len(names))]] = 1
        sides[~placed] = chosen[members]
    if placed.any():
        tomograms = table["rlnTomoName"].to_numpy(object)
        for name in sorted(set(tomograms[placed])):
            rows = np.flatnonzero(placed & (tomograms == name))
            coordinates = table[COORDINATES].to_numpy(float)[rows]
            along = coordinates[:, int(np.argmax(np.ptp(coordinates, axis=0)))]
            plane = np.quantile(along, 1 - fraction)
            # if the centres are a box apart, the boxes touch at most
            sides[rows] = np.where(along >= plane, 1, np.where(along > plane - box, -1, 0))
    return sides if (sides == 0).any() and (sides == 1).any() else None


def spatial_folds(
    table: Any, box: int, count: int
) -> list[tuple[NDArray[np.int_], NDArray[np.int_]]]:
    """Return rows for training and for the test of `count` folds: each row is in one test.

    The crops of each tomogram are divided into `count` blocks along their longest extent, with
    equal numbers. Crops that share voxels with the test block of a fold are not in its training
    rows. The box edge is in voxels. The list is empty if a row has no coordinate.
    """
    if not has_coordinates(table).all():
        return []
    names = table["rlnTomoName"].to_numpy(str)
    places = table[COORDINATES].to_numpy(float)
    block = np.empty(len(table), int)
    for number, name in enumerate(np.unique(names)):
        rows = np.flatnonzero(names == name)
        along = places[rows, int(np.argmax(np.ptp(places[rows], axis=0)))]
        order = np.arange(len(rows)) * count // len(rows)
        # each begins with another block: otherwise the blocks of many small tomograms are unequal
        block[rows[np.argsort(along, kind="stable")]] = (order + number) % count
    folds = []
    for index in range(count):
        test = np.flatnonzero(block == index)
        apart = np.abs(places[:, None] - places[None, test]).max(axis=2) >= box
        apart |= names[:, None] != names[None, test]
        folds.append((np.flatnonzero(apart.all(axis=1)), test))
    return folds


def validation_split(table: Any, box: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Return 1 for validation, 0 for training, -1 for neither: no voxel is in both.

    All rows are for training if the gap would cost over half of them, or all rows of a
    class: early stopping is not worth that. Crops are for training if most rows are not
    crops, that is, if a few crops have been added to a larger set.
    """
    sides = spatial_split(table, box, VALIDATION_FRACTION, rng)
    placed = has_coordinates(table)
    if sides is not None and 0 < placed.mean() < 0.5:
        sides[placed] = 0
    names = table["cryoetganClass"].to_numpy(str)
    if (
        sides is None
        or (sides == 0).mean() < MIN_TRAINING_FRACTION
        or set(names) - set(names[sides == 0])  # a class has no row for training
    ):
        log.debug("too few crops for a validation part: no early stopping")
        return np.zeros(len(table), np.int8)
    return sides


def count_overlapping(train: Any, test: Any, box: int) -> int:
    """Return the number of test crops that share voxels with a training crop.

    `train` and `test` are rows of volume sets; crops are boxes of `box` voxels. Rows without
    a tomogram and a coordinate share nothing.
    """
    from scipy.spatial import cKDTree

    count = 0
    train, test = train[has_coordinates(train)], test[has_coordinates(test)]
    for name in set(train.get("rlnTomoName", ())) & set(test.get("rlnTomoName", ())):
        first, second = (
            part.loc[part["rlnTomoName"] == name, COORDINATES].to_numpy(float)
            for part in (train, test)
        )
        distance, _ = cKDTree(first).query(second, p=np.inf)
        count += int((distance < box).sum())
    return count

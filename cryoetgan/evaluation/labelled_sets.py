"""Volume sets as classifiers and metrics take them."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.evaluation.statistics.intervals import clusters
from cryoetgan.io.mrc import check_same_voxel_size
from cryoetgan.io.star import COORDINATES, SPLITS
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.acquisition import is_symmetric, read_tilt_ranges

log = logging.getLogger("cryoetgan")
VALIDATION = 0.15
LEAST_TRAINED = 0.5
"""Share of the rows that must be left for training."""


@dataclass(frozen=True)
class Labelled:
    """Volumes in memory with their labels.

    Attributes
    ----------
    volumes : ndarray
        `(N, z, y, x)` float32.
    names : ndarray of str
        `(N,)` classes.
    table : pandas.DataFrame
        Their rows, numbered from 0.
    symmetric : bool
        Whether all tilt ranges are, to a degree.
    tilts : (float, float), optional
        What every tilt series has seen, degrees; None where the set does not say.
    """

    volumes: NDArray[np.float32]
    names: NDArray[np.str_]
    table: Any
    symmetric: bool = True
    tilts: tuple[float, float] | None = None

    def rows(self, chosen: NDArray[np.int_]) -> "Labelled":
        """Return some of the volumes."""
        return replace(
            self,
            volumes=self.volumes[chosen],
            names=self.names[chosen],
            table=self.table.iloc[chosen].reset_index(drop=True),
        )


def load(volumes: VolumeSet, split: str | None) -> Labelled:
    """Return the rows of one split, or all.

    Raises
    ------
    UserError
        Where the split is not one, or has no rows, or a voxel is not finite.
    """
    table = volumes.table
    rows = np.arange(len(table))
    if split is not None:
        if split not in SPLITS:
            raise UserError(f"split '{split}': wanted {', '.join(SPLITS)}")
        if "cryoetganSplit" not in table:
            raise UserError(f"{volumes.path}: has no column cryoetganSplit to choose {split} by")
        rows = np.flatnonzero(table["cryoetganSplit"].astype(str) == split)
        if not len(rows):
            raise UserError(f"{volumes.path}: no row has cryoetganSplit {split}")
    data = np.ascontiguousarray(volumes.volumes[rows], np.float32)
    if not np.isfinite(data).all():
        raise UserError(f"{volumes.path}: holds voxels that are not finite numbers")
    names = table["cryoetganClass"].to_numpy(str)[rows]
    symmetric, tilts = _tilts(volumes, rows)
    return Labelled(data, names, table.iloc[rows].reset_index(drop=True), symmetric, tilts)


def _tilts(volumes: VolumeSet, rows: NDArray[np.int_]) -> tuple[bool, tuple[float, float] | None]:
    """Return whether the rows' tilt ranges are symmetric, and the range all have in common."""
    optics = volumes.optics
    if "rlnOpticsGroup" in volumes.table and "rlnOpticsGroup" in optics:
        used = volumes.table["rlnOpticsGroup"].iloc[rows]
        optics = optics[optics["rlnOpticsGroup"].isin(used)]
    known = read_tilt_ranges(optics)
    low = max((tilts[0] for tilts in known), default=0.0)
    high = min((tilts[1] for tilts in known), default=0.0)
    return all(map(is_symmetric, known)), (low, high) if low < high else None


def same_boxes(first: VolumeSet, second: VolumeSet) -> None:
    """Refuse two sets of other boxes or voxel sizes."""
    check_same_voxel_size(first.voxel_size, second.voxel_size, first.path, second.path)
    if first.box != second.box:
        raise UserError(
            f"{first.path} has boxes of {first.box} voxels, {second.path} of {second.box}; "
            "make both with one densities.box"
        )


def apart(
    table: Any, box: int, share: float, numbers: np.random.Generator
) -> NDArray[np.int8] | None:
    """Return 1 for about `share` of the rows, 0 for the others, -1 for those in between.

    No voxel is on both sides: crops of each tomogram are parted by a plane with a gap of
    a box; simulated and generated volumes go by density, all draws of one on one side. Of
    joined sets, each row goes by what it is.

    Parameters
    ----------
    table : pandas.DataFrame
        A volume set's rows.
    box : int
        Voxels.
    share : float
        Of the rows on side 1.
    numbers : numpy.random.Generator
        For what has no place in a tomogram.

    Returns
    -------
    ndarray of int8 or None
        `(N,)`; None where the crops are too few or too crowded to be parted by space.
    """
    groups = np.zeros(len(table), np.int8)
    placed = in_tomograms(table)
    if not placed.all():
        loose = table[~placed].drop(columns=COORDINATES, errors="ignore")
        if "rlnTomoName" in loose and loose["rlnTomoName"].isna().any():
            loose = loose.drop(columns="rlnTomoName")
        names, members = np.unique(clusters(loose), return_inverse=True)
        chosen = np.zeros(len(names), np.int8)
        chosen[numbers.permutation(len(names))[: round(share * len(names))]] = 1
        groups[~placed] = chosen[members]
    for at in _by_tomogram(table, placed):
        where = table[COORDINATES].to_numpy(float)[at]
        along = where[:, int(np.argmax(np.ptp(where, axis=0)))]
        plane = np.quantile(along, 1 - share)
        # centres a box apart: the boxes touch at most
        side = np.where(along >= plane, 1, np.where(along > plane - box, -1, 0))
        groups[at] = side
    return groups if (groups == 0).any() and (groups == 1).any() else None


def _by_tomogram(table: Any, placed: NDArray[np.bool_]) -> Iterator[NDArray[np.int_]]:
    """Yield the rows of each tomogram."""
    if not placed.any():
        return
    names = table["rlnTomoName"].to_numpy(object)
    for name in sorted(set(names[placed])):
        yield np.flatnonzero(placed & (names == name))


def in_tomograms(table: Any) -> NDArray[np.bool_]:
    """Return `(N,)` whether a row has a place in a tomogram; joined sets hold both kinds."""
    if "rlnTomoName" not in table or not set(COORDINATES) <= set(table.columns):
        return np.zeros(len(table), bool)
    known = table["rlnTomoName"].notna() & table[COORDINATES].notna().all(axis=1)
    return np.asarray(known, bool)


def validation_groups(table: Any, box: int, numbers: np.random.Generator) -> NDArray[np.int8]:
    """Return 1 for validation, 0 for training, -1 for neither: no voxel is on both sides.

    A gap that would cost over half of the training set is not worth its early stopping:
    all rows are then trained on. So are a few crops that are joined to a larger set.
    """
    groups = apart(table, box, VALIDATION, numbers)
    placed = in_tomograms(table)
    if groups is not None and 0 < placed.mean() < 0.5:
        groups[placed] = 0
    if groups is None or (groups == 0).mean() < LEAST_TRAINED or _lost(table, groups):
        log.debug("too few crops to part by space: no early stopping")
        return np.zeros(len(table), np.int8)
    return groups


def _lost(table: Any, groups: NDArray[np.int8]) -> bool:
    """Return whether a class has no row left to train on."""
    names = table["cryoetganClass"].to_numpy(str)
    return bool(set(names) - set(names[groups == 0]))


def overlapping(train: Any, test: Any, box: int) -> int:
    """Return how many test crops share voxels with a training crop of the same tomogram.

    Parameters
    ----------
    train, test : pandas.DataFrame
        Rows of volume sets; those without a place in a tomogram share nothing.
    box : int
        Voxels.
    """
    from scipy.spatial import cKDTree

    needed = {"rlnTomoName", *COORDINATES}
    if not needed <= set(train) or not needed <= set(test):
        return 0
    count = 0
    places = {
        name: part[COORDINATES].to_numpy(float) for name, part in train.groupby("rlnTomoName")
    }
    for name, part in test.groupby("rlnTomoName"):
        if name in places:
            distance, _ = cKDTree(places[name]).query(part[COORDINATES].to_numpy(float), p=np.inf)
            count += int((distance < box).sum())
    return count


def common_classes(train: NDArray[np.str_], test: NDArray[np.str_]) -> list[str]:
    """Return the classes to tell apart: those trained on.

    Parameters
    ----------
    train, test : ndarray of str
        The class of each volume.

    Raises
    ------
    UserError
        Where there are fewer than two, or the test set has none of them.
    """
    known = sorted({str(name) for name in train})
    wanted = {str(name) for name in test}
    if len(known) < 2:
        raise UserError(
            f"the training set has one class ({known[0]}); a classifier needs two: add rows of "
            "another class"
        )
    if not wanted & set(known):
        raise UserError(
            f"the test set's classes ({', '.join(sorted(wanted))}) are none of the training set's "
            f"({', '.join(known)}); give sets with the same class names"
        )
    strange, absent = sorted(wanted - set(known)), sorted(set(known) - wanted)
    if strange:
        log.warning("classes tested but not trained, always wrong: %s", ", ".join(strange))
    if absent:
        log.warning("classes trained but not tested, unknown how well: %s", ", ".join(absent))
    return known

"""Volume sets as classifiers and metrics take them."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.acquisition import Acquisition
from cryoetgan.errors import UserError
from cryoetgan.star import COORDINATES, SPLITS
from cryoetgan.volumes import VolumeSet

log = logging.getLogger("cryoetgan")
SYMMETRIC = 1.0
"""Degrees by which a tilt range may be off centre and still count as symmetric."""
VALIDATION = 0.15


@dataclass(frozen=True)
class Labelled:
    """Volumes `(N, z, y, x)` in memory, their class names, their rows."""

    volumes: NDArray[np.float32]
    names: NDArray[np.str_]
    table: Any
    symmetric: bool


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
    return Labelled(data, names, table.iloc[rows].reset_index(drop=True), _symmetric(volumes))


def _symmetric(volumes: VolumeSet) -> bool:
    for row in volumes.optics.to_dict("records"):
        low, high = Acquisition.from_optics(row).tilts
        if abs(low + high) > SYMMETRIC:
            return False
    return True


def validation_groups(table: Any, box: int, numbers: np.random.Generator) -> NDArray[np.int8]:
    """Return 1 for validation, 0 for training, -1 for neither: no voxel is on both sides.

    Crops of tomograms are parted by a plane with a gap of a box in each tomogram;
    simulated and generated volumes share no voxel and are drawn at random.
    """
    count = len(table)
    groups = np.zeros(count, np.int8)
    if "rlnTomoName" not in table or not set(COORDINATES) <= set(table.columns):
        groups[numbers.permutation(count)[: int(VALIDATION * count)]] = 1
        return groups
    for _, part in table.groupby("rlnTomoName"):
        where = part[COORDINATES].to_numpy(float)
        along = where[:, int(np.argmax(np.ptp(where, axis=0)))]
        plane = np.quantile(along, 1 - VALIDATION)
        side = np.where(along > plane, 1, np.where(along > plane - box, -1, 0))
        groups[part.index] = side
    if not (groups == 0).any() or not (groups == 1).any():
        # too few or too crowded to part by space: better no early stopping than a leak
        return np.zeros(count, np.int8)
    return groups


def common_classes(train: Labelled, test: Labelled) -> list[str]:
    """Return the classes to tell apart: those trained on.

    Raises
    ------
    UserError
        Where there are fewer than two, or the test set has none of them.
    """
    known = sorted({str(name) for name in train.names})
    wanted = {str(name) for name in test.names}
    if len(known) < 2:
        raise UserError(f"the training set has one class ({known[0]}); a classifier needs two")
    if not wanted & set(known):
        raise UserError(
            f"the test set's classes ({', '.join(sorted(wanted))}) are none of the training set's "
            f"({', '.join(known)})"
        )
    strange = sorted(wanted - set(known))
    if strange:
        log.warning("classes %s are tested but not trained: always wrong", ", ".join(strange))
    return known

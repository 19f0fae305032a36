"""Training and test sets that share no voxel."""

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError


def block_split(
    coordinates: NDArray[np.floating], box: int, test_fraction: float
) -> NDArray[np.str_]:
    """Split the particles of one tomogram by a plane, with a gap of one box.

    Parameters
    ----------
    coordinates : ndarray
        `(N, 3)` x, y, z in voxels.
    box : int
        Edge of a box in voxels: boxes of the two sides share no voxel.
    test_fraction : float
        Share of the particles beyond the plane.

    Returns
    -------
    ndarray of str
        `(N,)` train, test, or empty for those in the gap, which belong to neither.

    Raises
    ------
    UserError
        Where a side stays empty; a share of 0 asks for no test side.
    """
    if test_fraction == 0:
        return np.full(len(coordinates), "train", dtype="<U5")
    longest = int(np.argmax(np.ptp(coordinates, axis=0)))
    along = coordinates[:, longest]
    plane = np.quantile(along, 1 - test_fraction)
    # centres one box apart: the boxes touch at most
    split = np.where(
        along <= plane - box / 2, "train", np.where(along >= plane + box / 2, "test", "")
    )
    for side in ("train", "test"):
        if not (split == side).any():
            raise UserError(
                f"one tomogram is too small to split: its {side} side has no particle when a gap "
                f"of one box ({box} voxels) is left; add a tomogram, or set particles.test_fraction"
            )
    return split


def split_like(
    coordinates: NDArray[np.floating],
    chosen: NDArray[np.floating],
    split: NDArray[np.str_],
    box: int,
) -> NDArray[np.str_]:
    """Split further particles of a tomogram by the plane that parted the chosen ones.

    Parameters
    ----------
    coordinates : ndarray
        `(N, 3)` x, y, z in voxels.
    chosen : ndarray
        `(M, 3)` of particles that `block_split` parted.
    split : ndarray of str
        `(M,)` train or test.
    box : int
        Edge of a box in voxels.

    Returns
    -------
    ndarray of str
        `(N,)` train, test, or empty for those in the gap: no box of one side shares a voxel
        with one of the other, be it chosen or not.

    Raises
    ------
    UserError
        Where the chosen are not parted so.
    """
    train, test = chosen[split == "train"], chosen[split == "test"]
    if len(train) and len(test):
        ends, starts = train.max(axis=0), test.min(axis=0)
        axis = int(np.argmax(starts - ends))
        middle = (ends[axis] + starts[axis]) / 2
        if starts[axis] - ends[axis] >= box:
            along = coordinates[:, axis]
            return np.where(
                along <= middle - box / 2, "train", np.where(along >= middle + box / 2, "test", "")
            )
    raise UserError(
        "the selected particles are not parted by a plane with a gap of one box; select them again"
    )

"""Training and test sets that share no voxel."""

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError

Floats = NDArray[np.floating]


def block_split(coordinates: Floats, box: int, test_fraction: float) -> NDArray[np.str_]:
    """Split the particles of one tomogram by a plane, with a gap of one box.

    Parameters
    ----------
    coordinates : ndarray
        `(N, 3)` x, y, z in voxels.
    box : int
        Edge of a box in voxels; boxes of the two sides share no voxel.
    test_fraction : float
        Share of the particles beyond the plane; 0 puts all into the training set.

    Returns
    -------
    ndarray of str
        `(N,)` train, test, or empty for particles in the gap.

    Raises
    ------
    UserError
        If a side has no particle.
    """
    if test_fraction == 0:
        return np.full(len(coordinates), "train", dtype="<U5")
    longest = int(np.argmax(np.ptp(coordinates, axis=0)))
    along = coordinates[:, longest]
    split = _sides(along, float(np.quantile(along, 1 - test_fraction)), box)
    for side in ("train", "test"):
        if not (split == side).any():
            raise UserError(
                f"one tomogram is too small to split: its {side} side has no particle outside the "
                f"gap of one box ({box} voxels). Add a tomogram, or set particles.test_fraction"
            )
    return split


def split_like(
    coordinates: Floats, selected: Floats, split: NDArray[np.str_], box: int
) -> NDArray[np.str_]:
    """Split further particles of a tomogram by the plane that split the selected ones.

    Parameters
    ----------
    coordinates : ndarray
        `(N, 3)` x, y, z in voxels.
    selected : ndarray
        `(M, 3)` of particles that `block_split` split.
    split : ndarray of str
        `(M,)` train or test.
    box : int
        Edge of a box in voxels.

    Returns
    -------
    ndarray of str
        `(N,)` train, test, or empty for particles in the gap. No box of one side shares a voxel
        with a box of the other, selected or not.

    Raises
    ------
    UserError
        If no plane splits the selected particles.
    """
    train, test = selected[split == "train"], selected[split == "test"]
    if len(train) and len(test):
        ends, starts = train.max(axis=0), test.min(axis=0)
        axis = int(np.argmax(starts - ends))
        if starts[axis] - ends[axis] >= box:
            return _sides(coordinates[:, axis], (ends[axis] + starts[axis]) / 2, box)
    raise UserError(
        "no plane with a gap of one box separates the train and test particles; select them again "
        "with 'particles select'"
    )


def _sides(along: Floats, plane: float, box: int) -> NDArray[np.str_]:
    """Return the side of each position; positions one box apart have boxes that only touch."""
    return np.where(
        along <= plane - box / 2, "train", np.where(along >= plane + box / 2, "test", "")
    )

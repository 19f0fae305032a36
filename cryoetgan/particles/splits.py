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
        Where a side stays empty.
    """
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

"""Where in its box a particle lies: rlnOriginX/Y/ZAngst, RELION's sense."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.star import ORIGINS

if TYPE_CHECKING:
    import pandas as pd


def offset(row: Mapping[Any, Any], voxel_size: float) -> NDArray[np.float64]:
    """Return where a particle lies from voxel n // 2 of its box, xyz, voxels.

    Parameters
    ----------
    row : mapping
        Column to value; without origins it lies there.
    voxel_size : float
        Angstrom.
    """
    return -np.array([float(row.get(name, 0.0)) for name in ORIGINS]) / voxel_size


def offsets(table: "pd.DataFrame", voxel_size: float) -> NDArray[np.float64]:
    """Return `offset` of every row, `(N, 3)`."""
    if not set(ORIGINS) <= set(table):
        return np.zeros((len(table), 3))
    return -table[ORIGINS].to_numpy(float) / voxel_size

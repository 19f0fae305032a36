"""Maps of one's own, brought to the run's box and voxel size."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.errors import UserError

LARGEST_MAP = 512**3
"""Voxels; the whole map is held in memory, twice in double precision."""


def check_map(data: NDArray[Any], path: Path) -> NDArray[np.float64]:
    """Return a map's values, or raise a `UserError` where they are none.

    Parameters
    ----------
    data : ndarray
        `(z, y, x)`.
    path : Path
        Its file, for the message.
    """
    if data.size > LARGEST_MAP:
        raise UserError(
            f"{path}: has {' x '.join(map(str, data.shape[::-1]))} voxels, more than a particle's "
            "map; crop or bin it first"
        )
    values = np.asarray(data, np.float64)
    if not np.isfinite(values).all():
        raise UserError(f"{path}: holds values that are not finite numbers")
    if values.max() <= 0 or np.ptp(values) == 0:
        raise UserError(
            f"{path}: no voxel is above zero, or all are equal; a density map has protein positive "
            "(multiply a map with dark protein by -1)"
        )
    return values


def check_space(output: Path, count: int, box: int) -> None:
    """Raise a `UserError` where a volume set would not fit on the disk."""
    folder = next(parent for parent in Path(output).absolute().parents if parent.is_dir())
    needed, free = 4 * count * box**3, shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{output}: {count} volumes of {box}^3 need {needed / 1e9:.3g} GB, but "
            f"{free / 1e9:.3g} GB are free; lower --count (densities.count) or make room"
        )


def fit_to_box(
    data: NDArray[np.floating], voxel_size: float, wanted: float, box: int
) -> NDArray[np.float32]:
    """Resample a map and cut or pad it to a cube; the centre n // 2 stays the centre.

    Parameters
    ----------
    data : ndarray
        `(z, y, x)`.
    voxel_size, wanted : float
        Angstrom, of the map and of the result.
    box : int
        Edge of the result in voxels.
    """
    step = wanted / voxel_size
    source = np.asarray(data, np.float64)
    if step > 1:  # what the coarser grid cannot hold is taken out first
        source = ndimage.gaussian_filter(source, 0.5 * np.sqrt(step**2 - 1), mode="constant")
    centre = np.array(source.shape) // 2
    return ndimage.affine_transform(
        source,
        np.full(3, step),
        offset=centre - step * (box // 2),
        output_shape=(box, box, box),
        order=3,
        mode="constant",
    ).astype(np.float32)


def share_outside(data: NDArray[np.floating], inside: NDArray[np.floating], factor: float) -> float:
    """Return the share of a map's positive mass that a smaller box leaves out."""
    total = float(np.clip(data, 0, None).sum(dtype=np.float64))
    kept = float(np.clip(inside, 0, None).sum(dtype=np.float64)) * factor
    return max(0.0, 1 - kept / total) if total > 0 else 0.0

"""Cut boxes out of tomograms, subvoxel."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.floating]
SPLINE_REACH = 8
"""Voxels around a box that its cubic spline needs (0.27^8 ~ 3e-5)."""


def fits(coordinate: Floats, shape: tuple[int, ...], box: int) -> bool:
    """Whether a box lies inside a tomogram.

    Parameters
    ----------
    coordinate : ndarray
        x, y, z in voxels, 0-based; it becomes voxel n // 2 of the box.
    shape : tuple of int
        zyx.
    box : int
        Voxels.
    """
    low = np.asarray(coordinate, float)[::-1] - box // 2
    return bool((low >= 0).all() and (low + box - 1 <= np.array(shape) - 1).all())


def extract(volume: NDArray[np.generic], coordinate: Floats, box: int) -> NDArray[np.float32]:
    """Return the box `(z, y, x)` whose voxel n // 2 lies at `coordinate`.

    Cubic spline interpolation; only the box and a rim are read. Where the box reaches
    beyond the tomogram, it holds the mean of what is inside.
    """
    start = np.asarray(coordinate, float)[::-1] - box // 2
    whole = np.floor(start + 0.5).astype(int)
    rest = start - whole
    rim = 0 if np.abs(rest).max() < 1e-3 else SPLINE_REACH
    low, high = whole - rim, whole + box + rim
    inside_low = np.clip(low, 0, volume.shape)
    inside_high = np.clip(high, 0, volume.shape)
    part = np.asarray(
        volume[tuple(slice(a, b) for a, b in zip(inside_low, inside_high, strict=True))],
        np.float32,
    )
    if part.size == 0:
        return np.zeros((box, box, box), np.float32)
    if part.shape != tuple(high - low):
        padding = np.stack([inside_low - low, high - inside_high], axis=1)
        part = np.pad(part, padding, constant_values=float(part.mean()))
    if rim == 0:
        return part
    return ndimage.affine_transform(
        part,
        np.ones(3),
        offset=rest + rim,
        output_shape=(box, box, box),
        order=3,
        mode="nearest",
    )


def boxes(
    volume: NDArray[np.generic], table: Any, columns: list[str], box: int
) -> Iterator[NDArray[np.float32]]:
    """Yield the box of each row of `table`."""
    for coordinate in table[columns].to_numpy(float):
        yield extract(volume, coordinate, box)

"""What in a tomogram's file is no data: masked regions, and padding with one grey value."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FLAT = 5
"""Voxels: padding holds cubes of this edge without any change."""
MARGIN = 2
"""Voxels about padding that interpolation has drawn it into."""
TOLERANCE = 1e-3
"""Of the tomogram's standard deviation: what still counts as one grey value."""
LEAST_FACE = 0.01
"""Share of one face of the volume that is flat, from which on it is padded."""
SAMPLED = 64
"""Sections of a face that runs across all of them."""


class LeftOut:
    """Voxels that are no data, found block by block: nothing of the tomogram's size is held.

    Stands in the place of a mask: `left_out[z0:z1, y0:y1, x0:x1]` is True where nothing is
    to be measured.

    Parameters
    ----------
    data : ndarray
        `(z, y, x)`, memory-mapped.
    mask : ndarray, optional
        `(z, y, x)`, not zero where a person leaves it out.
    """

    def __init__(self, data: NDArray[np.generic], mask: NDArray[np.generic] | None = None) -> None:
        self.data, self.mask = data, mask
        self.scale = TOLERANCE * _spread(data)
        self.levels = padding_levels(data, self.scale)

    def __bool__(self) -> bool:
        """Whether anything may be left out."""
        return self.mask is not None or bool(self.levels)

    def __getitem__(self, where: tuple[slice, ...]) -> NDArray[np.bool_]:
        low = [s.start for s in where]
        high = [min(s.stop, n) for s, n in zip(where, self.data.shape, strict=True)]
        out = np.zeros([b - a for a, b in zip(low, high, strict=True)], bool)
        if self.mask is not None:
            out |= self.mask[where] != 0
        if self.levels:
            reach = FLAT + MARGIN
            first = [max(0, a - reach) for a in low]
            last = [min(n, b + reach) for n, b in zip(self.data.shape, high, strict=True)]
            wide = np.asarray(self.data[tuple(map(slice, first, last))], np.float32)
            part = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, first, strict=True))
            for level in self.levels:
                near = (np.abs(wide - np.float32(level)) <= self.scale).astype(np.uint8)
                core = ndimage.minimum_filter(near, FLAT, mode="nearest")
                grown = ndimage.maximum_filter(core, FLAT + 2 * MARGIN, mode="nearest")
                out |= grown[part] != 0
        return out

    def touches(self, middle: NDArray[np.int_], box: int) -> bool:
        """Return whether a box about the voxel x, y, z holds a voxel that is left out."""
        low = np.asarray(middle)[::-1] - box // 2
        return bool(self[tuple(slice(a, a + box) for a in low)].any())


def padding_levels(data: NDArray[np.generic], scale: float) -> list[float]:
    """Return the grey values a tomogram is padded with; none where it is not.

    Padding reaches a face of the volume, and does not change there: grey values that were
    clipped, or smoothed, are flat in spots too small to count.

    Parameters
    ----------
    data : ndarray
        `(z, y, x)`, memory-mapped.
    scale : float
        What still counts as no change.
    """
    step = max(1, data.shape[0] // SAMPLED)
    faces = [data[0], data[-1]]
    faces += [face for i in (0, -1) for face in (data[::step, i], data[::step, :, i])]
    levels: list[float] = []
    for face in (np.asarray(face, np.float32) for face in faces):
        high = ndimage.maximum_filter(face, FLAT, mode="nearest")
        flat = high - ndimage.minimum_filter(face, FLAT, mode="nearest") <= scale
        if flat.mean() < LEAST_FACE:
            continue
        values, counts = np.unique(face[flat], return_counts=True)
        level = float(values[counts.argmax()])
        if all(abs(level - known) > scale for known in levels):
            levels.append(level)
    return levels


def _spread(data: NDArray[np.generic]) -> float:
    """Return the standard deviation of the middle section, which padding rarely fills."""
    return float(np.asarray(data[data.shape[0] // 2], np.float32).std())

"""Exclusion mask of a tomogram: masked regions, and padding with a constant grey value."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.physics.geometry import block_slices, clip_box

FLAT_CUBE = 5
"""Edge of the constant cubes that padding consists of, voxels."""
TOLERANCE_SD = 1e-3
"""Largest difference from a constant grey value, in standard deviations of the tomogram."""
MIN_FLAT_FRACTION = 0.01
"""Fraction of a face of the volume that padding covers at least."""
SAMPLED_SECTIONS = 64
"""Sections that are read of a face that runs across all of them."""


class ExclusionMask:
    """Voxels that hold no data, evaluated block by block in bounded memory.

    It is indexed like an array of bool: `excluded[z0:z1, y0:y1, x0:x1]` is True in padding and in
    masked regions. Data and mask are `(z, y, x)`; the mask is not zero in regions that the user
    excludes. Interpolation may have mixed padding with the voxels around it, up to `margin`.
    """

    def __init__(
        self, data: NDArray[np.generic], mask: NDArray[np.generic] | None = None, margin: int = 2
    ) -> None:
        self.data, self.mask, self.margin = data, mask, margin
        # padding rarely fills the central section
        section = np.asarray(data[data.shape[0] // 2], np.float32)
        self.tolerance = TOLERANCE_SD * float(section.std())
        self.levels = find_padding_levels(data, self.tolerance)

    def __bool__(self) -> bool:
        """Whether any voxel may be excluded."""
        return self.mask is not None or bool(self.levels)

    def __getitem__(self, block: tuple[slice, ...]) -> NDArray[np.bool_]:
        low = [s.start for s in block]
        shape = [min(s.stop, n) - a for s, n, a in zip(block, self.data.shape, low, strict=True)]
        out = np.zeros(shape, bool)
        if self.mask is not None:
            out |= self.mask[block] != 0
        if self.levels:
            reach = FLAT_CUBE + self.margin
            whole = [n + 2 * reach for n in shape]
            in_data, in_wide = clip_box([a - reach for a in low], whole, self.data.shape)
            wide = np.asarray(self.data[in_data], np.float32)
            first = [reach - s.start for s in in_wide]
            for level in self.levels:
                near = (np.abs(wide - np.float32(level)) <= self.tolerance).astype(np.uint8)
                core = ndimage.minimum_filter(near, FLAT_CUBE, mode="nearest")
                padding = ndimage.maximum_filter(core, FLAT_CUBE + 2 * self.margin, mode="nearest")
                out |= padding[block_slices(first, shape)] != 0
        return out

    def intersects_box(self, centre: NDArray[np.int_] | Sequence[int], box: int) -> bool:
        """Return whether a box holds an excluded voxel.

        `centre` is voxel n // 2 of the box, xyz. The box lies inside the tomogram.
        """
        corner = np.asarray(centre)[::-1] - box // 2
        return bool(self[block_slices(corner, (box,) * 3)].any())


def find_padding_levels(data: NDArray[np.generic], tolerance: float) -> list[float]:
    """Return the grey values that pad a tomogram `(z, y, x)`; empty if it has no padding.

    Padding reaches a face of the volume and is constant there, to within `tolerance` grey values.
    Clipped or smoothed grey values are constant only in spots that are too small to count.
    """
    step = max(1, data.shape[0] // SAMPLED_SECTIONS)
    faces = [data[0], data[-1]]
    faces += [face for i in (0, -1) for face in (data[::step, i], data[::step, :, i])]
    levels: list[float] = []
    for face in (np.asarray(face, np.float32) for face in faces):
        high = ndimage.maximum_filter(face, FLAT_CUBE, mode="nearest")
        flat = high - ndimage.minimum_filter(face, FLAT_CUBE, mode="nearest") <= tolerance
        if flat.mean() < MIN_FLAT_FRACTION:
            continue
        values, counts = np.unique(face[flat], return_counts=True)
        level = float(values[counts.argmax()])
        if all(abs(level - known) > tolerance for known in levels):
            levels.append(level)
    return levels

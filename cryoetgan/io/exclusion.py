"""Voxels of a tomogram that hold no data (padding, not finite) or that the user excludes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.io.memmap import RELEASE_EVERY_BYTES, release_pages
from cryoetgan.io.mrc import Volume
from cryoetgan.physics.geometry import block_slices, clip_box

Floats = NDArray[np.floating]
FLAT_CUBE = 5
"""Edge of the constant cubes that padding consists of, voxels."""
GAP_CUBE = 3
"""Edge of the cubes of not finite voxels that are a region; smaller ones are specks."""
TOLERANCE_SD = 1e-3
"""Largest difference from a constant grey value, in standard deviations of the tomogram."""
MIN_FLAT_FRACTION = 0.01
"""Fraction of a face of the volume that padding covers at least."""
MAX_PADDING = 0.75
"""Fraction of a volume beyond which a constant value is its background, as of a scene without noise:
a tomogram that was turned by 45 degrees has 0.5 of padding."""
SAMPLED_SECTIONS = 64
"""Sections that are read of a face that runs across all of them."""
LOOKUP_BLOCK = 64
"""Edge of the blocks in which single voxels are looked up."""


class ExclusionMask:
    """Voxels that hold no data or are masked, evaluated block by block in bounded memory.

    It is indexed like an array of bool: `excluded[z0:z1, y0:y1, x0:x1]`. Data and mask are
    `(z, y, x)`; the mask is not zero in regions that the user excludes.

    In an imported tomogram, voxels without data have the value 0 (`labelled` True), or there are none
    (False). In other tomograms (None), padding is found by its constant grey value, which reaches
    a face of the volume. Interpolation may have mixed it with the voxels around it, up to `margin`.
    """

    def __init__(
        self,
        data: NDArray[np.generic],
        mask: NDArray[np.generic] | None = None,
        margin: int = 2,
        labelled: bool | None = None,
    ) -> None:
        self.data, self.mask, self.margin, self.labelled = data, mask, margin, labelled
        self.tolerance = 0.0
        self.levels: list[float] = [0.0] if labelled else []
        self.background: list[float] = []
        if labelled is None:
            # padding rarely fills the central section
            section = np.asarray(data[data.shape[0] // 2], np.float32)
            finite = section[np.isfinite(section)]
            self.tolerance = TOLERANCE_SD * float(finite.std()) if finite.size else 0.0
            self.levels, self.background = find_padding_levels(data, self.tolerance)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tomogram, zyx."""
        return self.data.shape

    def every(self, step: int) -> "ExclusionMask":
        """Return the mask of every `step`-th voxel along each axis."""
        if step == 1:
            return self
        cut = (slice(None, None, step),) * 3
        mask = None if self.mask is None else self.mask[cut]
        return ExclusionMask(self.data[cut], mask, margin=1, labelled=self.labelled)

    def __bool__(self) -> bool:
        """Whether any voxel may be excluded."""
        return self.mask is not None or bool(self.levels)

    def __getitem__(self, block: tuple[slice, ...]) -> NDArray[np.bool_]:
        low = [s.start for s in block]
        shape = [min(s.stop, n) - a for s, n, a in zip(block, self.data.shape, low, strict=True)]
        out = np.zeros(shape, bool)
        if self.mask is not None:
            out |= self.mask[block] != 0
        if self.labelled:
            out |= self.data[block] == 0
        elif self.levels:
            out |= self._find_padding(low, shape)
        return out

    def _find_padding(self, low: Sequence[int], shape: Sequence[int]) -> NDArray[np.bool_]:
        reach = FLAT_CUBE + self.margin
        whole = [n + 2 * reach for n in shape]
        in_data, in_wide = clip_box([a - reach for a in low], whole, self.data.shape)
        wide = np.asarray(self.data[in_data], np.float32)
        inner = block_slices([reach] * 3, shape)
        out = np.zeros(shape, bool)
        for level in self.levels:
            near = np.ones(whole, np.uint8)  # padding goes on outside, so it may be thin
            near[in_wide] = np.abs(wide - np.float32(level)) <= self.tolerance
            core = ndimage.minimum_filter(near, FLAT_CUBE, mode="nearest")
            if not core.any():
                continue
            padding = np.zeros(whole, np.uint8)
            padding[in_wide] = ndimage.maximum_filter(core, FLAT_CUBE, mode="nearest")[in_wide]
            padding = ndimage.maximum_filter(padding, 1 + 2 * self.margin, mode="constant")
            out |= padding[inner] != 0
        return out

    def holds(self, positions: Floats) -> NDArray[np.bool_]:
        """Return whether the voxels nearest to the positions `(N, 3)` zyx are excluded."""
        last = np.array(self.shape) - 1
        nearest = np.clip(np.floor(np.asarray(positions, float) + 0.5).astype(int), 0, last)
        out = np.zeros(len(nearest), bool)
        if not self:
            return out
        corners, owner = np.unique(nearest // LOOKUP_BLOCK, axis=0, return_inverse=True)
        for number, corner in enumerate(corners * LOOKUP_BLOCK):
            mine = np.flatnonzero(owner.ravel() == number)
            block = self[block_slices(corner, (LOOKUP_BLOCK,) * 3)]
            out[mine] = block[tuple((nearest[mine] - corner).T)]
        return out

    def fraction_of_box(self, centre: NDArray[np.int_] | Sequence[int], box: int) -> float:
        """Return the excluded fraction of a box that lies inside the tomogram.

        `centre` is voxel n // 2 of the box, xyz.
        """
        corner = np.asarray(centre)[::-1] - box // 2
        return float(self[block_slices(corner, (box,) * 3)].mean()) if self else 0.0

    def intersects_box(self, centre: NDArray[np.int_] | Sequence[int], box: int) -> bool:
        """Return whether a box holds an excluded voxel; arguments as in `fraction_of_box`."""
        return self.fraction_of_box(centre, box) > 0


def excluded_voxels(volume: Volume, mask: NDArray[np.generic] | None = None) -> ExclusionMask:
    """Return the excluded voxels of a tomogram; a mask `(z, y, x)` adds its own."""
    return ExclusionMask(volume.data, mask, labelled=volume.marks_no_data)


def find_gaps(block: Floats) -> NDArray[np.bool_]:
    """Return the regions of a block `(z, y, x)` that are not finite, without specks.

    What lies beyond the block counts as not finite.
    """
    broken = ~np.isfinite(block)
    if not broken.any():
        return broken
    wide = np.pad(broken.astype(np.uint8), GAP_CUBE, constant_values=1)
    core = ndimage.minimum_filter(wide, GAP_CUBE, mode="nearest")
    gaps = ndimage.maximum_filter(core, GAP_CUBE, mode="nearest")
    return broken & (gaps[(slice(GAP_CUBE, -GAP_CUBE),) * 3] != 0)


def find_padding_levels(
    data: NDArray[np.generic], tolerance: float
) -> tuple[list[float], list[float]]:
    """Return the grey values that pad a tomogram `(z, y, x)`, and those that are its background.

    Padding reaches a face of the volume and is constant there, to within `tolerance` grey values.
    Clipped or smoothed grey values are constant only in spots that are too small to count. A value
    that fills more than `MAX_PADDING` of the volume is background.
    """
    faces, sample = _read_faces(data)
    levels: list[float] = []
    background: list[float] = []
    for face in faces:
        # voxels that are not finite get values that differ from their neighbours'
        ramp = np.arange(face.size, dtype=np.float32).reshape(face.shape) * max(1, tolerance * 4)
        face = np.where(np.isfinite(face), face, ramp)
        high = ndimage.maximum_filter(face, FLAT_CUBE, mode="nearest")
        flat = high - ndimage.minimum_filter(face, FLAT_CUBE, mode="nearest") <= tolerance
        values, counts = np.unique(face[flat], return_counts=True)
        for level in map(float, values[counts >= MIN_FLAT_FRACTION * face.size]):
            if all(abs(level - known) > tolerance for known in levels + background):
                filled = float((np.abs(sample - np.float32(level)) <= tolerance).mean())
                (background if filled > MAX_PADDING else levels).append(level)
    return levels, background


def _read_faces(data: NDArray[np.generic]) -> tuple[list[Floats], Floats]:
    """Return the six faces of a volume and a sample of its voxels, from every n-th section."""
    depth, height, width = (max(1, n // SAMPLED_SECTIONS) for n in data.shape)
    sides: list[list[Floats]] = [[], [], [], [], []]
    for number, z in enumerate(range(0, data.shape[0], depth)):
        section = np.asarray(data[z], np.float32)
        cuts = section[0], section[-1], section[:, 0], section[:, -1], section[::height, ::width]
        for side, cut in zip(sides, cuts, strict=True):
            side.append(cut.copy())
        if number % max(1, RELEASE_EVERY_BYTES // 8 // section.nbytes) == 0:
            release_pages(data)
    ends = [np.array(data[index], np.float32) for index in (0, -1)]
    release_pages(data)
    faces = [*ends, *(np.stack(side) for side in sides[:4])]
    return faces, np.stack(sides[4])

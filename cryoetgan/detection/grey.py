"""Standardised grey values of a tomogram, read block by block."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.exclusion import excluded_voxels
from cryoetgan.io.memmap import read_region, release_pages
from cryoetgan.io.mrc import Volume
from cryoetgan.physics.geometry import block_slices, clip_box, tiles
from cryoetgan.tomograms.importing.normalise import SAMPLE_VOXELS, robust_moments

Floats = NDArray[np.floating]
TILE = 128
"""Edge of the blocks from which mean and standard deviation are sampled, voxels."""


class GreyValues:
    """A tomogram with mean 0 and standard deviation 1 over the voxels that hold data.

    Voxels without data, in the mask or outside the tomogram are 0.
    """

    def __init__(
        self,
        volume: Volume,
        path: Path,
        mask: NDArray[np.generic] | None = None,
        scale: tuple[float, float] | None = None,
    ) -> None:
        self.volume, self.data, self.path, self.mask = volume, volume.data, path, mask
        self.excluded = excluded_voxels(volume, mask)
        self.mean, self.sd = scale or self._measure()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, zyx."""
        return self.data.shape

    def _measure(self) -> tuple[float, float]:
        step, taken = max(1, self.data.size // SAMPLE_VOXELS), []
        for corner, shape in tiles(self.data.shape, TILE):
            block = block_slices(corner, shape)
            values = np.asarray(self.data[block], np.float32).ravel()[::step]
            seen = np.isfinite(values)
            if self.excluded:
                seen &= ~self.excluded[block].ravel()[::step]
            taken.append(values[seen])
            release_pages(self.data)
        sample = np.concatenate(taken)
        mean, sd = robust_moments(sample) if sample.size else (0.0, 0.0)
        if not sd > 0:
            raise UserError(f"{self.path}: no voxel holds data, or all are equal; import it again")
        return mean, sd

    def part(self, low: Sequence[int], high: Sequence[int]) -> "GreyValues":
        """Return the part between two corners (zyx), on the scale of the whole tomogram."""
        cut = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        volume = replace(self.volume, data=self.data[cut])
        mask = None if self.mask is None else self.mask[cut]
        return GreyValues(volume, self.path, mask, (self.mean, self.sd))

    def block(self, corner: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return a block `(z, y, x)` from a corner (zyx) that may lie outside the tomogram."""
        inside, here = clip_box(corner, shape, self.data.shape)
        out = np.zeros(shape, np.float32)
        part = read_region(self.data, [(s.start, s.stop) for s in inside])
        part = (part - np.float32(self.mean)) / np.float32(self.sd)
        part[~np.isfinite(part)] = 0
        if self.excluded:
            part[self.excluded[inside]] = 0
        out[here] = part
        return out

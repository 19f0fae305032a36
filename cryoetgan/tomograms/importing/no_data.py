"""Find the voxels of a tomogram's file that hold no data, and keep them apart from the others."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.exclusion import ExclusionMask, find_gaps
from cryoetgan.io.memmap import RELEASE_EVERY_BYTES, iterate_sections, release_pages, scratch_array
from cryoetgan.physics.geometry import block_slices, tiles

log = logging.getLogger("cryoetgan")
BLOCK_VOXELS = 128
"""Edge of the blocks in which a tomogram is searched."""
SMALLEST_GREY = 1e-6
"""Grey value of a voxel with data that would be exactly 0, in standard deviations."""


class NoData:
    """The voxels of a file that hold no data: `(z, y, x)`, in a file of one byte a voxel.

    The file is unnamed and lies in the folder `scratch`. `bool()` tells whether there are any.
    """

    def __init__(self, data: NDArray[np.generic], scratch: Path | None, name: object) -> None:
        self.data, self.scratch, self.name = data, scratch, name
        self.flags: NDArray[np.uint8] | None = None
        self.levels: list[float] = []
        self.fraction = 0.0
        self._find_padding()

    def __bool__(self) -> bool:
        return self.flags is not None

    def mask(self) -> ExclusionMask:
        """Return the voxels as the exclusion mask of the file."""
        return ExclusionMask(self.data, self.flags, labelled=False)

    def _find_padding(self) -> None:
        excluded = ExclusionMask(self.data)
        for level in excluded.background:
            log.warning(
                "%s: most voxels have the value %g; it counts as background, not as padding",
                self.name, level,
            )  # fmt: skip
        if not excluded:
            return
        found = self._create()
        for corner, shape in tiles(self.data.shape, BLOCK_VOXELS):
            block = block_slices(corner, shape)
            found[block] = excluded[block]
            release_pages(self.data)
        self.flags, self.levels = found, excluded.levels
        self.fraction = float(np.count_nonzero(found)) / found.size
        log.info(
            "%s: %.1f %% of the voxels are padding with the value %s and are excluded",
            self.name, 100 * self.fraction, ", ".join(f"{level:g}" for level in self.levels),
        )  # fmt: skip

    def add_gaps(self, broken: int) -> None:
        """Find the regions among `broken` voxels that are not finite; the others are specks."""
        found = self.flags if self.flags is not None else self._create()
        in_gaps = 0
        for corner, shape in tiles(self.data.shape, BLOCK_VOXELS):
            block = block_slices(corner, shape)
            gaps = find_gaps(np.asarray(self.data[block]))
            if gaps.any():
                found[block] |= gaps
                in_gaps += int(np.count_nonzero(gaps))
            release_pages(self.data)
        if in_gaps == found.size:
            raise UserError(f"{self.name}: no voxel is a finite number; create the tomogram again")
        if in_gaps:
            self.flags = found
            self.fraction = float(np.count_nonzero(found)) / found.size
            percent = 100 * in_gaps / found.size
            log.info("%s: %.1f %% of the voxels are not finite; excluded", self.name, percent)
        if broken > in_gaps:
            log.warning(
                "%s: %d single voxels are not finite numbers (NaN or infinity) and get the mean",
                self.name, broken - in_gaps,
            )  # fmt: skip

    def _create(self) -> NDArray[np.uint8]:
        return scratch_array(self.scratch, np.uint8, self.data.shape)

    def on_grid(self, shape: tuple[int, ...], step: float) -> "NearestMask":
        """Return the flags on a grid of `shape` zyx, with a spacing of `step` voxels of the file."""
        if self.flags is None:
            raise ValueError("all voxels hold data")
        return NearestMask(self.flags, shape, step)


class NearestSections:
    """The sections of labels on another grid: the value of the nearest voxel.

    `labels` and `shape` are zyx; `step` is the spacing of the new grid in voxels of the labels,
    which have no values in between.
    """

    def __init__(self, labels: NDArray[np.generic], shape: tuple[int, ...], step: float) -> None:
        self.labels, self.period = labels, max(1, RELEASE_EVERY_BYTES // labels[0].nbytes)
        self.z, self.y, self.x = (
            np.minimum(np.rint(np.arange(n_out) * step).astype(int), n_in - 1)
            for n_out, n_in in zip(shape, labels.shape, strict=True)
        )

    def __getitem__(self, index: int) -> NDArray[Any]:
        section = np.asarray(self.labels[self.z[index]])[np.ix_(self.y, self.x)]
        if index % self.period == self.period - 1:
            release_pages(self.labels)
        return section

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[index] for index in range(len(self.z)))


class NearestMask(NearestSections):
    """The sections of a mask on another grid: whether the nearest voxel is not zero."""

    def __getitem__(self, index: int) -> NDArray[np.bool_]:
        return super().__getitem__(index) != 0


class FilledSections:
    """The sections of a tomogram, float32, with the mean in voxels without data or not finite."""

    def __init__(self, data: NDArray[np.generic], no_data: NoData | None, mean: float) -> None:
        self.data, self.mean = data, np.float32(mean)
        self.flags = no_data.flags if no_data else None
        self.shape = data.shape

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        section = np.asarray(self.data[index], np.float32)
        missing = ~np.isfinite(section)
        if self.flags is not None:
            missing |= self.flags[index] != 0
        return np.where(missing, self.mean, section) if missing.any() else section

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[index] for index, _ in enumerate(iterate_sections(self.data)))


def mark_no_data(out: NDArray[Any], missing: NearestMask) -> None:
    """Set voxels without data to 0 in a standardised tomogram `(z, y, x)`, and only those."""
    for section, empty in zip(iterate_sections(out), missing, strict=True):
        section[section == 0] = SMALLEST_GREY
        section[empty] = 0

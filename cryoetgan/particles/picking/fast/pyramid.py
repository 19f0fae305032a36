"""A blurred tomogram at every s-th voxel, plane by plane as the file lies on disk.

Each axis is a product with a banded matrix: one pass over the voxels, after which s^3 times
fewer values are left.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoetgan.io.memmap import release_pages
from cryoetgan.particles.picking.tiled import TRUNCATE, check_finite

WIDTH = 0.75
"""Sigma of the Gaussian, of the stride s: at the coarse grid's limit 0.06 of what lies beyond
folds back, where a response of 1.75 s or more has nothing left; on its own frequencies 1e-3."""
BLOCK = 16
"""Coarse voxels made by one matrix product."""
PLANES = 8
"""Planes added to the coarse ones at once."""
STRIP = 1 << 18
"""Voxels converted to float32 at once."""


@dataclass(frozen=True)
class Band:
    """One axis's Gaussian at every s-th place: rows of a banded matrix, in blocks."""

    blocks: list[tuple[int, int, int, int, NDArray[np.float32]]]
    """(first output, end, first input, end, matrix)."""
    outputs: int

    @property
    def inputs(self) -> tuple[int, int]:
        """The first input that counts, and the end."""
        return min(block[2] for block in self.blocks), max(block[3] for block in self.blocks)

    def cut(self, start: int, stop: int) -> "Band":
        """Return the band of some of its outputs."""
        blocks = []
        for out, end, low, high, matrix in self.blocks:
            first, last = max(out, start), min(end, stop)
            if first < last:
                rows = matrix[first - out : last - out]
                blocks.append((first - start, last - start, low, high, rows))
        return Band(blocks, stop - start)

    def moved(self, start: int) -> "Band":
        """Return the band of inputs of which the first `start` are left out."""
        blocks = [
            (out, end, low - start, high - start, m) for out, end, low, high, m in self.blocks
        ]
        return Band(blocks, self.outputs)


def coarse_count(count: int, stride: int) -> int:
    """Return how many coarse voxels hold `count` voxels: each the middle of `stride` of them."""
    return -(-count // stride)


def coarse_planes(
    volume: NDArray[np.generic], stride: int, halo: int, rows: tuple[int, int], named: object
) -> Iterator[NDArray[np.float32]]:
    """Yield coarse planes, blurred by `WIDTH` strides; each voxel is read once.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`; beyond its faces lies its mirror image, as scipy reflects.
    stride : int
        Voxels.
    halo : int
        Coarse voxels more on each side: planes from `-halo` on, all columns.
    rows : (int, int)
        Coarse rows, with the halo too.
    named : object
        What messages call the tomogram.

    Raises
    ------
    UserError
        Where a voxel is no finite number.
    """
    along_y, along_x = (_band(n, stride, halo) for n in volume.shape[1:])
    along_y = along_y.cut(rows[0], rows[1] + 2 * halo)
    lowest, highest = along_y.inputs
    along_y = along_y.moved(lowest)
    places, kernel = _places(volume.shape[0], stride, halo)
    last = places.max(axis=1)
    # made once: fresh memory is slow
    low_rows = np.empty((along_y.outputs, volume.shape[2]), np.float32)
    fine = np.empty((PLANES, along_y.outputs, along_x.outputs), np.float32)
    opened: dict[int, NDArray[np.float32]] = {}
    upcoming = 0
    for first in range(0, volume.shape[0], PLANES):
        count = min(PLANES, volume.shape[0] - first)
        for z in range(count):
            _multiply_rows(along_y, volume[first + z, lowest:highest], low_rows)
            _multiply_columns(along_x, low_rows, fine[z])
            # a voxel that is no number makes all coarse ones of its block none
            check_finite(float(fine[z].sum()), named)
            release_pages(volume)
        touched = np.flatnonzero(((places >= first) & (places < first + count)).any(axis=1))
        weights = np.zeros((len(touched), count), np.float32)
        coarse, tap = np.nonzero((places[touched] >= first) & (places[touched] < first + count))
        np.add.at(weights, (coarse, places[touched[coarse], tap] - first), kernel[tap])
        for number, part in zip(touched.tolist(), _products(weights, fine[:count]), strict=True):
            if number in opened:
                opened[number] += part
            else:
                opened[number] = part.copy()
        while upcoming < len(last) and last[upcoming] < first + count:
            yield opened.pop(upcoming)
            upcoming += 1


def _products(
    weights: NDArray[np.float32], planes: NDArray[np.float32]
) -> Iterator[NDArray[np.float32]]:
    """Yield weighted sums of planes, some at once."""
    flat = planes.reshape(len(planes), -1)
    for start in range(0, len(weights), PLANES):
        for part in weights[start : start + PLANES] @ flat:
            yield part.reshape(planes.shape[1:])


def _multiply_rows(band: Band, plane: NDArray[np.generic], answer: NDArray[np.float32]) -> None:
    """Write the band's products with the rows of a plane of any type."""
    for out, end, low, high, matrix in band.blocks:
        columns = max(1, STRIP // (high - low))
        for start in range(0, plane.shape[1], columns):
            # no copy where it is float32 in this machine's byte order
            strip = np.asarray(plane[low:high, start : start + columns], np.float32)
            np.matmul(matrix, strip, out=answer[out:end, start : start + columns])


def _multiply_columns(band: Band, rows: NDArray[np.float32], answer: NDArray[np.float32]) -> None:
    """Write the band's products with the columns."""
    for out, end, low, high, matrix in band.blocks:
        np.matmul(rows[:, low:high], matrix.T, out=answer[:, out:end])


def _places(count: int, stride: int, halo: int) -> tuple[NDArray[np.int_], NDArray[np.float32]]:
    """Return each coarse voxel's fine indices `(C, T)`, reflected as scipy does, and weights."""
    width, middle = WIDTH * stride, (stride - 1) / 2
    reach = int(TRUNCATE * width + 0.5)
    steps = np.arange(int(np.ceil(middle - reach)), int(middle + reach) + 1)
    kernel = np.exp(-0.5 * ((steps - middle) / width) ** 2)
    coarse = np.arange(-halo, coarse_count(count, stride) + halo)
    at = (coarse[:, None] * stride + steps) % (2 * count)
    return np.where(at < count, at, 2 * count - 1 - at), (kernel / kernel.sum()).astype(np.float32)


def _band(count: int, stride: int, halo: int) -> Band:
    places, kernel = _places(count, stride, halo)
    blocks = []
    for start in range(0, len(places), BLOCK):
        part = places[start : start + BLOCK]
        low, high = int(part.min()), int(part.max()) + 1
        matrix = np.zeros((len(part), high - low), np.float32)
        np.add.at(matrix, (np.arange(len(part))[:, None], part - low), kernel)
        blocks.append((start, start + len(part), low, high, matrix))
    return Band(blocks, len(places))

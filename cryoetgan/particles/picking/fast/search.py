"""Difference of Gaussians on a decimating pyramid: some 30 times faster, to half a voxel.

A Gaussian of sigma is one of 0.75 s voxels followed by one of what is left of it. The first
is only computed at every s-th voxel (`decimation`); the second runs on the coarse grid, which
holds 1 / s^3 of the voxels, and at once makes the coefficients of the cubic spline through
the response (Unser 1993, doi 10.1109/78.193220). Only where that may have a top is it read at
the tomogram's voxels (`spline_tops`), and judged as the whole tomogram's response is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoetgan.particles.picking.fast.pyramid import PLANES, WIDTH, coarse_count, coarse_planes
from cryoetgan.particles.picking.fast.spline_maxima import RIM, spline_tops
from cryoetgan.particles.picking.local_maxima import PeakList, Peaks
from cryoetgan.particles.picking.tiled import TRUNCATE, K, find_peaks, tiles
from cryoetgan.progress import track

Floats = NDArray[np.floating]
COARSEST = 1.75
"""A coarse voxel is at most sigma over this: responses stay smooth enough to interpolate."""
POLE = 3**0.5 - 2
"""Of the filter that makes spline coefficients of samples."""
BLOCK = 24
"""Places made by one matrix product."""
BUFFER = 64 << 20
"""Bytes of coarse planes held, where the planes are not too large for it."""
FEWEST_PLANES, MOST_PLANES = 32, 48
ROWS_BUFFER = 256 << 20
"""Bytes of coarse planes held at most: where whole planes are too large, rows of them are taken."""
TILE = 192
"""Edge of a tile of the coarse grid, y and x."""
ROUNDING = 4e-6
"""Of the largest value nearby: what float32 leaves of a constant."""


def stride_of(sigma: float) -> int:
    """Return the decimation a sigma (voxels) allows."""
    return max(1, int(sigma / COARSEST))


def find_peaks_fast(
    volume: NDArray[np.generic], sigmas: Sequence[float], named: object = "the tomogram"
) -> list[Peaks]:
    """Return the peaks of each sigma's response, as `picking_tiles.find_peaks` has them.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`, protein bright; memory-mapped is fine: each plane is read once.
    sigmas : sequence of float
        Voxels. Below 3.5 there is nothing to decimate and all voxels are computed.
    named : object
        What messages call the tomogram.

    Returns
    -------
    list of Peaks
        Positions within half a voxel of the full resolution's, but for tops so flat that
        no voxel decides.
    """
    found: dict[float, Peaks] = {}
    strides = {sigma: stride_of(sigma) for sigma in sigmas}
    for stride in sorted(set(strides.values())):
        mine = [sigma for sigma in sigmas if strides[sigma] == stride]
        if stride == 1:
            found |= {sigma: find_peaks(volume, sigma, named=named) for sigma in mine}
        else:
            found |= _pyramid(volume, mine, stride, named)
    return [found[sigma] for sigma in sigmas]


def _pyramid(
    volume: NDArray[np.generic], sigmas: Sequence[float], stride: int, named: object
) -> dict[float, Peaks]:
    filters = {sigma: _Filter(sigma, stride) for sigma in sigmas}
    halo = RIM + max(each.reach for each in filters.values())
    lists = {sigma: PeakList() for sigma in sigmas}
    width = coarse_count(volume.shape[2], stride)
    for top, bottom, first, slab in _slabs(volume, stride, halo, named):
        for (y0, y1), (x0, x1) in tiles((bottom - top, width), (TILE, TILE)):
            part = np.ascontiguousarray(slab[:, y0 : y1 + 2 * halo, x0 : x1 + 2 * halo])
            lowest, highest = float(part.min()), float(part.max())
            if lowest == highest:  # padded corners
                continue
            floor = ROUNDING * max(highest, -lowest)
            for sigma, each in filters.items():
                extra = halo - RIM - each.reach
                spline = each.spline(part[(slice(extra, -extra or None),) * 3])
                origin = stride * np.array([first, top + y0, x0])
                tops = spline_tops(spline, floor, origin, stride, volume.shape)
                lists[sigma].add(*tops)
    return {sigma: found.peaks() for sigma, found in lists.items()}


@dataclass(frozen=True)
class _Kernel:
    """A filter along an axis, for `BLOCK` places at once: `(BLOCK, BLOCK + 2 reach)`."""

    matrix: NDArray[np.float32]
    reach: int

    def along(self, axis: int, data: Floats) -> Floats:
        """Return data `(z, y, x)` filtered along an axis, which loses `reach` at both ends."""
        shape = list(data.shape)
        shape[axis] -= 2 * self.reach
        answer = np.empty(shape, np.float32)
        if axis == 0:
            data, flat = data.reshape(len(data), -1), answer.reshape(len(answer), -1)
        else:
            flat = answer
        for start in range(0, shape[axis], BLOCK):
            stop = min(start + BLOCK, shape[axis])
            end = stop + 2 * self.reach
            matrix = self.matrix[: stop - start, : end - start]
            if axis == 2:
                np.matmul(data[..., start:end], matrix.T, out=flat[..., start:stop])
            else:
                np.matmul(matrix, data[..., start:end, :], out=flat[..., start:stop, :])
        return answer


class _Filter:
    """From coarse planes to the spline coefficients of a sigma's response.

    Parameters
    ----------
    sigma : float
        Voxels of the tomogram.
    stride : int
        Of the coarse planes.
    """

    def __init__(self, sigma: float, stride: int) -> None:
        widths = [np.sqrt((f * sigma / stride) ** 2 - WIDTH**2) for f in (1.0, K)]
        # the spline's filter makes them a little longer
        self.reach = int(np.ceil(TRUNCATE * widths[1])) + 2
        self.narrow, self.wide = (_kernel(width, self.reach) for width in widths)

    def spline(self, part: Floats) -> Floats:
        """Return coefficients of the response to `part` `(z, y, x)`, `reach` less at each end."""
        narrow, wide = (
            kernel.along(2, kernel.along(1, kernel.along(0, part)))
            for kernel in (self.narrow, self.wide)
        )
        return np.subtract(narrow, wide, out=narrow)


def _kernel(width: float, reach: int) -> _Kernel:
    """Return a Gaussian (sigma in coarse voxels) followed by the cubic spline's filter."""
    steps = np.arange(-3 * reach, 3 * reach + 1)
    gaussian = np.exp(-0.5 * (steps / width) ** 2)
    taps = np.convolve(gaussian, POLE ** np.abs(steps), mode="same")
    taps = taps[2 * reach : -2 * reach]
    # both Gaussians' sums must be equal, or a constant would answer
    taps /= taps.sum()
    matrix = np.zeros((BLOCK, BLOCK + 2 * reach), np.float32)
    for row, values in enumerate(matrix):
        values[row : row + len(taps)] = taps
    return _Kernel(matrix, reach)


def _rows_at_once(plane: tuple[int, int], halo: int) -> int:
    """Return how many coarse rows of a plane are worked on at once: all, where memory allows."""
    # the slab, fine planes and those that are not yet complete, some of them twice
    planes = FEWEST_PLANES + 2 * halo + 5 * PLANES
    rows = ROWS_BUFFER // (4 * planes * (plane[1] + 2 * halo)) - 2 * halo
    return min(plane[0], max(TILE, rows))


def _slabs(
    volume: NDArray[np.generic], stride: int, halo: int, named: object
) -> Iterator[tuple[int, int, int, NDArray[np.float32]]]:
    """Yield (first coarse row, end, first coarse plane of the core, planes with `halo` around)."""
    shape = [coarse_count(n, stride) for n in volume.shape]
    rows = _rows_at_once((shape[1], shape[2]), halo)
    starts = list(range(0, shape[1], rows))
    plane = (min(rows, shape[1]) + 2 * halo, shape[2] + 2 * halo)
    core = BUFFER // (4 * plane[0] * plane[1]) - 2 * halo
    core = min(max(FEWEST_PLANES, core), MOST_PLANES, shape[0])
    work = [(top, first) for top in starts for first in range(0, shape[0], core)]
    slab = np.empty((core + 2 * halo, *plane), np.float32)
    for top, first in track(work, f"picking, every {stride}th voxel"):
        bottom = min(top + rows, shape[1])
        held = slab[:, : bottom - top + 2 * halo]
        if first == 0:
            planes = coarse_planes(volume, stride, halo, (top, bottom), named)
            for index in range(2 * halo):
                held[index] = next(planes)
        count = min(core, shape[0] - first)
        for index in range(count):
            held[2 * halo + index] = next(planes)
        yield top, bottom, first, held[: 2 * halo + count]
        for index in range(2 * halo):  # plane by plane: no second copy of the slab
            held[index] = held[count + index]

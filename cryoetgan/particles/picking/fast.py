"""Difference of Gaussians on a decimated grid: about 20 times faster, exact to half a voxel.

A Gaussian of width sigma equals a Gaussian of 0.75 s voxels followed by the remaining one. The
first is computed only at every s-th voxel. The second runs on this coarse grid, which has s^3
times fewer voxels, and gives the cubic spline coefficients of the response in the same pass
(Unser 1993, doi 10.1109/78.193220). The spline is then evaluated at the tomogram's voxels,
but only near maxima of the coarse grid.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cryoetgan.io.memmap import release_pages
from cryoetgan.particles.picking.dog import SIGMA_RATIO, TRUNCATE, Span
from cryoetgan.particles.picking.local_maxima import (
    FACES,
    PeakList,
    Peaks,
    derivatives,
    neighbourhoods,
    newton_step,
    quadratic_offsets,
)
from cryoetgan.particles.picking.tiled import check_finite, find_peaks, tile_edges, tiles
from cryoetgan.progress import track

Floats = NDArray[np.floating]
Integers = NDArray[np.int_]
Band = list[tuple[slice, slice, NDArray[np.float32]]]
"""A filter along one axis as blocks of a banded matrix: outputs, inputs, matrix."""
MIN_COARSE_SIGMA = 1.75
"""Smallest sigma in coarse voxels, at which the response is smooth enough to interpolate."""
DECIMATION_SIGMA = 0.75
"""Sigma of the first Gaussian, in units of the stride s. At the coarse grid's Nyquist frequency
it lets 6 % of the amplitude alias, where the response has nothing left."""
SPLINE_POLE = 3**0.5 - 2
"""Pole of the filter that turns samples into cubic spline coefficients."""
BLOCK = 16
"""Outputs of one matrix product; longer blocks multiply more zeros."""
PLANES = 8
"""Tomogram planes that are read at once."""
TILE_VOXELS = 6e6
"""Coarse voxels of a tile with its halo, some 24 bytes each."""
RIM = 2
"""Coarse voxels around a tile from which the climb to a maximum may start."""
SPLINE_REACH = 3
"""Coarse voxels around those at which the spline is evaluated."""
TOLERANCE = 0.05
"""Relative height by which a neighbour may surpass a coarse voxel next to a maximum."""
MAX_COARSE_STEP = 2.0
"""Coarse voxels from a start of the climb to the predicted maximum."""
CLIMB_STEPS = 6
"""Largest number of voxels that a climb takes on the tomogram's grid."""
ROUNDING = 4e-6
"""Response of a constant region relative to its value: float32 rounding."""


def find_peaks_fast(
    volume: NDArray[np.generic],
    sigmas: Sequence[float],
    name: object = "the tomogram",
    tile_voxels: float = TILE_VOXELS,
) -> list[Peaks]:
    """Return the peaks of each sigma's response, as `tiled.find_peaks` does.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`, protein bright. A memory-mapped array is read tile by tile.
    sigmas : sequence of float
        Voxels. Below 3.5 voxels the grid is not decimated and `tiled.find_peaks` is used.
    name : object
        Name of the tomogram in messages.
    tile_voxels : float
        Largest number of coarse voxels of a tile with its halo.

    Returns
    -------
    list of Peaks
        Positions agree with the exact ones to half a voxel, except for very flat maxima.

    Raises
    ------
    UserError
        If a voxel is not finite.
    """
    found: dict[float, Peaks] = {}
    strides = {sigma: decimation_stride(sigma) for sigma in sigmas}
    for stride in sorted(set(strides.values())):
        mine = [sigma for sigma in sigmas if strides[sigma] == stride]
        if stride == 1:
            found |= {sigma: find_peaks(volume, sigma, name=name) for sigma in mine}
        else:
            found |= _find_on_coarse_grid(volume, mine, stride, name, tile_voxels)
    return [found[sigma] for sigma in sigmas]


def decimation_stride(sigma: float) -> int:
    """Return the spacing of the coarse grid for a sigma, both in voxels."""
    return max(1, int(sigma / MIN_COARSE_SIGMA))


def _find_on_coarse_grid(
    volume: NDArray[np.generic],
    sigmas: Sequence[float],
    stride: int,
    name: object,
    tile_voxels: float,
) -> dict[float, Peaks]:
    """Return the peaks of sigmas that share a coarse grid, whose voxel c covers `stride` voxels."""
    kernels = {sigma: _spline_kernels(sigma, stride) for sigma in sigmas}
    rim = RIM + SPLINE_REACH
    halo = rim + max(len(narrow) // 2 for narrow, _ in kernels.values())
    shape = [-(-n // stride) for n in volume.shape]
    lists = {sigma: PeakList() for sigma in sigmas}
    cores = list(tiles(shape, tile_edges(shape, halo, tile_voxels)))
    for core in track(cores, f"picking, every {stride}th voxel"):
        coarse = _decimate(volume, stride, [(a - halo, b + halo) for a, b in core], name)
        largest = float(np.abs(coarse).max())
        if coarse.min() == coarse.max():  # constant padding
            continue
        first = np.array([a for a, _ in core]) - rim
        for sigma, (narrow, wide) in kernels.items():
            extra = halo - rim - len(narrow) // 2
            part = coarse[(slice(extra, -extra or None),) * 3]
            coefficients = _convolve(part, narrow)
            coefficients -= _convolve(part, wide)
            spline = Spline(coefficients, first, stride, volume.shape)
            starts = _starts(spline, ROUNDING * largest)
            voxels, values = _climb(spline, starts)
            inside = ((voxels >= stride * (first + rim)) & (voxels < stride * np.array(core)[:, 1]))
            voxels, values = voxels[inside.all(axis=1)], values[inside.all(axis=1)]
            lists[sigma].add(voxels + quadratic_offsets(values), values[:, 1, 1, 1])
    return {sigma: found.peaks() for sigma, found in lists.items()}


def _decimate(
    volume: NDArray[np.generic], stride: int, spans: Sequence[Span], name: object
) -> NDArray[np.float32]:
    """Return a part of the coarse grid, blurred; the tomogram reflects at its border.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`; each voxel is read once, plane by plane.
    stride : int
        Voxels; coarse voxel c lies at `stride * c + (stride - 1) / 2`.
    spans : sequence of (int, int)
        Start and stop of each axis, zyx, in coarse voxels; they may lie outside the volume.
    name : object
        Name of the tomogram in messages.
    """
    middle = (stride - 1) / 2
    reach = int(TRUNCATE * DECIMATION_SIGMA * stride + 0.5)
    steps = np.arange(int(np.ceil(middle - reach)), int(middle + reach) + 1)
    kernel = np.exp(-0.5 * ((steps - middle) / (DECIMATION_SIGMA * stride)) ** 2)
    bands = []
    for (start, stop), count in zip(spans, volume.shape, strict=True):
        inputs = (np.arange(start, stop)[:, None] * stride + steps) % (2 * count)
        inputs = np.where(inputs < count, inputs, 2 * count - 1 - inputs)
        bands.append(_band(inputs, kernel / kernel.sum()))
    (low_z, high_z), (low_y, high_y), (low_x, high_x) = (
        (min(b.start for _, b, _ in band), max(b.stop for _, b, _ in band)) for band in bands
    )
    size_z, size_y, size_x = (stop - start for start, stop in spans)
    coarse = np.zeros((size_z, size_y * size_x), np.float32)
    for z in range(low_z, high_z, PLANES):
        stop = min(z + PLANES, high_z)
        part = np.asarray(volume[z:stop, low_y:high_y, low_x:high_x], np.float32)
        release_pages(volume)
        rows = _apply(_moved(bands[1], low_y), part, 1)
        planes = _apply(_moved(bands[2], low_x), rows, 2).reshape(stop - z, -1)
        check_finite(float(planes.sum()), name)
        for outputs, inputs, matrix in bands[0]:
            low, high = max(inputs.start, z), min(inputs.stop, stop)
            if low < high:
                columns = matrix[:, low - inputs.start : high - inputs.start]
                coarse[outputs] += columns @ planes[low - z : high - z]
    return coarse.reshape(size_z, size_y, size_x)

"""Difference of Gaussians on a decimated grid: about 20 times faster, exact to half a voxel.

A Gaussian of width sigma equals a Gaussian of 0.75 s voxels followed by the remaining one. The
first is computed only at every s-th voxel. The second runs on this coarse grid, which has s^3
times fewer voxels, and gives the cubic spline coefficients of the response in the same pass
(Unser 1993, doi 10.1109/78.193220). The spline is then evaluated at the tomogram's voxels,
but only near maxima of the coarse grid.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cryoetgan.io.memmap import release_pages
from cryoetgan.particles.picking.dog import SIGMA_RATIO, TRUNCATE, Span
from cryoetgan.particles.picking.local_maxima import PeakList, Peaks, quadratic_offsets
from cryoetgan.particles.picking.spline_maxima import CLIMB_RIM, SPLINE_REACH, Spline, spline_maxima
from cryoetgan.particles.picking.tiled import check_finite, find_peaks, tile_edges, tile_spans
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
ROUNDING = 4e-6
"""Response of a constant region relative to its value: float32 rounding."""
TILE_VOXELS = 6e6
"""Coarse voxels of a tile with its halo, some 24 bytes each."""


def find_peaks_fast(
    volume: NDArray[np.generic],
    sigmas: Sequence[float],
    name: object = "the tomogram",
    tile_voxels: float = TILE_VOXELS,
) -> list[Peaks]:
    """Return the peaks of each sigma's response, as `tiled.find_peaks` does.

    Positions agree with the exact ones to half a voxel, except for very flat maxima. Below a sigma
    of 3.5 voxels the grid is not decimated and `tiled.find_peaks` is used. A tile with its halo
    has at most `tile_voxels` coarse voxels.
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
    """Return the peaks by sigma; coarse voxel c is the centre of `stride` voxels of each axis."""
    kernels = {sigma: _spline_kernels(sigma, stride) for sigma in sigmas}
    rim = CLIMB_RIM + SPLINE_REACH
    halo = rim + max(len(narrow) // 2 for narrow, _ in kernels.values())
    shape = [-(-n // stride) for n in volume.shape]
    lists = {sigma: PeakList() for sigma in sigmas}
    cores = list(tile_spans(shape, tile_edges(shape, halo, tile_voxels)))
    for core in track(cores, f"picking, every {stride}th voxel"):
        coarse = _decimate(volume, stride, [(a - halo, b + halo) for a, b in core], name)
        lowest, highest = float(coarse.min()), float(coarse.max())
        if lowest == highest:  # constant padding
            continue
        for sigma, (narrow, wide) in kernels.items():
            extra = halo - rim - len(narrow) // 2
            part = coarse[(slice(extra, -extra or None),) * 3]
            coefficients = _convolve(part, narrow)
            coefficients -= _convolve(part, wide)
            first = np.array([a for a, _ in core]) - rim
            spline = Spline(coefficients, first, stride, volume.shape)
            tops, cubes = spline_maxima(spline, ROUNDING * max(highest, -lowest))
            low, high = stride * np.array(core).T
            mine = ((tops >= low) & (tops < high)).all(axis=1)
            places = tops[mine] + quadratic_offsets(cubes[mine])
            lists[sigma].add(places, cubes[mine, 1, 1, 1])
    return {sigma: found.peaks() for sigma, found in lists.items()}


def _decimate(
    volume: NDArray[np.generic], stride: int, spans: Sequence[Span], name: object
) -> NDArray[np.float32]:
    """Return a part of the coarse grid, blurred; the tomogram reflects at its border.

    `spans` are start and stop of each axis, zyx, in coarse voxels; they may lie outside the
    volume. Each voxel of the volume is read once, plane by plane.
    """
    middle = (stride - 1) / 2
    reach = int(TRUNCATE * DECIMATION_SIGMA * stride + 0.5)
    steps = np.arange(int(np.ceil(middle - reach)), int(middle + reach) + 1)
    kernel = np.exp(-0.5 * ((steps - middle) / (DECIMATION_SIGMA * stride)) ** 2)
    bands, inner = [], []
    for (start, stop), count in zip(spans, volume.shape, strict=True):
        inputs = (np.arange(start, stop)[:, None] * stride + steps) % (2 * count)
        inputs = np.where(inputs < count, inputs, 2 * count - 1 - inputs)
        inner.append((int(inputs.min()), int(inputs.max()) + 1))
        bands.append(_band(inputs - inputs.min(), kernel / kernel.sum()))
    (first, last), rows, columns = inner
    coarse = np.zeros([stop - start for start, stop in spans], np.float32)
    for z in range(first, last, PLANES):
        part = volume[z : min(z + PLANES, last), slice(*rows), slice(*columns)]
        part = _apply(bands[1], np.asarray(part, np.float32), 1)
        part = _apply(bands[2], part, 2)
        check_finite(float(part.sum()), name)
        release_pages(volume)
        for outputs, inputs, matrix in bands[0]:
            low = max(inputs.start, z - first)
            high = min(inputs.stop, z - first + len(part))
            if low < high:
                weights = matrix[:, low - inputs.start : high - inputs.start]
                planes = part[low + first - z : high + first - z]
                coarse[outputs] += np.tensordot(weights, planes, 1)
    return coarse


def _spline_kernels(sigma: float, stride: int) -> tuple[Floats, Floats]:
    """Return both Gaussians on the coarse grid, each followed by the cubic spline's filter."""
    widths = [np.sqrt((f * sigma / stride) ** 2 - DECIMATION_SIGMA**2) for f in (1, SIGMA_RATIO)]
    reach = int(np.ceil(TRUNCATE * widths[1])) + 2  # the spline's filter adds a little
    steps = np.arange(-3 * reach, 3 * reach + 1)
    kernels = []
    for width in widths:
        gaussian = np.exp(-0.5 * (steps / width) ** 2)
        taps = np.convolve(gaussian, SPLINE_POLE ** np.abs(steps), mode="same")
        taps = taps[2 * reach : -2 * reach]
        # equal sums, so that a constant has no response
        kernels.append(taps / taps.sum())
    return kernels[0], kernels[1]


def _convolve(data: Floats, kernel: Floats) -> NDArray[np.float32]:
    """Return data `(z, y, x)` filtered along each axis, half a kernel less at both ends."""
    for axis in range(3):
        outputs = data.shape[axis] - len(kernel) + 1
        inputs = np.arange(outputs)[:, None] + np.arange(len(kernel))
        data = _apply(_band(inputs, kernel), data, axis)
    return data


def _band(inputs: Integers, kernel: Floats) -> Band:
    """Return a filter whose output i is the sum of `kernel[t]` times input `inputs[i, t]`."""
    blocks = []
    for start in range(0, len(inputs), BLOCK):
        part = inputs[start : start + BLOCK]
        low, high = int(part.min()), int(part.max()) + 1
        matrix = np.zeros((len(part), high - low), np.float32)
        np.add.at(matrix, (np.arange(len(part))[:, None], part - low), kernel)
        blocks.append((slice(start, start + len(part)), slice(low, high), matrix))
    return blocks


def _apply(band: Band, data: Floats, axis: int) -> NDArray[np.float32]:
    """Return data `(z, y, x)` filtered along one axis."""
    shape = list(data.shape)
    shape[axis] = band[-1][0].stop
    result = np.empty(shape, np.float32)
    for outputs, inputs, matrix in band:
        if axis == 0:
            flat = data[inputs].reshape(matrix.shape[1], -1)
            np.matmul(matrix, flat, out=result[outputs].reshape(len(matrix), -1))
        elif axis == 1:
            np.matmul(matrix, data[:, inputs], out=result[:, outputs])
        else:
            np.matmul(data[..., inputs], matrix.T, out=result[..., outputs])
    return result

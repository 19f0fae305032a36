"""Difference of Gaussians on a decimating pyramid: some 20 times faster, to half a voxel.

A Gaussian of sigma is one of s voxels followed by one of sqrt(sigma^2 - s^2). The first
is only computed at every s-th voxel, plane by plane as the file lies on disk, by products
with banded matrices; the second runs on the coarse grid, which holds 1 / s^3 of the voxels.
What folds back from beyond the coarse grid's limit is 5e-5 of white noise at s = 4. Peaks are
sought between the coarse places and then judged at full resolution, on the spline through them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.pages import release
from cryoetgan.particles.picking_peaks import (
    PeakList,
    Peaks,
    cubes,
    derivatives,
    newton_step,
    quadratic_offsets,
)
from cryoetgan.particles.picking_tiles import TRUNCATE, K, check_finite, find_peaks, tiles
from cryoetgan.progress import track

Floats = NDArray[np.floating]
COARSEST = 1.75
"""A coarse voxel is at most sigma over this: responses stay smooth enough to interpolate."""
BLOCK = 16
"""Coarse voxels made by one matrix product."""
STRIP = 1 << 21
"""Voxels converted to float32 at once."""
BUFFER = 96 << 20
"""Bytes of coarse planes held, where the planes are not too large for it."""
FEWEST_PLANES = 8
ROWS_BUFFER = 384 << 20
"""Bytes of coarse planes held at most: where whole planes are too large, rows of them are taken."""
TILE = 192
"""Edge of a tile of the coarse grid, y and x."""
RIM = 5
"""Coarse voxels around a tile: one that peaks are sought in, the rest for the spline."""
ROUNDING = 4e-6
"""Of the largest value nearby: what float32 leaves of a constant."""
NEAREST = 1.0
"""Coarse voxels: a top is sought from the places this close to it; 0.5 would be exact."""
CLIMBS = 8
"""Steps of one voxel at most."""
CHUNK = 20000
"""Peaks judged at once."""


@dataclass(frozen=True)
class _Band:
    """One axis's Gaussian at every s-th place: rows of a banded matrix, in blocks."""

    blocks: list[tuple[int, int, int, int, NDArray[np.float32]]]
    """(first output, end, first input, end, matrix)."""
    outputs: int


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
        Positions within half a voxel of the full resolution's; values are those of the
        interpolated tops, so slightly above those of voxels.
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
    widths = {sigma: [_residual(f * sigma, stride) for f in (1.0, K)] for sigma in sigmas}
    halo = int(np.ceil(TRUNCATE * max(max(pair) for pair in widths.values()))) + RIM
    lists = {sigma: PeakList() for sigma in sigmas}
    shape = [coarse_count(n, stride) for n in volume.shape]
    for top, bottom, first, slab in _slabs(volume, stride, halo, named):
        for (y0, y1), (x0, x1) in tiles((bottom - top, shape[2]), (TILE, TILE)):
            part = slab[:, y0 : y1 + 2 * halo, x0 : x1 + 2 * halo]
            y0 += top
            low = stride * np.array([first, y0, x0])
            high = low + stride * (np.array(part.shape) - 2 * halo)
            high = np.minimum(high, volume.shape)
            scale = float(np.abs(part).max())
            for sigma, (narrow, wide) in widths.items():
                answer = _blurred(part, narrow) - _blurred(part, wide)
                near = _near_tops(answer, halo - 1, ROUNDING * scale)
                seeds = _folded(np.round((near - halo) * stride).astype(int) + low, volume.shape)
                origin = low - stride * halo
                places, values = _climb(answer, seeds, origin, stride, volume.shape)
                # each peak belongs to the one tile that its voxel lies in
                mine = ((np.round(places) >= low) & (np.round(places) < high)).all(axis=1)
                lists[sigma].add(places[mine], values[mine])
    return {sigma: found.peaks() for sigma, found in lists.items()}


def coarse_count(count: int, stride: int) -> int:
    """Return how many coarse places an axis of `count` voxels has: 0, s, 2 s ..."""
    return -(-count // stride)


def _folded(places: NDArray[np.int_], shape: Sequence[int]) -> NDArray[np.int_]:
    """Return voxels of the mirror images beyond the faces as those of the tomogram."""
    last = np.array(shape) - 1
    places = np.where(places < 0, -1 - places, places)
    return np.clip(np.where(places > last, 2 * last + 1 - places, places), 0, last)


def _residual(sigma: float, stride: int) -> float:
    """Return the width, in coarse voxels, of what is left of a Gaussian after the first."""
    return float(np.sqrt(sigma**2 - stride**2)) / stride


def _blurred(part: Floats, width: float) -> Floats:
    # the halo is as wide as the Gaussian, so the border mode touches nothing that is kept
    return ndimage.gaussian_filter(part, width, mode="nearest", truncate=TRUNCATE)


def _rows_at_once(plane: tuple[int, int], halo: int) -> int:
    """Return how many coarse rows of a plane are worked on at once: all, where memory allows."""
    # the slab, and the planes that are not yet complete
    planes = FEWEST_PLANES + 2 * halo + 2 * int(TRUNCATE) + 2
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
    core = max(FEWEST_PLANES, BUFFER // (4 * plane[0] * plane[1]) - 2 * halo)
    core = min(core, shape[0])
    work = [(top, first) for top in starts for first in range(0, shape[0], core)]
    slab = np.empty((core + 2 * halo, *plane), np.float32)
    for top, first in track(work, f"picking, every {stride}th voxel"):
        bottom = min(top + rows, shape[1])
        held = slab[:, : bottom - top + 2 * halo]
        if first == 0:
            planes = _coarse_planes(volume, stride, halo, (top, bottom), named)
            for index in range(2 * halo):
                held[index] = next(planes)
        count = min(core, shape[0] - first)
        for index in range(count):
            held[2 * halo + index] = next(planes)
        yield top, bottom, first, held[: 2 * halo + count]
        for index in range(2 * halo):  # plane by plane: no second copy of the slab
            held[index] = held[count + index]


def _coarse_planes(
    volume: NDArray[np.generic], stride: int, halo: int, rows: tuple[int, int], named: object
) -> Iterator[NDArray[np.float32]]:
    """Yield coarse planes from `-halo` on, each fine plane read once: their rows, and a halo."""
    along_y, along_x = (_band(n, stride, halo) for n in volume.shape[1:])
    along_y = _cut(along_y, rows[0], rows[1] + 2 * halo)
    lowest = min(low for _, _, low, _, _ in along_y.blocks)
    highest = max(high for _, _, _, high, _ in along_y.blocks)
    along_y = _Band(
        [(o, e, a - lowest, b - lowest, m) for o, e, a, b, m in along_y.blocks], along_y.outputs
    )
    weights = _weights(volume.shape[0], stride, halo)
    opened: dict[int, NDArray[np.float32]] = {}
    ready: dict[int, NDArray[np.float32]] = {}
    # which coarse planes a fine plane is part of, and the last fine plane of each
    uses: list[list[tuple[int, float]]] = [[] for _ in range(volume.shape[0])]
    last = {}
    for coarse, (places, values) in enumerate(weights):
        for place, value in zip(places, values, strict=True):
            uses[place].append((coarse, float(value)))
        last[coarse] = int(places.max())
    upcoming = 0
    for z in range(volume.shape[0]):
        plane = _coarse_plane(volume[z, lowest:highest], along_y, along_x, named)
        for coarse, value in uses[z]:
            if coarse in opened:
                opened[coarse] += np.float32(value) * plane
            else:
                opened[coarse] = np.float32(value) * plane
            if last[coarse] == z:
                ready[coarse] = opened.pop(coarse)
        release(volume)
        while upcoming in ready:
            yield ready.pop(upcoming)
            upcoming += 1


def _cut(band: _Band, start: int, stop: int) -> _Band:
    """Return the band of some of its outputs."""
    blocks = []
    for out, end, low, high, matrix in band.blocks:
        first, last = max(out, start), min(end, stop)
        if first < last:
            rows = matrix[first - out : last - out]
            blocks.append((first - start, last - start, low, high, rows))
    return _Band(blocks, stop - start)


def _coarse_plane(
    plane: NDArray[np.generic], along_y: _Band, along_x: _Band, named: object
) -> NDArray[np.float32]:
    rows = max(1, STRIP // plane.shape[1])
    narrow = np.empty((plane.shape[0], along_x.outputs), np.float32)
    for start in range(0, plane.shape[0], rows):
        strip = np.asarray(plane[start : start + rows], np.float32)
        for out, out_end, low, high, matrix in along_x.blocks:
            narrow[start : start + rows, out:out_end] = strip[:, low:high] @ matrix.T
    coarse = np.empty((along_y.outputs, along_x.outputs), np.float32)
    for out, out_end, low, high, matrix in along_y.blocks:
        np.matmul(matrix, narrow[low:high], out=coarse[out:out_end])
    # a voxel that is no number makes all coarse ones of its block none
    check_finite(float(coarse.sum()), named)
    return coarse


def _weights(
    count: int, stride: int, halo: int
) -> list[tuple[NDArray[np.int_], NDArray[np.float64]]]:
    """Return each coarse place's fine indices and weights, borders reflected as scipy does."""
    width = float(stride)
    reach = int(TRUNCATE * width + 0.5)
    steps = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (steps / width) ** 2)
    kernel /= kernel.sum()
    rows: list[tuple[NDArray[np.int_], NDArray[np.float64]]] = []
    for coarse in range(-halo, coarse_count(count, stride) + halo):
        at = (coarse * stride + steps) % (2 * count)
        at = np.where(at < count, at, 2 * count - 1 - at)
        places, group = np.unique(at, return_inverse=True)
        rows.append((places, np.bincount(group, kernel).astype(float)))
    return rows


def _band(count: int, stride: int, halo: int) -> _Band:
    rows = _weights(count, stride, halo)
    blocks = []
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        low = int(min(places.min() for places, _ in part))
        high = int(max(places.max() for places, _ in part)) + 1
        matrix = np.zeros((len(part), high - low), np.float32)
        for row, (places, values) in zip(matrix, part, strict=True):
            row[places - low] = values
        blocks.append((start, start + len(part), low, high, matrix))
    return _Band(blocks, len(rows))


def _near_tops(answer: Floats, rim: int, floor: float) -> Floats:
    """Return estimates `(N, 3)` of tops, in coarse voxels of `answer`, outside its rim.

    A coarse voxel can lie beside a top without being larger than its neighbours, on a
    ridge that runs askew: all from which Newton's step to a top is short are taken.
    """
    inner = answer[tuple(slice(rim - 1, 1 - rim) for _ in range(3))]
    middle = inner[1:-1, 1:-1, 1:-1]
    near = np.abs(middle) > floor  # in padded, constant corners only rounding is left
    for axis in range(3):
        ahead, behind = (
            inner[tuple(slice(2, None) if a == axis else slice(1, -1) for a in range(3))],
            inner[tuple(slice(None, -2) if a == axis else slice(1, -1) for a in range(3))],
        )
        near &= ahead + behind < 2 * middle
    where = np.argwhere(near)
    parts = []
    for start in range(0, len(where), CHUNK):
        chunk = where[start : start + CHUNK]
        step = newton_step(*derivatives(cubes(inner, chunk)))
        short = np.abs(step).max(axis=1, initial=0) <= NEAREST  # NaN is not
        parts.append((chunk + step)[short])
    return np.concatenate(parts) + rim if parts else np.empty((0, 3))


def _climb(
    answer: Floats,
    seeds: NDArray[np.int_],
    origin: NDArray[np.int_],
    stride: int,
    shape: Sequence[int],
) -> tuple[Floats, Floats]:
    """Climb on the interpolated response until a voxel is the largest of its 18 neighbours.

    Parameters
    ----------
    answer : ndarray
        Coarse response; its voxel 0 lies at the voxel `origin` of the tomogram.
    seeds : ndarray of int
        `(N, 3)` zyx voxels of the tomogram.

    Returns
    -------
    places : ndarray
        `(N, 3)` zyx voxels, subvoxel, each peak once.
    values : ndarray
        Responses at the peaks' voxels.
    """
    seeds = np.unique(seeds, axis=0)
    if not len(seeds):
        return np.empty((0, 3)), np.empty(0)
    spline = ndimage.spline_filter(answer, 3, output=np.float32)
    around = np.indices((3, 3, 3)).reshape(3, -1).T - 1
    corner = np.abs(around).sum(axis=1) == 3
    tops, tops_cubes = [], []
    for _ in range(CLIMBS):
        cube = np.concatenate(
            [
                _fine(spline, seeds[i : i + CHUNK, None] + around, origin, stride, shape)
                for i in range(0, len(seeds), CHUNK)
            ]
        )
        best = np.where(corner, -np.inf, cube).argmax(axis=1)
        there = best == len(around) // 2
        tops.append(seeds[there])
        tops_cubes.append(cube[there])
        seeds = np.unique(seeds[~there] + around[best[~there]], axis=0)
        if not len(seeds):
            break
    places, index = np.unique(np.concatenate(tops), axis=0, return_index=True)
    cube = np.concatenate(tops_cubes)[index].reshape(-1, 3, 3, 3)
    return places + quadratic_offsets(cube), cube[:, 1, 1, 1]


def _fine(
    spline: Floats,
    places: NDArray[np.int_],
    origin: NDArray[np.int_],
    stride: int,
    shape: Sequence[int],
) -> Floats:
    """Return the response at voxels of the tomogram, -inf outside it."""
    coarse = (places - origin) / stride
    values = ndimage.map_coordinates(
        spline, np.moveaxis(coarse, -1, 0), order=3, mode="nearest", prefilter=False
    )
    return np.where(((places >= 0) & (places < shape)).all(axis=-1), values, -np.inf)

"""Difference-of-Gaussians picking (Pei 2016, doi 10.1186/s12859-016-1283-3), out of core."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from cryoetgan.errors import UserError
from cryoetgan.progress import track

Floats = NDArray[np.floating]
K = 1.1
"""Ratio of the two Gaussians' widths."""
TRUNCATE = 4.0
TILE = 192
STEPS = 20
"""T = m + t (M - m) / 20."""
NEIGHBOURS = ndimage.generate_binary_structure(3, 2)
"""3 x 3 x 3 without the corners: 18 neighbours."""


@dataclass(frozen=True)
class Peaks:
    """Peaks of one response: `positions` (N, 3) zyx voxels, `values` (N,), all peaks' range."""

    positions: Floats
    values: Floats
    lowest: float
    highest: float
    spread: float


def response(volume: Floats, sigma: float) -> Floats:
    """Return G(sigma) * v - G(1.1 sigma) * v; a bright ball answers best at radius / sqrt 3."""
    data = np.asarray(volume, np.float32)
    first = ndimage.gaussian_filter(data, sigma, mode="reflect", truncate=TRUNCATE)
    second = ndimage.gaussian_filter(data, K * sigma, mode="reflect", truncate=TRUNCATE)
    return np.subtract(first, second, out=first)


def find_peaks(volume: NDArray[np.generic], sigma: float, tile: int = TILE) -> Peaks:
    """Return the positive local maxima of the response of a whole tomogram.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`, protein bright; memory-mapped is fine: it is read tile by tile.
    sigma : float
        Voxels.
    tile : int
        Edge of a tile's core in voxels; each is read with a halo that covers the wider
        Gaussian and a peak's neighbours, and gives only the peaks of its core, so the
        result is that of the whole volume at once.

    Returns
    -------
    Peaks
        Positions with a parabola's subvoxel offset an axis.
    """
    halo = int(np.ceil(TRUNCATE * K * sigma)) + 2
    found: list[tuple[Floats, Floats]] = []
    lowest, highest, spreads = np.inf, -np.inf, []
    for core in track(list(_tiles(volume.shape, tile)), f"picking at sigma {sigma:.3g}"):
        low = [max(0, a - halo) for a, _ in core]
        high = [min(n, b + halo) for (_, b), n in zip(core, volume.shape, strict=True)]
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        answer = response(np.asarray(volume[window], np.float32), sigma)
        inner = tuple(slice(a - start, b - start) for (a, b), start in zip(core, low, strict=True))
        is_peak = answer == ndimage.maximum_filter(
            answer, footprint=NEIGHBOURS, mode="constant", cval=-np.inf
        )
        spreads.append(float(np.median(np.abs(answer[inner]))))
        values = answer[inner][is_peak[inner]]
        if not len(values):
            continue
        lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
        where = np.argwhere(is_peak[inner])[values > 0]
        where += np.array([s.start for s in inner])
        found.append((where + _offsets(answer, where) + low, values[values > 0]))
    positions = np.concatenate([p for p, _ in found]) if found else np.empty((0, 3))
    values = np.concatenate([v for _, v in found]) if found else np.empty(0)
    return Peaks(positions, values, lowest, highest, 1.4826 * float(np.median(spreads)))


def _tiles(shape: tuple[int, ...], tile: int) -> Iterator[tuple[tuple[int, int], ...]]:
    axes = [[(a, min(a + tile, n)) for a in range(0, n, tile)] for n in shape]
    yield from itertools.product(*axes)


def _offsets(answer: Floats, where: NDArray[np.int_]) -> Floats:
    """Return the top of a parabola through each peak and its neighbours, an axis at a time."""
    offsets = np.zeros(where.shape)
    middle = answer[tuple(where.T)]
    for axis in range(3):
        step = np.eye(3, dtype=int)[axis]
        inside = (where[:, axis] > 0) & (where[:, axis] < answer.shape[axis] - 1)
        before = answer[tuple((where[inside] - step).T)]
        after = answer[tuple((where[inside] + step).T)]
        curvature = before - 2 * middle[inside] + after
        flat = np.abs(curvature) < 1e-12
        top = 0.5 * (before - after) / np.where(flat, 1, curvature)
        offsets[inside, axis] = np.where(flat, 0, np.clip(top, -0.5, 0.5))
    return offsets


def threshold_of(peaks: Peaks, t: float) -> float:
    """Return T = m + t (M - m) / 20, m and M the smallest and largest peak value."""
    return peaks.lowest + t * (peaks.highest - peaks.lowest) / STEPS


def suppress(positions: Floats, scores: Floats, distances: Floats) -> NDArray[np.int_]:
    """Keep peaks greedily from the best: none within a kept peak's distance of it.

    Parameters
    ----------
    positions : ndarray
        `(N, 3)`.
    scores : ndarray
        `(N,)`; higher is better.
    distances : ndarray
        `(N,)` in units of `positions`.

    Returns
    -------
    ndarray of int
        Indices of the kept ones, best first.
    """
    order = np.argsort(-scores, kind="stable")
    tree = cKDTree(positions) if len(positions) else None
    gone = np.zeros(len(positions), bool)
    kept = []
    for index in order:
        if gone[index] or tree is None:
            continue
        kept.append(index)
        gone[tree.query_ball_point(positions[index], np.nextafter(distances[index], 0))] = True
    return np.array(kept, int)


def pick(
    volume: NDArray[np.generic],
    sigmas: Sequence[float],
    threshold: float = 3.0,
    min_distance: float = 2.0,
    top: int | None = None,
) -> tuple[Floats, Floats]:
    """Return `(positions, scores)` of particles, best first.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`, protein bright.
    sigmas : sequence of float
        Voxels; one a size of particle. Answers are compared in units of their own noise.
    threshold : float
        t of `threshold_of`, for each sigma by itself.
    min_distance : float
        Two picks lie no closer, in units of the better one's sigma.
    top : int, optional
        How many at most.

    Returns
    -------
    positions : ndarray
        `(N, 3)` zyx, voxels, subvoxel.
    scores : ndarray
        `(N,)` response over its robust standard deviation.

    Raises
    ------
    UserError
        Where a sigma is under half a voxel, or nothing is found.
    """
    positions, scores, distances = [], [], []
    for sigma in sorted(set(sigmas)):
        if not 0.5 <= sigma < min(volume.shape):
            raise UserError(
                f"sigma is {sigma:.3g} voxels in a tomogram of {volume.shape[::-1]} (x, y, z): "
                "wanted half a voxel to its thinnest edge; set particles.sigma (angstrom)"
            )
        peaks = find_peaks(volume, sigma)
        good = peaks.values > threshold_of(peaks, threshold)
        positions.append(peaks.positions[good])
        scores.append(peaks.values[good] / max(peaks.spread, 1e-30))
        distances.append(np.full(int(good.sum()), min_distance * sigma))
    where, value = np.concatenate(positions), np.concatenate(scores)
    kept = suppress(where, value, np.concatenate(distances))[:top]
    if not len(kept):
        raise UserError(
            f"no particle is found: no peak lies above the threshold {threshold:g}; lower "
            "particles.threshold, and check the contrast (protein must be bright) and sigma"
        )
    return where[kept], value[kept]


def radius_of_map(density: Floats, voxel_size: float) -> float:
    """Return the radius in angstrom of a ball with the map's radius of gyration."""
    mass = np.clip(np.asarray(density, np.float64), 0, None)
    if mass.sum() <= 0:
        raise UserError("a density map without positive values has no radius")
    axes = np.indices(mass.shape, dtype=np.float64)
    total = mass.sum()
    centre = [(axis * mass).sum() / total for axis in axes]
    square = sum(((axis - c) ** 2 * mass).sum() for axis, c in zip(axes, centre, strict=True))
    return float(np.sqrt(5 / 3 * square / total)) * voxel_size

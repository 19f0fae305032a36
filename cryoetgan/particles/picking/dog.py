"""Difference-of-Gaussians picking (Pei 2016, doi 10.1186/s12859-016-1283-3)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoetgan.errors import UserError
from cryoetgan.particles.masks import keep_outside
from cryoetgan.particles.picking.fast.search import find_peaks_fast
from cryoetgan.particles.picking.local_maxima import Peaks
from cryoetgan.particles.picking.tiled import find_peaks

Floats = NDArray[np.floating]
STEPS = 20
"""T = m + t (M - m) / 20."""
PAPERS_SIGMA = 7.0
"""Voxels."""
SIZE_EXPONENT = 2.0
"""Peaks of different sigmas are compared as response * sigma^2.

White noise answers as sigma^-1.5, a ball's mass grows as sigma^3. With 0, parts of a
ribosome outrank smaller particles (0.64 found among the first N of shared set 1), with 1.5
0.92, with 2 to 2.5 0.97, with 3 0.94; set 2 alike.
"""

SOME = 512
"""Peaks whose neighbours are sought at once."""


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
    kept: list[int] = []
    for start in range(0, len(order), SOME):
        part = order[start : start + SOME]
        part = part[~gone[part]]
        if tree is None or not len(part):
            continue
        reach = np.nextafter(distances[part], 0)
        near = tree.query_ball_point(positions[part], reach, return_sorted=False)
        for index, beside in zip(part.tolist(), near, strict=True):
            if not gone[index]:
                kept.append(index)
                gone[beside] = True
    return np.array(kept, int)


def pick(
    volume: NDArray[np.generic],
    sigmas: Sequence[float],
    threshold: float = 3.0,
    min_distance: float = 2.0,
    top: int | None = None,
    fast: bool = False,
    named: object = "the tomogram",
    mask: NDArray[np.generic] | None = None,
) -> tuple[Floats, Floats]:
    """Return `(positions, scores)` of particles, best first.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`, protein bright.
    sigmas : sequence of float
        Voxels; one a size of particle, merged by one suppression.
    threshold : float
        t of `threshold_of`, for each sigma by itself.
    min_distance : float
        Two picks lie no closer, in units of the better one's sigma.
    top : int, optional
        How many at most.
    fast : bool
        On a decimating pyramid, to half a voxel (`fast_picking`).
    named : object
        What messages call the tomogram.
    mask : ndarray, optional
        `(z, y, x)`; nothing is picked where it is not zero.

    Returns
    -------
    positions : ndarray
        `(N, 3)` zyx, voxels, subvoxel.
    scores : ndarray
        `(N,)` response * sigma^2, in units of the typical (median) peak of the widest sigma.

    Raises
    ------
    UserError
        Where a sigma is under half a voxel or beyond the tomogram, voxels are no numbers or
        all the same, or nothing is found.
    """
    sigmas = sorted(set(sigmas))
    for sigma in sigmas:
        if not 0.5 <= sigma < min(volume.shape):
            raise UserError(
                f"{named}: sigma is {sigma:.3g} voxels in a tomogram of {volume.shape[::-1]} (x, y, z): "
                "wanted half a voxel to its thinnest edge; set particles.sigma (angstrom)"
            )
    if fast:
        found = find_peaks_fast(volume, sigmas, named)
    else:
        found = [find_peaks(volume, sigma, named=named) for sigma in sigmas]
    if not any(len(peaks.values) for peaks in found):
        raise UserError(
            f"{named}: has no peak at all: is it empty, or the same everywhere? Check it, "
            "and the contrast (protein must be bright)"
        )
    if mask is not None:
        found = [keep_outside(peaks, mask) for peaks in found]
        if not any(len(peaks.values) for peaks in found):
            raise UserError(f"{named}: all peaks lie in the mask; 0 in a mask means keep")
    positions, scores, distances = [], [], []
    for sigma, peaks in zip(sigmas, found, strict=True):
        good = peaks.values > threshold_of(peaks, threshold)
        positions.append(peaks.positions[good].astype(float))
        scores.append(peaks.values[good].astype(float) * sigma**SIZE_EXPONENT)
        distances.append(np.full(int(good.sum()), min_distance * sigma))
    where, value = np.concatenate(positions), np.concatenate(scores)
    kept = suppress(where, value, np.concatenate(distances))[:top]
    if not len(kept):
        raise UserError(
            f"{named}: no particle is found: no peak lies above the threshold {threshold:g}; lower "
            "particles.threshold, and check the contrast (protein must be bright) and sigma"
        )
    typical = [
        np.median(p.values) * s**SIZE_EXPONENT
        for s, p in zip(sigmas, found, strict=True)
        if len(p.values)
    ]
    return where[kept], value[kept] / typical[-1]


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

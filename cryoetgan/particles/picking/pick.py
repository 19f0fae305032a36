"""Pick particles of one or several sizes by Difference of Gaussians."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.exclusion import ExclusionMask
from cryoetgan.particles.picking.dog import (
    THRESHOLD_STEPS,
    non_maximum_suppression,
    robust_threshold,
    threshold,
)
from cryoetgan.particles.picking.fast import find_peaks_fast
from cryoetgan.particles.picking.local_maxima import Peaks
from cryoetgan.particles.picking.tiled import find_peaks

Floats = NDArray[np.floating]
SIZE_EXPONENT = 2.0
"""Peaks of different sigmas are compared as response * sigma^2.

The response to white noise falls as sigma^-1.5, and the mass of a ball grows as sigma^3. Of the
first N picks of shared set 1, 0.64 are true with exponent 0 (parts of a ribosome outrank smaller
particles), 0.92 with 1.5, 0.97 with 2 to 2.5, and 0.94 with 3. Set 2 gives the same order.
"""


@dataclass(frozen=True, kw_only=True)
class PickOptions:
    """Options of the picker."""

    threshold: float | None = None
    """t of `dog.threshold`, 0 to 20; None: `robust_threshold`. One for each sigma."""
    min_distance: float = 2.0
    """Smallest distance of two picks, in units of the sigma of the better one."""
    top: int | None = None
    """Largest number of picks."""
    fast: bool = False
    """Search on a decimated grid (`fast.find_peaks_fast`)."""

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold <= THRESHOLD_STEPS:
            raise UserError(
                f"--threshold is {self.threshold:g}; give 0 to {THRESHOLD_STEPS} "
                "(particles.threshold)"
            )


def pick(
    volume: NDArray[np.generic],
    sigmas: Sequence[float],
    options: PickOptions = PickOptions(),
    name: object = "the tomogram",
    excluded: ExclusionMask | None = None,
) -> tuple[Floats, Floats]:
    """Return positions and scores of particles, best first.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`, protein bright.
    sigmas : sequence of float
        Voxels; one for each size of particle. The peaks of all sigmas share one suppression.
    options : PickOptions
        Threshold, distance and number.
    name : object
        Name of the tomogram in messages.
    excluded : ExclusionMask, optional
        Voxels at which no particle is picked.

    Returns
    -------
    positions : ndarray
        `(N, 3)` zyx, voxels, subvoxel.
    scores : ndarray
        `(N,)` response * sigma^2, divided by the median over the peaks of the widest sigma.
    """
    sigmas = sorted(set(sigmas))
    found = _peaks_by_sigma(volume, sigmas, options.fast, name)
    if excluded:
        found = [peaks.outside(excluded) for peaks in found]
        if not any(len(peaks.values) for peaks in found):
            raise UserError(
                f"{name}: all peaks lie in the mask or in padding; voxels to keep must be 0 in a mask"
            )
    positions, scores, distances = [], [], []
    for sigma, peaks in zip(sigmas, found, strict=True):
        if options.threshold is None:
            lowest = robust_threshold(peaks.values)
        else:
            lowest = threshold(peaks.lowest, peaks.highest, options.threshold)
        good = peaks.values > lowest
        positions.append(peaks.positions[good].astype(float))
        scores.append(peaks.values[good].astype(float) * sigma**SIZE_EXPONENT)
        distances.append(np.full(int(good.sum()), options.min_distance * sigma))
    where, value = np.concatenate(positions), np.concatenate(scores)
    kept = non_maximum_suppression(where, value, np.concatenate(distances))[: options.top]
    if not len(kept):
        raise UserError(
            f"{name}: no peak lies above the threshold"
            f"{'' if options.threshold is None else f' {options.threshold:g}'}. Set or lower "
            "particles.threshold; check sigma and the contrast (protein must be bright)"
        )
    widest = [(s, p) for s, p in zip(sigmas, found, strict=True) if len(p.values)][-1]
    typical = np.median(widest[1].values) * widest[0] ** SIZE_EXPONENT
    return where[kept], value[kept] / typical


def _peaks_by_sigma(
    volume: NDArray[np.generic], sigmas: Sequence[float], fast: bool, name: object
) -> list[Peaks]:
    for sigma in sigmas:
        if not 0.5 <= sigma < min(volume.shape):
            raise UserError(
                f"{name}: sigma is {sigma:.3g} voxels in a tomogram of {volume.shape[::-1]} "
                "(x, y, z). It must be 0.5 voxels or more and below the thinnest edge; set "
                "particles.sigma (angstrom)"
            )
    if fast:
        found = find_peaks_fast(volume, sigmas, name)
    else:
        found = [find_peaks(volume, sigma, name=name) for sigma in sigmas]
    if not any(len(peaks.values) for peaks in found):
        raise UserError(
            f"{name}: has no peak. Check that it is not empty or constant, and that protein is "
            "bright"
        )
    return found


def radius_of_map(density: Floats, voxel_size: float) -> float:
    """Return the radius in angstrom of a ball with the same radius of gyration as a map.

    Negative values of the map `(z, y, x)` count as zero; `voxel_size` is in angstrom.
    """
    mass = np.clip(np.asarray(density, np.float64), 0, None)
    total = mass.sum()
    if total <= 0:
        raise UserError("the density map has no positive values, so its radius is undefined")
    axes = np.indices(mass.shape, dtype=np.float64)
    centre = [(axis * mass).sum() / total for axis in axes]
    square = sum(((axis - c) ** 2 * mass).sum() for axis, c in zip(axes, centre, strict=True))
    return float(np.sqrt(5 / 3 * square / total)) * voxel_size

"""One grey scale per tomogram: mean 0 and standard deviation 1, without outliers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.progress import track

SAMPLE_VOXELS = 1_000_000
"""Sampled voxels: they give mean and standard deviation to one part in a thousand."""
OUTLIER_SD = 6.0
"""Standard deviations from the mean beyond which a voxel (gold, X-ray hit) is an outlier."""
MAX_CLIPPING_ROUNDS = 30


@dataclass(frozen=True)
class GreyScale:
    """Mean and standard deviation of the voxels that hold data."""

    mean: float
    sd: float
    broken: int = 0
    """Voxels that are not finite numbers; they do not count."""


def measure_grey_scale(
    data: NDArray[np.generic], name: object, no_data: NDArray[np.generic] | None = None
) -> GreyScale:
    """Return the grey scale of a tomogram `(z, y, x)` without outliers.

    Voxels at which `no_data`, of the same shape, is not zero do not count. Every section is read
    once. Raises `UserError` if all voxels are equal, or none is finite.
    """
    step = max(1, int(np.ceil(data.size / SAMPLE_VOXELS)))
    sample, broken = [], 0
    sections = track(iterate_sections(data), f"reading {name}", len(data))
    for index, section in enumerate(sections):
        values = np.asarray(section, np.float32).ravel()
        finite = np.isfinite(values)
        broken += int(np.count_nonzero(~finite))
        if no_data is not None:
            finite &= no_data[index].ravel() == 0
        sample.append(values[index % step :: step][finite[index % step :: step]])
    taken = np.concatenate(sample)
    if not taken.size:
        raise UserError(f"{name}: no voxel is a finite number; create the tomogram again")
    mean, sd = robust_moments(taken)
    if sd == 0:
        raise UserError(f"{name}: all voxels have the same value; is the file empty?")
    return GreyScale(mean, sd, broken)


def robust_moments(values: NDArray[np.generic]) -> tuple[float, float]:
    """Return mean and standard deviation of the values within six deviations of the mean.

    Sigma clipping is repeated until no value is removed. It removes gold and keeps particles,
    which are far from the background in a clean tomogram.

    Examples
    --------
    >>> robust_moments(np.array([-1.0, 1.0] * 100 + [1000.0]))
    (0.0, 1.0)
    """
    grey = np.asarray(values, np.float64).ravel()
    for _ in range(MAX_CLIPPING_ROUNDS):
        mean, sd = grey.mean(), grey.std()
        inside = grey[np.abs(grey - mean) <= OUTLIER_SD * sd]
        if len(inside) == len(grey) or inside.std() == 0:  # only padding of one value is left
            break
        grey = inside
    return float(mean), float(sd)

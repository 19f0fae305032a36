"""One grey scale per tomogram: mean 0 and standard deviation 1, without outliers."""

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


def measure_grey_scale(data: NDArray[np.generic], name: object) -> tuple[float, float]:
    """Return mean and standard deviation of a tomogram `(z, y, x)` without outliers.

    Every section is read once. Raises `UserError` if a voxel is not finite, or all are equal.
    """
    step = max(1, int(np.ceil(data.size / SAMPLE_VOXELS)))
    sample = []
    sections = track(iterate_sections(data), f"reading {name}", len(data))
    for index, section in enumerate(sections):
        values = np.asarray(section, np.float32).ravel()
        if not np.isfinite(values).all():
            bad = int(np.count_nonzero(~np.isfinite(values)))
            raise UserError(
                f"{name}: holds voxels that are not finite numbers ({bad} in section {index}); "
                "repair the tomogram, for example by setting them to its mean"
            )
        sample.append(values[index % step :: step].copy())  # a view would keep the section
    mean, sd = robust_moments(np.concatenate(sample))
    if sd == 0:
        raise UserError(f"{name}: all voxels have the same value; is the file empty?")
    return mean, sd


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

"""One grey scale a tomogram: mean 0, standard deviation 1, outliers left out."""

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.progress import track

SAMPLE = 1_000_000
"""Voxels looked at: mean and deviation to a part in a thousand."""
OUTLIER = 6.0
"""Standard deviations beyond which a voxel (gold, X-ray hit) does not count."""
MOST_ROUNDS = 30


def grey_scale(data: NDArray[np.generic], named: object) -> tuple[float, float]:
    """Return mean and standard deviation of a tomogram, outliers left out.

    Parameters
    ----------
    data : ndarray
        `(z, y, x)`, any real type, memory-mapped; every section is read once.
    named : object
        What messages call the tomogram.

    Raises
    ------
    UserError
        Where a voxel is not finite or all are equal.
    """
    step = max(1, int(np.ceil(data.size / SAMPLE)))
    sample = []
    for seen, section in enumerate(track(iterate_sections(data), f"reading {named}", len(data))):
        values = np.asarray(section, np.float32).ravel()
        if not np.isfinite(values).all():
            bad = int(np.count_nonzero(~np.isfinite(values)))
            raise UserError(
                f"{named}: holds voxels that are not finite numbers ({bad} in section {seen}); "
                "repair the tomogram, for example with its mean in their place"
            )
        sample.append(values[seen % step :: step].copy())  # a view would keep the section
    mean, sd = robust_moments(np.concatenate(sample))
    if sd == 0:
        raise UserError(f"{named}: all voxels have the same value; this is no tomogram")
    return mean, sd


def robust_moments(values: NDArray[np.generic]) -> tuple[float, float]:
    """Return mean and standard deviation of what lies within six deviations of the mean.

    Sigma clipping, repeated until nothing more falls out: gold goes, particles stay, which
    in a clean tomogram are far from the background too.
    """
    grey = np.asarray(values, np.float64).ravel()
    for _ in range(MOST_ROUNDS):
        mean, sd = grey.mean(), grey.std()
        inside = grey[np.abs(grey - mean) <= OUTLIER * sd]
        if len(inside) == len(grey) or inside.std() == 0:  # padding of one value alone is left
            break
        grey = inside
    return float(mean), float(sd)

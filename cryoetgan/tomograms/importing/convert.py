"""From a tomogram as it lies in a file to ours: voxel size, contrast, grey scale."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.io.memmap import iterate_sections
from cryoetgan.progress import track
from cryoetgan.tomograms.importing.normalise import grey_scale
from cryoetgan.tomograms.importing.resample import resample_into

FLOAT16_LARGEST = 6e4


def standardise_into(
    out: NDArray[Any],
    data: NDArray[np.generic],
    step: float,
    mean: float,
    factor: float,
    named: object,
) -> None:
    """Fill `out` with the resampled tomogram, mean 0, standard deviation 1.

    Parameters
    ----------
    out : ndarray
        `(z, y, x)` float32 or float16, memory-mapped.
    data : ndarray
        `(z, y, x)`, memory-mapped.
    step : float
        Output voxel size over input voxel size; 1 leaves the grid alone.
    mean : float
        Of `data`.
    factor : float
        One over the standard deviation of `data`, negative to invert.
    named : object
        What messages call the tomogram.

    Notes
    -----
    On a coarser grid noise averages out: the grey scale is measured once more there.
    """
    if step == 1:
        pairs = zip(iterate_sections(out), iterate_sections(data), strict=True)
        for made, section in track(pairs, "standardising", len(out)):
            made[:] = _fitting((np.asarray(section, np.float32) - mean) * factor, out)
        return
    resample_into(out, data, step, mean, factor)
    mean, sd = grey_scale(out, named)
    for section in iterate_sections(out):
        section[:] = _fitting((np.asarray(section, np.float32) - mean) / sd, out)


def _fitting(section: NDArray[np.float32], out: NDArray[Any]) -> NDArray[np.float32]:
    """A hot pixel beyond float16's range would become infinite."""
    if out.dtype != np.float16:
        return section
    return np.clip(section, -FLOAT16_LARGEST, FLOAT16_LARGEST)

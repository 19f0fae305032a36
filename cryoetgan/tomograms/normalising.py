"""One grey scale a tomogram, and one voxel size a run."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.errors import UserError
from cryoetgan.progress import track

Floats = NDArray[np.floating]
SAMPLE = 4_000_000
OUTLIER = 6.0
"""Robust standard deviations beyond which a voxel (gold, X-ray hit) does not count."""
SLAB = 32
SPLINE_REACH = 12
"""Voxels after which a cubic spline has forgotten what lies beyond (0.27^12 ~ 1e-7)."""


def grey_scale(data: NDArray[np.generic], path: object) -> tuple[float, float]:
    """Return mean and standard deviation of a tomogram, outliers left out.

    Parameters
    ----------
    data : ndarray
        `(z, y, x)`, any real type, memory-mapped.
    path : object
        Named in messages.

    Raises
    ------
    UserError
        Where a voxel is not finite or all are equal.
    """
    step = max(1, int(np.ceil(data.size / SAMPLE)))
    sample = []
    for seen, slab in enumerate(track(data, f"reading {path}")):
        values = np.asarray(slab, np.float32).ravel()
        if not np.isfinite(values).all():
            raise UserError(
                f"{path}: holds voxels that are not finite numbers (section {seen}); "
                "repair the tomogram, for example with its mean in their place"
            )
        sample.append(values[seen % step :: step])
    grey = np.concatenate(sample).astype(np.float64)
    median = np.median(grey)
    spread = 1.4826 * np.median(np.abs(grey - median)) or grey.std()
    if spread == 0:
        raise UserError(f"{path}: all voxels have the same value; this is no tomogram")
    inside = grey[np.abs(grey - median) <= OUTLIER * spread]
    return float(inside.mean()), float(inside.std())


def resampled_shape(shape: tuple[int, int, int], step: float) -> tuple[int, int, int]:
    """Return the shape after resampling by `step` input voxels an output voxel."""
    z, y, x = (max(1, int(np.floor((n - 1) / step + 1e-6)) + 1) for n in shape)
    return z, y, x


def resample_into(out: Floats, data: NDArray[np.generic], step: float) -> None:
    """Fill `out` with `data` on a grid of `step` input voxels, slab by slab.

    Voxel (0, 0, 0) stays where it is: an index becomes index / step.

    Parameters
    ----------
    out : ndarray
        `(z, y, x)` of `resampled_shape`.
    data : ndarray
        `(z, y, x)`.
    step : float
        Output voxel size over input voxel size.

    Notes
    -----
    Cubic splines; before a coarser grid, a Gaussian takes out what that cannot hold.
    """
    sd = 0.5 * np.sqrt(max(step**2 - 1, 0.0))
    halo = SPLINE_REACH + int(np.ceil(4 * sd)) + 1
    for start in track(range(0, out.shape[0], SLAB), "resampling"):
        stop = min(start + SLAB, out.shape[0])
        low = max(0, int(np.floor(start * step)) - halo)
        high = min(data.shape[0], int(np.ceil((stop - 1) * step)) + halo + 1)
        slab = np.asarray(data[low:high], np.float32)
        if sd > 0:
            slab = ndimage.gaussian_filter(slab, sd, mode="nearest")
        out[start:stop] = ndimage.affine_transform(
            slab,
            np.full(3, step),
            offset=(start * step - low, 0, 0),
            output_shape=(stop - start, *out.shape[1:]),
            order=3,
            mode="nearest",
        )

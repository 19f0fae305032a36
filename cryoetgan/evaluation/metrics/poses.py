"""Whether a generated volume still shows its own particle in its own pose."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.geometry import rotate_volume, rotation_from_relion
from cryoetgan.optics import missing_wedge, radius
from cryoetgan.star import ANGLES

ORIGINS = ["rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst"]
HIGHEST = 1 / 3
"""Cycles a voxel up to which volumes are compared."""


def pose_recovery(
    volumes: NDArray[Any],
    table: Any,
    maps: Mapping[str, NDArray[Any]],
    tilts: tuple[float, float],
    voxel_size: float,
) -> NDArray[np.bool_]:
    """Return for each volume whether its own density, at its known pose, fits it best.

    Parameters
    ----------
    volumes : ndarray
        `(N, n, n, n)`.
    table : pandas.DataFrame
        Class, angles (degrees) and origins (angstrom) of each.
    maps : mapping
        Class to density `(n, n, n)`; all are tried at the same pose.
    tilts : (float, float)
        Degrees; only what a tilt series sees counts.
    voxel_size : float
        Angstrom.

    Returns
    -------
    ndarray of bool
        `(N,)`; the chance level of their mean is 1 over the number of maps.
    """
    n = volumes.shape[-1]
    k = radius((n, n, n), 1.0)
    seen = missing_wedge((n, n, n), tilts) & (k <= HIGHEST) & (k > 0)
    splines = {
        name: ndimage.spline_filter(np.asarray(density, np.float64), order=3)
        for name, density in maps.items()
    }
    right = []
    origins = table[ORIGINS].to_numpy(float) if set(ORIGINS) <= set(table) else 0 * table[ANGLES]
    for volume, name, angles, origin in zip(
        volumes,
        table["cryoetganClass"],
        table[ANGLES].to_numpy(float),
        np.asarray(origins, float),
        strict=True,
    ):
        rotation, shift = rotation_from_relion(angles), -origin / voxel_size
        spectrum = np.fft.rfftn(np.asarray(volume, np.float64))[seen]
        fits = {
            other: _correlation(
                spectrum,
                np.fft.rfftn(rotate_volume(spline, rotation, shift, prefilter=False))[seen],
            )
            for other, spline in splines.items()
        }
        right.append(max(fits, key=lambda other: fits[other]) == name)
    return np.array(right, bool)


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    norm = np.sqrt((np.abs(a) ** 2).sum() * (np.abs(b) ** 2).sum())
    return float((a * b.conj()).real.sum() / norm) if norm > 0 else -1.0

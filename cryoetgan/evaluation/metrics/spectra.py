"""Power by Fourier shell, inside and outside the missing wedge."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryoetgan.physics.optics import fourier_shells, missing_wedge, shell_sums

SMALLEST_POWER = 1e-12


def shell_powers(
    volumes: Iterable[NDArray[Any]], tilts: tuple[float, float] | None = None, inside: bool = True
) -> NDArray[np.float64]:
    """Return the mean power in each Fourier shell of each volume, `(N, n // 2)`.

    Shell 1 is first; shells without a counted voxel are NaN. The volumes are `(n, n, n)`, zyx.
    Only directions inside the tilt range `tilts` (about y, degrees) count, or only those
    outside it.
    """
    rows: list[NDArray[np.float64]] = []
    for volume in volumes:
        if not rows:
            n = volume.shape[-1]
            shells = fourier_shells(n)
            counted = np.ones(shells.shape, bool)
            if tilts is not None:
                counted = missing_wedge((n, n, n), tilts) == inside
            n_counted = shell_sums(counted, shells)[1:]
        power = np.abs(np.fft.rfftn(np.asarray(volume, np.float32))) ** 2
        with np.errstate(invalid="ignore"):
            rows.append(shell_sums(power * counted, shells)[1:] / n_counted)
    return np.array(rows)


def power_ratio(real: ArrayLike, generated: ArrayLike) -> NDArray[np.float64]:
    """Return the generated over the real power by shell, `(n // 2,)`; ideally 1."""
    return np.asarray(generated, float) / np.maximum(np.asarray(real, float), SMALLEST_POWER)


def worst_ratio(ratio: ArrayLike) -> float:
    """Return the ratio with the largest factor from 1; NaN if no ratio is finite.

    Examples
    --------
    >>> worst_ratio([1.1, 0.5, 1.9])
    0.5
    """
    values = np.asarray(ratio, float)
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan")
    return float(values[np.argmax(np.abs(np.log(np.maximum(values, SMALLEST_POWER))))])

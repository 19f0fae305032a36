"""Power by Fourier shell inside and outside the missing wedge, and the grey-value spread."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryoetgan.physics.optics import fourier_shells, hermitian_weights, missing_wedge

SMALLEST_POWER = 1e-12


def shell_powers(
    volumes: Iterable[NDArray[Any]],
    tilts: tuple[float, float] | None = None,
    inside: bool = True,
) -> NDArray[np.float64]:
    """Return the mean power in each Fourier shell of each volume.

    Parameters
    ----------
    volumes : iterable of ndarray
        `(n, n, n)` each, zyx.
    tilts : (float, float), optional
        Lowest and highest tilt about y, degrees. Only directions inside this range count,
        or only those outside.
    inside : bool
        False to count the directions outside the range.

    Returns
    -------
    ndarray
        `(N, n // 2)`, shell 1 first; NaN for a shell without a counted voxel.
    """
    rows: list[NDArray[np.float64]] = []
    shells: _Shells | None = None
    for volume in volumes:
        if shells is None:
            shells = _Shells(volume.shape[-1], tilts, inside)
        rows.append(shells.mean(np.abs(np.fft.rfftn(np.asarray(volume, np.float32))) ** 2))
    return np.array(rows)


class _Shells:
    """Means over the shells of `rfftn` arrays, both halves of Fourier space counted."""

    def __init__(self, n: int, tilts: tuple[float, float] | None, inside: bool) -> None:
        self.n, shells = n, fourier_shells(n)
        self.shell = shells.ravel()
        weight = np.broadcast_to(hermitian_weights(n), shells.shape).copy()
        if tilts is not None:
            mask = missing_wedge((n, n, n), tilts)
            weight *= mask if inside else ~mask
        self.weight = weight.ravel()
        self.count = np.bincount(self.shell, self.weight)

    def mean(self, power: NDArray[Any]) -> NDArray[np.float64]:
        total = np.bincount(self.shell, self.weight * power.ravel())
        with np.errstate(invalid="ignore"):
            return (total / self.count)[1 : self.n // 2 + 1]


def shell_power(
    volumes: Iterable[NDArray[Any]],
    tilts: tuple[float, float] | None = None,
    inside: bool = True,
) -> NDArray[np.float64]:
    """Return the mean over volumes of `shell_powers`, `(n // 2,)`."""
    return shell_powers(volumes, tilts, inside).mean(axis=0)


def shell_ratio(
    real: Iterable[NDArray[Any]],
    generated: Iterable[NDArray[Any]],
    tilts: tuple[float, float] | None = None,
    inside: bool = True,
) -> NDArray[np.float64]:
    """Return the generated over the real power by shell, `(n // 2,)`; ideally 1."""
    return power_ratio(shell_power(real, tilts, inside), shell_power(generated, tilts, inside))


def power_ratio(real: ArrayLike, generated: ArrayLike) -> NDArray[np.float64]:
    """Return the ratio of two spectra `(n // 2,)`."""
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


def sd_ratio(real: NDArray[Any], generated: NDArray[Any]) -> float:
    """Return the standard deviation of the generated over the real voxels; ideally 1."""
    return float(np.std(generated, dtype=np.float64) / np.std(real, dtype=np.float64))

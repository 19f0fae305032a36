"""Power by shell, and the spread of grey values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.optics import missing_wedge


def shell_power(
    volumes: NDArray[Any], tilts: tuple[float, float] | None = None, inside: bool = True
) -> NDArray[np.float64]:
    """Return the mean power of each Fourier shell, `(n // 2,)` from shell 1 on.

    Parameters
    ----------
    volumes : ndarray
        `(N, n, n, n)`.
    tilts : (float, float), optional
        Degrees: only the directions inside (or outside) this range count.
    inside : bool
        Inside or outside.
    """
    n = volumes.shape[-1]
    kz, kx = np.fft.fftfreq(n) * n, np.fft.rfftfreq(n) * n
    radius = np.sqrt(kz[:, None, None] ** 2 + kz[None, :, None] ** 2 + kx[None, None] ** 2)
    shell = np.rint(radius).astype(int)
    weight = np.where((kx == 0) | ((n % 2 == 0) & (kx == n // 2)), 1.0, 2.0)
    weight = np.broadcast_to(weight, shell.shape).copy()
    if tilts is not None:
        seen = missing_wedge((n, n, n), tilts)
        weight *= seen if inside else ~seen
    total = np.zeros(shell.shape)
    for volume in volumes:
        total += np.abs(np.fft.rfftn(np.asarray(volume, np.float32))) ** 2
    flat, w = shell.ravel(), weight.ravel()
    power = np.bincount(flat, w * total.ravel() / len(volumes), minlength=n)
    count = np.bincount(flat, w, minlength=n)
    return (power / np.maximum(count, 1))[1 : n // 2 + 1]


def shell_ratio(
    real: NDArray[Any], generated: NDArray[Any], tilts: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """Return generated over real power by shell; 1 everywhere is right."""
    floor = 1e-12
    return shell_power(generated, tilts) / np.maximum(shell_power(real, tilts), floor)


def sd_ratio(real: NDArray[Any], generated: NDArray[Any]) -> float:
    """Return the generated voxels' standard deviation over the real ones'; 1 is right."""
    return float(np.std(generated, dtype=np.float64) / np.std(real, dtype=np.float64))

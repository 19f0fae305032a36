"""Fourier shell correlation of two maps, and the resolution at which it falls below a limit."""

import numpy as np
from numpy.typing import NDArray

from cryoetgan.physics.optics import fourier_shells, shell_sums

Floats = NDArray[np.floating]
RESOLUTION_LIMIT = 0.143
"""FSC of two half maps at the reported resolution (Rosenthal & Henderson 2003, doi
10.1016/j.jmb.2003.07.013)."""


def fourier_shell_correlation(first: Floats, second: Floats) -> Floats:
    """Return the correlation `(n // 2 + 1,)` of two cubes `(z, y, x)`, shell by shell; shell 0 is 1.

    FSC(s) = sum(F1 F2*) / sqrt(sum(abs(F1)^2) sum(abs(F2)^2)), with sums over the Fourier voxels
    of shell s (Harauz & van Heel 1986, Optik 73, 146).
    """
    one, two = np.fft.rfftn(first), np.fft.rfftn(second)
    shells = fourier_shells(first.shape[0])
    product = shell_sums((one * two.conj()).real, shells)
    power = np.sqrt(shell_sums(np.abs(one) ** 2, shells) * shell_sums(np.abs(two) ** 2, shells))
    found: NDArray[np.float64] = product / np.maximum(power, 1e-30)
    found[0] = 1.0
    return found


def resolution(fsc: Floats, box: int, voxel_size: float, limit: float = RESOLUTION_LIMIT) -> float:
    """Return the resolution (angstrom) at which the FSC first falls to a limit, else two voxels.

    The crossing is interpolated between shells.
    """
    below = np.flatnonzero(fsc[1:] < limit)
    if not len(below):
        return 2 * voxel_size
    index = int(below[0]) + 1
    before, after = fsc[index - 1], fsc[index]
    shell = index - 1 + (before - limit) / max(before - after, 1e-12)
    return box * voxel_size / max(shell, 0.5)


def fsc_csv(fsc: Floats, box: int, voxel_size: float) -> str:
    """Return CSV text with the columns shell, frequency (1/A), resolution (A) and fsc."""
    lines = ["shell,frequency,resolution,fsc"]
    for shell, value in enumerate(fsc):
        frequency = shell / (box * voxel_size)
        length = f"{1 / frequency:.3f}" if shell else "inf"
        lines.append(f"{shell},{frequency:.6f},{length},{value:.6f}")
    return "\n".join(lines) + "\n"

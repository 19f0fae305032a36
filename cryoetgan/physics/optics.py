"""What the microscope does in Fourier space: missing wedge and contrast transfer.

Fourier arrays are in `numpy.fft.rfftn` order, `(z, y, x // 2 + 1)`; frequencies in
cycles per angstrom. The tilt axis is y, the beam runs along z.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def frequency_axes(shape: tuple[int, int, int], voxel_size: float) -> tuple[Floats, Floats, Floats]:
    """Return kz, ky, kx in cycles per angstrom, shaped to broadcast over `(z, y, x // 2 + 1)`."""
    kz = np.fft.fftfreq(shape[0], voxel_size)[:, None, None]
    ky = np.fft.fftfreq(shape[1], voxel_size)[None, :, None]
    kx = np.fft.rfftfreq(shape[2], voxel_size)[None, None, :]
    return kz, ky, kx


def radius_grid(shape: tuple[int, int, int], voxel_size: float) -> Floats:
    """Return |k| in cycles per angstrom, `(z, y, x // 2 + 1)`."""
    kz, ky, kx = frequency_axes(shape, voxel_size)
    return np.sqrt(kz**2 + ky**2 + kx**2)


def missing_wedge(shape: tuple[int, int, int], tilts: tuple[float, float]) -> NDArray[np.bool_]:
    """Return the directions that a tilt series has seen.

    Parameters
    ----------
    shape : (int, int, int)
        zyx, voxels.
    tilts : (float, float)
        Lowest and highest stage tilt about y in degrees; (-60, 60) leaves a half-wedge
        of 30 degrees. Asymmetric ranges are kept: at tilt t the slice through Fourier
        space lies along (kx, kz) = (cos t, sin t).

    Returns
    -------
    ndarray of bool
        `(z, y, x // 2 + 1)`, True where data exist; the zero frequency is kept. The
        planes of the highest frequency in z and x, which stand for both signs, are
        kept where either sign is, so that the mask of a real volume is symmetric.
    """
    low, high = np.radians(tilts[0]), np.radians(tilts[1])
    kz, _, kx = frequency_axes(shape, 1.0)

    def seen(kz: Floats, kx: Floats) -> NDArray[np.bool_]:
        # the same line for (kx, kz) and (-kx, -kz): take the half with kx >= 0
        angle = np.arctan2(np.where(kx < 0, -kz, kz), np.abs(kx))
        inside = (angle >= low - 1e-9) & (angle <= high + 1e-9)
        # kx = 0: the angle is +-90 degrees, the same line
        vertical = (np.abs(kx) < 1e-12) & ((high >= np.pi / 2 - 1e-9) | (low <= -np.pi / 2 + 1e-9))
        return inside | vertical

    mask = seen(kz, kx)
    nyquist = np.zeros(mask.shape, bool)
    if shape[0] % 2 == 0:
        nyquist[shape[0] // 2] = True
    if shape[2] % 2 == 0:
        nyquist[..., -1] = True
    mask = np.where(nyquist, mask | seen(-kz, kx), mask)
    mask = mask | ((kz == 0) & (kx == 0))
    return np.broadcast_to(mask, (shape[0], shape[1], shape[2] // 2 + 1)).copy()


def electron_wavelength(voltage: float) -> float:
    """Return the relativistic wavelength in angstrom of electrons of `voltage` kilovolts."""
    volts = voltage * 1e3
    return 12.2642596 / np.sqrt(volts * (1.0 + 0.978475598e-6 * volts))


def ctf(
    frequency: Floats,
    defocus: float,
    voltage: float = 300.0,
    cs: float = 2.7,
    amplitude_contrast: float = 0.07,
    b_factor: float = 0.0,
) -> Floats:
    """Return the contrast transfer function; positive at low frequency.

    The sign is that of protein-bright images: what RELION calls -CTF for dark ones.

    Parameters
    ----------
    frequency : ndarray
        Cycles per angstrom, any shape.
    defocus : float
        Micrometres, underfocus positive.
    voltage, cs : float
        Kilovolts, millimetres.
    amplitude_contrast : float
        Fraction in [0, 1]; the value at zero frequency.
    b_factor : float
        Envelope exp(-B k^2 / 4), square angstrom.
    """
    wavelength = electron_wavelength(voltage)
    k2 = np.asarray(frequency) ** 2
    phase = np.pi * wavelength * (defocus * 1e4) * k2
    phase -= 0.5 * np.pi * (cs * 1e7) * wavelength**3 * k2**2
    phase += np.arcsin(amplitude_contrast)
    return np.sin(phase) * np.exp(-b_factor * k2 / 4)

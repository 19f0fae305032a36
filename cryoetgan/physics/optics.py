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


def fourier_shells(box: int) -> NDArray[np.int_]:
    """Return the Fourier shell of each voxel of a cube's `rfftn`, `(n, n, n // 2 + 1)`.

    Shell s holds the frequencies with round(|k| n) = s, k in cycles per voxel.
    """
    return np.rint(radius_grid((box, box, box), 1 / box)).astype(int)


def hermitian_weights(n: int) -> Floats:
    """Return the number of Fourier modes that each plane of `rfftn`'s last axis represents.

    2 for a plane that also represents its mirror image at -kx; 1 for kx = 0 and, if n is even,
    for the Nyquist frequency. Shape `(n // 2 + 1,)`.

    Examples
    --------
    >>> hermitian_weights(6)
    array([1., 2., 2., 1.])
    """
    k = np.arange(n // 2 + 1)
    return np.where((k == 0) | (2 * k == n), 1.0, 2.0)


def tilt_angle(shape: tuple[int, int, int]) -> Floats:
    """Return the tilt in degrees, (-90, 90], whose image samples each direction.

    `(z, 1, x // 2 + 1)`; at tilt t the slice through Fourier space lies along
    (kx, kz) = (cos t, sin t).
    """
    kz, _, kx = frequency_axes(shape, 1.0)
    return np.degrees(np.arctan2(np.where(kx == 0, np.abs(kz), kz), np.abs(kx)))


def is_sampled(kz: Floats, kx: Floats, tilts: tuple[float, float]) -> NDArray[np.bool_]:
    """Return whether a tilt series about y sampled the directions (kx, kz).

    Parameters
    ----------
    kz, kx : ndarray
        Any unit, shapes that broadcast. (kx, kz) and (-kx, -kz) are the same direction.
    tilts : (float, float)
        Lowest and highest stage tilt, degrees.
    """
    low, high = np.radians(tilts[0]), np.radians(tilts[1])
    # of each pair of opposite directions, use the one with kx >= 0
    angle = np.arctan2(np.where(kx < 0, -kz, kz), np.abs(kx))
    inside = (angle >= low - 1e-9) & (angle <= high + 1e-9)
    # kx = 0: +90 and -90 degrees are the same direction
    vertical = (np.abs(kx) < 1e-12) & ((high >= np.pi / 2 - 1e-9) | (low <= -np.pi / 2 + 1e-9))
    return np.asarray(inside | vertical)


def missing_wedge(shape: tuple[int, int, int], tilts: tuple[float, float]) -> NDArray[np.bool_]:
    """Return the Fourier mask of the directions that a tilt series sampled.

    Parameters
    ----------
    shape : (int, int, int)
        zyx, voxels.
    tilts : (float, float)
        Lowest and highest stage tilt about y in degrees; (-60, 60) leaves a half-wedge
        of 30 degrees. The range may be asymmetric.

    Returns
    -------
    ndarray of bool
        `(z, y, x // 2 + 1)`, True if data exist; the zero frequency is kept. The
        planes of the highest frequency in z and x represent both signs. They are kept
        if either sign is, so that the mask of a real volume is symmetric.
    """
    kz, _, kx = frequency_axes(shape, 1.0)
    mask = is_sampled(kz, kx, tilts)
    nyquist = np.zeros(mask.shape, bool)
    if shape[0] % 2 == 0:
        nyquist[shape[0] // 2] = True
    if shape[2] % 2 == 0:
        nyquist[..., -1] = True
    mask = np.where(nyquist, mask | is_sampled(-kz, kx, tilts), mask)
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

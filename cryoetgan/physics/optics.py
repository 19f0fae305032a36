"""Image formation in Fourier space: missing wedge and contrast transfer function.

Fourier arrays are in `numpy.fft.rfftn` order, `(z, y, x // 2 + 1)`. Frequencies are in cycles per
angstrom. The tilt axis is y and the beam runs along z: at tilt t, an image samples the plane of
Fourier space through (kx, kz) = (cos t, sin t) and the y axis.
"""

import numpy as np
from numpy.typing import NDArray

from cryoetgan.physics.acquisition import Acquisition

Floats = NDArray[np.floating]
Shape = tuple[int, int, int]
ANGLE_TOLERANCE = 1e-9
"""Radians: a direction at the end of the tilt range counts as sampled despite rounding."""


def frequency_axes(shape: Shape, voxel_size: float) -> tuple[Floats, Floats, Floats]:
    """Return kz, ky, kx in cycles per angstrom, shaped to broadcast over `(z, y, x // 2 + 1)`."""
    kz = np.fft.fftfreq(shape[0], voxel_size)[:, None, None]
    ky = np.fft.fftfreq(shape[1], voxel_size)[None, :, None]
    kx = np.fft.rfftfreq(shape[2], voxel_size)[None, None, :]
    return kz, ky, kx


def radius_grid(shape: Shape, voxel_size: float) -> Floats:
    """Return |k| in cycles per angstrom, `(z, y, x // 2 + 1)`."""
    kz, ky, kx = frequency_axes(shape, voxel_size)
    return np.sqrt(kz**2 + ky**2 + kx**2)


def fourier_shells(box: int) -> NDArray[np.int_]:
    """Return the Fourier shell of each frequency, `(z, y, x // 2 + 1)`: |k| times the box edge."""
    return np.asarray(np.rint(radius_grid((box, box, box), 1 / box)), np.int_)


def hermitian_weights(n: int) -> Floats:
    """Return the number of modes that each plane of the last axis of `rfftn` represents.

    It is 2, for a mode and its complex conjugate, except 1 for the zero frequency and, if n is
    even, for the highest one. Shape `(n // 2 + 1,)`.

    Examples
    --------
    >>> hermitian_weights(6)
    array([1., 2., 2., 1.])
    """
    k = np.arange(n // 2 + 1)
    return np.where((k == 0) | (2 * k == n), 1.0, 2.0)


def shell_sums(values: NDArray[np.floating], shells: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return the sums over Fourier shells 0 to n // 2, both half spaces counted.

    `values` are real, `(z, y, x // 2 + 1)`; `shells` are the `fourier_shells` of the box.
    """
    box = len(shells)
    sums = np.bincount(shells.ravel(), (values * hermitian_weights(box)).ravel())
    return np.asarray(sums[: box // 2 + 1], np.float64)


def tilt_angle(shape: Shape) -> Floats:
    """Return the tilt angle at which each frequency is sampled, degrees in (-90, 90].

    The shape is `(z, 1, x // 2 + 1)`, because the angle does not depend on ky.
    """
    kz, _, kx = frequency_axes(shape, 1.0)
    return np.degrees(np.arctan2(np.where(kx == 0, np.abs(kz), kz), np.abs(kx)))


def is_sampled(kz: Floats, kx: Floats, tilts: tuple[float, float]) -> NDArray[np.bool_]:
    """Return whether a tilt series samples the directions (kz, kx); the tilt axis always is.

    `tilts` are the lowest and the highest, degrees. (kz, kx) and (-kz, -kx), in any unit, are the
    same direction.
    """
    low, high = np.radians(tilts[0]) - ANGLE_TOLERANCE, np.radians(tilts[1]) + ANGLE_TOLERANCE
    angle = np.arctan2(np.where(kx < 0, -kz, kz), np.abs(kx))
    inside = (angle >= low) & (angle <= high)
    # kx = 0: the angle is 90 or -90 degrees, which are the same direction
    vertical = (np.abs(kx) < 1e-12) & ((high >= np.pi / 2) | (low <= -np.pi / 2))
    return np.asarray(inside | vertical | (np.hypot(kz, kx) < 1e-12))


def missing_wedge(shape: Shape, tilts: tuple[float, float]) -> NDArray[np.bool_]:
    """Return the mask of the frequencies that a tilt series samples, `(z, y, x // 2 + 1)` bool.

    `tilts` are the lowest and highest tilt about y in degrees: (-60, 60) leaves a half-wedge of 30
    degrees; the range may be asymmetric. `shape` is zyx.

    True if sampled; the tilt axis (kz = kx = 0) always is. The planes of the highest frequency in
    z and x represent both signs. They are True if either sign is sampled, so that the mask of a
    real volume is symmetric.
    """
    kz, _, kx = frequency_axes(shape, 1.0)
    mask = is_sampled(kz, kx, tilts)
    nyquist = np.zeros(mask.shape, bool)
    if shape[0] % 2 == 0:
        nyquist[shape[0] // 2] = True
    if shape[2] % 2 == 0:
        nyquist[..., -1] = True
    mask = np.where(nyquist, mask | is_sampled(-kz, kx, tilts), mask)
    return np.broadcast_to(mask, (shape[0], shape[1], shape[2] // 2 + 1)).copy()


def electron_wavelength(voltage: float) -> float:
    """Return the relativistic wavelength of electrons in angstrom; `voltage` in kilovolts."""
    volts = voltage * 1e3
    return 12.2642596 / np.sqrt(volts * (1.0 + 0.978475598e-6 * volts))


def ctf(
    frequency: Floats,
    defocus: float | Floats,
    voltage: float = 300.0,
    cs: float = 2.7,
    amplitude_contrast: float = 0.07,
    b_factor: float = 0.0,
    phase_shift: float = 0.0,
) -> Floats:
    """Return the contrast transfer function; positive at low frequency.

    CTF(k) = sin(pi lambda dz k^2 - pi/2 Cs lambda^3 k^4 + asin(A) + p) exp(-B k^2 / 4) (Rohou
    and Grigorieff 2015, doi 10.1016/j.jsb.2015.08.008). The sign belongs to images with bright
    protein; RELION uses the opposite sign for dark protein.

    Parameters
    ----------
    frequency : ndarray
        k in cycles per angstrom, any shape.
    defocus : float or ndarray
        dz in micrometres, underfocus positive; an array of the frequencies' shape if astigmatic.
    voltage, cs : float
        Kilovolts; spherical aberration Cs in millimetres.
    amplitude_contrast : float
        A, a fraction in [0, 1]; the value at zero frequency.
    b_factor : float
        B of the envelope, square angstrom.
    phase_shift : float
        p of a phase plate, degrees.
    """
    wavelength = electron_wavelength(voltage)
    k2 = np.asarray(frequency) ** 2
    phase = np.pi * wavelength * (np.asarray(defocus) * 1e4) * k2
    phase -= 0.5 * np.pi * (cs * 1e7) * wavelength**3 * k2**2
    phase += np.arcsin(amplitude_contrast) + np.radians(phase_shift)
    return np.sin(phase) * np.exp(-b_factor * k2 / 4)


def recorded_ctf(k: Floats, acquisition: Acquisition) -> Floats:
    """Return the CTF at frequencies in cycles per angstrom, in the tomogram's CTF state.

    Signed if raw, its absolute value if phase-flipped. It is 1 if the CTF was corrected or the
    defocus is not known.
    """
    a = acquisition
    if a.defocus is None or a.ctf == "corrected":
        return np.ones_like(k)
    values = ctf(k, a.defocus, a.voltage, a.cs, a.amplitude_contrast)
    return np.abs(values) if a.ctf == "phase-flipped" else values

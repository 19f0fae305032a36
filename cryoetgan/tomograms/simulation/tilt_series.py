"""What a microscope records of projections: contrast transfer, dose, noise, detector."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.errors import UserError
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import ctf
from cryoetgan.seeds import rng

Floats = NDArray[np.floating]
WIENER = 0.1
"""Added to CTF^2 where the state `corrected` divides by it."""


@dataclass(frozen=True, kw_only=True)
class Microscope:
    """What blurs a tilt series besides its CTF.

    Attributes
    ----------
    dose : float
        Electrons per square angstrom over the whole series, spent from the middle
        outwards (Hagen 2017, doi 10.1016/j.jsb.2016.06.007).
    b_factor : float
        Square angstrom; of every image: coherence, motion.
    misalignment : float
        Pixels; standard deviation of what alignment leaves, in u and y.
    mtf : float
        The detector's modulation transfer at the highest frequency of the images, in
        (0, 1]; it falls off to there as a Gaussian.
    """

    dose: float = 100.0
    b_factor: float = 300.0
    misalignment: float = 0.4
    mtf: float = 1.0

    def __post_init__(self) -> None:
        for option, value in (
            ("--dose", self.dose),
            ("--b-factor", self.b_factor),
            ("--misalignment", self.misalignment),
        ):
            if not 0 <= value < np.inf:
                raise UserError(f"{option}: got {value:g}, wanted zero or more")
        if not 0 < self.mtf <= 1:
            raise UserError(f"--mtf: got {self.mtf:g}, wanted a number above 0 and at most 1")


def tilt_angles(acquisition: Acquisition) -> NDArray[np.float64]:
    """Return the tilts of a series in degrees, low to high."""
    a = acquisition
    count = int(np.floor((a.tilt_high - a.tilt_low) / a.tilt_step + 1e-6)) + 1
    return np.asarray(a.tilt_low + a.tilt_step * np.arange(count), np.float64)


def dose_before(tilts: NDArray[np.floating], total: float) -> NDArray[np.float64]:
    """Return the dose each image has seen by its middle, tilts nearest zero taken first."""
    order = np.argsort(np.abs(tilts), kind="stable")
    spent = np.empty(len(tilts))
    spent[order] = (np.arange(len(tilts)) + 0.5) * total / len(tilts)
    return spent


def dose_envelope(k: Floats, dose: float) -> Floats:
    """Return how much signal radiation leaves at `k` cycles per angstrom.

    exp(-N / 2 Nc), Nc = 0.245 k^-1.665 + 2.81 electrons per square angstrom (Grant and
    Grigorieff 2015, doi 10.7554/eLife.06980).
    """
    critical = 0.245 * np.maximum(k, 1e-6) ** -1.665 + 2.81
    return np.exp(-dose / (2 * critical))


def record(
    images: Floats,
    voxel_size: float,
    acquisition: Acquisition,
    microscope: Microscope,
    name: str,
    seed: int,
) -> NDArray[np.float32]:
    """Return what is recorded of noise-free projections `(tilt, u, y)`, misaligned, corrected."""
    tilts = tilt_angles(acquisition)
    k = _frequencies(images.shape[1:], voxel_size)
    blur = np.exp(-microscope.b_factor * k**2 / 4) * _mtf(k, voxel_size, microscope.mtf)
    doses = dose_before(tilts, microscope.dose)
    phase = np.array(
        np.broadcast_arrays(
            fft.fftfreq(images.shape[1])[:, None], fft.rfftfreq(images.shape[2])[None, :]
        )
    )
    out = np.empty_like(images, np.float32)
    transfer = _transfer(k, acquisition) * _correction(k, acquisition)
    for index, (image, tilt) in enumerate(zip(images, tilts, strict=True)):
        shift = rng(seed, "misalignment", name, f"{tilt:.3f}").normal(0, microscope.misalignment, 2)
        moved = np.exp(-2j * np.pi * np.tensordot(shift, phase, 1))
        out[index] = _filter(image, transfer * blur * dose_envelope(k, doses[index]) * moved)
    return out


def noise(
    shape: tuple[int, int, int],
    voxel_size: float,
    acquisition: Acquisition,
    microscope: Microscope,
    name: str,
    seed: int,
) -> NDArray[np.float32]:
    """Return the noise of a tilt series `(tilt, u, y)`, of unit variance before correction.

    Half of the variance is the specimen's, so it passes the CTF, and half the shots' and
    the detector's (Foerster 2008, doi 10.1016/j.jsb.2007.07.006); it grows as
    1 / cos(tilt) with the thickness that electrons have to pass.
    """
    tilts = tilt_angles(acquisition)
    k = _frequencies(shape[1:], voxel_size)
    transfer = _transfer(k, acquisition) * _mtf(k, voxel_size, microscope.mtf)
    correction = _correction(k, acquisition)
    # the share of variance that white noise keeps behind the CTF
    kept = np.sqrt(_mean_square(transfer, shape[2]))
    out = np.empty(shape, np.float32)
    for index, tilt in enumerate(tilts):
        numbers = rng(seed, "noise", name, f"{tilt:.3f}")
        before = numbers.standard_normal(shape[1:], np.float32)
        after = numbers.standard_normal(shape[1:], np.float32)
        passed = _filter(before, transfer * correction / kept) + _filter(after, correction)
        out[index] = passed / np.sqrt(2 * np.cos(np.radians(min(abs(tilt), 85.0))))
    return out


def _frequencies(shape: tuple[int, ...], voxel_size: float) -> Floats:
    """Return |k| of an image `(u, y)` in cycles per angstrom, in `rfft2` order."""
    ku, ky = fft.fftfreq(shape[0], voxel_size), fft.rfftfreq(shape[1], voxel_size)
    return np.sqrt(ku[:, None] ** 2 + ky[None, :] ** 2)


def _transfer(k: Floats, acquisition: Acquisition) -> Floats:
    a = acquisition
    assert a.defocus is not None, "a simulated series has a defocus"
    return ctf(k, a.defocus, a.voltage, a.cs, a.amplitude_contrast)


def _correction(k: Floats, acquisition: Acquisition) -> Floats:
    """Return what the CTF's state has done to the images."""
    transfer = _transfer(k, acquisition)
    if acquisition.ctf == "phase-flipped":
        return np.where(transfer < 0, -1.0, 1.0)
    if acquisition.ctf == "corrected":
        return transfer / (transfer**2 + WIENER)
    return np.ones_like(k)


def _mtf(k: Floats, voxel_size: float, at_nyquist: float) -> Floats:
    return at_nyquist ** ((2 * voxel_size * k) ** 2)


def _mean_square(transfer: Floats, ny: int) -> float:
    """Return the mean square over the whole plane of a filter in `rfft2` order."""
    twice = np.full(transfer.shape[1], 2.0)
    twice[0] = 1
    if ny % 2 == 0:
        twice[-1] = 1
    return float((transfer**2 * twice).sum() / (transfer.shape[0] * ny))


def _filter(image: Floats, transfer: NDArray[np.generic]) -> Floats:
    return fft.irfft2(fft.rfft2(image) * transfer, s=image.shape)

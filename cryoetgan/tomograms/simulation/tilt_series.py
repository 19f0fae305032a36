"""A simulated tilt series: contrast transfer, dose, detector, noise."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import ctf, hermitian_weights
from cryoetgan.seeds import rng as generator_for
from cryoetgan.tomograms.options import Microscope

Floats = NDArray[np.floating]
DEFAULT_DEFOCUS_UM = 4.0
"""Micrometres, if none is given."""
WIENER_CONSTANT = 0.1
"""Added to CTF^2 in the correction CTF / (CTF^2 + constant) of the state `corrected`."""
MAX_NOISE_TILT_DEG = 85.0
"""Degrees; the noise does not grow beyond this tilt."""


@dataclass(frozen=True, kw_only=True)
class TiltSeries:
    """How a tilt series is recorded."""

    voxel_size: float
    """Angstrom; the pixel size of the images."""
    acquisition: Acquisition
    """Tilts, optics and CTF state. The defocus is set if it is unknown."""
    name: str
    seed: int
    """The tomogram's name and the run's seed determine the random numbers."""
    microscope: Microscope = field(default_factory=Microscope)

    def __post_init__(self) -> None:
        if self.acquisition.defocus is None:
            known = replace(self.acquisition, defocus=DEFAULT_DEFOCUS_UM)
            object.__setattr__(self, "acquisition", known)

    def frequencies(self, shape: tuple[int, ...]) -> Floats:
        """Return |k| of an image `(u, y)` in cycles per angstrom, in `rfft2` order."""
        ku, ky = fft.fftfreq(shape[0], self.voxel_size), fft.rfftfreq(shape[1], self.voxel_size)
        return np.sqrt(ku[:, None] ** 2 + ky[None, :] ** 2)

    def ctf(self, k: Floats) -> Floats:
        """Return the contrast transfer function at `k` cycles per angstrom."""
        a = self.acquisition
        return ctf(k, a.defocus or 0.0, a.voltage, a.cs, a.amplitude_contrast)

    def ctf_correction(self, k: Floats) -> Floats:
        """Return the filter that the CTF correction applied to the images."""
        transfer = self.ctf(k)
        if self.acquisition.ctf == "phase-flipped":
            return np.where(transfer < 0, -1.0, 1.0)
        if self.acquisition.ctf == "corrected":
            return transfer / (transfer**2 + WIENER_CONSTANT)
        return np.ones_like(k)

    def mtf(self, k: Floats) -> Floats:
        """Return the detector's transfer at `k`: mtf^((k / k_Nyquist)^2)."""
        return self.microscope.mtf ** ((2 * self.voxel_size * k) ** 2)


def tilt_angles(acquisition: Acquisition) -> NDArray[np.float64]:
    """Return the tilts of a series in degrees, low to high."""
    a = acquisition
    count = int(np.floor((a.tilt_high - a.tilt_low) / a.tilt_step + 1e-6)) + 1
    return np.asarray(a.tilt_low + a.tilt_step * np.arange(count), np.float64)


def accumulated_dose(tilts: NDArray[np.floating], total: float) -> NDArray[np.float64]:
    """Return the dose up to the middle of each image; tilts nearest zero are recorded first."""
    order = np.argsort(np.abs(tilts), kind="stable")
    dose = np.empty(len(tilts))
    dose[order] = (np.arange(len(tilts)) + 0.5) * total / len(tilts)
    return dose


def dose_envelope(k: Floats, dose: float) -> Floats:
    """Return the fraction of the signal left at `k` cycles per angstrom.

    exp(-N / (2 Nc)), with N the dose and the critical dose Nc = 0.245 k^-1.665 + 2.81, both in
    electrons per square angstrom (Grant and Grigorieff 2015, doi 10.7554/eLife.06980).
    """
    critical = 0.245 * np.maximum(k, 1e-6) ** -1.665 + 2.81
    return np.exp(-dose / (2 * critical))


def record_projections(images: Floats, series: TiltSeries) -> NDArray[np.float32]:
    """Return the recorded images of noise-free projections `(tilt, u, y)`.

    In Fourier space each image is multiplied by CTF x correction x exp(-B k^2 / 4) x MTF x dose
    envelope, and shifted by its misalignment.
    """
    microscope = series.microscope
    tilts = tilt_angles(series.acquisition)
    k = series.frequencies(images.shape[1:])
    blur = np.exp(-microscope.b_factor * k**2 / 4) * series.mtf(k)
    doses = accumulated_dose(tilts, microscope.dose)
    phase = np.array(
        np.broadcast_arrays(
            fft.fftfreq(images.shape[1])[:, None], fft.rfftfreq(images.shape[2])[None, :]
        )
    )
    out = np.empty_like(images, np.float32)
    transfer = series.ctf(k) * series.ctf_correction(k)
    for index, (image, tilt) in enumerate(zip(images, tilts, strict=True)):
        rng = generator_for(series.seed, "misalignment", series.name, f"{tilt:.3f}")
        shift = rng.normal(0, microscope.misalignment, 2)
        shifted = np.exp(-2j * np.pi * np.tensordot(shift, phase, 1))
        out[index] = _filter(image, transfer * blur * dose_envelope(k, doses[index]) * shifted)
    return out


def simulate_noise(shape: tuple[int, int, int], series: TiltSeries) -> NDArray[np.float32]:
    """Return the noise of a tilt series `(tilt, u, y)`, of unit variance before correction.

    Half of the variance is structural noise of the specimen, which passes the CTF. The other
    half is shot and detector noise (Foerster 2008, doi 10.1016/j.jsb.2007.07.006). The variance
    grows as 1 / cos(tilt), with the thickness along the beam.
    """
    tilts = tilt_angles(series.acquisition)
    k = series.frequencies(shape[1:])
    transfer = series.ctf(k) * series.mtf(k)
    correction = series.ctf_correction(k)
    # standard deviation of white noise after the CTF: mean square over the whole Fourier plane
    squares = (transfer**2 * hermitian_weights(shape[2])).sum()
    passed_sd = np.sqrt(float(squares / (shape[1] * shape[2])))
    out = np.empty(shape, np.float32)
    for index, tilt in enumerate(tilts):
        rng = generator_for(series.seed, "noise", series.name, f"{tilt:.3f}")
        structural = rng.standard_normal(shape[1:], np.float32)
        detector = rng.standard_normal(shape[1:], np.float32)
        image = _filter(structural, transfer * correction / passed_sd) + _filter(
            detector, correction
        )
        out[index] = image / np.sqrt(2 * np.cos(np.radians(min(abs(tilt), MAX_NOISE_TILT_DEG))))
    return out


def _filter(image: Floats, transfer: NDArray[np.generic]) -> Floats:
    return fft.irfft2(fft.rfft2(image) * transfer, s=image.shape)

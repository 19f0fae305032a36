"""A simulated tilt series: contrast transfer, dose, detector, noise."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import ctf, hermitian_weights
from cryoetgan.progress import log
from cryoetgan.seeds import rng as generator_for
from cryoetgan.tomograms.options import Microscope
from cryoetgan.tomograms.simulation.detector import KNOWN, MEASURED_AT_KV, detector_transfer

Floats = NDArray[np.floating]
DEFAULT_DEFOCUS_UM = 4.0
"""Micrometres, if none is given."""
WIENER_CONSTANT = 0.1
"""Added to CTF^2 in the correction CTF / (CTF^2 + constant) of the state `corrected`."""
DEFOCUS_STEP_UM = 0.05
"""Micrometres between the nodes of a defocus gradient, at most."""
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
        name, voltage = self.microscope.detector, self.acquisition.voltage
        if name in KNOWN and voltage != MEASURED_AT_KV:
            log.warning(
                "--detector: %s was measured at %g kV, not at %g; give a STAR file of its transfer",
                name, MEASURED_AT_KV, voltage,
            )  # fmt: skip

    def frequencies(self, shape: tuple[int, ...]) -> Floats:
        """Return |k| of an image `(u, y)` in cycles per angstrom, in `rfft2` order."""
        ku, ky = fft.fftfreq(shape[0], self.voxel_size), fft.rfftfreq(shape[1], self.voxel_size)
        return np.sqrt(ku[:, None] ** 2 + ky[None, :] ** 2)

    def ctf(self, shape: tuple[int, ...], extra_defocus: float = 0.0) -> Floats:
        """Return the contrast transfer function of an image `(u, y)` in `rfft2` order.

        Astigmatism adds D / 2 cos(2 (angle - angle of the largest defocus)) to the defocus.
        `extra_defocus` is in micrometres.
        """
        a, scope = self.acquisition, self.microscope
        defocus: float | Floats = (a.defocus or 0.0) + extra_defocus
        if scope.astigmatism:
            ku, ky = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None, :]
            angle = np.arctan2(ky, ku) - np.radians(scope.astigmatism_angle)
            defocus = defocus + scope.astigmatism / 2 * np.cos(2 * angle)
        voltage, cs, amplitude, k = a.voltage, a.cs, a.amplitude_contrast, self.frequencies(shape)
        return ctf(k, defocus, voltage, cs, amplitude, phase_shift=scope.phase_shift)

    def corrected(self, transfer: Floats) -> Floats:
        """Return the filter that the CTF correction applies to images with this transfer."""
        if self.acquisition.ctf == "phase-flipped":
            return np.where(transfer < 0, -1.0, 1.0)
        if self.acquisition.ctf == "corrected":
            return transfer / (transfer**2 + WIENER_CONSTANT)
        return np.ones_like(transfer)

    def mtf(self, k: Floats) -> Floats:
        """Return the detector's transfer at `k`: mtf^((k / k_Nyquist)^2), times the measured one."""
        scope = self.microscope
        found = scope.mtf ** ((2 * self.voxel_size * k) ** 2)
        if scope.detector is None or scope.detector_pixel is None:
            return found
        return found * detector_transfer(scope.detector, 2 * scope.detector_pixel * k)


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


def dose_weights(k: Floats, doses: Floats) -> NDArray[np.float64]:
    """Return the filters `(image, ...)` of exposure weighting, which keep the noise spectrum.

    q_i / sqrt(mean over images of q^2), with q_i the `dose_envelope` (Grant and Grigorieff 2015,
    doi 10.7554/eLife.06980, eq. 9, for a mean instead of a sum).
    """
    envelopes = np.array([dose_envelope(k, float(dose)) for dose in doses])
    return np.asarray(envelopes / np.sqrt((envelopes**2).mean(axis=0)), np.float64)


def true_tilts(series: TiltSeries) -> NDArray[np.float64]:
    """Return the angles at which the images were recorded, degrees: tilts plus their errors."""
    tilts = tilt_angles(series.acquisition)
    rng = generator_for(series.seed, "tilt errors", series.name)
    return np.asarray(tilts + rng.normal(0, 1, len(tilts)) * series.microscope.tilt_error)


def record_projections(images: Floats, series: TiltSeries) -> NDArray[np.float32]:
    """Return the recorded images of noise-free projections `(tilt, u, y)`.

    In Fourier space each image is multiplied by CTF x correction x exp(-B k^2 / 4) x MTF x dose
    envelope x drift envelope, and shifted by its misalignment. A drift d at constant speed
    multiplies by sinc(k . d), with sinc(x) = sin(pi x) / (pi x).
    """
    microscope = series.microscope
    tilts = tilt_angles(series.acquisition)
    k = series.frequencies(images.shape[1:])
    blur = np.exp(-microscope.b_factor * k**2 / 4) * series.mtf(k)
    doses = accumulated_dose(tilts, microscope.dose)
    weights = dose_weights(k, doses) if microscope.dose_weighting else np.ones(len(tilts))
    out = np.empty_like(images, np.float32)
    for index, (image, tilt) in enumerate(zip(images, tilts, strict=True)):
        shifted, drifted = _motion(series, float(tilt), images.shape[1:])
        common = blur * dose_envelope(k, doses[index]) * shifted * weights[index] * drifted
        out[index] = _filter_by_defocus(
            image, float(tilt), series, partial(_recorded, series, 1.0, common)
        )
    return out


def _motion(
    series: TiltSeries, tilt: float, shape: tuple[int, ...]
) -> tuple[NDArray[np.complexfloating], Floats]:
    """Return the factors of an image's misalignment and of its drift, in `rfft2` order.

    The misalignment grows with the tilt: 1 at tilt zero, 1 + growth at 60 degrees.
    """
    microscope = series.microscope
    phase = np.array(
        np.broadcast_arrays(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None, :])
    )
    rng = generator_for(series.seed, "misalignment", series.name, f"{tilt:.3f}")
    growth = 1 + microscope.misalignment_growth * (1 / _cosine(tilt) - 1)
    shift = rng.normal(0, microscope.misalignment * growth, 2)
    shifted = np.exp(-2j * np.pi * np.tensordot(shift, phase, 1))
    azimuth = rng.uniform(0, np.pi)
    moved = np.array([np.cos(azimuth), np.sin(azimuth)]) * microscope.drift / series.voxel_size
    return shifted, np.sinc(np.tensordot(moved, phase, 1))


def _recorded(
    series: TiltSeries, before: Floats | float, after: NDArray[Any], transfer: Floats
) -> NDArray[Any]:
    """Return the filter of a specimen: transfer and its correction, with factors of each."""
    return transfer * before * series.corrected(transfer) * after


def _corrected(series: TiltSeries, weights: Floats, transfer: Floats) -> NDArray[Any]:
    """Return the filter of shots, which the correction of this transfer and the weights change."""
    return series.corrected(transfer) * weights


@lru_cache(maxsize=1)
def _central_ctf(series: TiltSeries, shape: tuple[int, ...]) -> Floats:
    return series.ctf(shape)


def _filter_by_defocus(
    image: Floats, tilt: float, series: TiltSeries, applied: Callable[[Floats], NDArray[Any]]
) -> Floats:
    """Return an image after the filter that `applied` makes of its contrast transfer function.

    With a gradient the defocus at u is greater by u tan(tilt). The image is filtered with the
    defocus of nodes `DEFOCUS_STEP_UM` apart at most, and interpolated linearly between them.
    """
    extent = abs(np.tan(np.radians(tilt))) * image.shape[0] * series.voxel_size / 2 * 1e-4
    if not series.microscope.defocus_gradient or extent == 0:
        return _filter(image, applied(_central_ctf(series, image.shape)))
    spectrum = fft.rfft2(image)
    count = int(np.ceil(2 * extent / DEFOCUS_STEP_UM)) + 1
    u = (np.arange(image.shape[0]) - image.shape[0] // 2) * series.voxel_size * 1e-4
    # position of each row among the nodes
    position = (u * np.tan(np.radians(tilt)) + extent) / (2 * extent) * (count - 1)
    out = np.zeros_like(image)
    for node, extra in enumerate(np.linspace(-extent, extent, count)):
        weight = np.maximum(1 - abs(position - node), 0)
        transfer = applied(series.ctf(image.shape, float(extra)))
        out += weight[:, None] * fft.irfft2(spectrum * transfer, s=image.shape)
    return out


def _cosine(tilt: float) -> float:
    return float(np.cos(np.radians(min(abs(tilt), MAX_NOISE_TILT_DEG))))


def simulate_noise(
    shape: tuple[int, int, int],
    series: TiltSeries,
    thickness: float = 0.0,
    ice: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return the noise of a tilt series `(tilt, u, y)`, of unit variance before drift and correction.

    Half of the variance is structural noise of the specimen, which passes the CTF. The other
    half is shot and detector noise (Foerster 2008, doi 10.1016/j.jsb.2007.07.006). The variance
    grows as 1 / cos(tilt), with the thickness along the beam. With a mean free path L, shot
    noise grows as exp((1 / cos(tilt) - 1) t / L) instead, as elastic electrons are lost (t is the
    `thickness` in angstrom).

    Structural noise is other ice in each image. It passes the CTF, the detector and the drift;
    B-factor and dose envelope are of the specimen, whose structure fades, and ice has none to
    lose. `ice` are projections `(tilt, u, y)` of one random volume, the same ice in all images: it
    is recorded like the specimen (`record_projections`), so that it has the specimen's shift and
    blur. Its variance before B-factor, dose and drift is half of the noise.
    """
    tilts = tilt_angles(series.acquisition)
    k = series.frequencies(shape[1:])
    contrast, mtf = series.ctf(shape[1:]), series.mtf(k)
    # standard deviation of white noise after the CTF: mean square over the whole Fourier plane
    squares = ((contrast * mtf) ** 2 * hermitian_weights(shape[2])).sum()
    passed_sd = np.sqrt(float(squares / (shape[1] * shape[2])))
    path, drifts = series.microscope.mean_free_path, series.microscope.drift > 0
    doses = accumulated_dose(tilts, series.microscope.dose)
    weighted = series.microscope.dose_weighting
    weights = dose_weights(k, doses) if weighted else np.ones(len(tilts))
    out = np.empty(shape, np.float32)
    if ice is not None:
        ice = record_projections(ice / ice.std(axis=(1, 2), keepdims=True), series)
    for index, tilt in enumerate(tilts):
        rng = generator_for(series.seed, "noise", series.name, f"{tilt:.3f}")
        structural = rng.standard_normal(shape[1:], np.float32)
        detector = rng.standard_normal(shape[1:], np.float32)
        longer = 1 / _cosine(tilt)
        lost = longer if path is None else np.exp((longer - 1) * thickness / path)
        if ice is None:
            common = mtf * (_motion(series, float(tilt), shape[1:])[1] if drifts else 1.0)
            specimen = _filter_by_defocus(
                structural,
                float(tilt),
                series,
                partial(_recorded, series, common, weights[index]),
            )
        else:
            specimen = ice[index]
        shots = _filter_by_defocus(
            detector, float(tilt), series, partial(_corrected, series, weights[index])
        )
        out[index] = (np.sqrt(longer) / passed_sd * specimen + np.sqrt(lost) * shots) / np.sqrt(2)
    return out


def _filter(image: Floats, transfer: NDArray[np.generic]) -> Floats:
    return fft.irfft2(fft.rfft2(image) * transfer, s=image.shape)

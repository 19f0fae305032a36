"""A pseudo-experimental tomogram: project, image, add noise, reconstruct."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cryoetgan.acquisition import Acquisition
from cryoetgan.optics import ctf
from cryoetgan.progress import track
from cryoetgan.seeds import rng
from cryoetgan.tomograms.projection import as_sections, as_volume, project, projector

Floats = NDArray[np.floating]
B_FACTOR_UNTILTED, B_FACTOR_PER_DEGREE = 300.0, 10.0
"""Square angstrom: dose and thickness blur grow with the tilt."""
JITTER_SD = 0.4
"""Pixels of residual misalignment of a projection."""
RAMP_CUTOFF, RAMP_WIDTH = 0.40, 0.05
"""Cycles a pixel: where the weighting of back-projection falls off."""
DEFAULT_DEFOCUS = 4.0
WIENER = 0.1


@dataclass(frozen=True)
class Recording:
    """What is recorded at one tilt: matrix, Fourier filters, shift in pixels (u, y)."""

    matrix: sparse.csr_array
    contrast: Floats
    correction: Floats
    shift: Floats
    cos: float


def simulate_tomogram(
    density: Floats,
    voxel_size: float,
    acquisition: Acquisition,
    snr: float,
    name: str,
    seed: int,
) -> NDArray[np.float32]:
    """Return the tomogram of a density, protein bright, mean 0, standard deviation 1.

    Parameters
    ----------
    density : ndarray
        `(z, y, x)`.
    voxel_size : float
        Angstrom.
    acquisition : Acquisition
        Tilts, optics and CTF state (raw, phase-flipped, corrected).
    snr : float
        Variance of the reconstructed signal over that of the reconstructed noise, over
        the whole tomogram.
    name : str
        The tomogram's, for the seed.
    seed : int
        The run's.

    Notes
    -----
    True projection over the tilt series, contrast transfer and an envelope that falls
    with the tilt, half of the noise before the CTF and half after it (Foerster 2008,
    doi 10.1016/j.jsb.2007.07.006), shot noise growing as 1 / cos t, residual
    misalignment, weighted back-projection.
    """
    shape = density.shape
    sections = as_sections(np.asarray(density, np.float32))
    numbers = rng(seed, "tomogram", name)
    a = acquisition
    tilts = np.arange(a.tilt_low, a.tilt_high + a.tilt_step / 2, a.tilt_step)
    signal, noise = np.zeros_like(sections), np.zeros_like(sections)
    ramp = _ramp(shape[2])
    for tilt in track(tilts, f"tilting {name}"):
        recording = _record(shape, voxel_size, acquisition, tilt, numbers)
        pixels = (shape[2], shape[1])
        image = project(sections, recording.matrix)
        signal += _back(_image(image, recording), ramp, recording)
        before = numbers.standard_normal(pixels)
        after = numbers.standard_normal(pixels) / np.sqrt(recording.cos)
        # equal shares: what passes the CTF loses variance there
        passed = _image(before, recording)
        passed *= after.std() / max(passed.std(), 1e-12)
        flipped = _filter(after, recording.correction)
        noise += _back((passed + flipped) / np.sqrt(2), ramp, recording)
    scale = np.sqrt(signal.var() / (snr * noise.var())) if signal.var() > 0 else 1.0
    tomogram = as_volume(signal + scale * noise, shape)
    return ((tomogram - tomogram.mean()) / tomogram.std()).astype(np.float32)


def _record(
    shape: tuple[int, ...],
    voxel_size: float,
    acquisition: Acquisition,
    tilt: float,
    numbers: np.random.Generator,
) -> Recording:
    nz, ny, nx = shape
    ku, ky = np.fft.fftfreq(nx, voxel_size)[:, None], np.fft.rfftfreq(ny, voxel_size)[None, :]
    k = np.sqrt(ku**2 + ky**2)
    a = acquisition
    transfer = ctf(
        k,
        a.defocus if a.defocus is not None else DEFAULT_DEFOCUS,
        a.voltage,
        a.cs,
        a.amplitude_contrast,
    )
    envelope = np.exp(-(B_FACTOR_UNTILTED + B_FACTOR_PER_DEGREE * abs(tilt)) * k**2 / 4)
    correction = {
        "raw": np.ones_like(k),
        "phase-flipped": np.where(transfer < 0, -1.0, 1.0),
        "corrected": transfer / (transfer**2 + WIENER),
    }[a.ctf]
    shift = numbers.normal(0, JITTER_SD, 2)
    matrix = projector(nz, nx, float(tilt))
    return Recording(
        matrix, transfer * envelope, correction, shift, float(np.cos(np.radians(tilt)))
    )


def _image(projection: Floats, recording: Recording) -> Floats:
    """Return what the microscope makes of a projection `(u, y)`, misaligned, corrected."""
    nu, ny = projection.shape
    phase = np.fft.fftfreq(nu)[:, None] * recording.shift[0]
    phase = phase + np.fft.rfftfreq(ny)[None, :] * recording.shift[1]
    contrast = recording.contrast * recording.correction
    return _filter(projection, contrast * np.exp(-2j * np.pi * phase))


def _filter(image: Floats, transfer: NDArray[Any]) -> Floats:
    return np.fft.irfft2(np.fft.rfft2(image) * transfer, s=image.shape)


def _ramp(nu: int) -> Floats:
    k = np.abs(np.fft.fftfreq(nu))
    fall = np.where(k > RAMP_CUTOFF, np.exp(-(((k - RAMP_CUTOFF) / RAMP_WIDTH) ** 2) / 2), 1.0)
    return k * fall


def _back(image: Floats, ramp: Floats, recording: Recording) -> NDArray[np.float32]:
    """Return the weighted back-projection `(z * x, y)` of one image `(u, y)`."""
    weighted = np.fft.ifft(np.fft.fft(image, axis=0) * ramp[:, None], axis=0).real
    return recording.matrix.T @ weighted.astype(np.float32)

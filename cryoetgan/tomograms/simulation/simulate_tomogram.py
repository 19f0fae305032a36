"""A simulated tomogram: project, record, add noise, reconstruct."""

import math

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError, format_shape
from cryoetgan.machine import memory_bytes
from cryoetgan.seeds import rng as generator_for
from cryoetgan.tomograms.importing.normalise import SAMPLE_VOXELS, robust_moments
from cryoetgan.tomograms.simulation import reconstruction, tilt_series
from cryoetgan.tomograms.simulation.tilt_series import TiltSeries

Floats = NDArray[np.floating]
BYTES_PER_VOXEL, HALVES_BYTES, DENOISE_BYTES = 24, 8, 48
"""Memory of a simulation: density, labels, instances, occupied voxels, gold, signal, noise; of its
halves; and of its denoiser."""


def simulate_tomogram(
    density: Floats,
    series: TiltSeries,
    snr: float,
    beads: Floats | None = None,
    method: reconstruction.Method = "wbp",
    iterations: int | None = None,
) -> NDArray[np.float32]:
    """Return a density's tomogram `(z, y, x)`, protein bright, mean 0, standard deviation 1.

    Parameters
    ----------
    density : ndarray
        `(z, y, x)`.
    series : TiltSeries
        How the projections are recorded.
    snr : float
        Signal-to-noise ratio: variance of the reconstructed signal over the variance of the
        reconstructed noise (Frank and Al-Ali 1975, doi 10.1038/256376a0), over the whole
        tomogram and without gold beads.
    beads : ndarray, optional
        `(z, y, x)`, density of gold; recorded like the density, but not counted as signal.
    method, iterations
        Of the reconstruction; see `reconstruction.reconstruct`.
    """
    return simulate_with_halves(density, series, snr, beads, method, iterations, False)[0]


def simulate_with_halves(
    density: Floats,
    series: TiltSeries,
    snr: float,
    beads: Floats | None = None,
    method: reconstruction.Method = "wbp",
    iterations: int | None = None,
    halves: bool = True,
) -> list[NDArray[np.float32]]:
    """Return a tomogram, and its half tomograms of even and of odd tilts, for denoisers.

    Parameters as of `simulate_tomogram`. Each has mean 0 and standard deviation 1. Signal and
    misalignment of an image are those in the whole tomogram; the noise of the halves is
    independent.
    """
    tilts = tilt_series.tilt_angles(series.acquisition)
    nz, ny, nx = density.shape

    def reconstruct(images: Floats, start: int = 0, step: int = 1) -> NDArray[np.float32]:
        part = slice(start, None, step)
        return reconstruction.reconstruct(images[part], tilts[part], nz, method, iterations)

    def record(volume: Floats) -> NDArray[np.float32]:
        projections = reconstruction.project_tilt_series(volume, tilt_series.true_tilts(series))
        return tilt_series.record_projections(projections, series)

    images = record(density)
    tomogram = reconstruct(images)
    signal = float(tomogram.var(dtype=np.float64))
    shape, thickness = (len(tilts), nx, ny), nz * series.voxel_size
    ice = None
    if series.microscope.ice_structure:
        rng = generator_for(series.seed, "ice", series.name)
        field = rng.standard_normal(density.shape, np.float32)
        ice = reconstruction.project_tilt_series(field, tilt_series.true_tilts(series))
    noise_images = tilt_series.simulate_noise(shape, series, thickness, ice)
    noise, scale = reconstruct(noise_images), np.float32(1)
    if signal > 0:  # an empty density leaves the noise as it is
        scale = np.float32(np.sqrt(signal / (snr * noise.var(dtype=np.float64))))
    noise *= scale
    tomogram += noise
    images += scale * noise_images
    if beads is not None:
        gold = record(beads)
        tomogram += reconstruct(gold)
        images += gold
    found = [tomogram]
    if halves:
        found += [reconstruct(images, start, 2) for start in (0, 1)]
    for volume in found:
        mean, sd = robust_moments(volume.ravel()[:: volume.size // SAMPLE_VOXELS + 1])
        volume -= mean
        volume /= sd
    return found


def check_memory(
    shape: tuple[int, ...],
    scene: object = "--shape",
    halves: bool = False,
    denoise: bool = False,
) -> None:
    """Raise `UserError` if this machine has too little memory for a tomogram of x, y, z voxels."""
    by_voxel = BYTES_PER_VOXEL + HALVES_BYTES * halves + DENOISE_BYTES * denoise
    needed = by_voxel * math.prod(shape)
    available = memory_bytes()
    if needed > available:
        raise UserError(
            f"{scene}: {format_shape(shape[::-1])} voxels take about {needed / 1e9:.3g} GB of "
            f"memory to simulate, but this machine has {available / 1e9:.3g} GB; "
            "lower it (tomograms.shape)"
        )

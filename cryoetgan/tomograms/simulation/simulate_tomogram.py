"""A simulated tomogram: project, record, add noise, reconstruct."""

import math

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError, format_shape
from cryoetgan.machine import memory_bytes
from cryoetgan.tomograms.importing.normalise import SAMPLE_VOXELS, robust_moments
from cryoetgan.tomograms.simulation import reconstruction, tilt_series
from cryoetgan.tomograms.simulation.tilt_series import TiltSeries

Floats = NDArray[np.floating]
BYTES_PER_VOXEL = 20
"""Memory of a simulation: density, labels, occupied voxels, gold, signal, noise."""


def simulate_tomogram(
    density: Floats,
    series: TiltSeries,
    snr: float,
    beads: Floats | None = None,
    sirt_iterations: int = 0,
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
    sirt_iterations : int
        Iterations of SIRT; 0 for weighted back-projection.
    """
    tilts = tilt_series.tilt_angles(series.acquisition)
    nz, ny, nx = density.shape

    def reconstruct(images: Floats) -> NDArray[np.float32]:
        if sirt_iterations:
            return reconstruction.sirt(images, tilts, nz, sirt_iterations)
        return reconstruction.weighted_back_projection(images, tilts, nz)

    tomogram = reconstruct(
        tilt_series.record_projections(reconstruction.project_tilt_series(density, tilts), series)
    )
    signal = float(tomogram.var(dtype=np.float64))
    noise = reconstruct(tilt_series.simulate_noise((len(tilts), nx, ny), series))
    if signal > 0:  # an empty density leaves the noise as it is
        noise *= np.float32(np.sqrt(signal / (snr * noise.var(dtype=np.float64))))
    tomogram += noise
    if beads is not None:
        tomogram += reconstruct(
            tilt_series.record_projections(reconstruction.project_tilt_series(beads, tilts), series)
        )
    mean, sd = robust_moments(tomogram.ravel()[:: tomogram.size // SAMPLE_VOXELS + 1])
    tomogram -= mean
    tomogram /= sd
    return tomogram


def check_memory(shape: tuple[int, int, int]) -> None:
    """Raise `UserError` if this machine has too little memory for a tomogram of x, y, z voxels."""
    needed = BYTES_PER_VOXEL * math.prod(shape)
    available = memory_bytes()
    if needed > available:
        raise UserError(
            f"--shape: {format_shape(shape[::-1])} voxels take about {needed / 1e9:.3g} GB of "
            f"memory to simulate, but this machine has {available / 1e9:.3g} GB; "
            "lower it (tomograms.shape)"
        )

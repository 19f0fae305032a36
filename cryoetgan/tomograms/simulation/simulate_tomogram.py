"""A pseudo-experimental tomogram: project, record, add noise, reconstruct."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.tomograms.importing.normalise import SAMPLE, robust_moments
from cryoetgan.tomograms.simulation.projection import project_series
from cryoetgan.tomograms.simulation.reconstruction import sirt, weighted_back_projection
from cryoetgan.tomograms.simulation.tilt_series import Microscope, noise, record, tilt_angles

Floats = NDArray[np.floating]
DEFAULT_DEFOCUS = 4.0
"""Micrometres, where none is given."""


def with_defocus(acquisition: Acquisition) -> Acquisition:
    """Return the acquisition with a defocus: what is simulated has one."""
    if acquisition.defocus is not None:
        return acquisition
    return replace(acquisition, defocus=DEFAULT_DEFOCUS)


def simulate_tomogram(
    density: Floats,
    voxel_size: float,
    acquisition: Acquisition,
    snr: float,
    name: str,
    seed: int,
    microscope: Microscope | None = None,
    beads: Floats | None = None,
    sirt_iterations: int = 0,
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
        the whole tomogram, gold beads left out.
    name : str
        The tomogram's, for the seed.
    seed : int
        The run's.
    microscope : Microscope, optional
        Dose, B-factor, misalignment, detector.
    beads : ndarray, optional
        `(z, y, x)`; density of gold, recorded like the rest but not counted as signal.
    sirt_iterations : int
        Reconstruct by as many iterations of SIRT; 0: weighted back-projection.
    """
    acquisition = with_defocus(acquisition)
    microscope = microscope or Microscope()
    tilts = tilt_angles(acquisition)
    nz, ny, nx = density.shape
    about = (voxel_size, acquisition, microscope, name, seed)

    def reconstruct(images: Floats) -> NDArray[np.float32]:
        if sirt_iterations:
            return sirt(images, tilts, nz, sirt_iterations)
        return weighted_back_projection(images, tilts, nz)

    tomogram = reconstruct(record(project_series(density, tilts), *about))
    _add_noise(tomogram, snr, lambda: reconstruct(noise((len(tilts), nx, ny), *about)))
    if beads is not None:
        tomogram += reconstruct(record(project_series(beads, tilts), *about))
    mean, sd = robust_moments(tomogram.ravel()[:: tomogram.size // SAMPLE + 1])
    tomogram -= mean
    tomogram /= sd
    return tomogram


def _add_noise(tomogram: Floats, snr: float, reconstruct_noise: Callable[[], Floats]) -> None:
    signal = float(tomogram.var(dtype=np.float64))
    added = reconstruct_noise()
    # nothing to measure the noise against: it stands alone
    scale = np.sqrt(signal / (snr * added.var(dtype=np.float64))) if signal > 0 else 1.0
    added *= np.float32(scale)
    tomogram += added

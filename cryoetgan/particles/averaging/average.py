"""Averages of aligned subtomograms, weighted by the frequencies that each one sampled; their FSC.

A frequency is divided by the number of particles that sampled it, not by the number of all
particles. Differently rotated particles thus fill each other's missing wedge (Foerster 2005, doi
10.1073/pnas.0409178102). If the contrast transfer is known, it enters both sums, as in a Wiener
filter (Bharat 2015, doi 10.1016/j.str.2015.06.026).
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.particles.averaging.posed_particles import Particle
from cryoetgan.physics import optics
from cryoetgan.physics.geometry import centre_distance, rotate_volume

Floats = NDArray[np.floating]
REGULARISATION = 0.1
"""Weight added to all frequencies, relative to the mean weight; it keeps unsampled ones finite."""
SOFT_EDGE_VOXELS = 3.0
RESOLUTION_LIMIT = 0.143
"""FSC of two half maps at the reported resolution (Rosenthal & Henderson 2003, doi
10.1016/j.jmb.2003.07.013)."""


class Accumulator:
    """Sum of particles, rotated back into the frame of the reference, and of their weights."""

    def __init__(self, box: int, voxel_size: float) -> None:
        self.box, self.voxel_size = box, voxel_size
        axes = optics.frequency_axes((box, box, box), voxel_size)
        self._frequencies = np.broadcast_arrays(*axes[::-1])  # x, y, z
        self.signal = np.zeros((box, box, box // 2 + 1), complex)
        self.weight = np.zeros(self.signal.shape)

    def add(self, particle: Particle) -> None:
        """Add one particle."""
        shift = np.asarray(particle.shift, float)
        back = particle.rotation.inv()
        box = np.asarray(particle.box, float)
        # x_particle = R x_reference + shift, so rotating back also rotates the shift
        rotated = rotate_volume(box - box.mean(), back, -back.apply(shift))
        transfer = self._transfer(particle)
        self.signal += transfer * np.fft.rfftn(np.fft.ifftshift(rotated))
        self.weight += transfer**2

    def _transfer(self, particle: Particle) -> Floats:
        """Return missing wedge times contrast transfer in the frame of the reference."""
        matrix, record = particle.rotation.as_matrix(), particle.record
        frequency = matrix @ np.stack([axis.ravel() for axis in self._frequencies])
        x, _, z = frequency
        transfer = optics.recorded_ctf(np.linalg.norm(frequency, axis=0), record)
        return (optics.is_sampled(z, x, record.tilts) * transfer).reshape(self.weight.shape)

    def __add__(self, other: "Accumulator") -> "Accumulator":
        both = Accumulator(self.box, self.voxel_size)
        both.signal, both.weight = self.signal + other.signal, self.weight + other.weight
        return both

    def average(self) -> Floats:
        """Return the map `(z, y, x)`."""
        weight = self.weight + REGULARISATION * self.weight.mean() + 1e-20
        values = np.fft.irfftn(self.signal / weight, s=(self.box,) * 3, axes=(0, 1, 2))
        return np.fft.fftshift(values)


def accumulate(particles: Iterable[Particle], box: int, voxel_size: float) -> Accumulator:
    """Return the sums of particles of one box (voxels) and voxel size (angstrom)."""
    sums = Accumulator(box, voxel_size)
    for particle in particles:
        sums.add(particle)
    return sums


def soft_sphere(box: int, radius: float) -> Floats:
    """Return a mask: 1 up to `radius` voxels from n // 2, with a cosine edge to 0."""
    edge = np.clip((centre_distance(box) - radius) / SOFT_EDGE_VOXELS, 0, 1)
    return 0.5 * (1 + np.cos(np.pi * edge))


def lowpass(density: Floats, voxel_size: float, limit: float) -> Floats:
    """Return a map without details finer than `limit` (angstrom), with a soft edge in Fourier."""
    box = density.shape[0]
    radius = optics.radius_grid((box, box, box), voxel_size) * box * voxel_size
    edge = np.clip((radius - box * voxel_size / limit) / 2.0, 0, 1)
    spectrum = np.fft.rfftn(density) * 0.5 * (1 + np.cos(np.pi * edge))
    return np.fft.irfftn(spectrum, s=density.shape, axes=(0, 1, 2))


def spherical_average(density: Floats) -> Floats:
    """Return the average of a map over all rotations: a reference without any orientation."""
    distance = centre_distance(density.shape[0])
    labels = np.rint(distance).astype(int)
    means = ndimage.mean(density, labels, np.arange(labels.max() + 1))
    return np.asarray(np.interp(distance, np.arange(len(means)), means), np.float64)


def fourier_shell_correlation(first: Floats, second: Floats) -> Floats:
    """Return the correlation `(n // 2 + 1,)` of two cubes `(z, y, x)`, shell by shell; shell 0 is 1.

    FSC(s) = sum(F1 F2*) / sqrt(sum(abs(F1)^2) sum(abs(F2)^2)), with sums over the Fourier voxels
    of shell s (Harauz & van Heel 1986, Optik 73, 146).
    """
    one, two = np.fft.rfftn(first), np.fft.rfftn(second)
    shells = optics.fourier_shells(first.shape[0])
    product = optics.shell_sums((one * two.conj()).real, shells)
    power = np.sqrt(
        optics.shell_sums(np.abs(one) ** 2, shells) * optics.shell_sums(np.abs(two) ** 2, shells)
    )
    found: NDArray[np.float64] = product / np.maximum(power, 1e-30)
    found[0] = 1.0
    return found


def resolution(fsc: Floats, box: int, voxel_size: float, limit: float = RESOLUTION_LIMIT) -> float:
    """Return the resolution (angstrom) at which the FSC first falls to a limit, else two voxels.

    The crossing is interpolated between shells.
    """
    below = np.flatnonzero(fsc[1:] < limit)
    if not len(below):
        return 2 * voxel_size
    index = int(below[0]) + 1
    before, after = fsc[index - 1], fsc[index]
    shell = index - 1 + (before - limit) / max(before - after, 1e-12)
    return box * voxel_size / max(shell, 0.5)


def fsc_csv(fsc: Floats, box: int, voxel_size: float) -> str:
    """Return CSV text with the columns shell, frequency (1/A), resolution (A) and fsc."""
    lines = ["shell,frequency,resolution,fsc"]
    for shell, value in enumerate(fsc):
        frequency = shell / (box * voxel_size)
        length = f"{1 / frequency:.3f}" if shell else "inf"
        lines.append(f"{shell},{frequency:.6f},{length},{value:.6f}")
    return "\n".join(lines) + "\n"

"""Averages of aligned subtomograms, weighted by what each has seen; and their FSC.

A frequency is divided by how often it was seen, not by the number of particles, so that the
wedges of differently turned particles fill each other (Foerster 2005, doi
10.1073/pnas.0409178102). Where the contrast transfer is known, it goes into both sums: a
Wiener filter (Bharat 2015, doi 10.1016/j.str.2015.06.026).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import centre_distance, rotate_volume
from cryoetgan.physics.optics import (
    ctf,
    fourier_shells,
    frequency_axes,
    is_sampled,
    radius_grid,
    shell_sums,
)

Floats = NDArray[np.floating]
LEAST_SEEN = 0.1
"""Of the mean weight, added to all: what nobody saw stays small instead of blowing up."""
SOFT_EDGE = 3.0
"""Voxels over which masks fall off."""


@dataclass(frozen=True)
class Particle:
    """A box `(z, y, x)` and where the particle in it lies: rotation, shift xyz voxels, record."""

    box: Floats
    rotation: Rotation
    shift: Floats
    record: Acquisition


class Accumulator:
    """Adds up particles turned back into the reference's frame, and what they have seen."""

    def __init__(self, box: int, voxel_size: float) -> None:
        self.box, self.voxel_size = box, voxel_size
        shape = (box, box, box)
        self._frequencies = np.broadcast_arrays(*frequency_axes(shape, voxel_size)[::-1])  # x, y, z
        self.signal = np.zeros((box, box, box // 2 + 1), complex)
        self.weight = np.zeros(self.signal.shape)

    def add(self, particle: Particle) -> None:
        """Add one particle."""
        shift = np.asarray(particle.shift, float)
        back = particle.rotation.inv()
        box = np.asarray(particle.box, float)
        # x_particle = R x_reference + shift: turned back, the shift is turned back too
        turned = rotate_volume(box - box.mean(), back, -back.apply(shift))
        seen = self._seen(particle)
        self.signal += seen * np.fft.rfftn(np.fft.ifftshift(turned))
        self.weight += seen**2

    def _seen(self, particle: Particle) -> Floats:
        """Return wedge times contrast transfer, turned into the reference's frame."""
        turned = particle.rotation.as_matrix() @ np.stack(
            [axis.ravel() for axis in self._frequencies]
        )
        record, shape = particle.record, self.weight.shape
        seen = is_sampled(turned[2], turned[0], record.tilts).astype(float)
        if record.defocus is not None and record.ctf != "corrected":
            radius = np.linalg.norm(turned, axis=0)
            transfer = ctf(
                radius, record.defocus, record.voltage, record.cs, record.amplitude_contrast
            )
            seen *= np.abs(transfer) if record.ctf == "phase-flipped" else transfer
        return seen.reshape(shape)

    def merged(self, other: "Accumulator") -> "Accumulator":
        """Return the sum of both."""
        both = Accumulator(self.box, self.voxel_size)
        both.signal, both.weight = self.signal + other.signal, self.weight + other.weight
        return both

    def average(self) -> Floats:
        """Return the map `(z, y, x)`."""
        weight = self.weight + LEAST_SEEN * self.weight.mean() + 1e-20
        values = np.fft.irfftn(self.signal / weight, s=(self.box,) * 3, axes=(0, 1, 2))
        return np.fft.fftshift(values)


def average(particles: Iterable[Particle], box: int, voxel_size: float) -> Accumulator:
    """Return the sums of particles of one box (voxels) and voxel size (angstrom)."""
    sums = Accumulator(box, voxel_size)
    for particle in particles:
        sums.add(particle)
    return sums


def fourier_shell_correlation(first: Floats, second: Floats) -> Floats:
    """Return `(n // 2 + 1,)`: the correlation of two maps, shell by shell; shell 0 is 1.

    Source: Harauz & van Heel 1986, Optik 73, 146.
    """
    one, two = np.fft.rfftn(first), np.fft.rfftn(second)
    shells = fourier_shells(first.shape[0])
    product = shell_sums((one * two.conj()).real, shells)
    power = np.sqrt(shell_sums(np.abs(one) ** 2, shells) * shell_sums(np.abs(two) ** 2, shells))
    found: NDArray[np.float64] = product / np.maximum(power, 1e-30)
    found[0] = 1.0
    return found


def resolution(fsc: Floats, box: int, voxel_size: float, limit: float = 0.143) -> float:
    """Return angstrom where the FSC first falls to `limit`, between shells; 2 voxels if never."""
    below = np.flatnonzero(fsc[1:] < limit)
    if not len(below):
        return 2 * voxel_size
    index = int(below[0]) + 1
    before, after = fsc[index - 1], fsc[index]
    shell = index - 1 + (before - limit) / max(before - after, 1e-12)
    return box * voxel_size / max(shell, 0.5)


def ball_mask(box: int, radius: float) -> Floats:
    """Return 1 inside `radius` voxels of n // 2, falling to 0 over a cosine edge."""
    distance = centre_distance(box)
    edge = np.clip((distance - radius) / SOFT_EDGE, 0, 1)
    return 0.5 * (1 + np.cos(np.pi * edge))


def lowpassed(density: Floats, voxel_size: float, limit: float) -> Floats:
    """Return a map without what is finer than `limit` (angstrom), with a soft edge in Fourier."""
    box = density.shape[0]
    radius = radius_grid((box, box, box), voxel_size) * box * voxel_size
    edge = np.clip((radius - box * voxel_size / limit) / 2.0, 0, 1)
    spectrum = np.fft.rfftn(density) * 0.5 * (1 + np.cos(np.pi * edge))
    return np.fft.irfftn(spectrum, s=density.shape, axes=(0, 1, 2))


def round_blob(density: Floats) -> Floats:
    """Return the map's average over all rotations: a start that knows no orientation."""
    distance = centre_distance(density.shape[0])
    labels = np.rint(distance).astype(int)
    means = ndimage.mean(density, labels, np.arange(labels.max() + 1))
    return np.asarray(np.interp(distance, np.arange(len(means)), means), np.float64)

"""Correlate one tile of a tomogram with the kernels of a low-rank bank.

One FFT of the tile is followed by many small ones. Frequencies above the low-pass are removed in
Fourier space, so that the correlations are computed on a coarser grid without loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.io.memmap import read_region
from cryoetgan.particles.matching.low_rank import LowRankBank
from cryoetgan.particles.picking.dog import Span
from cryoetgan.physics.geometry import clip_box
from cryoetgan.physics.optics import is_sampled

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Axis:
    """One axis of a tile: `size` voxels, padded to a fast length, and `points` of the coarser grid."""

    size: int
    points: int
    step: float
    """Voxels between points."""
    frequencies: NDArray[np.float64]
    """Frequencies that are kept, cycles per voxel."""
    kept: NDArray[np.int_]
    """Their indices in the transform of the tile."""


def _axis(length: int, cutoff: float, half: bool) -> Axis:
    """Return an axis of at least `length` voxels; `half` if only positive frequencies are kept."""
    size = fft.next_fast_len(length + length % 2)
    while size % 2:
        size = fft.next_fast_len(size + 1)
    points = int(np.ceil(2 * cutoff * size)) + 2
    while points < size and (points % 2 or fft.next_fast_len(points) != points):
        points += 1
    points = min(points, size)
    count = np.arange(points // 2) if half else np.fft.fftfreq(points, 1 / points)
    # the Nyquist frequency stands for two signs and is excluded (`half` never keeps it)
    count = np.round(count).astype(int)
    kept = np.where(count < 0, count + size, count)
    return Axis(size, points, size / points, count / size, kept)


@dataclass(frozen=True)
class TilePoints:
    """The grid points of a tile's core: their number, first position and spacing, zyx voxels."""

    shape: tuple[int, ...]
    first: Floats
    step: Floats

    def positions(self, index: NDArray[np.int_]) -> Floats:
        """Return x, y, z in voxels of points given as `(N, 3)` zyx indices."""
        return (self.first + index * self.step)[:, ::-1]


class TileCorrelator:
    """Correlate tiles of shape `lengths` (zyx) with the kernels of a bank.

    `cutoff` is the Nyquist frequency of the grid of correlations. Only frequencies inside `tilts`
    (degrees) and `band` (lowest, highest) count for the energy of a box. Frequencies are in
    cycles per voxel.
    """

    def __init__(
        self,
        bank: LowRankBank,
        lengths: Sequence[int],
        cutoff: float,
        tilts: tuple[float, float],
        band: tuple[float, float],
    ) -> None:
        self.bank, self.lengths = bank, tuple(lengths)
        self.axes = [_axis(n, cutoff, half=axis == 2) for axis, n in enumerate(lengths)]
        self.shape = tuple(axis.points for axis in self.axes)
        self.device = bank.kernels.device
        places = np.arange(bank.box) - bank.box // 2
        self.waves = [
            torch.as_tensor(
                np.exp(2j * np.pi * np.outer(axis.frequencies, places)), dtype=torch.complex64
            ).to(self.device)
            for axis in self.axes
        ]
        self.kept = [torch.as_tensor(axis.kept).to(self.device) for axis in self.axes]
        self.scale = 1 / float(np.prod([axis.size for axis in self.axes]))
        kz, ky, kx = np.meshgrid(*[axis.frequencies for axis in self.axes], indexing="ij")
        radius = np.sqrt(kz**2 + ky**2 + kx**2)
        sampled = is_sampled(kz, kx, tilts) | ((kz == 0) & (kx == 0))
        inside = sampled & (radius > band[0]) & (radius <= band[1])
        self.inside = torch.as_tensor(inside, dtype=torch.float32).to(self.device)

    def spectrum(self, window: Floats) -> torch.Tensor:
        """Return the kept part of a window's transform."""
        whole = torch.zeros([axis.size for axis in self.axes], device=self.device)
        z, y, x = window.shape
        whole[:z, :y, :x] = torch.as_tensor(window, device=self.device)
        kz, ky, kx = self.kept
        found = torch.fft.rfftn(whole)[..., : len(kx)]
        return found[kz][:, ky].contiguous()

    def conjugate(self, kernel: torch.Tensor) -> torch.Tensor:
        """Return the conjugate transform of a kernel `(z, y, x)` at the kept frequencies."""
        z, y, x = self.waves
        values = kernel.to(torch.complex64) @ x.T  # (z, y, kx)
        values = torch.matmul(y, values)  # (z, ky, kx)
        return (z @ values.flatten(1)).reshape(len(z), len(y), len(x))

    def inverse(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Return the values at the points of a kept spectrum."""
        padded = torch.nn.functional.pad(spectrum, (0, 1))
        return torch.fft.irfftn(padded, s=self.shape, norm="forward") * self.scale

    def box_energy(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Return the energy, inside wedge and band, of the box around each point."""
        filtered = self.inverse(spectrum * self.inside)
        powers = torch.fft.rfftn(filtered**2)[..., : len(self.kept[2])]
        powers[self.shape[0] // 2] = 0
        powers[:, self.shape[1] // 2] = 0
        box = self.bank.box
        ones = torch.ones((box, box, box), device=self.device)
        # n^3 times the sum of squares is the sum over the box's own transform (Parseval)
        total = self.inverse(powers * self.conjugate(ones)) / self.scale
        total = total * box**3 / float(np.prod(self.shape))
        return total.clamp_min(1e-3 * float(total.mean()) + 1e-30)

    def correlate(
        self, window: Floats, core: Sequence[Span], origin: NDArray[np.int_], dtype: torch.dtype
    ) -> tuple[TilePoints, torch.Tensor, torch.Tensor]:
        """Return the core's points, the norms `(V,)` of their boxes and their components `(K, V)`.

        `window` is the tile with its halo, from voxel `origin` (zyx) of the tomogram on; `core`
        is start and stop of each axis in the tomogram; `dtype` is the type of the components.
        """
        region, first = [], []
        for (a, b), start, axis in zip(core, origin, self.axes, strict=True):
            low = int(np.ceil((a - start) / axis.step - 1e-9))
            high = int(np.ceil((b - start) / axis.step - 1e-9))
            region.append(slice(low, high))
            first.append(start + low * axis.step)
        inner = tuple(region)
        spectrum = self.spectrum(window)
        energy = self.box_energy(spectrum)[inner]
        kernels = self.bank.kernels
        components = torch.empty((len(kernels), energy.numel()), dtype=dtype, device=self.device)
        for number, kernel in enumerate(kernels):
            answer = self.inverse(spectrum * self.conjugate(kernel))
            components[number] = answer[inner].reshape(-1)
        step = np.array([axis.step for axis in self.axes])
        points = TilePoints(tuple(energy.shape), np.array(first), step)
        return points, energy.reshape(-1).sqrt(), components


def read_tile(
    volume: NDArray[np.generic], core: Sequence[Span], halo: int
) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """Return a tile with its halo, minus its mean, zero outside the tomogram; and its origin."""
    low = np.array([a for a, _ in core]) - halo
    shape = [b - a + 2 * halo for a, b in core]
    in_volume, in_tile = clip_box(low, shape, volume.shape)
    window = read_region(volume, [(part.start, part.stop) for part in in_volume])
    window -= window.mean(dtype=np.float64).astype(np.float32)
    padding = [(part.start, n - part.stop) for part, n in zip(in_tile, shape, strict=True)]
    return np.pad(window, padding), low

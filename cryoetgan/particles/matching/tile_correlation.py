"""One tile of a tomogram against the kernels of a low-rank bank: one FFT, then many small ones.

What lies above the low-pass is cut off in Fourier space, so that the correlations are computed
on a coarser grid without loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.io.memmap import read_region
from cryoetgan.particles.matching.low_rank import LowRankBank
from cryoetgan.particles.picking.tiled import Span

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Axis:
    """One axis of a tile: `size` voxels, of whose frequencies `kept` make `points` points."""

    size: int
    points: int
    frequencies: NDArray[np.float64]
    kept: NDArray[np.int_]

    @property
    def step(self) -> float:
        """Voxels between points."""
        return self.size / self.points


def _axis(length: int, cutoff: float, half: bool) -> Axis:
    """Return the sizes for an axis of at least `length` voxels; `half` for the last one."""
    size = fft.next_fast_len(length + length % 2)
    while size % 2:
        size = fft.next_fast_len(size + 1)
    points = int(np.ceil(2 * cutoff * size)) + 2
    while points < size and (points % 2 or fft.next_fast_len(points) != points):
        points += 1
    points = min(points, size)
    count = np.arange(points // 2) if half else np.fft.fftfreq(points, 1 / points)
    # the highest frequency stands for two signs and is left out (never kept by `half`)
    count = np.round(count).astype(int)
    return Axis(size, points, count / size, np.where(count < 0, count + size, count))


class Tile:
    """Correlates tiles of one size with the kernels."""

    def __init__(self, bank: LowRankBank, lengths: Sequence[int], cutoff: float) -> None:
        self.bank = bank
        self.axes = [_axis(n, cutoff, half=axis == 2) for axis, n in enumerate(lengths)]
        self.shape = tuple(axis.points for axis in self.axes)
        self.device = bank.kernels.device
        box = bank.kernels.shape[-1]
        places = np.arange(box) - box // 2
        self.waves = [
            torch.as_tensor(
                np.exp(2j * np.pi * np.outer(axis.frequencies, places)), dtype=torch.complex64
            ).to(self.device)
            for axis in self.axes
        ]
        self.kept = [torch.as_tensor(axis.kept).to(self.device) for axis in self.axes]
        self.scale = 1 / float(np.prod([axis.size for axis in self.axes]))

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

    def back(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Return the points of a kept spectrum."""
        padded = torch.nn.functional.pad(spectrum, (0, 1))
        return torch.fft.irfftn(padded, s=self.shape, norm="forward") * self.scale

    def box_energy(self, spectrum: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Return the energy, inside wedge and band, of the box around each point."""
        seen = self.back(spectrum * inside)
        powers = torch.fft.rfftn(seen**2)[..., : len(self.kept[2])]
        powers[self.shape[0] // 2] = 0
        powers[:, self.shape[1] // 2] = 0
        box = self.bank.kernels.shape[-1]
        ones = torch.ones((box, box, box), device=self.device)
        # n^3 sum of squares is the sum over the box's own transform (Parseval)
        total = self.back(powers * self.conjugate(ones)) / self.scale
        total = total * box**3 / float(np.prod(self.shape))
        return total.clamp_min(1e-3 * float(total.mean()) + 1e-30)

    def wedge_and_band(self, tilts: tuple[float, float], low: float, high: float) -> torch.Tensor:
        """Return 1 where a frequency was seen and lies in the band, at the kept frequencies."""
        kz, ky, kx = np.meshgrid(*[axis.frequencies for axis in self.axes], indexing="ij")
        radius = np.sqrt(kz**2 + ky**2 + kx**2)
        angle = np.degrees(np.arctan2(kz, np.maximum(kx, 1e-12)))
        seen = (angle >= tilts[0]) & (angle <= tilts[1]) | ((kz == 0) & (kx == 0))
        inside = seen & (radius > low) & (radius <= high)
        return torch.as_tensor(inside, dtype=torch.float32).to(self.device)


def window_of(
    volume: NDArray[np.generic], core: Sequence[Span], halo: int
) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """Return a tile with its halo, less its mean, zero beyond the tomogram; and its origin."""
    low = np.array([a for a, _ in core]) - halo
    high = np.array([b for _, b in core]) + halo
    inner_low, inner_high = np.maximum(low, 0), np.minimum(high, volume.shape)
    window = read_region(volume, list(zip(inner_low.tolist(), inner_high.tolist(), strict=True)))
    window -= window.mean(dtype=np.float64).astype(np.float32)
    return np.pad(window, np.stack([inner_low - low, high - inner_high], axis=1)), low


@dataclass(frozen=True)
class Points:
    """The points of a tile's core: their grid, and where it lies."""

    shape: tuple[int, ...]
    first: Floats
    step: Floats

    def positions(self, index: NDArray[np.int_]) -> Floats:
        """Return x, y, z of points given as `(N, 3)` zyx indices."""
        return (self.first + index * self.step)[:, ::-1]


def components_of(
    tile: Tile,
    window: Floats,
    inside: torch.Tensor,
    core: Sequence[Span],
    origin: NDArray[np.int_],
    small: torch.dtype,
) -> tuple[Points, torch.Tensor, torch.Tensor]:
    """Return the core's points, their boxes' norms `(V,)` and components `(K, V)`."""
    cut, first = [], []
    for (a, b), start, axis in zip(core, origin, tile.axes, strict=True):
        low = int(np.ceil((a - start) / axis.step - 1e-9))
        high = int(np.ceil((b - start) / axis.step - 1e-9))
        cut.append(slice(low, high))
        first.append(start + low * axis.step)
    region = tuple(cut)
    spectrum = tile.spectrum(window)
    energy = tile.box_energy(spectrum, inside)[region]
    components = torch.empty(
        (len(tile.bank.kernels), energy.numel()), dtype=small, device=tile.device
    )
    for number, kernel in enumerate(tile.bank.kernels):
        answer = tile.back(spectrum * tile.conjugate(kernel))
        components[number] = answer[region].reshape(-1)
    points = Points(
        tuple(energy.shape), np.array(first), np.array([axis.step for axis in tile.axes])
    )
    return points, energy.reshape(-1).sqrt(), components

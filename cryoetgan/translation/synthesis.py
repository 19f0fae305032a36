"""A density scene of any size to a tomogram, tile by tile, whatever the tiles.

Three things make the result independent of the tiling: transfer and noise are convolutions
with kernels of finite reach (those of the scenes that were trained on), white noise belongs to
absolute coordinates, and the network's field ends within the halo. No layer normalises.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.imaging.model import ImagingModel
from cryoetgan.imaging.scenes import SCENE
from cryoetgan.seeds import rng
from cryoetgan.translation.residual import ResidualGenerator
from cryoetgan.translation.scaling import Scaler

Floats = NDArray[np.floating]
Corner = tuple[int, int, int]
BLOCK = 32
"""Voxels: white noise is drawn in blocks of this edge, each with a name of its own."""
CORE = 96
"""Voxels: edge of a tile's valid part."""


def kernel(spectrum: Floats) -> NDArray[np.float32]:
    """Return the kernel `(n, n, n)` of a filter given in `rfftn` order; offset 0 at n // 2."""
    n = spectrum.shape[0]
    return np.asarray(np.fft.fftshift(fft.irfftn(spectrum, (n,) * 3)), np.float32)


class Convolution:
    """Linear convolution with a kernel of even edge n, valid n // 2 voxels from the edges.

    Parameters
    ----------
    values : ndarray
        `(n, n, n)`, offset 0 at n // 2.
    """

    def __init__(self, values: Floats) -> None:
        self.values = values
        self.reach = values.shape[0] // 2
        self._spectra: dict[Corner, NDArray[np.complex64]] = {}

    def __call__(self, volume: Floats) -> NDArray[np.float32]:
        """Return what is valid: `reach` voxels less on each side."""
        shape = tuple(fft.next_fast_len(n, real=True) for n in volume.shape)
        if shape not in self._spectra:
            placed = np.zeros(shape, np.float32)
            n = self.values.shape[0]
            placed[:n, :n, :n] = self.values
            self._spectra = {shape: fft.rfftn(np.roll(placed, [-self.reach] * 3, (0, 1, 2)))}
        made = fft.irfftn(
            fft.rfftn(np.asarray(volume, np.float32), shape) * self._spectra[shape], shape
        )
        inner = tuple(slice(self.reach, n - self.reach) for n in volume.shape)
        return np.ascontiguousarray(made[inner], np.float32)


def white_noise(seed: int, corner: Corner, shape: Corner) -> NDArray[np.float32]:
    """Return N(0, 1) that belongs to absolute coordinates.

    Parameters
    ----------
    seed : int
        The run's.
    corner, shape : (int, int, int)
        zyx in voxels; corners may be negative.
    """
    out = np.empty(shape, np.float32)
    ranges = [
        range(c // BLOCK, (c + n - 1) // BLOCK + 1) for c, n in zip(corner, shape, strict=True)
    ]
    for block in product(*ranges):
        values = rng(seed, "synthesize", *block).standard_normal((BLOCK,) * 3, np.float32)
        low = np.array(block) * BLOCK - corner
        a, b = np.maximum(low, 0), np.minimum(low + BLOCK, shape)
        inside = tuple(slice(*pair) for pair in zip(a, b, strict=True))
        part = tuple(slice(*pair) for pair in zip(a - low, b - low, strict=True))
        out[inside] = values[part]
    return out


def cut(scene: NDArray[np.generic], corner: Corner, shape: Corner) -> NDArray[np.float32]:
    """Return a part of a scene; beyond its faces lies nothing."""
    out = np.zeros(shape, np.float32)
    low = np.array(corner)
    a, b = np.maximum(low, 0), np.minimum(low + shape, scene.shape)
    if (a < b).all():
        inside = tuple(slice(*pair) for pair in zip(a - low, b - low, strict=True))
        out[inside] = scene[tuple(slice(*pair) for pair in zip(a, b, strict=True))]
    return out


class Synthesizer:
    """Turns parts of a density scene into parts of a tomogram.

    Parameters
    ----------
    model : ImagingModel
        Physics.
    generator : ResidualGenerator
        What is added to it.
    grey : Scaler
        Of subtomograms.
    device : torch.device
        Where the network computes.
    seed : int
        Of the noise.
    """

    def __init__(
        self,
        model: ImagingModel,
        generator: ResidualGenerator,
        grey: Scaler,
        device: torch.device,
        seed: int,
    ) -> None:
        size = (SCENE * model.box,) * 3
        self.offset = np.float32(model.offset)
        self.transfer = Convolution(kernel(model.transfer(size)))
        self.colour = Convolution(kernel(_root(model, size)))
        self.generator, self.grey, self.device, self.seed = generator, grey, device, seed

    @property
    def halo(self) -> int:
        """Voxels around a core that count for it."""
        return self.generator.radius() + self.transfer.reach

    @torch.no_grad()
    def part(
        self, scene: NDArray[np.generic], corner: Corner, shape: Corner
    ) -> NDArray[np.float32]:
        """Return the tomogram's part at `corner`, of `shape` (zyx), in its own grey values."""
        radius, halo = self.generator.radius(), self.halo
        start: Corner = (corner[0] - halo, corner[1] - halo, corner[2] - halo)
        whole: Corner = (shape[0] + 2 * halo, shape[1] + 2 * halo, shape[2] + 2 * halo)
        signal = self.transfer(cut(scene, start, whole)) + self.offset
        noise = self.colour(white_noise(self.seed, start, whole))
        inputs = (
            self.grey.forward(torch.from_numpy(x)[None, None]).to(self.device)
            for x in (signal, noise)
        )
        made = self.grey.backward(self.generator(*inputs).float().cpu())[0, 0].numpy()
        inner = tuple(slice(radius, n - radius) for n in made.shape)
        return np.ascontiguousarray(made[inner])


def _root(model: ImagingModel, size: Corner) -> NDArray[np.float64]:
    """Return the filter that gives white noise the model's spectrum, and no mean."""
    power = model.noise_spectrum.on(size, model.voxel_size) / model.voxel_size**3
    power[0, 0, 0] = 0
    return np.sqrt(np.asarray(power, np.float64))


def tiles(shape: Corner, core: int) -> Iterator[tuple[Corner, Corner]]:
    """Yield corner and shape (zyx) of tiles that cover a volume."""
    for z, y, x in product(*(range(0, n, core) for n in shape)):
        yield (z, y, x), (min(core, shape[0] - z), min(core, shape[1] - y), min(core, shape[2] - x))

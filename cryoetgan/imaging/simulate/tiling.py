"""Fitted physics of a density scene of any size, tile by tile, whatever the tiles.

Two things make the result independent of the tiling: transfer and noise are convolutions with
kernels of finite reach (those of the scenes that subtomograms are simulated on), and white noise
belongs to absolute coordinates, so that tiles which overlap by the reach agree to rounding.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.imaging.model import ImagingModel
from cryoetgan.imaging.scenes import SCENE
from cryoetgan.physics.geometry import clip_box
from cryoetgan.seeds import rng

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
        made = fft.rfftn(np.asarray(volume, np.float32), shape)
        made *= self._spectra[shape]
        made = fft.irfftn(made, shape, overwrite_x=True)
        inner = tuple(slice(self.reach, n - self.reach) for n in volume.shape)
        return np.ascontiguousarray(made[inner], np.float32)


def white_noise(seed: int, name: str, corner: Corner, shape: Corner) -> NDArray[np.float32]:
    """Return N(0, 1) that belongs to absolute coordinates.

    Parameters
    ----------
    seed : int
        The run's.
    name : str
        The tomogram's: each has its own noise.
    corner, shape : (int, int, int)
        zyx in voxels; corners may be negative.
    """
    out = np.empty(shape, np.float32)
    ranges = [
        range(c // BLOCK, (c + n - 1) // BLOCK + 1) for c, n in zip(corner, shape, strict=True)
    ]
    for block in product(*ranges):
        numbers = rng(seed, "synthesize", name, *block)
        values = numbers.standard_normal((BLOCK,) * 3, np.float32)
        low = [BLOCK * b - c for b, c in zip(block, corner, strict=True)]
        in_part, in_block = clip_box(low, values.shape, shape)
        out[in_part] = values[in_block]
    return out


def cut(scene: NDArray[np.generic], corner: Corner, shape: Corner) -> NDArray[np.float32]:
    """Return a part of a scene; beyond its faces lies nothing."""
    out = np.zeros(shape, np.float32)
    in_scene, in_part = clip_box(corner, shape, scene.shape)
    out[in_part] = scene[in_scene]
    return out


class TiledPhysics:
    """Turns parts of a density scene into parts of a tomogram, by fitted physics alone.

    Parameters
    ----------
    model : ImagingModel
        Physics.
    seed : int
        The run's, of the noise.
    name : str
        The tomogram's, of the noise.
    scale : float
        Factor on the scene's densities.
    """

    def __init__(self, model: ImagingModel, seed: int, name: str, scale: float = 1.0) -> None:
        size = (SCENE * model.box,) * 3
        self.offset = np.float32(model.offset)
        self.transfer = Convolution(scale * kernel(model.transfer(size)))
        self.colour = Convolution(kernel(_root(model, size)))
        self.seed, self.name = seed, name

    @property
    def halo(self) -> int:
        """Voxels around a part that count for it."""
        return self.transfer.reach

    def halves(
        self, scene: NDArray[np.generic], corner: Corner, shape: Corner
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return signal and noise of the part at `corner`, of `shape` (zyx; may lie outside)."""
        start, whole = grown(corner, shape, self.halo)
        signal = self.transfer(cut(scene, start, whole)) + self.offset
        return signal, self.colour(white_noise(self.seed, self.name, start, whole))

    def part(
        self, scene: NDArray[np.generic], corner: Corner, shape: Corner
    ) -> NDArray[np.float32]:
        """Return the tomogram's part at `corner`, of `shape` (zyx), in its own grey values."""
        signal, noise = self.halves(scene, corner, shape)
        return signal + noise


def grown(corner: Corner, shape: Corner, by: int) -> tuple[Corner, Corner]:
    """Return corner and shape of a part that is `by` voxels larger on each side."""
    (a, b, c), (k, m, n) = corner, shape
    return (a - by, b - by, c - by), (k + 2 * by, m + 2 * by, n + 2 * by)


def _root(model: ImagingModel, size: Corner) -> NDArray[np.float64]:
    """Return the filter that gives white noise the model's spectrum, and no mean."""
    power = model.noise_spectrum.on(size, model.voxel_size) / model.voxel_size**3
    power[0, 0, 0] = 0
    return np.sqrt(np.asarray(power, np.float64))


def tiles(shape: Corner, core: int) -> Iterator[tuple[Corner, Corner]]:
    """Yield corner and shape (zyx) of tiles that cover a volume."""
    for z, y, x in product(*(range(0, n, core) for n in shape)):
        yield (z, y, x), (min(core, shape[0] - z), min(core, shape[1] - y), min(core, shape[2] - x))

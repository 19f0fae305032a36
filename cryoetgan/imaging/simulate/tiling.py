"""Simulate a tomogram of any size tile by tile, with a result that does not depend on the tiles.

Two things make it so. Transfer and noise filter are convolutions with kernels of finite reach,
the ones of the scenes on which subtomograms are simulated. White noise is a function of absolute
coordinates. Tiles that overlap by the reach therefore agree to rounding.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan import seeds
from cryoetgan.errors import UserError
from cryoetgan.imaging.model import SCENE_BOXES, ImagingModel
from cryoetgan.physics.geometry import Corner, clip_box

Floats = NDArray[np.floating]
NOISE_BLOCK = 32
"""Edge of the blocks in which white noise is drawn, voxels; each has its own seed."""


def filter_kernel(spectrum: Floats) -> NDArray[np.float32]:
    """Return the kernel `(n, n, n)` of a filter given in `rfftn` order; offset 0 at n // 2."""
    n = spectrum.shape[0]
    return np.asarray(np.fft.fftshift(fft.irfftn(spectrum, (n,) * 3)), np.float32)


class Convolution:
    """Linear convolution with a kernel `(n, n, n)`, n even, offset 0 at n // 2."""

    def __init__(self, kernel: Floats) -> None:
        self.kernel = kernel
        self.reach = kernel.shape[0] // 2
        self._spectra: dict[tuple[int, ...], NDArray[np.complex64]] = {}

    def spectrum(self, volume: Floats) -> NDArray[np.complex64]:
        """Return the Fourier transform of the convolution, for `crop_inverse`."""
        shape = tuple(fft.next_fast_len(n, real=True) for n in volume.shape)
        if shape not in self._spectra:
            placed = np.zeros(shape, np.float32)
            n = self.kernel.shape[0]
            placed[:n, :n, :n] = self.kernel
            self._spectra = {shape: fft.rfftn(np.roll(placed, [-self.reach] * 3, (0, 1, 2)))}
        spectrum = fft.rfftn(np.asarray(volume, np.float32), shape)
        spectrum *= self._spectra[shape]
        return np.asarray(spectrum, np.complex64)

    def crop_inverse(
        self, spectrum: NDArray[np.complex64], given: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """Return the valid part of a convolution: `reach` voxels less on each side than `given`."""
        shape = tuple(fft.next_fast_len(n, real=True) for n in given)
        filtered = fft.irfftn(spectrum, shape, overwrite_x=True)
        inner = tuple(slice(self.reach, n - self.reach) for n in given)
        return np.ascontiguousarray(filtered[inner], np.float32)

    def __call__(self, volume: Floats) -> NDArray[np.float32]:
        """Return the valid part of the convolution."""
        return self.crop_inverse(self.spectrum(volume), volume.shape)


def white_noise(seed: int, name: str, corner: Corner, shape: Corner) -> NDArray[np.float32]:
    """Return standard normal noise that is a function of absolute coordinates.

    `name` is the tomogram's: each has its own noise. Corner and shape are zyx in voxels; corners
    may be negative.
    """
    out = np.empty(shape, np.float32)
    # the part's first block, and the number of its blocks, in the grid through voxel 0
    first = [c // NOISE_BLOCK for c in corner]
    count = [
        (c + n - 1) // NOISE_BLOCK + 1 - f for c, n, f in zip(corner, shape, first, strict=True)
    ]
    for index in np.ndindex(*count):
        block = [a + b for a, b in zip(first, index, strict=True)]
        rng = seeds.rng(seed, "synthesize", name, *block)
        values = rng.standard_normal((NOISE_BLOCK,) * 3, np.float32)
        low = [NOISE_BLOCK * b - c for b, c in zip(block, corner, strict=True)]
        in_part, in_block = clip_box(low, values.shape, shape)
        out[in_part] = values[in_block]
    return out


def read_padded(scene: NDArray[np.generic], corner: Corner, shape: Corner) -> NDArray[np.float32]:
    """Return a part of a scene, zero beyond the faces of the scene."""
    out = np.zeros(shape, np.float32)
    in_scene, in_part = clip_box(corner, shape, scene.shape)
    out[in_part] = scene[in_scene]
    return out


def expand_block(corner: Corner, shape: Corner, margin: int) -> tuple[Corner, Corner]:
    """Return corner and shape of a block that is `margin` voxels larger on each side."""
    (a, b, c), (k, m, n) = corner, shape
    larger = k + 2 * margin, m + 2 * margin, n + 2 * margin
    return (a - margin, b - margin, c - margin), larger


def check_scale(scale: float) -> None:
    """Raise `UserError` unless a factor on the densities is above zero."""
    if not 0 < scale < np.inf:
        raise UserError(f"--density-scale: got {scale:g}, wanted a number above zero")


class TiledSimulator:
    """Simulates parts of a tomogram from parts of a density scene, with fitted physics.

    Seed and name of the tomogram give the noise; `scale` is a factor on the densities, above zero.
    """

    def __init__(self, model: ImagingModel, seed: int, name: str, scale: float = 1.0) -> None:
        check_scale(scale)
        size = (SCENE_BOXES * model.box,) * 3
        self.offset = np.float32(model.offset)
        self.transfer = Convolution(scale * filter_kernel(model.transfer(size)))
        self.noise_filter = Convolution(filter_kernel(model.noise_filter(size)))
        self.seed, self.name = seed, name
        self.halo = self.transfer.reach
        """Voxels around a part on which its values depend."""

    def signal_and_noise(
        self, scene: NDArray[np.generic], corner: Corner, shape: Corner
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return signal and noise of a block, zyx in voxels; it may reach beyond the scene."""
        start, whole = expand_block(corner, shape, self.halo)
        signal = self.transfer(read_padded(scene, start, whole)) + self.offset
        return signal, self.noise_filter(white_noise(self.seed, self.name, start, whole))

    def simulate_block(
        self, scene: NDArray[np.generic], corner: Corner, shape: Corner
    ) -> NDArray[np.float32]:
        """Return a block of the tomogram in its own grey values, zyx in voxels."""
        start, whole = expand_block(corner, shape, self.halo)
        # one inverse transform for both
        spectrum = self.transfer.spectrum(read_padded(scene, start, whole))
        spectrum += self.noise_filter.spectrum(white_noise(self.seed, self.name, start, whole))
        return self.transfer.crop_inverse(spectrum, whole) + self.offset

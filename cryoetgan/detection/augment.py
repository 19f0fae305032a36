"""Patches of training tomograms, changed by what tomograms differ in.

Half turns keep missing wedge and hand. Contrast, blur and noise differ between tomograms.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cryoetgan.detection.grey import GreyValues
from cryoetgan.detection.truth import Truth

Floats = NDArray[np.floating]
AT_PARTICLES = 0.7
"""Fraction of the patches that hold a particle, of each class as often."""
GAIN_SD, OFFSET_SD = 0.2, 0.1
"""Standard deviations of the logarithm of the contrast, and of the mean grey value."""
BLURRED, MAX_BLUR = 0.1, 0.8
"""Fraction of the patches that are blurred, and the largest sigma in voxels."""
NOISY, MAX_NOISE = 0.2, 0.7
"""Fraction of the patches with more noise, and its largest standard deviation, relative to the
tomogram's."""
SPECTRUM_PATCHES = 24
"""Patches from which the spectrum of the noise is measured."""


@dataclass(frozen=True)
class TrainingTomogram:
    """A tomogram to learn from."""

    grey: GreyValues
    truth: Truth
    labels: NDArray[np.uint8]
    """`(z/2, y/2, x/2)` class of each position."""
    turns: tuple[tuple[int, ...], ...]
    """Axes of `(z, y, x)` to flip for each half turn that keeps the wedge."""
    high: tuple[int, int, int]
    """End of the training part, which begins at voxel 0, zyx, even."""

    def amplitudes(self, edge: int, numbers: np.random.Generator) -> NDArray[np.float32]:
        """Return the amplitude of each wave in patches of the training part, for `add_noise`."""
        power = np.zeros((edge, edge, edge // 2 + 1))
        for _ in range(SPECTRUM_PATCHES):
            patch = self.grey.block(self.corner(edge, numbers), (edge,) * 3)
            power += np.abs(fft.rfftn(patch - patch.mean())) ** 2
        return np.asarray(np.sqrt(power / SPECTRUM_PATCHES / edge**3), np.float32)

    def corner(self, edge: int, numbers: np.random.Generator) -> tuple[int, int, int]:
        """Return the corner of a patch anywhere in the training part, even numbers."""
        z, y, x = (
            self._clip(axis, int(numbers.integers(0, max(0, high - edge) + 1)), edge)
            for axis, high in enumerate(self.high)
        )
        return z, y, x

    def corner_at(
        self, place: Floats, edge: int, numbers: np.random.Generator
    ) -> tuple[int, int, int]:
        """Return the corner of a patch that holds a place (zyx), even numbers."""
        z, y, x = (
            self._clip(
                axis, int(place[axis]) - int(numbers.integers(edge // 8, edge - edge // 8)), edge
            )
            for axis in range(3)
        )
        return z, y, x

    def _clip(self, axis: int, first: int, edge: int) -> int:
        return min(max(first, 0), max(0, self.high[axis] - edge)) // 2 * 2


def draw_patch(
    tomograms: list[TrainingTomogram],
    amplitudes: list[NDArray[np.float32]],
    classes: int,
    edge: int,
    numbers: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return a patch `(z, y, x)` and its labels at half resolution, turned and changed."""
    index = int(numbers.integers(len(tomograms)))
    tomogram = tomograms[index]
    inside = (tomogram.truth.places < tomogram.high).all(axis=1)
    own = inside & (tomogram.truth.numbers == 1 + int(numbers.integers(classes)))
    if numbers.random() < AT_PARTICLES and own.any():
        place = tomogram.truth.places[numbers.choice(np.flatnonzero(own))]
        corner = tomogram.corner_at(place, edge, numbers)
    else:
        corner = tomogram.corner(edge, numbers)
    patch = tomogram.grey.block(corner, (edge,) * 3)
    half = tuple(slice(a // 2, (a + edge) // 2) for a in corner)
    found = tomogram.labels[half]
    labels = np.zeros((edge // 2,) * 3, np.uint8)
    labels[tuple(slice(0, n) for n in found.shape)] = found
    patch = change(patch, amplitudes[index], numbers)
    axes = tomogram.turns[int(numbers.integers(len(tomogram.turns)))]
    return np.flip(patch, axes).copy(), np.flip(labels, axes).copy()


def change(patch: Floats, amplitudes: Floats, numbers: np.random.Generator) -> NDArray[np.float32]:
    """Return a patch with another contrast, and some blurred or with more noise of its spectrum."""
    if numbers.random() < BLURRED:
        patch = ndimage.gaussian_filter(patch, numbers.uniform(0, MAX_BLUR))
    if numbers.random() < NOISY:
        more = numbers.uniform(0, MAX_NOISE)
        white = numbers.standard_normal(patch.shape, np.float32)
        noise = fft.irfftn(fft.rfftn(white) * amplitudes, patch.shape)
        patch = (patch + more * noise) / np.sqrt(1 + more**2)
    gain, offset = np.exp(numbers.normal(0, GAIN_SD)), numbers.normal(0, OFFSET_SD)
    return np.asarray(patch * gain + offset, np.float32)

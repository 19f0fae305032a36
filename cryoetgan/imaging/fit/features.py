"""What a box shows of a particle's size and shape, whatever its orientation and offset.

Each box is smoothed, centred on what is bright near its middle, and described by moments of
grey values over shells and by the principal radii of what is bright: all keep their value
when a particle is turned (but for the missing wedge) or picked a little off its centre.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.floating]
WIDTHS = (1.0, 2.0)
"""Voxels; standard deviations of the smoothing Gaussians."""
SHELL = 1.5
"""Voxels; thickness of a shell."""
ROUNDS = 3
"""Of centring."""


class Features:
    """Describes boxes of one size.

    Parameters
    ----------
    box : int
        Voxels.
    radius : float
        Voxels; of the largest particle. Centring looks this far, shells reach half as far
        again, not beyond the box.
    """

    def __init__(self, box: int, radius: float) -> None:
        self.box = box
        self.reach = min(1.5 * radius, box / 2 - 1)
        self.radius = min(radius, self.reach)
        k = [np.fft.fftfreq(box) ** 2, np.fft.fftfreq(box) ** 2, np.fft.rfftfreq(box) ** 2]
        k2 = k[0][:, None, None] + k[1][None, :, None] + k[2][None, None]
        self._smooth = [np.exp(-2 * (np.pi * w) ** 2 * k2).astype(np.float32) for w in WIDTHS]
        axis = np.arange(box) - box // 2
        self._grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).astype(np.float32)
        distance = np.sqrt((self._grid**2).sum(axis=0))
        self._near = np.flatnonzero(distance <= self.radius)
        self._inner = np.flatnonzero(distance < self.reach)
        self._shell = (distance.ravel()[self._inner] / SHELL).astype(int)
        self._count = np.bincount(self._shell)
        self._flat = self._grid.reshape(3, -1)

    def of(self, volume: Floats) -> NDArray[np.float64]:
        """Return the features of one box `(z, y, x)`."""
        spectrum = fft.rfftn(np.asarray(volume, np.float32) - np.float32(np.mean(volume)))
        smooth = [fft.irfftn(spectrum * s, volume.shape) for s in self._smooth]
        shift = self._offset(smooth[-1])
        parts: list[Floats] = []
        for part in smooth:
            centred = np.roll(part, tuple(-shift), axis=(0, 1, 2)).ravel()[self._inner]
            mean = self._over(centred)
            square = self._over(centred**2)
            parts += [mean, np.sqrt(np.maximum(square - mean**2, 0))]
            parts += [np.cbrt(self._over(centred**3)), *self._radii(centred)]
        return np.concatenate(parts)

    def table(self, volumes: Iterable[Floats]) -> NDArray[np.float64]:
        """Return the features of many boxes, `(N, features)`."""
        return np.array([self.of(volume) for volume in volumes])

    def _offset(self, smooth: Floats) -> NDArray[np.int_]:
        """Return where the middle of what is bright lies, zyx from voxel n // 2."""
        total = np.zeros(3, int)
        for _ in range(ROUNDS):
            centred = np.roll(smooth, tuple(-total), axis=(0, 1, 2)).ravel()[self._near]
            weight = np.maximum(centred, 0)
            moved = self._flat[:, self._near] @ weight / max(float(weight.sum()), 1e-12)
            total = total + np.rint(moved).astype(int)
        limit = self.box // 4
        return np.clip(total, -limit, limit)

    def _over(self, values: Floats) -> Floats:
        return np.bincount(self._shell, values, len(self._count)) / np.maximum(self._count, 1)

    def _radii(self, centred: Floats) -> list[Floats]:
        """Return the eigenvalues of the second moments of what is bright, plain and squared."""
        found = []
        places = self._flat[:, self._inner]
        for power in (1, 2):
            weight = np.maximum(centred, 0) ** power
            weight /= max(float(weight.sum()), 1e-12)
            middle = places @ weight
            second = (places * weight) @ places.T - np.outer(middle, middle)
            found.append(np.sqrt(np.maximum(np.linalg.eigvalsh(second), 0)))
        return found

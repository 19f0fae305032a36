"""Shape features of a box that do not depend on the particle's orientation and offset.

Each box is smoothed and centred on the bright voxels near its centre. Its features are moments
of the grey values in shells and the principal radii of the bright voxels. They do not change
if the particle is rotated (except for the missing wedge) or picked slightly off its centre.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.physics.geometry import centre_distance
from cryoetgan.physics.optics import frequency_axes

Floats = NDArray[np.floating]


class ShapeFeatures:
    """Computes the features of boxes of one size.

    All parameters are in voxels: the box, the radius of the largest particle, the standard
    deviations of the smoothing Gaussians, the thickness of a shell. The radius limits the
    centring; shells reach half as far again, within the box.
    """

    def __init__(
        self, box: int, radius: float, widths: tuple[float, ...] = (1.0, 2.0), shell: float = 1.5
    ) -> None:
        self.box = box
        self.reach = min(1.5 * radius, box / 2 - 1)
        self.radius = min(radius, self.reach)
        k2 = sum(k**2 for k in frequency_axes((box,) * 3, 1.0))
        self._smooth = [np.exp(-2 * (np.pi * w) ** 2 * k2).astype(np.float32) for w in widths]
        axis = np.arange(box) - box // 2
        grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).astype(np.float32)
        distance = centre_distance(box).astype(np.float32)
        self._near = np.flatnonzero(distance <= self.radius)
        self._inner = np.flatnonzero(distance < self.reach)
        self._shell = (distance.ravel()[self._inner] / shell).astype(int)
        self._count = np.bincount(self._shell)
        self._grid = grid.reshape(3, -1)

    def describe(self, volume: Floats) -> NDArray[np.float64]:
        """Return the features of one box `(z, y, x)`."""
        spectrum = fft.rfftn(np.asarray(volume, np.float32) - np.float32(np.mean(volume)))
        smooth = [fft.irfftn(spectrum * s, volume.shape) for s in self._smooth]
        shift = self._bright_centre(smooth[-1])
        features: list[Floats] = []
        for part in smooth:
            centred = np.roll(part, tuple(-shift), axis=(0, 1, 2)).ravel()[self._inner]
            mean = self._shell_mean(centred)
            square = self._shell_mean(centred**2)
            features += [mean, np.sqrt(np.maximum(square - mean**2, 0))]
            features += [np.cbrt(self._shell_mean(centred**3)), *self._principal_radii(centred)]
        return np.concatenate(features)

    def describe_all(self, volumes: Iterable[Floats]) -> NDArray[np.float64]:
        """Return the features of many boxes, `(N, features)`."""
        return np.array([self.describe(volume) for volume in volumes])

    def _bright_centre(self, smooth: Floats, rounds: int = 3) -> NDArray[np.int_]:
        """Return the centre of mass of the bright voxels, zyx from voxel n // 2."""
        total = np.zeros(3, int)
        for _ in range(rounds):
            centred = np.roll(smooth, tuple(-total), axis=(0, 1, 2)).ravel()[self._near]
            weight = np.maximum(centred, 0)
            moved = self._grid[:, self._near] @ weight / max(float(weight.sum()), 1e-12)
            total = total + np.rint(moved).astype(int)
        return np.clip(total, -(self.box // 4), self.box // 4)

    def _shell_mean(self, values: Floats) -> Floats:
        return np.bincount(self._shell, values, len(self._count)) / np.maximum(self._count, 1)

    def _principal_radii(self, centred: Floats) -> list[Floats]:
        """Return the principal radii of the bright voxels, by grey value and its square."""
        radii, places = [], self._grid[:, self._inner]
        for power in (1, 2):
            weight = np.maximum(centred, 0) ** power
            weight /= max(float(weight.sum()), 1e-12)
            middle = places @ weight
            second = (places * weight) @ places.T - np.outer(middle, middle)
            radii.append(np.sqrt(np.maximum(np.linalg.eigvalsh(second), 0)))
        return radii

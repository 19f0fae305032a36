"""What the microscope and the reconstruction leave of a density: wedge, CTF, fitted gain."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoetgan.imaging.noise_spectrum import tilt_angle
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import ctf, missing_wedge, radius_grid

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Gain:
    """Grey value per unit of density, by frequency and by size of the tilt angle.

    The density scale and the envelope in one: electrons damage, stages drift and
    reconstructions filter, and steep tilts more than flat ones.

    Attributes
    ----------
    values : ndarray
        `(angle, k)`, zero or more.
    step : float
        Cycles per angstrom between entries of k; the first is 0.
    steepest : float
        Degrees; the rows divide 0 to it evenly, each standing for its middle.
    """

    values: NDArray[np.float64]
    step: float
    steepest: float

    def on(self, k: Floats, angle: Floats) -> NDArray[np.float64]:
        """Return the gain at frequencies (cycles per angstrom) and tilt angles (degrees)."""
        rows, columns = self.values.shape
        a = np.clip(np.abs(angle) / self.steepest * rows - 0.5, 0, rows - 1)
        c = np.clip(k / self.step, 0, columns - 1)
        a, c = np.broadcast_arrays(a, c)
        i, j = np.minimum(a.astype(int), max(rows - 2, 0)), np.minimum(c.astype(int), columns - 2)
        s, t = a - i, c - j
        up = np.minimum(i + 1, rows - 1)
        low = self.values[i, j] * (1 - t) + self.values[i, j + 1] * t
        high = self.values[up, j] * (1 - t) + self.values[up, j + 1] * t
        return low * (1 - s) + high * s


def optics(
    shape: tuple[int, int, int], voxel_size: float, acquisition: Acquisition
) -> NDArray[np.float64]:
    """Return wedge times CTF in the tomogram's state, `(z, y, x // 2 + 1)`; no gain.

    Without a defocus, or with CTF state `corrected`, the CTF counts as 1.
    """
    mask = missing_wedge(shape, acquisition.tilts).astype(float)
    return mask * contrast(radius_grid(shape, voxel_size), acquisition)


def contrast(k: Floats, acquisition: Acquisition) -> Floats:
    """Return the CTF at frequencies in cycles per angstrom, as the tomogram's state left it."""
    a = acquisition
    if a.defocus is None or a.ctf == "corrected":
        return np.ones_like(k)
    values = ctf(k, a.defocus, a.voltage, a.cs, a.amplitude_contrast)
    return np.abs(values) if a.ctf == "phase-flipped" else values


def transfer(
    shape: tuple[int, int, int], voxel_size: float, acquisition: Acquisition, gain: Gain
) -> NDArray[np.float32]:
    """Return all of it, `(z, y, x // 2 + 1)`: grey value per unit of density."""
    k, angle = radius_grid(shape, voxel_size), tilt_angle(shape)
    whole = optics(shape, voxel_size, acquisition) * gain.on(k, angle)
    return np.asarray(whole, np.float32)

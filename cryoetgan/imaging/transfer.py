"""Transfer function from density to tomogram: missing wedge, CTF, fitted gain."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import ctf, missing_wedge, radius_grid, tilt_angle

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class EnvelopeGain:
    """Grey value per unit of density, by frequency and absolute tilt angle.

    It combines the density scale with the envelope: radiation damage, drift and the
    reconstruction filter, which affect high tilts more than low ones.
    """

    values: NDArray[np.float64]
    """`(angle, k)`, zero or more."""
    step: float
    """Cycles per angstrom between entries of k; the first is 0."""
    max_tilt: float
    """Degrees; the rows divide 0 to it evenly, each at the centre of its interval."""

    def interpolate(self, k: Floats, angle: Floats) -> NDArray[np.float64]:
        """Return the gain at frequencies (cycles per angstrom) and tilt angles (degrees).

        Bilinear; constant beyond the first and last entries.
        """
        rows, columns = self.values.shape
        a = np.clip(np.abs(angle) / self.max_tilt * rows - 0.5, 0, rows - 1)
        c = np.clip(k / self.step, 0, columns - 1)
        a, c = np.broadcast_arrays(a, c)
        i, j = np.minimum(a.astype(int), max(rows - 2, 0)), np.minimum(c.astype(int), columns - 2)
        s, t = a - i, c - j
        up = np.minimum(i + 1, rows - 1)
        low = self.values[i, j] * (1 - t) + self.values[i, j + 1] * t
        high = self.values[up, j] * (1 - t) + self.values[up, j + 1] * t
        return low * (1 - s) + high * s


def recorded_ctf(k: Floats, acquisition: Acquisition) -> Floats:
    """Return the CTF at frequencies in cycles per angstrom, in the tomogram's CTF state.

    Signed if raw, its absolute value if phase-flipped. It is 1 if the CTF was corrected or the
    defocus is not known.
    """
    a = acquisition
    if a.defocus is None or a.ctf == "corrected":
        return np.ones_like(k)
    values = ctf(k, a.defocus, a.voltage, a.cs, a.amplitude_contrast)
    return np.abs(values) if a.ctf == "phase-flipped" else values


def transfer_function(
    shape: tuple[int, int, int], voxel_size: float, acquisition: Acquisition, gain: EnvelopeGain
) -> NDArray[np.float32]:
    """Return grey value per unit of density, `(z, y, x // 2 + 1)` in `rfftn` order.

    H(k) = W(k) * CTF(|k|) * g(|k|, |t(k)|)

    W is 1 inside the tilt range and 0 in the missing wedge, CTF the contrast transfer in the
    tomogram's CTF state (`recorded_ctf`), g the fitted gain, and t the tilt angle of direction k.
    """
    k = radius_grid(shape, voxel_size)
    wedge = missing_wedge(shape, acquisition.tilts).astype(float)
    whole = wedge * recorded_ctf(k, acquisition) * gain.interpolate(k, tilt_angle(shape))
    return np.asarray(whole, np.float32)

"""Fit the gain, so that simulated signal plus noise has the mean power of the picks."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from cryoetgan.imaging.model import EnvelopeGain
from cryoetgan.physics.optics import fourier_shells, hermitian_weights, missing_wedge, tilt_angle

Floats = NDArray[np.floating]
ROW_DEG = 20.0
"""Approximate range of tilt angle for each row of the gain, degrees."""
KNOT_SHELLS = 2
"""Fourier shells between two knots of the gain."""
MIN_GAIN = 0.02
"""Smallest gain of a knot, relative to the largest: a zero would stay zero in the next round."""


@dataclass(frozen=True)
class PowerBins:
    """Fourier shells and tilt angles in which the power of boxes is averaged."""

    index: NDArray[np.int_]
    """`(n, n, n // 2 + 1)`: angle times number of shells plus shell; -1 outside all bins."""
    weight: Floats
    """Number of modes that each voxel represents."""
    shape: tuple[int, int]
    """Angles, shells."""
    window: NDArray[np.float32]
    """`(n, n, n)` taper."""

    @classmethod
    def for_box(cls, box: int, tilts: tuple[float, float], taper: float = 0.25) -> "PowerBins":
        """Return the bins of boxes of `box` voxels, tapered over a fraction of each end."""
        shells = box // 2 + 1
        rows, largest = tilt_rows(tilts)
        shell = fourier_shells(box)
        angle = np.abs(tilt_angle((box,) * 3)) / largest * rows
        row = np.broadcast_to(np.minimum(angle.astype(int), rows - 1), shell.shape)
        used = missing_wedge((box,) * 3, tilts) & (shell > 0) & (shell < shells)
        index = np.where(used, row * shells + shell, -1)
        edge = max(2, round(taper * box))
        axis = np.minimum(np.arange(box), np.arange(box)[::-1]) + 0.5
        line = np.sin(np.pi / 2 * np.clip(axis / edge, 0, 1)) ** 2
        window = line[:, None, None] * line[None, :, None] * line[None, None]
        weight = np.broadcast_to(hermitian_weights(box), shell.shape)
        return cls(index, weight, (rows, shells), window.astype(np.float32))

    def power(self, boxes: Iterable[Floats]) -> tuple[Floats, Floats]:
        """Return the mean power of boxes and its standard error by bin, `(angles, shells)`.

        The power of a box is |FFT((box - mean) * window)|^2.
        """
        used = self.index >= 0
        index, weight = self.index[used], self.weight[used]
        size = self.shape[0] * self.shape[1]
        count = np.maximum(np.bincount(index, weight, size), 1e-9)
        rows = []
        for box in boxes:
            tapered = (box - np.mean(box, dtype=np.float64)) * self.window
            power = np.abs(np.fft.rfftn(tapered)[used]) ** 2
            rows.append(np.bincount(index, weight * power, size) / count)
        values = np.array(rows)
        error = values.std(axis=0) / np.sqrt(max(len(values) - 1, 1))
        return values.mean(axis=0).reshape(self.shape), error.reshape(self.shape)

    def average_angles(self, power: Floats) -> Floats:
        """Return power by shell from shell 1, averaged over the modes of all tilt angles."""
        used = self.index >= 0
        size = self.shape[0] * self.shape[1]
        modes = np.bincount(self.index[used], self.weight[used], size).reshape(self.shape)
        return ((power * modes).sum(axis=0) / np.maximum(modes.sum(axis=0), 1e-9))[1:]


def tilt_rows(tilts: tuple[float, float]) -> tuple[int, float]:
    """Return the number of rows of tilt angle, and the largest absolute angle, degrees."""
    largest = max(abs(tilts[0]), abs(tilts[1]))
    return max(1, round(largest / ROW_DEG)), largest


def constant_gain(tilts: tuple[float, float], box: int, voxel_size: float) -> EnvelopeGain:
    """Return a gain of 1, on the knots of `fit_gain`."""
    knots = int(np.ceil((box // 2) * np.sqrt(3) / KNOT_SHELLS)) + 1
    rows, largest = tilt_rows(tilts)
    return EnvelopeGain(np.ones((rows, knots)), KNOT_SHELLS / (box * voxel_size), largest)


def fit_gain(
    before: EnvelopeGain,
    real: Floats,
    error: Floats,
    noise: Floats,
    signal: Floats,
    model_error: float = 0.02,
    smoothness: float = 0.03,
    angle_smoothness: float = 0.1,
) -> EnvelopeGain:
    """Return the gain with which signal plus noise has the power of the real boxes.

    The unknown is the squared gain G = g^2 at knots along k, never negative. It minimises

        sum over bins of ((G / G_before * signal + noise - real) / sigma)^2
        + (smoothness * scale)^2 * sum of (second differences of G along k)^2
        + (angle_smoothness * smoothness * scale)^2 * sum of (differences between angles)^2

    with sigma^2 = error^2 + (model_error * real)^2, and scale the norm of the design matrix. If
    noise hides the signal, smoothness decides. `model_error` is the relative error of the
    simulated power that is not statistical (noise, densities).

    All powers are means by bin, `(angles, shells)`: `real` of the boxes at the picks, with its
    standard `error`, `noise` and `signal` of simulated boxes with the gain `before`.
    """
    rows, knots = before.values.shape
    squared = before.values**2
    unit = max(float(squared.max()), 1e-30)
    sigma = np.sqrt(error**2 + (model_error * real) ** 2)
    matrix: list[Floats] = []
    wanted: list[float] = []
    for row, shell in np.argwhere(real > 0):
        if shell == 0:
            continue
        place = min(shell / KNOT_SHELLS, knots - 1 - 1e-9)
        low, part = int(place), place - int(place)
        here = squared[row, low] * (1 - part) + squared[row, low + 1] * part
        per_unit = signal[row, shell] / max(here, MIN_GAIN**2 * unit) * unit
        line = np.zeros((rows, knots))
        line[row, low : low + 2] = np.array([1 - part, part]) * per_unit / sigma[row, shell]
        matrix.append(line.ravel())
        wanted.append((real[row, shell] - noise[row, shell]) / sigma[row, shell])
    scale = float(np.linalg.norm(np.array(matrix))) if matrix else 1.0
    for row, knot in np.ndindex(rows, knots):
        if 0 < knot < knots - 1:
            line = np.zeros((rows, knots))
            line[row, knot - 1 : knot + 2] = (1, -2, 1)
            matrix.append(line.ravel() * smoothness * scale)
        if row + 1 < rows:
            line = np.zeros((rows, knots))
            line[row : row + 2, knot] = (1, -1)
            matrix.append(line.ravel() * angle_smoothness * smoothness * scale)
    wanted += [0.0] * (len(matrix) - len(wanted))
    found = optimize.lsq_linear(np.array(matrix), np.array(wanted), bounds=(0, np.inf)).x
    found = np.maximum(found, MIN_GAIN**2 * max(float(found.max()), 1e-12))
    values = np.sqrt(found.reshape(rows, knots) * unit)
    return EnvelopeGain(values, before.step, before.max_tilt)

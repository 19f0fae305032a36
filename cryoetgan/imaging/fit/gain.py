"""Fit the gain: least squares of the picks' mean power, noise taken off, on the densities'."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from cryoetgan.imaging.noise_spectrum import both_halves, tilt_angle
from cryoetgan.imaging.transfer import Gain
from cryoetgan.physics.optics import missing_wedge, radius_grid

Floats = NDArray[np.floating]
ROW = 20.0
"""Degrees of tilt angle, about, that share a row of the gain."""
TAPER = 0.25
"""Share of the box over which the window falls off at each end."""
KNOTS = 2
"""Shells from one knot of the gain to the next."""
STIFF, ALIKE = 0.03, 0.1
"""Weights of the second difference along k and of the difference between tilt angles."""
LEAST = 0.02
"""Of the largest gain: no knot falls below."""
MODEL_ERROR = 0.02
"""Of the power of a bin: what is not chance (noise estimate, densities)."""


@dataclass(frozen=True)
class Bins:
    """Shells and tilt angles in which the power of boxes is averaged.

    Attributes
    ----------
    index : ndarray of int
        `(n, n, n // 2 + 1)`: angle times shells plus shell; -1 where no bin is.
    weight : ndarray
        Modes that each voxel stands for.
    shape : (int, int)
        Angles, shells.
    window : ndarray
        `(n, n, n)` taper.
    """

    index: NDArray[np.int_]
    weight: Floats
    shape: tuple[int, int]
    window: NDArray[np.float32]

    @classmethod
    def of(cls, box: int, tilts: tuple[float, float]) -> "Bins":
        """Return the bins of boxes of `box` voxels."""
        shape = (box,) * 3
        shells = box // 2 + 1
        rows = max(1, round(steepest(tilts) / ROW))
        shell = np.rint(radius_grid(shape, 1.0) * box).astype(int)
        angle = np.abs(tilt_angle(shape)) / steepest(tilts) * rows
        row = np.broadcast_to(np.minimum(angle.astype(int), rows - 1), shell.shape)
        used = missing_wedge(shape, tilts) & (shell > 0) & (shell < shells)
        index = np.where(used, row * shells + shell, -1)
        edge = max(2, round(TAPER * box))
        axis = np.minimum(np.arange(box), np.arange(box)[::-1]) + 0.5
        line = np.sin(np.pi / 2 * np.clip(axis / edge, 0, 1)) ** 2
        window = line[:, None, None] * line[None, :, None] * line[None, None]
        weight = np.broadcast_to(both_halves(box), shell.shape)
        return cls(index, weight, (rows, shells), window.astype(np.float32))

    def power(self, boxes: Iterable[Floats]) -> tuple[Floats, Floats]:
        """Return mean power and its standard error by bin, `(angles, shells)`."""
        used = self.index >= 0
        where, weight = self.index[used], self.weight[used]
        size = self.shape[0] * self.shape[1]
        count = np.maximum(np.bincount(where, weight, size), 1e-9)
        rows = []
        for box in boxes:
            tapered = (box - np.mean(box, dtype=np.float64)) * self.window
            power = np.abs(np.fft.rfftn(tapered)[used]) ** 2
            rows.append(np.bincount(where, weight * power, size) / count)
        values = np.array(rows)
        error = values.std(axis=0) / np.sqrt(max(len(values) - 1, 1))
        return values.mean(axis=0).reshape(self.shape), error.reshape(self.shape)

    def mean(self, power: Floats) -> Floats:
        """Return power by shell from 1, averaged over the tilt angles that have modes there."""
        used = self.index >= 0
        size = self.shape[0] * self.shape[1]
        modes = np.bincount(self.index[used], self.weight[used], size).reshape(self.shape)
        return ((power * modes).sum(axis=0) / np.maximum(modes.sum(axis=0), 1e-9))[1:]


def steepest(tilts: tuple[float, float]) -> float:
    """Return the largest size of a tilt angle, degrees."""
    return max(abs(tilts[0]), abs(tilts[1]))


def flat_gain(tilts: tuple[float, float], box: int, voxel_size: float, value: float = 1.0) -> Gain:
    """Return a gain of one value, on the knots that `fitted_gain` uses."""
    rows = max(1, round(steepest(tilts) / ROW))
    knots = int(np.ceil((box // 2) * np.sqrt(3) / KNOTS)) + 1
    return Gain(np.full((rows, knots), value), KNOTS / (box * voxel_size), steepest(tilts))


def fitted_gain(
    before: Gain, bins: Bins, real: Floats, error: Floats, noise: Floats, signal: Floats
) -> Gain:
    """Return the gain that makes `signal + noise` the power of the real boxes.

    Parameters
    ----------
    before : Gain
        What `signal` was made with.
    bins : Bins
        Of all the powers, `(angles, shells)`.
    real, error, noise, signal : ndarray
        Power of the boxes at the picks and its standard error, of noise alone, of signal
        alone.

    Notes
    -----
    Unknown is the squared gain over that of `before` at knots along k, never negative; where
    the noise hides it, smoothness decides.
    """
    rows, shells = bins.shape
    knots = before.values.shape[1]
    matrix, wanted = [], []
    sigma = np.sqrt(error**2 + (MODEL_ERROR * real) ** 2)
    squared = before.values**2
    typical = max(float(squared.max()), 1e-30)
    for row in range(rows):
        for shell in range(1, shells):
            if not real[row, shell] > 0:
                continue
            place = min(shell / KNOTS, knots - 1 - 1e-9)
            low, share = int(place), place - int(place)
            here = squared[row, low] * (1 - share) + squared[row, low + 1] * share
            line = np.zeros(rows * knots)
            # unknowns are in units of the largest squared gain of before
            per_unit = signal[row, shell] / max(here, LEAST**2 * typical) * typical
            line[row * knots + low] = (1 - share) * per_unit / sigma[row, shell]
            line[row * knots + low + 1] = share * per_unit / sigma[row, shell]
            matrix.append(line)
            wanted.append((real[row, shell] - noise[row, shell]) / sigma[row, shell])
    scale = float(np.linalg.norm(np.array(matrix)[:, : rows * knots])) if matrix else 1.0
    for row in range(rows):
        for knot in range(knots):
            if 0 < knot < knots - 1:
                line = np.zeros(rows * knots)
                line[row * knots + knot - 1 : row * knots + knot + 2] = (1, -2, 1)
                matrix.append(line * STIFF * scale)
                wanted.append(0.0)
            if row + 1 < rows:
                line = np.zeros(rows * knots)
                line[row * knots + knot], line[(row + 1) * knots + knot] = 1, -1
                matrix.append(line * ALIKE * STIFF * scale)
                wanted.append(0.0)
    found = optimize.lsq_linear(np.array(matrix), np.array(wanted), bounds=(0, np.inf)).x
    # a gain of nothing would show no signal to the next fit, and stay
    found = np.maximum(found, LEAST**2 * max(float(found.max()), 1e-12))
    values = np.sqrt(found.reshape(rows, knots) * typical)
    return Gain(values, before.step, before.steepest)

"""Fit the gain: by the mean power of the picks, or by the regression of picks on their signal.

All excess power at a pick would be given to its particle, cytoplasm and unnamed species included.
The regression on the simulated signal is not biased by them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, optimize

from cryoetgan.imaging.model import EnvelopeGain, surroundings_filter
from cryoetgan.imaging.noise_spectrum import NoiseSpectrum
from cryoetgan.physics.optics import fourier_shells, hermitian_weights, missing_wedge, tilt_angle

Floats = NDArray[np.floating]
ROW_DEG = 20.0
"""Approximate range of tilt angle for each row of the gain, degrees."""
TAPER = 0.25
"""Fraction of each end of a box over which its power is tapered."""
KNOT_SHELLS = 2
"""Fourier shells between two knots of the gain."""
SURROUNDINGS_ROUNDS = 6
"""Rounds of the fit of the surroundings; each removes most of the blur of the window."""
NOISE_ROUNDS = 16
"""Rounds of the reduction of the noise: the shell of Nyquist needs most, into which others leak."""
NOISE_ROW_DEG = 10.0
"""Approximate range of tilt angle in which the noise is reduced, degrees."""
MIN_NOISE_FACTOR = 0.001
"""Smallest power of the noise around particles, relative to the noise far from them. If a filter
removed high frequencies or high tilts, the errors of the autocovariance exceed the noise there, up
to a hundred times."""
ANGLE_SMOOTHNESS = 0.1
"""Smoothness between tilt angles, relative to that along k."""
STEP_LOG_GAIN = 2.0
"""Expected change of log G (of `fit_gain`) from one knot to the next, in standard deviations of the
data. It is decisive where the data hold no information: without it, the slope of the last shells with
information is continued, and their noise with it, up to hundreds of times the true gain."""
MIN_GAIN = 0.001
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
    def for_box(
        cls,
        box: int,
        tilts: tuple[float, float],
        row_deg: float = ROW_DEG,
        wedge: bool = False,
    ) -> "PowerBins":
        """Return the bins of boxes of `box` voxels.

        `row_deg` is the approximate range of tilt angle of a row, degrees. With `wedge` the missing
        wedge is one more row, the last.
        """
        shells = box // 2 + 1
        rows, largest = tilt_rows(tilts, row_deg)
        shell = fourier_shells(box)
        angle = np.abs(tilt_angle((box,) * 3)) / largest * rows
        row = np.broadcast_to(np.minimum(angle.astype(int), rows - 1), shell.shape)
        inside, used = missing_wedge((box,) * 3, tilts), (shell > 0) & (shell < shells)
        if wedge:
            row, rows = np.where(inside, row, rows), rows + 1
        else:
            used &= inside
        index = np.where(used, row * shells + shell, -1)
        edge = max(2, round(TAPER * box))
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
            power = np.abs(self._spectrum(box)[used]) ** 2
            rows.append(np.bincount(index, weight * power, size) / count)
        values = np.array(rows)
        error = values.std(axis=0) / np.sqrt(max(len(values) - 1, 1))
        return values.mean(axis=0).reshape(self.shape), error.reshape(self.shape)

    def _spectrum(self, box: Floats) -> NDArray[np.complex128]:
        return np.fft.rfftn((box - np.mean(box, dtype=np.float64)) * self.window)

    def regress(self, pairs: Iterable[tuple[Floats, Floats]]) -> tuple[Floats, Floats, Floats]:
        """Return the sums of a regression of boxes b on signals s by bin, `(angles, shells)`.

        The mean of Re(conj(S) B), its standard error, and the mean of |S|^2, over the pairs (b, s)
        and the modes of a bin. The error is the residual's, B - a S.
        """
        used = self.index >= 0
        index, weight = self.index[used], self.weight[used]
        size = self.shape[0] * self.shape[1]
        count = np.maximum(np.bincount(index, weight, size), 1e-9)
        products, squares = [], []
        for box, signal in pairs:
            b, s = self._spectrum(box)[used], self._spectrum(signal)[used]
            products.append(np.bincount(index, weight * (np.conj(s) * b).real, size) / count)
            squares.append(np.bincount(index, weight * np.abs(s) ** 2, size) / count)
        product, square = np.mean(products, axis=0), np.mean(squares, axis=0)
        factor = product / np.maximum(square, 1e-30)
        residual = np.array(products) - factor * np.array(squares)
        error = residual.std(axis=0) / np.sqrt(max(len(products) - 1, 1))
        return tuple(v.reshape(self.shape) for v in (product, error, square))

    def average(self, power: Floats) -> Floats:
        """Return the mean by bin, `(angles, shells)`, of a power `(n, n, n // 2 + 1)`."""
        used = self.index >= 0
        index, weight, size = self.index[used], self.weight[used], self.shape[0] * self.shape[1]
        total = np.bincount(index, weight * power[used], size)
        return (total / np.maximum(np.bincount(index, weight, size), 1e-9)).reshape(self.shape)

    def expected_power(self, noise_filter: Floats) -> Floats:
        """Return the expected power by bin of filtered white noise, `(angles, shells)`.

        The filter is `(2 n, 2 n, n + 1)` in `rfftn` order. The covariance of the noise times the
        autocorrelation of the window has the spectrum of windowed boxes.
        """
        n = len(self.window)
        shape = (2 * n,) * 3
        padded = np.zeros(shape)
        padded[:n, :n, :n] = self.window
        covariance = fft.irfftn(noise_filter**2, shape)
        overlap = fft.irfftn(np.abs(fft.rfftn(padded)) ** 2, shape)
        return self.average(fft.rfftn(covariance * overlap).real[::2, ::2, ::2])

    def average_angles(self, power: Floats) -> Floats:
        """Return power by shell from shell 1, averaged over the modes of all tilt angles."""
        modes = self.modes()
        return ((power * modes).sum(axis=0) / np.maximum(modes.sum(axis=0), 1e-9))[1:]

    def clip_by_shell(self, power: Floats) -> Floats:
        """Return power by bin without negative values, with the sum of each shell, or zero.

        Negative values set to zero would alone raise the sum of their shell.
        """
        positive, modes = np.maximum(power, 0), self.modes()
        wanted = np.maximum((power * modes).sum(axis=0), 0)
        return np.asarray(positive * wanted / np.maximum((positive * modes).sum(axis=0), 1e-30))

    def modes(self) -> Floats:
        """Return the number of modes by bin, `(angles, shells)`."""
        used = self.index >= 0
        size = self.shape[0] * self.shape[1]
        found = np.bincount(self.index[used], self.weight[used], size)
        return np.asarray(found.reshape(self.shape), np.float64)


def tilt_rows(tilts: tuple[float, float], row_deg: float = ROW_DEG) -> tuple[int, float]:
    """Return the number of rows of tilt angle, and the largest absolute angle, degrees."""
    largest = max(abs(tilts[0]), abs(tilts[1]))
    return max(1, round(largest / row_deg)), largest


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
    exponent: int = 2,
) -> EnvelopeGain:
    """Return the gain with which signal plus noise has the power of the real boxes.

    The unknown is the squared gain G = g^2 at knots along k, never negative. It minimises

        sum over bins of ((G / G_before * signal + noise - real) / sigma)^2
        + (smoothness * scale)^2 * sum of (second differences of log G along k)^2
        + (0.1 smoothness * scale)^2 * sum of (differences of log G between angles)^2
        + sum of (differences of log G along k / STEP_LOG_GAIN)^2

    with sigma^2 = error^2 + (model_error * real)^2, log G to first order about G_before, and scale
    the norm of the design matrix of log G. A denoised tomogram's gain falls by powers of ten, and
    differences of G itself would see its highest values alone. If noise hides the signal,
    smoothness decides, and beyond the last shell with information the last term, which holds its
    gain. `model_error` is the relative error of the simulated power that is not
    statistical (noise, densities).

    All powers are means by bin, `(angles, shells)`: `real` of the boxes at the picks, with its
    standard `error`, `noise` and `signal` of simulated boxes with the gain `before`.

    With `exponent` 1 the unknown is g itself. `real` is then the cross power of boxes and their
    signals (`PowerBins.regress`), with no noise in its mean.
    """
    rows, knots = before.values.shape
    squared = before.values**exponent
    unit = max(float(squared.max()), 1e-30)
    sigma = np.sqrt(error**2 + (model_error * real) ** 2)
    matrix: list[Floats] = []
    wanted: list[float] = []
    for row, shell in np.argwhere(signal > 0):
        if shell == 0:
            continue
        place = min(shell / KNOT_SHELLS, knots - 1 - 1e-9)
        low, part = int(place), place - int(place)
        here = squared[row, low] * (1 - part) + squared[row, low + 1] * part
        per_unit = signal[row, shell] / max(here, MIN_GAIN**exponent * unit) * unit
        line = np.zeros((rows, knots))
        line[row, low : low + 2] = np.array([1 - part, part]) * per_unit / sigma[row, shell]
        matrix.append(line.ravel())
        wanted.append((real[row, shell] - noise[row, shell]) / sigma[row, shell])
    local = np.maximum(squared / unit, MIN_GAIN**exponent)
    scale = float(np.linalg.norm(np.array(matrix) * local.ravel())) if matrix else 1.0
    for difference, weight in _smoothness_terms((rows, knots), smoothness * scale):
        # of log G, to first order about the gain before: log G_before + G / G_before - 1,
        # whose constant cancels in a difference
        matrix.append((difference / local).ravel() * weight)
        wanted.append(-float((difference * np.log(local)).sum()) * weight)
    found = optimize.lsq_linear(np.array(matrix), np.array(wanted), bounds=(0, np.inf)).x
    found = np.maximum(found, MIN_GAIN**exponent * max(float(found.max()), 1e-12))
    values = (found.reshape(rows, knots) * unit) ** (1 / exponent)
    return EnvelopeGain(values, before.step, before.max_tilt)


def _smoothness_terms(shape: tuple[int, int], smoothness: float) -> Iterator[tuple[Floats, float]]:
    """Yield the differences of knots `(angles, knots)` that `fit_gain` makes small, with weights."""
    rows, knots = shape

    def line(row: slice | int, columns: slice | int, values: tuple[int, ...]) -> Floats:
        out = np.zeros(shape)
        out[row, columns] = values
        return out

    for row, knot in np.ndindex(rows, knots):
        if 0 < knot < knots - 1:
            yield line(row, slice(knot - 1, knot + 2), (1, -2, 1)), smoothness
        if knot < knots - 1:
            yield line(row, slice(knot, knot + 2), (-1, 1)), 1 / STEP_LOG_GAIN
        if row + 1 < rows:
            yield line(slice(row, row + 2), knot, (1, -1)), ANGLE_SMOOTHNESS * smoothness


def reduce_noise(
    bins: PowerBins, noise: NoiseSpectrum, measured: Floats, wanted: Floats, voxel_size: float
) -> NoiseSpectrum:
    """Return noise with at most the wanted power of boxes, by a factor of each bin, 1 at most.

    `measured` is the power of boxes of the given noise, as `wanted` by bin, `(angles + 1, shells)`,
    with a row for the missing wedge. It differs from the expected power
    (`PowerBins.expected_power`) because the mean of a box is removed.
    Each round multiplies the factor, at one knot a shell, by the wanted over the expected power.
    """
    box, empty = len(bins.window), bins.modes()[:, 1:] == 0
    k = np.arange(1, bins.shape[1]) / (box * voxel_size)
    factor = np.ones((bins.shape[0], len(k)))

    def expected(factor: Floats) -> Floats:
        filtered = noise.scale(k, factor).noise_filter((2 * box,) * 3, voxel_size)
        return np.maximum(bins.expected_power(filtered)[:, 1:], 1e-30)

    without_mean = measured[:, 1:] / expected(factor)
    for _ in range(NOISE_ROUNDS):
        ratio = wanted[:, 1:] / np.maximum(without_mean * expected(factor), 1e-30)
        factor = np.clip(factor * ratio, MIN_NOISE_FACTOR, 1)
        # the lowest shells have no mode at some angles
        known = np.where(empty, 0, factor).sum(axis=0) / np.maximum((~empty).sum(axis=0), 1)
        factor = np.where(empty, known, factor)
    return noise.scale(k, factor)


def fit_surroundings(
    bins: PowerBins, residual: Floats, voxel_size: float, tilts: tuple[float, float]
) -> EnvelopeGain:
    """Return the filter with which white noise has the residual power of the boxes, by bin.

    The residual `(angles, shells)` is the power that noise and signal do not explain. It is zero
    where it is negative, and smaller at the other angles of the shell instead
    (`clip_by_shell`). Each round multiplies the squared filter, at one knot a shell, by the
    residual over the expected power (`PowerBins.expected_power`).
    """
    residual = bins.clip_by_shell(residual)
    box = len(bins.window)
    step, largest = 1 / (box * voxel_size), tilt_rows(tilts)[1]
    found = EnvelopeGain(np.ones(bins.shape), step, largest)
    for _ in range(SURROUNDINGS_ROUNDS):
        applied = surroundings_filter((2 * box,) * 3, voxel_size, found, tilts)
        ratio = residual / np.maximum(bins.expected_power(applied), 1e-30)
        # the mean of a box is removed, so shell 0 has no power of its own
        ratio[:, 0] = ratio[:, 1]
        found = EnvelopeGain(found.values * np.sqrt(ratio), step, largest)
    return found

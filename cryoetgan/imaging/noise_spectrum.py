"""Power spectrum of a tomogram's noise, as a table over position relative to the tilt axis.

The noise of a back-projected tomogram depends on direction. Its power rises with the distance
from the tilt axis in Fourier space (the ramp of the reconstruction). It varies along the axis with
the CTF, and with the tilt of the image that sampled a direction (thickness, dose). The
coordinates of the table are therefore

- q = sqrt(kx^2 + kz^2), the distance from the tilt axis, cycles per angstrom;
- |ky|, along the tilt axis, cycles per angstrom;
- the tilt angle atan(kz / kx) of the direction, degrees.

Power is a density, S(k) = |FFT|^2 * voxel volume / number of voxels, in grey value^2 A^3.
It does not depend on the size of the volume.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.physics.optics import frequency_axes, hermitian_weights, missing_wedge, tilt_angle

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]
ANGLE_BIN_DEG = 10.0
"""Approximate width of a bin of tilt angle, degrees."""
EDGE_MODES = 2.0
"""Distance from the edge of the missing wedge, Fourier modes. Nearer modes are blurred across it."""


@dataclass(frozen=True)
class NoiseSpectrum:
    """A power spectral density."""

    seen: NDArray[np.float64]
    """`(angle, q, ky)` grey value^2 A^3, inside the tilt range."""
    unseen: NDArray[np.float64]
    """`(q, ky)` grey value^2 A^3, in the missing wedge."""
    step: float
    """Cycles per angstrom between entries of q and ky; the first is 0."""
    tilts: tuple[float, float]
    """Degrees; the bins of angle divide the range evenly."""

    def interpolate(self, shape: tuple[int, int, int], voxel_size: float) -> NDArray[np.float32]:
        """Return the density on an `rfftn` grid `(z, y, x // 2 + 1)`, linear in q and |ky|."""
        kz, ky, kx = frequency_axes(shape, voxel_size)
        q = np.broadcast_to(np.hypot(kz, kx) / self.step, (shape[0], 1, shape[2] // 2 + 1))
        out = np.empty((shape[0], shape[1], shape[2] // 2 + 1), np.float32)
        mask = missing_wedge(shape, self.tilts)
        bins = angle_bins(tilt_angle(shape), self.tilts)[0][:, 0]
        for index, y in enumerate(np.abs(ky.ravel()) / self.step):
            cells = np.stack([q[:, 0], np.full(q[:, 0].shape, y)])
            layer = ndimage.map_coordinates(self.unseen, cells, order=1, mode="nearest")
            for number, table in enumerate(self.seen):
                here = (bins == number) & mask[:, index]
                layer[here] = ndimage.map_coordinates(
                    table, cells[:, here], order=1, mode="nearest"
                )
            out[:, index] = layer
        return np.maximum(out, 0)

    def noise_filter(self, shape: tuple[int, int, int], voxel_size: float) -> NDArray[np.float64]:
        """Return the filter that gives white noise this spectrum, and mean 0.

        sqrt(S(k) / voxel volume) on an `rfftn` grid `(z, y, x // 2 + 1)`.
        """
        power = self.interpolate(shape, voxel_size) / voxel_size**3
        power[0, 0, 0] = 0
        return np.sqrt(np.asarray(power, np.float64))

    def scale(self, k: Floats, factor: Floats) -> "NoiseSpectrum":
        """Return a copy whose density is multiplied by a factor of |k| and tilt angle.

        `factor` is `(rows + 1, len(k))`. The rows divide the absolute tilt angle, up to the largest,
        evenly; the last row is the missing wedge. The factor is linear between its values at
        increasing k, cycles per angstrom, and constant beyond them.
        """
        q, y = np.indices(self.unseen.shape)
        radius, rows = self.step * np.hypot(q, y), len(factor) - 1
        low, high = self.tilts
        angles = low + (np.arange(len(self.seen)) + 0.5) * (high - low) / len(self.seen)
        row = np.abs(angles) / max(abs(low), abs(high)) * rows
        tables = np.array([np.interp(radius, k, line) for line in factor])
        here = tables[np.minimum(row.astype(int), rows - 1)]
        # as they are stored, so that a model from a file equals the fitted one
        seen, unseen = (self.seen * here).astype(np.float32), self.unseen * tables[-1]
        return replace(self, seen=seen, unseen=unseen.astype(np.float32))


def angle_bins(angles: Floats, tilts: tuple[float, float]) -> tuple[NDArray[np.int_], int]:
    """Return the bin of each tilt angle, the nearest one outside the range, and their number."""
    width = tilts[1] - tilts[0]
    count = max(1, round(width / ANGLE_BIN_DEG))
    return np.clip(((angles - tilts[0]) / width * count).astype(int), 0, count - 1), count


def tabulate(density: Floats, voxel_size: float, tilts: tuple[float, float]) -> NoiseSpectrum:
    """Return the table of a density on an `rfftn` grid, `(n, n, n // 2 + 1)` grey value^2 A^3.

    An estimate on n voxels is blurred over one or two modes, also across the edge of the wedge.
    Modes nearer to the edge than `EDGE_MODES` are used only if a cell of the table has no other.
    """
    n = density.shape[0]
    shape, step = (n, n, n), 1 / (n * voxel_size)
    kz, ky, kx = frequency_axes(shape, voxel_size)
    q = np.broadcast_to(np.hypot(kz, kx) / step, density.shape)
    y = np.broadcast_to(np.abs(ky) / step, density.shape)
    mask, angles = missing_wedge(shape, tilts), tilt_angle(shape)
    # between two lines, at most 90 degrees
    apart = [np.abs(angles - edge) % 180 for edge in tilts]
    nearest = np.minimum(*(np.minimum(d, 180 - d) for d in apart))
    away = q * np.sin(np.radians(nearest)) > EDGE_MODES
    weight = np.broadcast_to(hermitian_weights(n), density.shape)
    bins, count = angle_bins(angles, tilts)
    bins = np.broadcast_to(bins, density.shape)
    size = (int(np.ceil(n / np.sqrt(2))) + 1, n // 2 + 1)

    def average(choices: list[Mask]) -> NDArray[np.float64]:
        return np.maximum(_average_cells(density, weight, (q, y), choices, size), 0)

    seen = [average([mask & (bins == i) & away, mask & (bins == i), mask]) for i in range(count)]
    return NoiseSpectrum(np.stack(seen), average([~mask & away]), step, tilts)


def _average_cells(
    density: Floats,
    weight: Floats,
    place: tuple[Floats, Floats],
    choices: list[Mask],
    size: tuple[int, int],
) -> NDArray[np.float64]:
    """Return the mean density in each cell of q and |ky|, given in steps of the table.

    `choices` are masks of modes, best first. A cell without modes in one of them takes the next
    one, and in the end the value of the nearest cell.
    """
    out = np.full(size, np.nan)
    q, y = place
    for chosen in choices:
        total, count = (
            _sum_into_cells(values[chosen], q[chosen], y[chosen], size)
            for values in (density * weight, weight)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(count > 0.5, total / count, np.nan)
        out = np.where(np.isnan(out), mean, out)
    empty = np.isnan(out)
    if empty.all():
        return np.zeros(size)
    nearest = ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True)
    return np.asarray(out[tuple(nearest)])


def _sum_into_cells(values: Floats, q: Floats, y: Floats, size: tuple[int, int]) -> Floats:
    """Return sums over cells; each value is divided linearly between the two nearest q."""
    low = np.floor(q).astype(int)
    rest, row = q - low, np.rint(y).astype(int)
    total = np.zeros(size[0] * size[1])
    for index, fraction in ((low, 1 - rest), (low + 1, rest)):
        cell = np.clip(index, 0, size[0] - 1) * size[1] + row
        total += np.bincount(cell, values * fraction, minlength=total.size)
    return total.reshape(size)

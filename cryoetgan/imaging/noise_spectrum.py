"""Power spectra of tomograms: by distance from the tilt axis, along it, and tilt angle.

A back-projected tomogram is the same in no two directions: its noise grows with the distance
from the tilt axis in Fourier space (the ramp), changes along it with the CTF, and changes with
the tilt a direction was seen at (thickness, dose). So a spectrum is a table over

- q = (kx^2 + kz^2)^(1/2), the distance from the tilt axis, cycles per angstrom;
- |ky|, along the tilt axis, cycles per angstrom;
- the tilt angle atan(kz / kx) at which the direction was seen, degrees.

Power is a density, grey value^2 A^3: |FFT|^2 * voxel volume / voxels. It does not depend on
the size of the volume it was measured on.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.physics.optics import frequency_axes, missing_wedge

Floats = NDArray[np.floating]
ANGLE_STEP = 10.0
"""Degrees; width of the bins of tilt angle, about."""


def tilt_angle(shape: tuple[int, int, int]) -> Floats:
    """Return the tilt in degrees, (-90, 90], at which each direction is seen.

    `(z, 1, x // 2 + 1)`; at tilt t the slice lies along (kx, kz) = (cos t, sin t).
    """
    kz, _, kx = frequency_axes(shape, 1.0)
    return np.degrees(np.arctan2(np.where(kx == 0, np.abs(kz), kz), np.abs(kx)))


def both_halves(n: int) -> Floats:
    """Return how often each plane of `rfftn`'s last axis stands for a mode: once or twice."""
    k = np.arange(n // 2 + 1)
    return np.where((k == 0) | (2 * k == n), 1.0, 2.0)


@dataclass(frozen=True)
class Spectrum:
    """A power spectral density.

    Attributes
    ----------
    seen : ndarray
        `(angle, q, ky)` grey value^2 A^3, inside the tilt range.
    unseen : ndarray
        `(q, ky)` grey value^2 A^3, in the missing wedge.
    step : float
        Cycles per angstrom between entries of q and ky; the first is 0.
    tilts : (float, float)
        Degrees; the bins of angle divide it evenly.
    """

    seen: NDArray[np.float64]
    unseen: NDArray[np.float64]
    step: float
    tilts: tuple[float, float]

    def on(self, shape: tuple[int, int, int], voxel_size: float) -> NDArray[np.float32]:
        """Return the density on an `rfftn` grid `(z, y, x // 2 + 1)`, interpolated."""
        kz, ky, kx = frequency_axes(shape, voxel_size)
        q = np.broadcast_to(np.hypot(kz, kx) / self.step, (shape[0], 1, shape[2] // 2 + 1))
        out = np.empty((shape[0], shape[1], shape[2] // 2 + 1), np.float32)
        mask = missing_wedge(shape, self.tilts)
        bins = angle_bins(tilt_angle(shape), self.tilts)[:, 0]
        for index, y in enumerate(np.abs(ky.ravel()) / self.step):
            where = np.stack([q[:, 0], np.full(q[:, 0].shape, y)])
            layer = ndimage.map_coordinates(self.unseen, where, order=1, mode="nearest")
            for number, table in enumerate(self.seen):
                here = (bins == number) & mask[:, index]
                layer[here] = ndimage.map_coordinates(
                    table, where[:, here], order=1, mode="nearest"
                )
            out[:, index] = layer
        return np.maximum(out, 0)


def angle_bins(angles: Floats, tilts: tuple[float, float]) -> NDArray[np.int_]:
    """Return the bin of each tilt angle; those outside the range get the nearest bin."""
    count = angle_count(tilts)
    return np.clip(((angles - tilts[0]) / (tilts[1] - tilts[0]) * count).astype(int), 0, count - 1)


def angle_count(tilts: tuple[float, float]) -> int:
    """Return into how many bins a tilt range is divided."""
    return max(1, round((tilts[1] - tilts[0]) / ANGLE_STEP))


def tabulated(density: Floats, voxel_size: float, tilts: tuple[float, float]) -> Spectrum:
    """Return the table of a density given on a grid.

    Parameters
    ----------
    density : ndarray
        `(n, n, n // 2 + 1)`, `rfftn` order, grey value^2 A^3.
    voxel_size : float
        Angstrom.
    tilts : (float, float)
        Degrees.

    Notes
    -----
    An estimate on n voxels is blurred over a mode or two, across the wedge's edge too: modes
    nearer to it than that count only where there is no other.
    """
    n = density.shape[0]
    shape, step = (n, n, n), 1 / (n * voxel_size)
    kz, ky, kx = frequency_axes(shape, voxel_size)
    q = np.broadcast_to(np.hypot(kz, kx) / step, density.shape)
    y = np.broadcast_to(np.abs(ky) / step, density.shape)
    mask, angles = missing_wedge(shape, tilts), tilt_angle(shape)
    nearest = np.minimum(_apart(angles, tilts[0]), _apart(angles, tilts[1]))
    away = q * np.sin(np.radians(nearest)) > EDGE
    weight = np.broadcast_to(both_halves(n), density.shape)
    bins = np.broadcast_to(angle_bins(angles, tilts), density.shape)
    size = (int(np.ceil(n / np.sqrt(2))) + 1, n // 2 + 1)
    seen = np.stack(
        [
            _filled(
                density, weight, q, y, [mask & (bins == i) & away, mask & (bins == i), mask], size
            )
            for i in range(angle_count(tilts))
        ]
    )
    unseen = _filled(density, weight, q, y, [~mask & away], size)
    return Spectrum(np.maximum(seen, 0), np.maximum(unseen, 0), step, tilts)


EDGE = 2.0
"""Modes from the wedge's edge."""


def _apart(angles: Floats, edge: float) -> Floats:
    """Return the angle in degrees, at most 90, between lines."""
    d = np.abs(angles - edge) % 180
    return np.minimum(d, 180 - d)


def _filled(
    density: Floats,
    weight: Floats,
    q: Floats,
    y: Floats,
    choices: list[NDArray[np.bool_]],
    size: tuple[int, int],
) -> NDArray[np.float64]:
    """Return means over cells of q and ky; empty cells take the next choice, then neighbours'."""
    out = np.full(size, np.nan)
    for chosen in choices:
        total, count = (
            _splat(values[chosen], q[chosen], y[chosen], size)
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


def _splat(values: Floats, q: Floats, y: Floats, size: tuple[int, int]) -> Floats:
    """Return sums over cells, each value shared linearly between the two nearest q."""
    low = np.floor(q).astype(int)
    rest, row = q - low, np.rint(y).astype(int)
    total = np.zeros(size[0] * size[1])
    for index, share in ((low, 1 - rest), (low + 1, rest)):
        cell = np.clip(index, 0, size[0] - 1) * size[1] + row
        total += np.bincount(cell, values * share, minlength=total.size)
    return total.reshape(size)

"""Maxima of a cubic spline on a coarse grid, at the voxels of the tomogram."""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cryoetgan.particles.picking.local_maxima import (
    FACES,
    NEIGHBOURHOOD,
    derivatives,
    neighbourhoods,
    newton_step,
)

Floats = NDArray[np.floating]
Integers = NDArray[np.int_]
CLIMB_RIM = 2
"""Coarse voxels around a tile from which the climb to a maximum may start."""
SPLINE_REACH = 3
"""Coarse voxels around those at which the spline is evaluated."""
TOLERANCE = 0.05
"""Relative height by which a neighbour may surpass a coarse voxel next to a maximum."""
MAX_COARSE_STEP = 2.0
"""Coarse voxels from a start of the climb to the predicted maximum."""
CLIMB_STEPS = 6
"""Largest number of voxels that a climb takes on the tomogram's grid."""


class Spline:
    """A response as a cubic spline on the coarse grid, evaluated at the tomogram's voxels.

    `coefficients` are `(z, y, x)` of consecutive coarse voxels from index `first` (zyx) on, which
    lie `stride` voxels apart; `shape` is the tomogram's, zyx.
    """

    def __init__(
        self, coefficients: Floats, first: Integers, stride: int, shape: Sequence[int]
    ) -> None:
        self.coefficients, self.first, self.stride = coefficients, first, stride
        self.shape = np.array(shape)
        phases, steps = np.arange(stride)[:, None], np.arange(-1, 2)
        places = (phases + steps - (stride - 1) / 2) / stride
        distance = np.abs(places[..., None] - np.arange(-2, 3))
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = np.clip(2 - distance, 0, None) ** 3 / 6
        self.weights = np.where(distance < 1, near, far).astype(np.float32)
        """`(phase, neighbour, coefficient)`."""

    def voxels(self, places: Floats) -> Integers:
        """Return the voxels of the tomogram nearest to indices of the coefficients."""
        whole = np.rint((places + self.first) * self.stride + (self.stride - 1) / 2).astype(int)
        return np.clip(whole, 0, self.shape - 1)

    def neighbourhoods(self, voxels: Integers) -> Floats:
        """Return `(N, 3, 3, 3)`: values at voxels and their neighbours, -inf outside."""
        coarse, phase = np.divmod(voxels, self.stride)
        windows = sliding_window_view(self.coefficients, (5, 5, 5))
        values = windows[tuple((coarse - self.first - 2).T)]
        weights = self.weights[phase]  # (N, axis, 3, 5)
        values = np.matmul(weights[:, 0], values.reshape(-1, 5, 25)).reshape(-1, 3, 5, 5)
        values = weights[:, None, 1] @ values @ weights[:, None, 2].mT
        for axis in range(3):
            along = np.moveaxis(values, axis + 1, 1)
            along[voxels[:, axis] == 0, 0] = -np.inf
            along[voxels[:, axis] == self.shape[axis] - 1, 2] = -np.inf
        return values


def _climb_starts(spline: Spline, floor: float) -> Integers:
    """Return voxels `(N, 3)` near possible maxima of the response.

    A coarse voxel counts if no neighbour across a face surpasses it by much, and if the
    quadratic through its neighbours has a maximum not far away.
    """
    data = spline.coefficients
    inner = (slice(SPLINE_REACH, -SPLINE_REACH),) * 3
    limit = np.abs(data[inner])
    possible = limit > floor
    limit = data[inner] + TOLERANCE * limit
    for face in FACES:
        beside = tuple(
            slice(SPLINE_REACH + s, n - SPLINE_REACH + s)
            for s, n in zip(face, data.shape, strict=True)
        )
        possible &= data[beside] < limit
    where = np.argwhere(possible) + SPLINE_REACH
    step = newton_step(*derivatives(neighbourhoods(data, where - 1)))
    good = np.abs(step).max(axis=1) <= MAX_COARSE_STEP  # NaN is not
    return np.unique(spline.voxels(where[good] + np.clip(step[good], -1, 1)), axis=0)


def spline_maxima(spline: Spline, floor: float) -> tuple[Integers, Floats]:
    """Return the maxima `(N, 3)` above `floor` (rounding), and their neighbourhoods."""
    voxels = _climb_starts(spline, floor)
    low = spline.stride * (spline.first + SPLINE_REACH)
    high = low + spline.stride * (np.array(spline.coefficients.shape) - 2 * SPLINE_REACH)
    tops, cubes = [np.empty((0, 3), int)], [np.empty((0, 3, 3, 3), np.float32)]
    for _ in range(CLIMB_STEPS):
        voxels = voxels[((voxels >= low) & (voxels < high)).all(axis=1)]
        cube = spline.neighbourhoods(voxels)
        step = np.stack(np.unravel_index(cube.reshape(-1, 27).argmax(axis=1), (3, 3, 3)), axis=1)
        top = (cube[:, 1, 1, 1, None] >= cube[:, NEIGHBOURHOOD]).all(axis=1)
        tops.append(voxels[top])
        cubes.append(cube[top])
        voxels = np.unique(voxels[~top] + step[~top] - 1, axis=0)
    found, index = np.unique(np.concatenate(tops), axis=0, return_index=True)
    return found, np.concatenate(cubes)[index]

"""Tops of a cubic spline, found on its knots and read at the voxels between them.

A knot (coarse voxel) stands for a cell of stride^3 voxels. Cells that may hold a top are read
voxel by voxel, with a rim of one voxel; where the largest lies in the rim, the next cell is
read, so that a top counts that a knot beside it led to.
"""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cryoetgan.particles.picking.local_maxima import EDGES, FACES, newton_step, quadratic_offsets

Floats = NDArray[np.floating]
ROUNDS = 2
"""Cells that a climb leads on."""
RIM = 2 + ROUNDS
"""Knots around the core: climbs start from them too, so that tiles leave no trace."""
NEARLY = 0.05
"""Of its value, by which a knot beside a top may be surpassed by its neighbours."""
STEEP = 1.1
"""A top in a cell is foreseen by the derivatives at its knot, so much too far off."""
FAR = 1.2
"""Knots: where a quadratic with a clear top has it farther off, the cell holds none."""
CLEAR = 0.2
"""Hadamard's ratio, determinant over product of the diagonal, of second derivatives to trust."""
FINE = 1 << 17
"""Voxels read at once."""


def spline_tops(
    spline: Floats,
    floor: float,
    origin: NDArray[np.int_],
    stride: int,
    shape: Sequence[int],
) -> tuple[Floats, Floats]:
    """Return where a spline, read at the tomogram's voxels, has its tops.

    Parameters
    ----------
    spline : ndarray
        Coefficients, with `RIM` knots around the core; each in the middle of `stride` voxels.
    floor : float
        Smaller values are rounding.
    origin : ndarray of int
        The core's first voxel, zyx.
    stride : int
        Voxels.
    shape : sequence of int
        The tomogram's; beyond it lies nothing.

    Returns
    -------
    places : ndarray
        `(N, 3)` zyx voxels, subvoxel as `picking_peaks.quadratic_offsets` has them.
    values : ndarray
        At the tops' voxels.
    """
    knots = np.array(spline.shape) - 4  # which a cell can be read at
    where = _foreseen(spline, _nearly_largest(spline, floor))
    read = np.zeros(knots, bool)
    places: list[Floats] = [np.empty((0, 3))]
    values: list[Floats] = [np.empty(0)]
    cells = _Cells(spline, origin - stride * ROUNDS, stride, shape)
    for _ in range(1 + ROUNDS):
        read[tuple(where.T)] = True
        onward = [np.empty((0, 3), int)]
        for start in range(0, len(where), cells.many):
            part = where[start : start + cells.many]
            index, place, value, next_ones = cells.read(part)
            cell = part[index]
            mine = ((cell >= ROUNDS) & (cell < knots - ROUNDS)).all(axis=1)
            places.append(place[mine])
            values.append(value[mine])
            onward.append(next_ones)
        where = np.unique(np.concatenate(onward), axis=0)
        where = where[((where >= 0) & (where < knots)).all(axis=1)]
        where = where[~read[tuple(where.T)]]
    return np.concatenate(places), np.concatenate(values)


class _Cells:
    """Reads a spline at voxels, cell by cell."""

    def __init__(
        self, spline: Floats, origin: NDArray[np.int_], stride: int, shape: Sequence[int]
    ) -> None:
        steps = np.arange(-1, stride + 1)
        self.size = len(steps)
        self.many = max(1, FINE // self.size**3)
        # how a cell's voxels and the rim hang on five coefficients an axis
        self.rows = _cubic((steps - (stride - 1) / 2) / stride)
        self.plane = np.kron(self.rows, self.rows).T
        self.windows = sliding_window_view(spline, (5, 5, 5))
        self.corner, self.stride, self.shape = origin - 1, stride, np.array(shape)

    def read(
        self, where: NDArray[np.int_]
    ) -> tuple[NDArray[np.int_], Floats, Floats, NDArray[np.int_]]:
        """Read cells `(N, 3)`.

        Returns
        -------
        index, places, values : ndarray
            Of each top: the number of its cell, its place, its value.
        onward : ndarray of int
            `(M, 3)` cells beside those whose largest voxel lies in the rim.
        """
        five = self.windows[tuple(where.T)].reshape(-1, 25) @ self.plane
        cells = np.matmul(self.rows, five.reshape(len(where), 5, -1))
        cells = cells.reshape(-1, self.size, self.size, self.size)
        corner = self.corner + where * self.stride
        self._leave_out(cells, corner)
        index, tops = _local_maxima(cells)
        near = sliding_window_view(cells, (3, 3, 3), axis=(1, 2, 3))[(index, *(tops - 1).T)]
        places = corner[index] + tops + quadratic_offsets(near)
        best = cells.reshape(len(where), -1).argmax(axis=1)
        at = np.stack(np.unravel_index(best, cells.shape[1:]), axis=1)
        step = (at == self.size - 1).astype(int) - (at == 0)
        return index, places, near[:, 1, 1, 1], (where + step)[step.any(axis=1)]

    def _leave_out(self, cells: Floats, corner: NDArray[np.int_]) -> None:
        """Write -inf where a voxel lies outside the tomogram."""
        outer = np.flatnonzero(((corner < 0) | (corner + self.size > self.shape)).any(axis=1))
        for axis in range(3):
            at = corner[outer, axis, None] + np.arange(self.size)
            outside = ((at < 0) | (at >= self.shape[axis])).reshape(
                [-1, *(self.size if a == axis else 1 for a in range(3))]
            )
            cells[outer] = np.where(outside, -np.inf, cells[outer])


def _local_maxima(cells: Floats) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return which cells `(N, z, y, x)` have a voxel, and where, that is largest of 18.

    As `picking_peaks.local_maxima`, of voxels that are not in the rim: all cells are compared
    as one line, which is quicker than small cubes.
    """
    line, size = cells.reshape(-1), cells.shape[1]
    pitch = np.array([size * size, size, 1])
    most = int(pitch.sum())
    middle = line[most:-most]
    largest = np.ones(middle.shape, bool)
    for step in FACES:
        start = most + int(pitch @ step)
        largest &= middle >= line[start : start + len(middle)]
    at = np.flatnonzero(largest) + most
    index, inside = np.divmod(at, size**3)
    tops = np.stack(np.unravel_index(inside, cells.shape[1:]), axis=1)
    inner = ((tops > 0) & (tops < size - 1)).all(axis=1)
    at, index, tops = at[inner], index[inner], tops[inner]
    around = line[at[:, None] + np.array(FACES + EDGES) @ pitch]
    values = line[at, None]
    # what is flat, as padded tomograms are, has none
    keep = (values >= around).all(axis=1) & ((values > around) & np.isfinite(around)).any(axis=1)
    return index[keep], tops[keep]


def _nearly_largest(spline: Floats, floor: float) -> NDArray[np.int_]:
    """Return the knots `(N, 3)` which none of the six beside them surpasses by much."""
    found = []
    for number in range(2, len(spline) - 2):  # plane by plane: that stays in the cache
        middle = spline[number, 2:-2, 2:-2]
        size = np.abs(middle)
        near = size > floor  # in padded, constant corners only rounding is left
        limit = middle + NEARLY * size
        for beside in (
            spline[number, 2:-2, 1:-3],
            spline[number, 2:-2, 3:-1],
            spline[number, 1:-3, 2:-2],
            spline[number, 3:-1, 2:-2],
            spline[number - 1, 2:-2, 2:-2],
            spline[number + 1, 2:-2, 2:-2],
        ):
            near &= beside < limit
        at = np.flatnonzero(near)
        knots = np.full((len(at), 3), number - 2)
        knots[:, 1], knots[:, 2] = np.divmod(at, near.shape[1])
        found.append(knots)
    return np.concatenate(found)


def _foreseen(spline: Floats, where: NDArray[np.int_]) -> NDArray[np.int_]:
    """Return the knots `(N, 3)` whose derivatives do not exclude a top in the cell."""
    if not len(where):
        return where
    cube = sliding_window_view(spline, (3, 3, 3))[tuple((where + 1).T)]
    found = cube.reshape(-1, 27) @ _DERIVATIVES
    slope, curve = found[:, :3], found[:, 3:].reshape(-1, 3, 3)
    # within half a knot no second derivative brings the slope to zero
    keep = (np.abs(slope) <= STEEP / 2 * np.abs(curve).sum(axis=2)).all(axis=1)
    near = np.abs(newton_step(slope, curve)).max(axis=1) <= FAR  # NaN is not
    ratio = np.linalg.det(curve) / np.prod(curve[:, range(3), range(3)], axis=1)
    return where[keep & (near | (np.abs(ratio) < CLEAR))]


def _cubic(places: Floats) -> NDArray[np.float32]:
    """Return weights `(M, 5)` of the coefficients -2 ... 2 at places within one of zero."""
    far = np.abs(np.asarray(places)[:, None] - np.arange(-2, 3))
    near = 2 / 3 - far**2 + far**3 / 2
    return np.where(far < 1, near, np.clip(2 - far, 0, None) ** 3 / 6).astype(np.float32)


def _derivatives() -> NDArray[np.float32]:
    """Return `(27, 12)`: from 3 x 3 x 3 coefficients to slopes and second derivatives."""
    orders = np.array([[1 / 6, 2 / 3, 1 / 6], [-1 / 2, 0, 1 / 2], [1, -2, 1]])
    unit = np.eye(3, dtype=int)
    columns = [*unit, *(one + other for one in unit for other in unit)]
    return np.stack(
        [np.einsum("i,j,k->ijk", *orders[column]).ravel() for column in columns], axis=1
    ).astype(np.float32)


_DERIVATIVES = _derivatives()

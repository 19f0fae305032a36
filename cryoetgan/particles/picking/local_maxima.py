"""Local maxima of a volume in the 18-neighbourhood, and their subvoxel positions."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.io.exclusion import ExclusionMask

Floats = NDArray[np.floating]
FACES = [step for step in itertools.product((-1, 0, 1), repeat=3) if sum(map(abs, step)) == 1]
EDGES = [step for step in itertools.product((-1, 0, 1), repeat=3) if sum(map(abs, step)) == 2]
"""Offsets zyx from a voxel to its neighbours across faces and edges."""
NEIGHBOURHOOD = np.abs(np.indices((3, 3, 3)) - 1).sum(axis=0) <= 2
"""`(3, 3, 3)` True at a voxel and its 18 neighbours."""
MAX_OFFSET = 0.499
"""Voxels: a subvoxel position rounds to the voxel of its peak."""
MAX_CANDIDATE_SHARE = 1 / 32
"""Candidates per voxel; a larger share means that the volume has constant regions."""


@dataclass(frozen=True)
class Peaks:
    """Peaks of one picking response."""

    positions: Floats
    """`(N, 3)` zyx, voxels, subvoxel; only peaks above zero."""
    values: Floats
    """`(N,)` responses."""
    lowest: float
    highest: float
    """Lowest and highest response of all peaks, negative ones included: m and M of
    `dog.threshold`."""

    def outside(self, excluded: ExclusionMask) -> "Peaks":
        """Return the peaks that no excluded voxel holds.

        The largest of them becomes the M of the threshold, so that a masked gold bead does not
        raise the threshold of the particles.
        """
        good = ~excluded.holds(self.positions)
        values = self.values[good]
        highest = float(values.max()) if len(values) else self.lowest
        return Peaks(self.positions[good], values, self.lowest, highest)


class PeakList:
    """Collect peaks tile by tile, 16 bytes each.

    A tomogram of 54 billion voxels has about ten million peaks. Positions are therefore kept as
    float32, whose resolution is 0.0005 voxels at 6,000.
    """

    def __init__(self) -> None:
        self._positions: list[NDArray[np.float32]] = []
        self._values: list[NDArray[np.float32]] = []
        self._lowest, self._highest = np.inf, -np.inf

    def add(self, positions: Floats, values: Floats) -> None:
        """Add peaks; the values of negative peaks only extend the range."""
        if not len(values):
            return
        self._lowest = min(self._lowest, float(values.min()))
        self._highest = max(self._highest, float(values.max()))
        bright = values > 0
        self._positions.append(np.asarray(positions[bright], np.float32))
        self._values.append(np.asarray(values[bright], np.float32))

    def peaks(self) -> Peaks:
        """Return all peaks, sorted by position so that the order does not depend on the tiles."""
        if not self._values:
            return Peaks(np.empty((0, 3), np.float32), np.empty(0, np.float32), np.inf, -np.inf)
        positions, values = np.concatenate(self._positions), np.concatenate(self._values)
        order = np.lexsort(positions.T[::-1])
        return Peaks(positions[order], values[order], self._lowest, self._highest)


def local_maxima(response: Floats) -> NDArray[np.int_]:
    """Return the voxels that are largest in their 18-neighbourhood (3 x 3 x 3 without corners).

    `response` is `(z + 2, y + 2, x + 2)`: the voxels and a rim of one voxel, -inf outside the
    volume. The result is `(N, 3)` zyx, counted without the rim. A voxel inside a constant region,
    as in padded tomograms, is not a maximum.
    """
    middle = response[1:-1, 1:-1, 1:-1]
    candidate = np.ones(middle.shape, bool)
    for step in FACES:
        # comparing whole slices with the faces leaves few voxels to compare with the edges
        candidate &= middle >= _neighbours(response, step)
    if np.count_nonzero(candidate) > MAX_CANDIDATE_SHARE * candidate.size:
        # the voxels of the padding would take a hundred bytes each as a list of indices
        above = np.zeros(middle.shape, bool)
        for step in FACES + EDGES:
            neighbours = _neighbours(response, step)
            above |= (neighbours < middle) & (neighbours > -np.inf)
        candidate &= above
    where = np.argwhere(candidate)
    values = middle[tuple(where.T)]
    above_any = np.zeros(len(where), bool)
    keep = np.ones(len(where), bool)
    for step in FACES + EDGES:
        neighbours = response[tuple((where + 1 + step).T)]
        keep &= values >= neighbours
        above_any |= np.isfinite(neighbours) & (values > neighbours)
    return where[keep & above_any]


def _neighbours(response: Floats, step: tuple[int, ...]) -> Floats:
    inner = (slice(1 + s, n - 1 + s) for s, n in zip(step, response.shape, strict=True))
    return response[tuple(inner)]


def neighbourhoods(response: Floats, where: NDArray[np.int_]) -> Floats:
    """Return `(N, 3, 3, 3)`: each peak and its neighbours; arguments as in `local_maxima`."""
    steps = np.indices((3, 3, 3)).reshape(3, -1).T
    places = where[:, None] + steps
    return response[tuple(np.moveaxis(places, -1, 0))].reshape(-1, 3, 3, 3)


def quadratic_offsets(cube: Floats) -> Floats:
    """Return the maximum of a quadratic through each peak and its neighbours.

    `cube` is `(N, 3, 3, 3)` zyx with the peak in the middle, -inf outside the volume. The result
    is `(N, 3)` zyx in (-0.5, 0.5); zero along an axis on which the peak is the last voxel.
    """
    step = newton_step(*derivatives(cube))
    return np.clip(np.nan_to_num(step), -MAX_OFFSET, MAX_OFFSET)


def derivatives(cube: Floats) -> tuple[Floats, Floats]:
    """Return gradient `(N, 3)` and second derivatives `(N, 3, 3)` in the middle of cubes.

    An axis with a neighbour of -inf gets no gradient and a steep curvature, so its step is zero.
    """
    known = np.isfinite(cube)
    cube = np.where(known, cube, 0.0).astype(float)
    unit, axes = np.eye(3, dtype=int), range(3)

    def at(values: NDArray[Any], step: NDArray[np.int_]) -> NDArray[Any]:
        return values[(slice(None), *(1 + step))]

    inside = np.stack([at(known, one) & at(known, -one) for one in unit], axis=1)
    gradient = np.stack([(at(cube, one) - at(cube, -one)) / 2 for one in unit], axis=1) * inside
    curvature = np.empty((len(cube), 3, 3))
    for i, one in enumerate(unit):
        curvature[:, i, i] = at(cube, -one) - 2 * at(cube, 0 * one) + at(cube, one)
        for j, two in enumerate(unit[:i]):
            same, mixed = one + two, one - two
            cross = at(cube, same) + at(cube, -same) - at(cube, mixed) - at(cube, -mixed)
            curvature[:, i, j] = curvature[:, j, i] = cross / 4
    curvature *= inside[:, :, None] & inside[:, None]
    steep = -np.abs(curvature).max(axis=(1, 2)) - 1e-30
    curvature[:, axes, axes] = np.where(inside, curvature[:, axes, axes], steep[:, None])
    return gradient, curvature


def newton_step(gradient: Floats, curvature: Floats) -> Floats:
    """Return the step `(N, 3)` to the maximum of each quadratic, NaN if it has none."""
    first, second, third = (curvature[:, i] for i in range(3))
    rows = np.stack([np.cross(second, third), np.cross(third, first), np.cross(first, second)], 1)
    determinant = np.einsum("ni,ni->n", first, rows[:, 0])
    # negative definite, by its leading minors
    top = (first[:, 0] < 0) & (rows[:, 2, 2] > 0) & (determinant < 0)
    step = -np.einsum("nij,nj->ni", rows, gradient) / np.where(top, determinant, 1)[:, None]
    return np.where(top[:, None], step, np.nan)

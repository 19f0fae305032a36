"""Nearest neighbours in blocks: memory does not grow with the number of pairs.

Squared distances are computed in single precision. Comparisons that single precision
cannot decide are repeated in double precision, so the result has double precision.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
BLOCK = (512, 4096)
"""Rows and columns of the distance matrix held in memory at a time: 8 MB."""
UNDECIDED_BAND = 1e-5
"""Differences that single precision cannot decide, relative to the squared lengths."""
SPARE_NEIGHBOURS = 4
"""Neighbours beyond the k-th whose distances are computed in double precision."""
PAIRS_AT_A_TIME = 1024


@dataclass(frozen=True)
class BallCounts:
    """Memberships of N real (X_i) and M generated features (Y_j) in the balls of the other set."""

    real_balls_around_fake: NDArray[np.int64]  # (M,) number of real balls that contain Y_j
    real_ball_has_fake: NDArray[np.bool_]  # (N,) the ball of X_i contains any Y_j
    real_in_fake_manifold: NDArray[np.bool_]  # (N,) X_i lies in the ball of any Y_j


@dataclass(frozen=True)
class _Samples:
    """One set: as given, and centred in single precision with its squared lengths."""

    given: NDArray[Any]
    centred: Floats
    squares: Floats


def count_in_balls(
    real: NDArray[Any], fake: NDArray[Any], k: int, block: tuple[int, int] = BLOCK
) -> BallCounts:
    """Return which features, `(N, F)` and `(M, F)`, lie in the balls of the other set.

    A ball reaches to the k-th nearest neighbour in its own set.
    """
    # one origin for both: distances between large numbers lose digits in float32
    centre = real.mean(axis=0, dtype=np.float64)
    reals, fakes = _centre(real, centre), _centre(fake, centre)
    real_radii, fake_radii = (_squared_radii(samples, k, block) for samples in (reals, fakes))
    found = BallCounts(
        np.zeros(len(fake), np.int64), np.zeros(len(real), bool), np.zeros(len(real), bool)
    )
    for i in range(0, len(real), block[0]):
        rows = slice(i, i + block[0])
        for j in range(0, len(fake), block[1]):
            columns = slice(j, j + block[1])
            in_real, in_fake = _inside(
                reals, fakes, rows, columns, real_radii[rows], fake_radii[columns]
            )
            found.real_balls_around_fake[columns] += np.count_nonzero(in_real, axis=0)
            found.real_ball_has_fake[rows] |= in_real.any(axis=1)
            found.real_in_fake_manifold[rows] |= in_fake.any(axis=1)
    return found


def median_neighbour_distance(features: ArrayLike, k: int = 5) -> float:
    """Return the median distance of features `(N, F)` to their k-th nearest neighbour.

    It is small, compared with the same distance in the real set, if a generator produces
    the same volume again and again.
    """
    given = np.asarray(features)
    centre = given.mean(axis=0, dtype=np.float64)
    return float(np.median(np.sqrt(_squared_radii(_centre(given, centre), k, BLOCK))))


def _centre(given: NDArray[Any], centre: NDArray[np.float64]) -> _Samples:
    centred = np.empty(given.shape, np.float32)
    for start in range(0, len(given), BLOCK[0]):
        rows = slice(start, start + BLOCK[0])
        centred[rows] = given[rows] - centre
    return _Samples(given, centred, np.einsum("ij,ij->i", centred, centred))


def _squared_distances(a: _Samples, b: _Samples, rows: slice, columns: slice) -> Floats:
    """Return the squared distances of one block in single precision."""
    square = a.centred[rows] @ b.centred[columns].T
    square *= -2
    square += a.squares[rows, None]
    square += b.squares[None, columns]
    return square


def _exact_squared_distances(
    a: _Samples, b: _Samples, i: NDArray[np.int_], j: NDArray[np.int_]
) -> NDArray[Any]:
    """Return the squared distances of the pairs (i, j) in double precision."""
    out = np.empty(len(i))
    for start in range(0, len(i), PAIRS_AT_A_TIME):
        part = slice(start, start + PAIRS_AT_A_TIME)
        difference = a.given[i[part]].astype(np.float64) - b.given[j[part]]
        out[part] = np.einsum("ij,ij->i", difference, difference)
    return out


def _inside(
    a: _Samples,
    b: _Samples,
    rows: slice,
    columns: slice,
    a_radii: NDArray[np.float64],
    b_radii: NDArray[np.float64],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the pairs of a block that are closer than the radius of `a`, and of `b`."""
    square = _squared_distances(a, b, rows, columns)
    band = np.float32(UNDECIDED_BAND * (a.squares[rows].max() + b.squares[columns].max()))
    radii = a_radii.astype(np.float32)[:, None], b_radii.astype(np.float32)[None]
    in_a, in_b = (square < r + band for r in radii)
    i, j = np.nonzero(in_a | in_b)  # few: most pairs are far from each other
    near = square[i, j]
    close = [np.abs(near - r) <= band for r in (radii[0][i, 0], radii[1][0, j])]
    undecided = close[0] | close[1]
    i, j = i[undecided], j[undecided]
    if len(i):
        exact = _exact_squared_distances(a, b, i + rows.start, j + columns.start)
        in_a[i, j] = exact < a_radii[i]
        in_b[i, j] = exact < b_radii[j]
    return in_a, in_b


def _squared_radii(x: _Samples, k: int, block: tuple[int, int]) -> NDArray[np.float64]:
    """Return the squared distance of each sample to its k-th nearest other sample."""
    count = len(x.given)
    keep = min(k + SPARE_NEIGHBOURS, count - 1)
    radii = np.empty(count)
    for start in range(0, count, block[0]):
        rows = slice(start, min(start + block[0], count))
        index = np.arange(rows.start, rows.stop)
        distance = np.full((len(index), keep), np.inf, np.float32)
        neighbour = np.zeros((len(index), keep), np.int64)
        for first in range(0, count, block[1]):
            columns = slice(first, min(first + block[1], count))
            square = _squared_distances(x, x, rows, columns)
            own = (index >= columns.start) & (index < columns.stop)
            square[np.flatnonzero(own), index[own] - columns.start] = np.inf
            _update_nearest(distance, neighbour, square, first)
        pairs = np.repeat(index, keep), neighbour.ravel()
        exact = _exact_squared_distances(x, x, *pairs).reshape(-1, keep)
        radii[rows] = np.partition(exact, k - 1, axis=1)[:, k - 1]
    return radii


def _update_nearest(
    distance: Floats, neighbour: NDArray[np.int64], square: Floats, first: int
) -> None:
    """Update the nearest neighbours found so far, `(rows, keep)`, with one block of distances."""
    keep = distance.shape[1]
    farthest = distance.max(axis=1)
    if not np.isfinite(farthest).all():  # the first block: nothing has been found yet
        best = min(keep, square.shape[1])
        near = np.argpartition(square, best - 1, axis=1)[:, :best]
        distance[:, :best] = np.take_along_axis(square, near, axis=1)
        neighbour[:, :best] = near + first
        return
    rows, columns = np.nonzero(square < farthest[:, None])
    counts = np.bincount(rows, minlength=len(distance))
    most = int(counts.max(initial=0))
    if not most:
        return
    place = keep + np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    distances = np.full((len(distance), keep + most), np.inf, np.float32)
    neighbours = np.zeros((len(distance), keep + most), np.int64)
    distances[:, :keep], neighbours[:, :keep] = distance, neighbour
    distances[rows, place], neighbours[rows, place] = square[rows, columns], columns + first
    near = np.argpartition(distances, keep - 1, axis=1)[:, :keep]
    distance[:] = np.take_along_axis(distances, near, axis=1)
    neighbour[:] = np.take_along_axis(neighbours, near, axis=1)

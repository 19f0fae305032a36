"""Nearest neighbours in blocks: memory does not grow with the number of pairs.

Squared distances are computed in single precision. Comparisons that single precision
cannot decide are repeated in double precision, so the result has double precision.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
BLOCK = 256
"""Rows of the distance matrix held in memory at a time."""
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
    real: NDArray[Any], fake: NDArray[Any], k: int, block: int = BLOCK
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
    for start in range(0, len(real), block):
        rows = slice(start, start + block)
        square = _squared_distances(reals, fakes, rows)
        in_real = _inside(reals, fakes, rows, square, real_radii[rows, None])
        found.real_balls_around_fake[:] += np.count_nonzero(in_real, axis=0)
        found.real_ball_has_fake[rows] = in_real.any(axis=1)
        in_fake = _inside(reals, fakes, rows, square, fake_radii[None])
        found.real_in_fake_manifold[rows] = in_fake.any(axis=1)
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
    for start in range(0, len(given), BLOCK):
        rows = slice(start, start + BLOCK)
        centred[rows] = given[rows] - centre
    return _Samples(given, centred, np.einsum("ij,ij->i", centred, centred))


def _squared_distances(a: _Samples, b: _Samples, rows: slice) -> Floats:
    """Return the squared distances of some rows of `a` to all of `b` in single precision."""
    square = a.centred[rows] @ b.centred.T
    square *= -2
    square += a.squares[rows, None]
    square += b.squares[None]
    return square


def _exact_squared_distances(
    a: _Samples, b: _Samples, i: NDArray[np.int_], j: NDArray[np.int_]
) -> NDArray[np.float64]:
    """Return the squared distances of the pairs (i, j) in double precision."""
    out = np.empty(len(i))
    for start in range(0, len(i), PAIRS_AT_A_TIME):
        part = slice(start, start + PAIRS_AT_A_TIME)
        difference = a.given[i[part]].astype(np.float64) - b.given[j[part]]
        out[part] = np.einsum("ij,ij->i", difference, difference)
    return out


def _inside(
    a: _Samples, b: _Samples, rows: slice, square: Floats, radii: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return the pairs with a squared distance below `radii`, `(rows, 1)` or `(1, M)`."""
    inside = square < radii
    band = np.float32(UNDECIDED_BAND * (a.squares[rows].max() + b.squares.max()))
    i, j = np.nonzero(np.abs(square - radii.astype(np.float32)) <= band)
    exact = _exact_squared_distances(a, b, i + rows.start, j)
    inside[i, j] = exact < np.broadcast_to(radii, square.shape)[i, j]
    return inside


def _squared_radii(x: _Samples, k: int, block: int) -> NDArray[np.float64]:
    """Return the squared distance of each sample to its k-th nearest other sample."""
    count = len(x.given)
    keep = min(k + SPARE_NEIGHBOURS, count - 1)
    radii = np.empty(count)
    for start in range(0, count, block):
        rows = slice(start, start + block)
        square = _squared_distances(x, x, rows)
        own = np.arange(len(square))
        square[own, own + start] = np.inf
        near = np.argpartition(square, keep - 1, axis=1)[:, :keep]
        pairs = np.repeat(own + start, keep), near.ravel()
        exact = _exact_squared_distances(x, x, *pairs).reshape(-1, keep)
        radii[rows] = np.partition(exact, k - 1, axis=1)[:, k - 1]
    return radii

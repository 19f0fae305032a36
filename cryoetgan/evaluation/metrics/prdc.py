"""Precision, recall, density and coverage of generated features (paper, eq. 8 to 12).

Distances are computed in blocks of rows: memory does not grow with the number of pairs. Squared
distances are computed in single precision. Comparisons that single precision cannot decide are
repeated in double precision, so the result has double precision.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
BLOCK = 256  # rows of the distance matrix held in memory at a time
UNDECIDED_BAND = 1e-5
"""Differences that single precision cannot decide, relative to the squared lengths."""
SPARE_NEIGHBOURS = 4  # neighbours beyond the k-th whose distances are computed in double precision
PAIRS_AT_A_TIME = 1024


@dataclass(frozen=True)
class _Samples:
    """One set: as given, and centred in single precision with its squared lengths."""

    given: NDArray[Any]
    centred: Floats
    squares: Floats


def prdc(
    real_features: ArrayLike, generated_features: ArrayLike, k: int = 5, block: int = BLOCK
) -> dict[str, float]:
    """Return precision, recall, density and coverage.

    Sources: doi 10.48550/arXiv.1904.06991 (precision, recall), 10.48550/arXiv.2002.09797 (others).
    X_i are the N real features, Y_j the M generated ones. B(X_i, NND_k(X_i)) is the ball
    around X_i that reaches to its k-th nearest neighbour among the real features.

    - Paper, eq. 8: manifold(X) = union over i of B(X_i, NND_k(X_i))
    - Paper, eq. 9: precision = 1/M sum_j 1[Y_j in manifold(X)]
    - Paper, eq. 10: recall = 1/N sum_i 1[X_i in manifold(Y)]
    - Paper, eq. 11: density = 1/(k M) sum_j sum_i 1[Y_j in B(X_i, NND_k(X_i))]
    - Paper, eq. 12: coverage = 1/N sum_i 1[there is a j with Y_j in B(X_i, NND_k(X_i))]

    Parameters
    ----------
    real_features, generated_features : array_like
        `(N, F)` and `(M, F)`, more than k rows each.
    k : int
        Rank of the neighbour that sets the radius of a ball.
    block : int
        Rows of the distance matrix held in memory at a time.

    Returns
    -------
    dict
        precision, recall, coverage in [0, 1]; density in [0, N / k]. A density near N / k
        does not mean high quality: the generated samples vary too little.

    Examples
    --------
    >>> found = prdc([[0.0], [1.0], [3.0]], [[0.5], [4.5], [9.0]], k=1)
    >>> {name: round(value, 2) for name, value in found.items()}
    {'precision': 0.67, 'recall': 1.0, 'density': 1.0, 'coverage': 1.0}
    """
    real, fake = np.asarray(real_features), np.asarray(generated_features)
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"features have shapes {real.shape} and {fake.shape}; wanted (N, F) (M, F)"
        )
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"prdc with k = {k} needs more than {k} samples of each set")
    # one origin for both: distances between large numbers lose digits in float32
    centre = real.mean(axis=0, dtype=np.float64)
    reals, fakes = _centre(real, centre), _centre(fake, centre)
    real_radii, fake_radii = (_squared_radii(samples, k, block) for samples in (reals, fakes))
    real_balls_around_fake = np.zeros(len(fake), np.int64)
    real_ball_has_fake, real_in_fake_ball = np.zeros((2, len(real)), bool)
    for start in range(0, len(real), block):
        rows = slice(start, start + block)
        square = _squared_distances(reals, fakes, rows)
        in_real = _inside(reals, fakes, rows, square, real_radii[rows, None])
        real_balls_around_fake += np.count_nonzero(in_real, axis=0)
        real_ball_has_fake[rows] = in_real.any(axis=1)
        in_fake = _inside(reals, fakes, rows, square, fake_radii[None])
        real_in_fake_ball[rows] = in_fake.any(axis=1)
    return {
        "precision": float((real_balls_around_fake > 0).mean()),
        "recall": float(real_in_fake_ball.mean()),
        "density": float(real_balls_around_fake.sum() / (k * len(fake))),
        "coverage": float(real_ball_has_fake.mean()),
    }


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

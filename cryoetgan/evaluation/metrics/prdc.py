"""Precision, recall, density, coverage: who lies in whose neighbourhood."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
ROWS, COLUMNS = 512, 4096
"""Distances held at a time: 8 MB, whatever the number of samples."""
CLOSE = 1e-5
"""Relative to the squared lengths: single precision decides nothing closer than this."""
SPARE = 4
"""More neighbours than k that are looked at in double precision."""
PAIRS = 1024


@dataclass(frozen=True)
class _Samples:
    """One set: as given, and centred in single precision with squared lengths."""

    given: NDArray[Any]
    centred: Floats
    squares: Floats


def prdc(real_features: ArrayLike, generated_features: ArrayLike, k: int = 5) -> dict[str, float]:
    """Return precision, recall (arXiv 1904.06991), density and coverage (arXiv 2002.09797).

    Parameters
    ----------
    real_features, generated_features : array_like
        `(N, F)` and `(M, F)`, more than k rows each.
    k : int
        A sample's ball reaches to its k-th nearest neighbour in its own set.

    Returns
    -------
    dict
        precision, recall, coverage in [0, 1]; density in [0, N / k]. A density near N / k
        says that the generated samples vary too little, not that they are good.

    Raises
    ------
    ValueError
        Where a set is no matrix, has k rows or fewer, or the widths differ.

    Notes
    -----
    Paper, equations 9 to 12. Squared distances are computed block by block in single
    precision, so that memory does not grow with N M; what single precision cannot decide
    is computed again in double, so that the result is that of double precision.

    Examples
    --------
    >>> prdc([[0.0], [1.0], [2.0]], [[1.1], [1.2], [9.0]], k=1)["coverage"]
    1.0
    """
    real = np.asarray(real_features)
    fake = np.asarray(generated_features)
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"features have shapes {real.shape} and {fake.shape}; wanted (N, F) (M, F)"
        )
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"prdc with k = {k} needs more than {k} samples of each set")
    # one origin for both: distances between large numbers lose digits in float32
    centre = real.mean(axis=0, dtype=np.float64)
    reals, fakes = _samples(real, centre), _samples(fake, centre)
    real_radii, fake_radii = _radii(reals, k), _radii(fakes, k)
    inside_real = np.zeros(len(fake), np.int64)
    covered = np.zeros(len(real), bool)
    recalled = np.zeros(len(real), bool)
    for i in range(0, len(real), ROWS):
        rows = slice(i, i + ROWS)
        for j in range(0, len(fake), COLUMNS):
            columns = slice(j, j + COLUMNS)
            in_real, in_fake = _inside(
                reals, fakes, rows, columns, real_radii[rows], fake_radii[columns]
            )
            inside_real[columns] += np.count_nonzero(in_real, axis=0)
            covered[rows] |= in_real.any(axis=1)
            recalled[rows] |= in_fake.any(axis=1)
    return {
        "precision": float((inside_real > 0).mean()),
        "recall": float(recalled.mean()),
        "density": float(inside_real.sum() / (k * len(fake))),
        "coverage": float(covered.mean()),
    }


def radius(features: ArrayLike, k: int = 5) -> float:
    """Return the median distance of samples to their k-th nearest neighbour in their own set.

    Small beside that of real samples where a generator makes the same thing again and again,
    wherever that lies.

    Parameters
    ----------
    features : array_like
        `(N, F)`, more than k rows.
    k : int
        As for `prdc`.
    """
    given = np.asarray(features)
    centre = given.mean(axis=0, dtype=np.float64)
    return float(np.median(np.sqrt(_radii(_samples(given, centre), k))))


def _samples(given: NDArray[Any], centre: NDArray[np.float64]) -> _Samples:
    centred = np.empty(given.shape, np.float32)
    for start in range(0, len(given), ROWS):
        centred[start : start + ROWS] = given[start : start + ROWS] - centre
    return _Samples(given, centred, np.einsum("ij,ij->i", centred, centred))


def _squares(a: _Samples, b: _Samples, rows: slice, columns: slice) -> Floats:
    """Return squared distances of one block."""
    square = a.centred[rows] @ b.centred[columns].T
    square *= -2
    square += a.squares[rows, None]
    square += b.squares[None, columns]
    return square


def _exact(a: _Samples, b: _Samples, i: NDArray[np.int_], j: NDArray[np.int_]) -> NDArray[Any]:
    """Return squared distances of the pairs (i, j) in double precision."""
    out = np.empty(len(i))
    for start in range(0, len(i), PAIRS):
        part = slice(start, start + PAIRS)
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
    """Return which pairs of a block are closer than the radius of the one, of the other."""
    square = _squares(a, b, rows, columns)
    band = np.float32(CLOSE * (a.squares[rows].max() + b.squares[columns].max()))
    radii = a_radii.astype(np.float32)[:, None], b_radii.astype(np.float32)[None]
    in_a, in_b = (square < r + band for r in radii)
    i, j = np.nonzero(in_a | in_b)  # few: most pairs are far from each other
    near = square[i, j]
    close = [np.abs(near - r) <= band for r in (radii[0][i, 0], radii[1][0, j])]
    unsure = close[0] | close[1]
    i, j = i[unsure], j[unsure]
    if len(i):
        exact = _exact(a, b, i + rows.start, j + columns.start)
        in_a[i, j] = exact < a_radii[i]
        in_b[i, j] = exact < b_radii[j]
    return in_a, in_b


def _radii(x: _Samples, k: int) -> NDArray[np.float64]:
    """Return the squared distance of each sample to its k-th nearest other one."""
    count = len(x.given)
    keep = min(k + SPARE, count - 1)
    radii = np.empty(count)
    for start in range(0, count, ROWS):
        rows = slice(start, min(start + ROWS, count))
        index = np.arange(rows.start, rows.stop)
        value = np.full((len(index), keep), np.inf, np.float32)
        place = np.zeros((len(index), keep), np.int64)
        for first in range(0, count, COLUMNS):
            columns = slice(first, min(first + COLUMNS, count))
            square = _squares(x, x, rows, columns)
            here = (index >= columns.start) & (index < columns.stop)
            square[np.flatnonzero(here), index[here] - columns.start] = np.inf
            _keep_nearest(value, place, square, first)
        exact = _exact(x, x, np.repeat(index, keep), place.ravel()).reshape(-1, keep)
        radii[rows] = np.partition(exact, k - 1, axis=1)[:, k - 1]
    return radii


def _keep_nearest(value: Floats, place: NDArray[np.int64], square: Floats, first: int) -> None:
    """Bring the nearest kept so far, `(rows, keep)`, up to date with one block of distances."""
    keep = value.shape[1]
    farthest = value.max(axis=1)
    if not np.isfinite(farthest).all():  # nothing is kept yet: the first block
        best = min(keep, square.shape[1])
        near = np.argpartition(square, best - 1, axis=1)[:, :best]
        value[:, :best] = np.take_along_axis(square, near, axis=1)
        place[:, :best] = near + first
        return
    rows, columns = np.nonzero(square < farthest[:, None])
    counts = np.bincount(rows, minlength=len(value))
    most = int(counts.max(initial=0))
    if not most:
        return
    at = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    values = np.full((len(value), keep + most), np.inf, np.float32)
    places = np.zeros((len(value), keep + most), np.int64)
    values[:, :keep], places[:, :keep] = value, place
    values[rows, keep + at], places[rows, keep + at] = square[rows, columns], columns + first
    near = np.argpartition(values, keep - 1, axis=1)[:, :keep]
    value[:] = np.take_along_axis(values, near, axis=1)
    place[:] = np.take_along_axis(places, near, axis=1)

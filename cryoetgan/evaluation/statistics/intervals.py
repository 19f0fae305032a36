"""Intervals: Wilson for shares, subsampling without replacement for metrics."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.io.star import ANGLES, COORDINATES

Z = 1.959964
TOMOGRAMS = 6
"""From this many tomograms on, they are what is drawn; below, blocks of them."""
LARGEST = 1 / 3
"""Where a tomogram holds more of the rows, halves of equal numbers are made of blocks of all."""
BLOCKS = 3
"""Along each of the two longest axes of a tomogram."""


def wilson(right: float, count: float) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927, doi 10.1080/01621459.1927.10502953).

    Parameters
    ----------
    right, count : float
        How many of how many; effective numbers, so they need not be whole.

    Examples
    --------
    >>> [round(v, 3) for v in wilson(8, 10)]
    [0.49, 0.943]
    """
    if count <= 0:
        return 0.0, 1.0
    p, n = right / count, count
    middle = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    # rounding must not leave the share outside of its own interval
    low, high = min(p, float(middle - half)), max(p, float(middle + half))
    return max(0.0, low), min(1.0, high)


def clustered(right: NDArray[np.bool_], groups: NDArray[np.str_]) -> tuple[float, float]:
    """Return the 95 % interval of a share whose errors go together within groups.

    Parameters
    ----------
    right : ndarray of bool
        `(N,)`.
    groups : ndarray of str
        `(N,)` what is drawn as one; see `clusters`.

    Notes
    -----
    Wilson's interval at the sample size divided by the design effect, which is taken to
    be 1 where chance would make it smaller.
    """
    names = np.unique(groups)
    p, n = float(right.mean()), len(right)
    plain = p * (1 - p) / n
    if len(names) < 2 or plain == 0:
        return wilson(p * n, n)
    residual = sum((right[groups == name] - p).sum() ** 2 for name in names)
    effect = max(1.0, residual / n**2 * len(names) / (len(names) - 1) / plain)
    return wilson(p * n / effect, n / effect)


def clusters(table: Any) -> NDArray[np.str_]:
    """Return for each row what it must be drawn together with.

    Particles of one tomogram share noise, defocus and neighbours: tomograms are drawn
    where there are six or more of them, else blocks of space. Simulated and generated
    volumes go with the others of the same density.

    Parameters
    ----------
    table : pandas.DataFrame
        A volume set's rows.
    """
    if "rlnTomoName" in table:
        names = table["rlnTomoName"].to_numpy(str)
        if len(np.unique(names)) >= TOMOGRAMS or not set(COORDINATES) <= set(table):
            return names
        return _in_blocks(table, names)
    if set(ANGLES) <= set(table):
        # draws of one density share class and pose
        return np.array(
            [
                "{:.4f}:{:.4f}:{:.4f}".format(*row) if np.isfinite(row).all() else f"row {i}"
                for i, row in enumerate(table[ANGLES].to_numpy(float))
            ]
        )
    return np.arange(len(table)).astype(str)


def even_clusters(table: Any) -> NDArray[np.str_]:
    """Return clusters of which halves of equal numbers can be made.

    Those of `clusters`, but blocks of space where one tomogram holds over a third of the
    rows: a half would be that tomogram, and equal numbers those of the small ones. What
    differs between tomograms is then not in the spread over halves.
    """
    found = clusters(table)
    placed = "rlnTomoName" in table and set(COORDINATES) <= set(table)
    _, counts = np.unique(found, return_counts=True)
    if placed and counts.max() > LARGEST * len(found):
        return _in_blocks(table, table["rlnTomoName"].to_numpy(str))
    return found


def _in_blocks(table: Any, names: NDArray[np.str_]) -> NDArray[np.str_]:
    where = table[COORDINATES].to_numpy(float)
    blocks = np.empty(len(names), object)
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        blocks[rows] = [f"{name}:{block}" for block in _blocks(where[rows])]
    return blocks.astype(str)


def _blocks(where: NDArray[np.float64]) -> list[str]:
    axes = np.argsort(np.ptp(where, axis=0))[-2:]
    parts = []
    for axis in axes:
        low, extent = where[:, axis].min(), max(np.ptp(where[:, axis]), 1e-9)
        parts.append(np.minimum((BLOCKS * (where[:, axis] - low) / extent).astype(int), BLOCKS - 1))
    return [f"{a}{b}" for a, b in zip(*parts, strict=True)]


def halves(
    groups: NDArray[np.str_], numbers: np.random.Generator
) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return the rows of two halves, each group whole in one of them, drawn at random.

    Groups come in random order, those of over a quarter of the rows first, each into the
    half that has fewer rows: as equal as groups allow. With a single group the rows are
    drawn one by one.
    """
    names, members = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        members = np.arange(len(groups))
    sizes = np.bincount(members)
    order = numbers.permutation(len(sizes))
    order = order[np.argsort(sizes[order] <= len(groups) / 4, kind="stable")]
    first, filled = np.zeros(len(sizes), bool), [0, 0]
    for group in order:
        side = int(filled[1] < filled[0])
        first[group], filled[side] = side == 0, filled[side] + int(sizes[group])
    if numbers.random() < 0.5:  # which half is first is chance, too
        first = ~first
    chosen = first[members]
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def around(value: float, halved: NDArray[np.float64] | list[float]) -> tuple[float, float]:
    """Return the 95 % interval around `value` from the metric's values on random halves.

    A half drawn without replacement differs from the whole with a variance of
    sigma^2 / N, which is that of the whole around the truth: no factor is needed. (A
    bootstrap with replacement holds copies, which break nearest-neighbour metrics.)
    """
    half = Z * float(np.std(halved, ddof=1)) if len(halved) > 1 else 0.0
    return float(value - half), float(value + half)


def subsampled(
    metric: Callable[[NDArray[np.int_]], float],
    groups: NDArray[np.str_],
    numbers: np.random.Generator,
    draws: int = 20,
) -> tuple[float, float]:
    """Return the 95 % interval of `metric(rows)`, by halves drawn group by group."""
    values = [metric(halves(groups, numbers)[0]) for _ in range(draws)]
    return around(metric(np.arange(len(groups))), values)


def grouped_variance(values: NDArray[Any], groups: NDArray[np.str_]) -> float:
    """Return the variance of the mean of `values` `(N,)`, of which those of a group go together.

    With a single group each value is taken by itself.
    """
    names, members = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        members = np.arange(len(values))
    sums = np.bincount(members, values - values.mean())
    return float((sums**2).sum() / len(values) ** 2 * len(sums) / max(len(sums) - 1, 1))


def over_seeds(
    right: NDArray[Any], groups: NDArray[np.str_] | None = None
) -> tuple[float, tuple[float, float]]:
    """Return a mean over seeds and test crops, and its 95 % interval.

    Both are a sample: the seeds (Student's t), and the crops, drawn cluster by cluster.
    Give the difference of two competitors, `right_a - right_b`, for a paired interval:
    what a seed or a crop does to both falls out.

    Parameters
    ----------
    right : ndarray
        `(seeds, crops)`: 1 where right, 0 where wrong, or the difference of two such.
    groups : ndarray of str, optional
        `(crops,)` from `clusters`; without it the crops are taken as given.
    """
    from scipy.stats import t

    values = np.asarray(right, float)
    seeds = len(values)
    mean = float(values.mean())
    square = 0.0
    if seeds > 1:
        square += (t.ppf(0.975, seeds - 1) ** 2) * values.mean(axis=1).var(ddof=1) / seeds
    if groups is not None:
        square += Z**2 * grouped_variance(values.mean(axis=0), groups)
    half = float(np.sqrt(square))
    return mean, (mean - half, mean + half)

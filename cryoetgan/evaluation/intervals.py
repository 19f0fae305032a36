"""Intervals: Wilson for shares, subsampling without replacement for metrics."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Z = 1.959964
DRAWS = 20


def wilson(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927, doi 10.1080/01621459.1927.10502953).

    Examples
    --------
    >>> [round(v, 3) for v in wilson(8, 10)]
    [0.49, 0.943]
    """
    if count == 0:
        return 0.0, 1.0
    p, n = right / count, count
    middle = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def clustered(right: NDArray[np.bool_], groups: NDArray[np.str_]) -> tuple[float, float]:
    """Return the 95 % interval of a share whose errors go together within groups.

    Parameters
    ----------
    right : ndarray of bool
        `(N,)`.
    groups : ndarray of str
        `(N,)` the tomogram of each; with one group, Wilson's interval.

    Notes
    -----
    Wilson's interval at the sample size divided by the design effect.
    """
    names = np.unique(groups)
    if len(names) < 2:
        return wilson(int(right.sum()), len(right))
    p, n = right.mean(), len(right)
    residual = sum((right[groups == name] - p).sum() ** 2 for name in names)
    spread = residual / n**2 * len(names) / (len(names) - 1)
    plain = p * (1 - p) / n
    effect = max(1.0, spread / plain) if plain > 0 else 1.0
    return wilson(round(p * n / effect), round(n / effect))


def subsampled(
    metric: Callable[[NDArray[np.int_], NDArray[np.int_]], float],
    real: int,
    generated: int,
    numbers: np.random.Generator,
) -> tuple[float, float]:
    """Return a 95 % interval of `metric(real rows, generated rows)`.

    Half of each set is drawn without replacement, again and again: a bootstrap with
    replacement holds copies, which break nearest-neighbour metrics. The spread of halves
    around their own mean is that of the whole times sqrt 2, and is scaled so, around the
    value of the whole (bias at half the size is thus left out).
    """
    whole = metric(np.arange(real), np.arange(generated))
    values = np.array(
        [
            metric(
                np.sort(numbers.permutation(real)[: max(2, real // 2)]),
                np.sort(numbers.permutation(generated)[: max(2, generated // 2)]),
            )
            for _ in range(DRAWS)
        ]
    )
    # halves overlap in half of their members: their differences show 1/sqrt 2 of the spread,
    # and a half varies sqrt 2 as much as the whole: the two factors cancel
    half = Z * values.std(ddof=1)
    return float(whole - half), float(whole + half)

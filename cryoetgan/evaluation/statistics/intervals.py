"""95 % confidence intervals of fractions, metrics, means over seeds, and AUC values."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cryoetgan.evaluation.statistics.clusters import Labels, random_halves

Floats = NDArray[np.floating]
Z_95 = 1.959964  # quantile of the normal distribution for 95 % intervals


def wilson(successes: float, count: float) -> tuple[float, float]:
    """Return the interval of a fraction (Wilson 1927, doi 10.1080/01621459.1927.10502953).

    Effective numbers need not be integers.

    Examples
    --------
    >>> [round(v, 3) for v in wilson(8, 10)]
    [0.49, 0.943]
    """
    if count <= 0:
        return 0.0, 1.0
    p, n = successes / count, count
    middle = (p + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 / (1 + Z_95**2 / n) * np.sqrt(p * (1 - p) / n + Z_95**2 / (4 * n**2))
    # rounding must not put the fraction outside its own interval
    low, high = min(p, float(middle - half)), max(p, float(middle + half))
    return max(0.0, low), min(1.0, high)


def cluster_robust_wilson(correct: NDArray[np.bool_], clusters: Labels) -> tuple[float, float]:
    """Return the interval of a fraction if the errors are correlated within clusters.

    This is Wilson's interval at the sample size divided by the design effect. A design
    effect below 1 is due to chance, and 1 is used. Both arrays are `(N,)`; `clusters` are
    `cluster_labels`.
    """
    names = np.unique(clusters)
    p, n = float(correct.mean()), len(correct)
    independent = p * (1 - p) / n
    if len(names) < 2 or independent == 0:
        return wilson(p * n, n)
    residual = sum((correct[clusters == name] - p).sum() ** 2 for name in names)
    effect = max(1.0, residual / n**2 * len(names) / (len(names) - 1) / independent)
    return wilson(p * n / effect, n / effect)


def cluster_robust_variance(values: NDArray[Any], clusters: Labels) -> float:
    """Return the variance of the mean of `values` `(N,)`, correlated within clusters.

    If there is a single cluster, the values are taken as independent.
    """
    names, members = np.unique(clusters, return_inverse=True)
    if len(names) < 2:
        members = np.arange(len(values))
    sums = np.bincount(members, values - values.mean())
    return float((sums**2).sum() / len(values) ** 2 * len(sums) / max(len(sums) - 1, 1))


def interval_from_halves(
    value: float, values_of_halves: NDArray[np.float64] | list[float]
) -> tuple[float, float]:
    """Return the interval around `value` from the values of the metric on random halves.

    A half drawn without replacement differs from the whole with a variance of sigma^2 / N.
    This is also the variance of the whole around the truth, so no factor is needed. (A
    bootstrap with replacement holds copies, which break nearest-neighbour metrics.)
    """
    several = len(values_of_halves) > 1
    half = Z_95 * float(np.std(values_of_halves, ddof=1)) if several else 0.0
    return float(value - half), float(value + half)


def half_sampling_interval(
    metric: Callable[[NDArray[np.int_]], float],
    clusters: Labels,
    rng: np.random.Generator,
    draws: int = 20,
) -> tuple[float, float]:
    """Return the interval of `metric(rows)` from random halves of whole clusters."""
    values = [metric(random_halves(clusters, rng)[0]) for _ in range(draws)]
    return interval_from_halves(metric(np.arange(len(clusters))), values)


def mean_over_seeds(
    correct: NDArray[Any], clusters: Labels | None = None
) -> tuple[float, tuple[float, float]]:
    """Return a mean over seeds and test volumes, and its interval.

    `correct`, `(seeds, N)`, is 1 if correct, 0 if wrong. Both axes are samples: the seeds
    (Student's t), and the test volumes, by cluster; without `clusters`, `(N,)`, the volumes do
    not add to the variance. Pass the difference of two methods for a paired interval: effects of
    a seed or a volume on both methods cancel.
    """
    from scipy.stats import t

    values = np.asarray(correct, float)
    seeds = len(values)
    mean = float(values.mean())
    square = 0.0
    if seeds > 1:
        square += (t.ppf(0.975, seeds - 1) ** 2) * values.mean(axis=1).var(ddof=1) / seeds
    if clusters is not None:
        square += Z_95**2 * cluster_robust_variance(values.mean(axis=0), clusters)
    half = float(np.sqrt(square))
    return mean, (mean - half, mean + half)


def placement_values(folds: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Return `(m,)` and `(n,)`, of the real and of the generated volumes of all folds.

    Folds are the scores of real and of generated volumes. They are compared within a fold alone,
    because scores of different classifiers are not comparable. Of one fold, the value of a real
    volume is the share of generated volumes above it, and of a generated volume the share of real
    ones below. Both means are the AUC: the mean over folds, weighted by their number of pairs.
    """
    parts = [(1 - share_below(real, made), share_below(made, real)) for real, made in folds]
    areas = np.array([real.mean() for real, _ in parts])
    pairs = np.array([len(real) * len(made) for real, made in parts], float)
    whole = float(areas @ pairs / pairs.sum())

    def join(values: Sequence[Floats]) -> Floats:
        weights = pairs / pairs.sum() * sum(map(len, values))
        return np.concatenate([
            whole + weight / len(one) * (one - area)
            for one, weight, area in zip(values, weights, areas, strict=True)
        ])  # fmt: skip

    return join([real for real, _ in parts]), join([made for _, made in parts])


def share_below(values: Floats, others: Floats) -> Floats:
    """Return for each value the share of the others that are lower; equal ones count half."""
    ordered = np.sort(others)
    lower, upper = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return np.asarray((lower + upper) / 2 / len(others))


def auc_interval(placements: Sequence[Floats], clusters: Sequence[Labels]) -> tuple[float, float]:
    """Return the interval of an AUC if the scores are correlated within clusters.

    It is based on the variance of the placement values, summed by cluster (Obuchowski 1997,
    doi 10.2307/2533958), and at least on the variance of independent volumes (Hanley 1982, doi
    10.1148/radiology.143.1.7063747). It does not include the variance between trainings.
    `placements` (`placement_values`) and `clusters` are `(m,)` of the real and `(n,)` of the
    generated volumes, which should have the higher scores.
    """
    (m, n), value = map(len, placements), float(placements[0].mean())
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    independent = value * (1 - value) + (m - 1) * (q1 - value**2) + (n - 1) * (q2 - value**2)
    clustered = sum(map(cluster_robust_variance, placements, clusters))
    half = Z_95 * float(np.sqrt(max(independent / (m * n), clustered, 0.0)))
    # both variances are 0 for perfect separation, which a few volumes reach by chance
    low, high = wilson(value * min(m, n), min(m, n)) if value in (0.0, 1.0) else (1.0, 0.0)
    return max(0.0, min(value - half, low)), min(1.0, max(value + half, high))


class Estimate(Protocol):
    """A value with the ends of its 95 % interval."""

    @property
    def value(self) -> float: ...  # noqa: D102
    @property
    def low(self) -> float: ...  # noqa: D102
    @property
    def high(self) -> float: ...  # noqa: D102


def is_lower(first: Estimate, second: Estimate, floor: float = -np.inf) -> bool:
    """Return whether the first of two independent values is significantly lower (95 %).

    A value below `floor` is below it by chance, and counts as `floor`.
    """
    error = np.hypot(first.high - first.value, second.value - second.low)
    return bool(second.value - max(first.value, floor) > error)

"""Power by Fourier shell and grey-value spread, with baselines and intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.evaluation.labelled_sets import LabelledSet
from cryoetgan.evaluation.measurement.metrics_io import (
    MetricInputs,
    MetricRecords,
    finite_or_none,
    metric_record,
)
from cryoetgan.evaluation.metrics.spectra import power_ratio, shell_powers, worst_ratio
from cryoetgan.evaluation.statistics.clusters import cluster_labels, random_halves
from cryoetgan.evaluation.statistics.intervals import interval_from_halves
from cryoetgan.imaging import GOOD_POWER_RATIO

VOLUMES, BASELINE_VOLUMES = 400, 100
"""Volumes whose spectra are computed, of each set and of each baseline."""
DRAWS = 50
Floats = NDArray[np.floating]


def spectrum_metrics(
    inputs: MetricInputs, baselines: Mapping[str, Floats], rng: np.random.Generator
) -> MetricRecords:
    """Return the records of power_ratio and sd_ratio; both are ideally 1.

    `power_ratio` is the ratio of the worst shell inside the tilt range; its key `shells`
    holds all of them. The keys `outside` and `outside_shells` are those beyond the tilt
    range (the missing wedge).
    """
    tilts = inputs.tilt_range
    a, b = _sample(inputs.real, rng), _sample(inputs.generated, rng)
    p, q = (shell_powers(part.volumes, tilts) for part in (a, b))
    mean_p = p.mean(axis=0)
    clusters = cluster_labels(a.table), cluster_labels(b.table)
    log_ratios, real_halves = [], []
    for _ in range(DRAWS):
        first, second = random_halves(clusters[0], rng)
        half = random_halves(clusters[1], rng)[0]
        p_first = p[first].mean(axis=0)
        log_ratios.append(np.log(power_ratio(p_first, q[half].mean(axis=0))))
        real_halves.append(worst_ratio(power_ratio(p_first, p[second].mean(axis=0))))
    ratio = power_ratio(mean_p, q.mean(axis=0))
    value = worst_ratio(ratio)
    shell = int(np.argmin(np.abs(ratio - value)))
    low, high = interval_from_halves(np.log(value), [float(row[shell]) for row in log_ratios])
    found = {"real_half": _typical_factor(real_halves)}
    for name, volumes in baselines.items():
        power = shell_powers(volumes[:BASELINE_VOLUMES], tilts).mean(axis=0)
        found[name] = worst_ratio(power_ratio(mean_p, power))
    warning = ""
    if not GOOD_POWER_RATIO[0] <= value <= GOOD_POWER_RATIO[1]:
        warning = f"shell {shell + 1} has {value:.3g} times the real power"
    extra: dict[str, Any] = {"shells": list(map(finite_or_none, ratio))}
    if tilts is not None:
        p, q = (shell_powers(part.volumes, tilts, inside=False) for part in (a, b))
        outside = power_ratio(p.mean(axis=0), q.mean(axis=0))
        extra["outside"] = finite_or_none(worst_ratio(outside))
        extra["outside_shells"] = list(map(finite_or_none, outside))
    interval = float(np.exp(low)), float(np.exp(high))
    return {
        "power_ratio": metric_record(value, interval, found, warning, **extra),
        "sd_ratio": _sd_record(inputs, baselines, rng),
    }


def _sample(volumes: LabelledSet, rng: np.random.Generator) -> LabelledSet:
    return volumes.subset(np.sort(rng.permutation(len(volumes))[:VOLUMES]))


def _typical_factor(ratios: list[float]) -> float:
    """Return the median factor, at least 1, by which the ratios differ from 1."""
    return float(np.exp(np.median(np.abs(np.log(ratios)))))


def _sd_record(
    inputs: MetricInputs, baselines: Mapping[str, Floats], rng: np.random.Generator
) -> dict[str, Any]:
    a, b = _moments(inputs.real.volumes), _moments(inputs.generated.volumes)
    clusters = cluster_labels(inputs.real.table), cluster_labels(inputs.generated.table)
    values, real_halves = [], []
    for _ in range(DRAWS):
        first, second = random_halves(clusters[0], rng)
        half = random_halves(clusters[1], rng)[0]
        values.append(_sd(b[half]) / _sd(a[first]))
        real_halves.append(_sd(a[second]) / _sd(a[first]))
    value = _sd(b) / _sd(a)
    found = {"real_half": _typical_factor(real_halves)}
    found |= {name: _sd(_moments(volumes)) / _sd(a) for name, volumes in baselines.items()}
    warning = ""
    if not GOOD_POWER_RATIO[0] <= value <= GOOD_POWER_RATIO[1]:
        warning = f"the standard deviation of grey values is {value:.3g} times the real one"
    return metric_record(value, interval_from_halves(value, values), found, warning)


def _moments(volumes: Floats) -> Floats:
    """Return the mean and the mean square of each volume, `(N, 2)`."""
    return np.array([[v.mean(), np.square(v).mean()] for v in map(np.float64, volumes)])


def _sd(moments: Floats) -> float:
    """Return the standard deviation of all voxels of the volumes with these moments."""
    mean, square = moments.mean(axis=0)
    return float(np.sqrt(max(square - mean**2, 0.0)))

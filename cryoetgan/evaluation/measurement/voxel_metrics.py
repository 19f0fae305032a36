"""Metrics of the voxels: structural similarity, power by Fourier shell, grey-value spread."""

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
from cryoetgan.evaluation.metrics import ssim
from cryoetgan.evaluation.metrics.spectra import power_ratio, shell_powers, worst_ratio
from cryoetgan.evaluation.statistics import intervals
from cryoetgan.evaluation.statistics.clusters import Labels, cluster_labels, random_halves
from cryoetgan.imaging import GOOD_POWER_RATIO

PAIRS = 60  # number of pairs compared by SSIM; `ssim_cycle` takes twice as many
GREY_RANGE_SD = 6.0  # data range of SSIM, in standard deviations of the real set
SMALLEST_BOX = 8  # voxels, for SSIM
VOLUMES, BASELINE_VOLUMES = 400, 100
"""Volumes whose spectra are computed, of each set and of each baseline."""
DRAWS = 50  # random halves for the intervals of power_ratio and sd_ratio
Floats = NDArray[np.floating]
Similarities = tuple[Floats, NDArray[np.int_]]
"""SSIM of each pair, and the row of its real volume."""


def similarity_metrics(
    inputs: MetricInputs, baselines: Mapping[str, Floats], rng: np.random.Generator
) -> MetricRecords:
    """Return the records of ssim_class and ssim_best.

    `ssim_class` compares a generated volume with a random real volume of its class,
    `ssim_best` with the real volume of the highest correlation. Two real volumes of one
    class differ in pose and noise: compare with the baseline `real`.
    """
    real, generated = inputs.real, inputs.generated
    if real.box < SMALLEST_BOX or len(real) < 2:
        return {}
    data_range = GREY_RANGE_SD * float(real.volumes.std())
    clusters = cluster_labels(real.table)
    # real against real: halves that share no block of space
    first, second = random_halves(clusters, rng)
    reference, names, clusters = real.volumes[first], real.names[first], clusters[first]
    candidates: dict[str, tuple[Floats, Labels | None]] = {
        "value": (generated.volumes, generated.names),
        "real": (real.volumes[second], real.names[second]),
        **{name: (volumes, None) for name, volumes in baselines.items()},
    }
    result: MetricRecords = {}
    if set(names) & set(generated.names):
        found = {
            key: _same_class_similarities(reference, names, *candidate, data_range, rng)
            for key, candidate in candidates.items()
        }
        result["ssim_class"] = _mean_record(found, clusters)
    found = {
        key: _best_similarities(reference, volumes, data_range, rng)
        for key, (volumes, _) in candidates.items()
    }
    return result | {"ssim_best": _mean_record(found, clusters)}


def _same_class_similarities(
    real: Floats,
    real_names: Labels,
    volumes: Floats,
    names: Labels | None,
    data_range: float,
    rng: np.random.Generator,
) -> Similarities:
    """Return similarities with random real volumes of the same class (any class if None)."""
    values, chosen = [], []
    for row in rng.permutation(len(volumes))[:PAIRS]:
        same = np.arange(len(real)) if names is None else np.flatnonzero(real_names == names[row])
        if len(same):
            chosen.append(int(rng.choice(same)))
            values.append(ssim(real[chosen[-1]], volumes[row], data_range))
    return np.array(values), np.array(chosen, int)


def _best_similarities(
    real: Floats, volumes: Floats, data_range: float, rng: np.random.Generator
) -> Similarities:
    """Return similarities with the real volumes of the highest correlation."""
    rows = rng.permutation(len(volumes))[:PAIRS]
    a = real.reshape(len(real), -1)
    a = a - a.mean(axis=1, keepdims=True)
    a /= np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12)
    b = volumes[rows].reshape(len(rows), -1)
    nearest = (a @ (b - b.mean(axis=1, keepdims=True)).T).argmax(axis=0)
    pairs = zip(nearest, rows, strict=True)
    return np.array([ssim(real[i], volumes[j], data_range) for i, j in pairs]), nearest


def _mean_record(found: dict[str, Similarities], clusters: Labels) -> dict[str, Any]:
    """Return the record of the mean of `value`; `clusters` `(N,)` belong to the real volumes."""
    values, rows = found.pop("value")
    baselines = {name: float(v.mean()) if len(v) else np.nan for name, (v, _) in found.items()}
    if not len(values):
        return metric_record(np.nan, None, baselines)
    mean, half = float(values.mean()), np.nan
    if not len(np.unique(clusters[rows])) < 2 <= len(values):  # else the variance is unknown
        variance = intervals.cluster_robust_variance(values, clusters[rows])
        half = intervals.Z_95 * np.sqrt(variance)
    return metric_record(mean, (mean - half, mean + half), baselines)


def cycle_similarity(originals: Floats, cycled: Floats, rng: np.random.Generator) -> MetricRecords:
    """Return the record of ssim_cycle: volumes `(N, z, y, x)` and their translations back."""
    rows = rng.permutation(len(originals))[: 2 * PAIRS]
    data_range = GREY_RANGE_SD * float(originals.std())
    noise = rng.normal(originals.mean(), originals.std(), originals.shape[1:])
    constant = np.full(originals.shape[1:], originals.mean())
    compared = {
        "value": list(cycled[rows]),
        "other": list(originals[np.roll(rows, 1)]),
        "constant": [constant] * len(rows),
        "noise": [noise] * len(rows),
    }
    own = np.arange(len(rows))
    found = {}
    for name, volumes in compared.items():
        pairs = zip(originals[rows], volumes, strict=True)
        found[name] = np.array([ssim(a, b, data_range) for a, b in pairs]), own
    return {"ssim_cycle": _mean_record(found, own.astype(str))}


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
    of_shell = [float(row[shell]) for row in log_ratios]
    low, high = intervals.interval_from_halves(np.log(value), of_shell)
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
    return metric_record(value, intervals.interval_from_halves(value, values), found, warning)


def _moments(volumes: Floats) -> Floats:
    """Return the mean and the mean square of each volume, `(N, 2)`."""
    return np.array([[v.mean(), np.square(v).mean()] for v in map(np.float64, volumes)])


def _sd(moments: Floats) -> float:
    """Return the standard deviation of all voxels of the volumes with these moments."""
    mean, square = moments.mean(axis=0)
    return float(np.sqrt(max(square - mean**2, 0.0)))

"""Structural similarity of generated and real volumes, with baselines and intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.evaluation.measurement.metrics_io import MetricInputs, MetricRecords, metric_record
from cryoetgan.evaluation.metrics import ssim
from cryoetgan.evaluation.statistics.clusters import cluster_labels, random_halves
from cryoetgan.evaluation.statistics.intervals import Z_95, cluster_robust_variance

PAIRS = 60
"""Number of compared pairs; `ssim_cycle` takes twice as many."""
GREY_RANGE_SD = 6.0
"""Data range of SSIM, in standard deviations of the real set."""
SMALLEST_BOX = 8
"""Voxels."""
Floats = NDArray[np.floating]
Rows = NDArray[np.int_]
Similarities = tuple[Floats, Rows]
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
    candidates: dict[str, tuple[Floats, NDArray[np.str_] | None]] = {
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
    real_names: NDArray[np.str_],
    volumes: Floats,
    names: NDArray[np.str_] | None,
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


def _mean_record(found: Mapping[str, Similarities], clusters: NDArray[np.str_]) -> dict[str, Any]:
    """Return the record of the mean of `value`; `clusters` `(N,)` belong to the real volumes."""
    values, rows = found["value"]
    baselines = {
        name: float(v.mean()) if len(v) else np.nan
        for name, (v, _) in found.items()
        if name != "value"
    }
    if not len(values):
        return metric_record(np.nan, None, baselines)
    mean, half = float(values.mean()), np.nan
    if not len(np.unique(clusters[rows])) < 2 <= len(values):  # else the variance is unknown
        half = Z_95 * np.sqrt(cluster_robust_variance(values, clusters[rows]))
    return metric_record(mean, (mean - half, mean + half), baselines)


def cycle_similarity(originals: Floats, cycled: Floats, rng: np.random.Generator) -> MetricRecords:
    """Return the record of ssim_cycle: volumes `(N, z, y, x)` and their translations back."""
    rows = rng.permutation(len(originals))[: 2 * PAIRS]
    data_range = GREY_RANGE_SD * float(originals.std())
    others = np.roll(rows, 1)
    noise = rng.normal(originals.mean(), originals.std(), originals.shape[1:])
    constant = np.full(originals.shape[1:], originals.mean())
    compared = {
        "value": [cycled[i] for i in rows],
        "other": [originals[j] for j in others],
        "constant": [constant] * len(rows),
        "noise": [noise] * len(rows),
    }
    own = np.arange(len(rows))
    found = {}
    for name, volumes in compared.items():
        pairs = zip(originals[rows], volumes, strict=True)
        found[name] = np.array([ssim(a, b, data_range) for a, b in pairs]), own
    return {"ssim_cycle": _mean_record(found, own.astype(str))}

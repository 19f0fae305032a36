"""IS, FID, KID, precision, recall, density and coverage, with baselines and intervals."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryoetgan.evaluation.classifiers.classifier import Classifier
from cryoetgan.evaluation.measurement.metrics_io import MetricInputs, MetricRecords, metric_record
from cryoetgan.evaluation.metrics import fid, inception_score, kid, prdc
from cryoetgan.evaluation.metrics.prdc import median_neighbour_distance
from cryoetgan.evaluation.statistics import clusters, intervals
from cryoetgan.evaluation.statistics.clusters import Labels

log = logging.getLogger("cryoetgan")
K_NEIGHBOURS = 5
DRAWS = 20
FULL_DRAWS_SAMPLES = 1000
"""Half size above which there are fewer draws: the spread over halves is small then."""
MIN_DRAWS = 4
CAP_FRACTION, HIGH_DENSITY, LOW_RECALL, HIGH_COVERAGE = 0.5, 2.0, 0.05, 0.9
MIN_CAP = 4.0  # N / k below which a density near it is not a sign of low variance
PRDC = ("precision", "recall", "density", "coverage")
MIN_SKILL = 0.25
"""Fraction of the way from chance to perfect accuracy below which features are unreliable."""
Floats = NDArray[np.floating]
Rows = NDArray[np.int_]


class _Draw(NamedTuple):
    """Rows of two halves of the real set and of the generated set, of equal length."""

    real: Rows
    other_real: Rows
    generated: Rows


def feature_metrics(
    inputs: MetricInputs,
    classifier: Classifier,
    baselines: Mapping[str, Floats],
    rng: np.random.Generator,
) -> MetricRecords:
    """Return the records of is, fid, kid, precision, recall, density and coverage.

    All but the first depend on the number of samples. Each is the mean over random halves
    of the real set against equally many generated volumes, in the real set's class
    proportions. Its baseline `real_half` compares the half with the other one: the numbers
    of samples are equal, so the two values can be compared. The spread over halves gives
    the interval. `spread`, a key of recall, is the distance to the k-th neighbour in the
    generated set, over the same in the real half.

    `baselines` are volumes `(M, z, y, x)` by name.
    """
    real, generated, layer = inputs.real, inputs.generated, inputs.layer
    weights, named_layer = classifier.weights_hash(), layer or classifier.config.layers[-1]
    about = {"features": {"network": classifier.name, "layer": named_layer, "weights": weights}}
    weak = weak_classifier_warning(len(classifier.classes), classifier.validation)
    result = {"is": _inception_record(inputs, classifier, baselines, rng)}
    result["is"] |= about | ({"warning": weak} if weak else {})
    sets = {"real": real.volumes, "generated": generated.volumes, **baselines}
    features = {name: classifier.features(volumes, layer) for name, volumes in sets.items()}
    rows = match_class_proportions(real.names, generated.names, rng)
    real_clusters = clusters.even_cluster_labels(real.table)
    generated_clusters = clusters.even_cluster_labels(generated.table)[rows]
    draws = _draw_halves(real_clusters, generated_clusters, rows, rng)
    n = len(draws[0].real)
    if n < 2:
        log.warning("%d real and %d generated volumes are too few for FID", len(real), len(rows))
        return result
    crops = features["real"]
    made = features["generated"]
    found = [_distances(crops[draw.real], made[draw.generated]) for draw in draws]
    real_halves = [_distances(crops[draw.real], crops[draw.other_real]) for draw in draws]
    values = {name: [distances[name] for distances in found] for name in found[0]}
    others = {name: _distances(crops[draws[0].real], features[name][:n]) for name in baselines}
    means = {name: float(np.mean(of_draws)) for name, of_draws in values.items()}
    saturated = saturation_warning(means, n / K_NEIGHBOURS) if "density" in means else ""
    for name, of_draws in values.items():
        low, high = intervals.interval_from_halves(means[name], of_draws)
        low = low if name == "kid" else max(low, 0.0)
        high = min(high, 1.0) if name in ("precision", "recall", "coverage") else high
        compared = {"real_half": float(np.mean([half[name] for half in real_halves]))}
        compared |= {key: other.get(name, np.nan) for key, other in others.items()}
        warning = "; ".join(filter(None, (weak, saturated if name in PRDC else "")))
        result[name] = metric_record(means[name], (low, high), compared, warning, n=n, **about)
    if "recall" in result:
        result["recall"]["spread"] = _relative_spread(
            [(crops[draw.real], made[draw.generated]) for draw in draws]
        )
    return result


def _relative_spread(pairs: list[tuple[Floats, Floats]]) -> float:
    """Return the mean neighbour distance in the generated set over that in the real set."""
    ratios = []
    for pair in pairs:
        real, generated = (median_neighbour_distance(part, K_NEIGHBOURS) for part in pair)
        ratios.append(generated / max(real, 1e-30))
    return float(np.mean(ratios))


def weak_classifier_warning(n_classes: int, validation: float | None) -> str:
    """Return a warning if the validation accuracy of a classifier is close to chance."""
    chance = 1 / n_classes
    if validation is not None and validation < chance + MIN_SKILL * (1 - chance):
        return (
            "unreliable features: the accuracy of their classifier is "
            f"{validation:.0%} on unseen real crops"
        )
    return ""


def _inception_record(
    inputs: MetricInputs,
    classifier: Classifier,
    baselines: Mapping[str, Floats],
    rng: np.random.Generator,
) -> dict[str, Any]:
    p = classifier.probabilities(inputs.generated.volumes)
    found = {
        name: inception_score(classifier.probabilities(volumes))
        for name, volumes in {"real": inputs.real.volumes, **baselines}.items()
    }
    labels = clusters.cluster_labels(inputs.generated.table)
    low, high = intervals.half_sampling_interval(
        lambda rows: inception_score(p[rows]), labels, rng, DRAWS
    )
    highest = float(len(classifier.classes))
    interval = max(low, 1.0), min(high, highest)
    return metric_record(inception_score(p), interval, found, most=highest)


def match_class_proportions(real: Labels, generated: Labels, rng: np.random.Generator) -> Rows:
    """Return generated rows in the class proportions of the real set.

    All rows are returned if a real class is missing in the generated set, or if over half
    of the rows would be lost. The difference in proportions then affects the metrics.
    """
    names, counts = np.unique(real, return_counts=True)
    rows = [np.flatnonzero(generated == name) for name in names]
    scale = min(len(found) / count for found, count in zip(rows, counts, strict=True))
    if not scale or scale * len(real) < sum(len(found) for found in rows) / 2:
        log.info("class proportions differ between the sets: this affects the metrics")
        return np.arange(len(generated))
    pairs = zip(rows, counts, strict=True)
    chosen = [rng.permutation(found)[: int(scale * count)] for found, count in pairs]
    return np.sort(np.concatenate(chosen))


def _draw_halves(
    real_clusters: Labels, generated_clusters: Labels, rows: Rows, rng: np.random.Generator
) -> list[_Draw]:
    """Return random halves of the real set and of the generated `rows`, of equal length."""
    size = min(len(real_clusters) // 2, max(len(rows) // 2, 1))
    count = min(DRAWS, max(MIN_DRAWS, DRAWS * FULL_DRAWS_SAMPLES // max(size, 1)))
    drawn = []
    for _ in range(count):
        first, second = clusters.random_halves(real_clusters, rng)
        half = clusters.random_halves(generated_clusters, rng)[0]
        drawn.append(_Draw(first, second, rows[half]))
    n = min(size, *(len(part) for draw in drawn for part in draw))
    return [_Draw(*(np.sort(rng.permutation(part)[:n]) for part in draw)) for draw in drawn]


def _distances(real: Floats, generated: Floats) -> dict[str, float]:
    found = {"fid": fid(real, generated), "kid": kid(real, generated)}
    if min(len(real), len(generated)) > K_NEIGHBOURS:
        found |= prdc(real, generated, K_NEIGHBOURS)
    return found


def saturation_warning(values: Mapping[str, float], cap: float) -> str:
    """Return a warning if precision, recall, density and coverage show too little variance.

    `cap` is N / k, the density of a set that lies in every real ball. It is near 1 for a few
    volumes; then good sets reach it, too.
    """
    if cap >= MIN_CAP and values["density"] > CAP_FRACTION * cap:
        return (
            f"density {values['density']:.3g} is close to its maximum N / k = {cap:.3g}: the "
            "generated volumes vary less than the real ones, as a constant volume does"
        )
    low_recall = values["recall"] < LOW_RECALL and values["coverage"] > HIGH_COVERAGE
    if values["density"] > HIGH_DENSITY or low_recall:
        return "the generated volumes vary less than the real ones (variance collapse)"
    return ""

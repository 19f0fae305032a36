"""Inception score, FID, KID, precision, recall, density, coverage, with baselines and intervals."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.evaluation.classifiers.classifier import NETWORKS, Classifier
from cryoetgan.evaluation.labelled_sets import Labelled
from cryoetgan.evaluation.measurement.record import Result, entry
from cryoetgan.evaluation.metrics import fid, inception_score, kid, prdc
from cryoetgan.evaluation.metrics.prdc import radius
from cryoetgan.evaluation.statistics.intervals import (
    around,
    clusters,
    even_clusters,
    halves,
    subsampled,
)

log = logging.getLogger("cryoetgan")
K = 5
DRAWS = 20
LARGE = 1000
"""Above this many samples fewer draws are made: their spread is small anyway."""
DENSITY_CAP, DENSITY_HIGH, RECALL_LOW, COVERAGE_HIGH = 0.5, 2.0, 0.05, 0.9
LEAST_CAP = 4.0
NEIGHBOURS = ("precision", "recall", "density", "coverage")
KNOWING = 0.25
"""Of the way from chance to always right: a classifier that is not there knows little."""
Floats = NDArray[np.floating]


def feature_metrics(
    real: Labelled,
    generated: Labelled,
    classifier: Classifier,
    layer: str | None,
    baselines: Mapping[str, Floats],
    numbers: np.random.Generator,
) -> Result:
    """Return is, fid, kid, precision, recall, density, coverage.

    All but the first depend on how many samples they see. Each is the mean over random
    halves of the real set against as many generated volumes, of the real set's class
    shares; its null `real_half` is the one half against the other: equal numbers, so the
    two can be compared. `spread`, of recall: distances to the k-th neighbour in the set over
    those in the real half. The spread over halves gives the interval.

    Parameters
    ----------
    real, generated : Labelled
        The sets.
    classifier : Classifier
        Trained on real volumes that are not in `real`.
    layer : str, optional
        Whose activations are the features.
    baselines : mapping
        Name to volumes `(M, z, y, x)`.
    numbers : numpy.random.Generator
        For the draws.
    """
    about = {
        "features": {
            "network": classifier.name,
            "layer": layer or NETWORKS[classifier.name].layer,
            "weights": classifier.weights_hash(),
        }
    }
    doubt = _doubt(classifier)
    result: Result = {"is": _inception(real, generated, classifier, baselines, numbers)}
    result["is"] |= about | ({"warning": doubt} if doubt else {})
    features = {
        "real": classifier.features(real.volumes, layer),
        "generated": classifier.features(generated.volumes, layer),
        **{name: classifier.features(volumes, layer) for name, volumes in baselines.items()},
    }
    rows = alike(real.names, generated.names, numbers)
    groups = even_clusters(real.table), even_clusters(generated.table)[rows]
    draws = _draws(*groups, rows, numbers)
    n = len(draws[0][0])
    if n < 2:
        log.warning(
            "%d real and %d generated volumes are too few for FID and its kind",
            len(real.names),
            len(rows),
        )
        return result
    values: dict[str, list[float]] = {}
    floors: dict[str, list[float]] = {}
    spreads = []
    for first, second, made in draws:
        a = features["real"][first]
        _append(values, _all(a, features["generated"][made]))
        _append(floors, _all(a, features["real"][second]))
        if n > K:
            spreads.append(radius(features["generated"][made], K) / max(radius(a, K), 1e-30))
    a = features["real"][draws[0][0]]
    others = {name: _all(a, features[name][:n]) for name in baselines}
    means = {name: float(np.mean(found)) for name, found in values.items()}
    warning = saturated(means, n / K) if "density" in means else ""
    for name, found in values.items():
        low, high = around(means[name], found)
        least, most = (
            (0.0, 1.0) if name in ("precision", "recall", "coverage") else (-np.inf, np.inf)
        )
        if name in ("fid", "density"):
            least = 0.0
        result[name] = entry(
            means[name],
            (max(low, least), min(high, most)),
            {
                "real_half": float(np.mean(floors[name])),
                **{key: other.get(name, np.nan) for key, other in others.items()},
            },
            "; ".join(filter(None, (doubt, warning if name in NEIGHBOURS else ""))),
            n=n,
            **about,
            **({"spread": float(np.mean(spreads))} if name == "recall" else {}),
        )
    return result


def _doubt(classifier: Classifier) -> str:
    chance = 1 / len(classifier.classes)
    least = chance + KNOWING * (1 - chance)
    if classifier.validation is not None and classifier.validation < least:
        return (
            f"the features' classifier is right on {classifier.validation:.0%} of real crops it "
            "has not seen: features of one that knows so little mean little"
        )
    return ""


def _inception(
    real: Labelled,
    generated: Labelled,
    classifier: Classifier,
    baselines: Mapping[str, Floats],
    numbers: np.random.Generator,
) -> dict[str, Any]:
    p = classifier.scores(generated.volumes)
    found = {"real": classifier.scores(real.volumes)}
    found |= {name: classifier.scores(volumes) for name, volumes in baselines.items()}
    low, high = subsampled(
        lambda rows: inception_score(p[rows]), clusters(generated.table), numbers, DRAWS
    )
    most = float(len(classifier.classes))
    return entry(
        inception_score(p),
        (max(low, 1.0), min(high, most)),
        {name: inception_score(scores) for name, scores in found.items()},
        most=most,
    )


def alike(
    real: NDArray[np.str_], generated: NDArray[np.str_], numbers: np.random.Generator
) -> NDArray[np.int_]:
    """Return generated rows in the real set's class shares.

    All rows where a real class is not generated, or would cost over half of the rows: the
    difference in shares is then part of what is measured.
    """
    names, counts = np.unique(real, return_counts=True)
    rows = [np.flatnonzero(generated == name) for name in names]
    scale = min(len(found) / count for found, count in zip(rows, counts, strict=True))
    if not scale or scale * len(real) < sum(len(found) for found in rows) / 2:
        log.info("class shares differ between the sets: the metrics count that, too")
        return np.arange(len(generated))
    chosen = [
        numbers.permutation(found)[: int(scale * count)]
        for found, count in zip(rows, counts, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def _draws(
    real: NDArray[np.str_],
    generated: NDArray[np.str_],
    rows: NDArray[np.int_],
    numbers: np.random.Generator,
) -> list[tuple[NDArray[np.int_], NDArray[np.int_], NDArray[np.int_]]]:
    """Return draws of (real half, other real half, generated), all of the same length."""
    size = min(len(real) // 2, max(len(rows) // 2, 1))
    wanted = DRAWS if size <= LARGE else max(4, DRAWS * LARGE // size)
    drawn = []
    for _ in range(wanted):
        first, second = halves(real, numbers)
        drawn.append((first, second, rows[halves(generated, numbers)[0]]))
    n = min(size, *(len(part) for parts in drawn for part in parts))

    def cut(part: NDArray[np.int_]) -> NDArray[np.int_]:
        return np.sort(numbers.permutation(part)[:n])

    return [(cut(first), cut(second), cut(made)) for first, second, made in drawn]


def _all(real: Floats, generated: Floats) -> dict[str, float]:
    found = {"fid": fid(real, generated), "kid": kid(real, generated)}
    if min(len(real), len(generated)) > K:
        found |= prdc(real, generated, K)
    return found


def _append(lists: dict[str, list[float]], values: Mapping[str, float]) -> None:
    for name, value in values.items():
        lists.setdefault(name, []).append(value)


def saturated(values: Mapping[str, float], cap: float) -> str:
    """Return why precision, recall, density and coverage are no sign of quality, if so.

    Parameters
    ----------
    values : mapping
        The four.
    cap : float
        N / k, the density of a set that lies in every real ball. Of few volumes it is near 1,
        which right ones reach.
    """
    if cap >= LEAST_CAP and values["density"] > DENSITY_CAP * cap:
        return (
            f"density {values['density']:.3g} is near its cap N / k = {cap:.3g}: the generated "
            "volumes vary less than real ones and lie in every real ball, as a constant volume "
            "would; this is no sign of quality"
        )
    if values["density"] > DENSITY_HIGH or (
        values["recall"] < RECALL_LOW and values["coverage"] > COVERAGE_HIGH
    ):
        return "the generated volumes vary less than the real ones (variance collapse)"
    return ""

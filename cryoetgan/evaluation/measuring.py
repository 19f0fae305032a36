"""All metrics of a generated set against a real one, each with interval, nulls and warning."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.evaluation.classifier import Classifier, train_classifier
from cryoetgan.evaluation.intervals import subsampled, wilson
from cryoetgan.evaluation.metrics import (
    auc,
    fid,
    inception_score,
    kid,
    pose_recovery,
    prdc,
    sd_ratio,
    shell_ratio,
    ssim,
)
from cryoetgan.evaluation.sets import Labelled
from cryoetgan.seeds import rng

log = logging.getLogger("cryoetgan")
K = 5
PAIRS = 100
POSES = 120
AUC_EPOCHS = 8
DENSITY_HIGH, RECALL_LOW, COVERAGE_HIGH = 2.0, 0.05, 0.9
RANGE_SD = 6.0
"""Structural similarity takes six standard deviations of the real set as its grey range."""
Floats = NDArray[np.floating]
Result = dict[str, dict[str, Any]]


def entry(
    value: float,
    interval: tuple[float, float] | None,
    nulls: Mapping[str, float],
    warning: str = "",
) -> dict[str, Any]:
    """Return one metric as it stands in the JSON file."""
    return {
        "value": float(value),
        "interval": None if interval is None else [float(interval[0]), float(interval[1])],
        "nulls": {name: float(number) for name, number in nulls.items()},
        "warning": warning or None,
    }


def measure(
    real: Labelled,
    generated: Labelled,
    classifier: Classifier | None,
    maps: Mapping[str, Floats] | None,
    tilts: tuple[float, float] | None,
    voxel_size: float,
    seed: int,
    device: torch.device,
) -> Result:
    """Return `{metric: {value, interval, nulls, warning}}` of what the inputs allow.

    Parameters
    ----------
    real, generated : Labelled
        The sets; equal numbers are drawn where a metric is biased by them.
    classifier : Classifier, optional
        Its features and probabilities; trained on real volumes.
    maps : mapping, optional
        Class to density, for pose recovery.
    tilts : (float, float), optional
        Degrees.
    voxel_size : float
        Angstrom.
    seed : int
        Of all draws.
    device : torch.device
        For the two-sample test.
    """
    numbers = rng(seed, "measure")
    result: Result = {}
    nulls = _null_volumes(real.volumes, numbers)
    if classifier is not None:
        result |= _of_features(real, generated, classifier, nulls, numbers)
    result |= _of_structure(real, generated, nulls, numbers)
    result |= _of_spectra(real, generated, nulls, tilts, numbers)
    if maps and tilts is not None and {"rlnAngleRot", "cryoetganClass"} <= set(generated.table):
        result["pose_recovery"] = _poses(generated, maps, tilts, voxel_size, nulls, numbers)
    result["two_sample_auc"] = _two_sample(real, generated, seed, device)
    return result


def _null_volumes(real: Floats, numbers: np.random.Generator) -> dict[str, Floats]:
    count = min(len(real), 400)
    noise = numbers.normal(real.mean(), real.std(), (count, *real.shape[1:]))
    return {
        "constant": np.full((count, *real.shape[1:]), real.mean(), np.float32),
        "noise": noise.astype(np.float32),
    }


def _of_features(
    real: Labelled,
    generated: Labelled,
    classifier: Classifier,
    nulls: Mapping[str, Floats],
    numbers: np.random.Generator,
) -> Result:
    features = {"real": classifier.features(real.volumes)}
    features["generated"] = classifier.features(generated.volumes)
    features |= {name: classifier.features(v) for name, v in nulls.items()}
    n = min(len(real.volumes), len(generated.volumes))
    a = features["real"][np.sort(numbers.permutation(len(real.volumes))[:n])]
    b = features["generated"][np.sort(numbers.permutation(len(generated.volumes))[:n])]
    order = numbers.permutation(len(features["real"]))
    first, second = np.array_split(features["real"][order], 2)
    result: Result = {}
    probabilities = classifier.scores(generated.volumes)
    real_probabilities = classifier.scores(real.volumes)
    result["is"] = entry(
        inception_score(probabilities),
        subsampled(lambda _, g: inception_score(probabilities[g]), 2, len(probabilities), numbers),
        {
            "real": inception_score(real_probabilities),
            **{name: inception_score(classifier.scores(v)) for name, v in nulls.items()},
        },
    )
    for name, metric in (("fid", fid), ("kid", kid)):
        result[name] = entry(
            metric(a, b),
            subsampled(_rows(metric, a, b), n, n, numbers),
            {
                "real_half": metric(first, second),
                **{key: metric(a, features[key][:n]) for key in nulls},
            },
        )
    if n > 2 * K + 1 and len(second) > K:
        result |= _neighbours(a, b, first, second, features, list(nulls), numbers)
    return result


def _rows(
    metric: Callable[[Floats, Floats], float], a: Floats, b: Floats
) -> Callable[[NDArray[np.int_], NDArray[np.int_]], float]:
    return lambda r, g: metric(a[r], b[g])


def _one_of_prdc(name: str) -> Callable[[Floats, Floats], float]:
    return lambda real, generated: prdc(real, generated, K)[name]


def _neighbours(
    a: Floats,
    b: Floats,
    first: Floats,
    second: Floats,
    features: Mapping[str, Floats],
    nulls: list[str],
    numbers: np.random.Generator,
) -> Result:
    values = prdc(a, b, K)
    halves = prdc(first, second, K)
    others = {name: prdc(a, features[name], K) for name in nulls if len(features[name]) > K}
    result: Result = {}
    warning = _saturated(values, len(a) / K)
    for name, value in values.items():
        interval = subsampled(_rows(_one_of_prdc(name), a, b), len(a), len(b), numbers)
        null = {"real_half": halves[name], **{key: other[name] for key, other in others.items()}}
        result[name] = entry(value, interval, null, warning)
    return result


def _saturated(values: Mapping[str, float], cap: float) -> str:
    if values["density"] > 0.8 * cap:
        return (
            f"density is near its cap {cap:.0f} (N / k): the generated set varies too little; "
            "this is no sign of quality"
        )
    if values["density"] > DENSITY_HIGH or (
        values["recall"] < RECALL_LOW and values["coverage"] > COVERAGE_HIGH
    ):
        return "the generated set varies less than the real one (variance collapse)"
    return ""


def _of_structure(
    real: Labelled, generated: Labelled, nulls: Mapping[str, Floats], numbers: np.random.Generator
) -> Result:
    """Structural similarity to a real volume of the same class, and to the most similar one."""
    span = RANGE_SD * float(real.volumes.std())
    common = sorted(set(real.names) & set(generated.names))
    if not common or min(real.volumes.shape[1:]) < 8:
        return {}
    pairs, real_pairs = [], []
    for _ in range(PAIRS):
        name = common[int(numbers.integers(len(common)))]
        mine = np.flatnonzero(generated.names == name)
        theirs = np.flatnonzero(real.names == name)
        pairs.append((int(numbers.choice(mine)), int(numbers.choice(theirs))))
        if len(theirs) > 1:
            real_pairs.append(tuple(int(i) for i in numbers.choice(theirs, 2, replace=False)))
    values = np.array([ssim(generated.volumes[g], real.volumes[r], span) for g, r in pairs])
    between = [ssim(real.volumes[i], real.volumes[j], span) for i, j in real_pairs]
    flat = nulls["constant"][0]
    constant = [ssim(flat, real.volumes[r], span) for _, r in pairs]
    result = {
        "ssim_class": entry(
            values.mean(),
            _mean_interval(values),
            {"real": float(np.mean(between)) if between else 0.0, "constant": np.mean(constant)},
        )
    }
    candidates = numbers.permutation(len(real.volumes))[:12]
    best = np.array(
        [
            max(ssim(generated.volumes[g], real.volumes[r], span) for r in candidates)
            for g in {g for g, _ in pairs[:20]}
        ]
    )
    flat_best = max(ssim(flat, real.volumes[r], span) for r in candidates)
    result["ssim_best"] = entry(best.mean(), _mean_interval(best), {"constant": flat_best})
    return result


def _mean_interval(values: Floats) -> tuple[float, float]:
    half = 1.96 * float(values.std()) / np.sqrt(max(len(values), 1))
    return float(values.mean()) - half, float(values.mean()) + half


def _of_spectra(
    real: Labelled,
    generated: Labelled,
    nulls: Mapping[str, Floats],
    tilts: tuple[float, float] | None,
    numbers: np.random.Generator,
) -> Result:
    """Power by shell inside the tilt range (1 is right), and the spread of voxels."""
    n = min(len(real.volumes), len(generated.volumes), 200)
    a, b = real.volumes[:n], generated.volumes[numbers.permutation(len(generated.volumes))[:n]]
    ratio = shell_ratio(a, b, tilts)
    worst = ratio[int(np.argmax(np.abs(np.log(np.maximum(ratio, 1e-9)))))]
    half = n // 2
    halves = shell_ratio(a[:half], a[half:], tilts) if half else ratio
    result = {
        "power_ratio": entry(
            float(np.median(ratio)),
            None,
            {
                "real_half": np.median(halves),
                **{k: np.median(shell_ratio(a, v[:n], tilts)) for k, v in nulls.items()},
            },
            "" if 0.5 < worst < 2 else f"the worst shell has {worst:.3g} times the real power",
        )
    }
    result["power_ratio"]["shells"] = [float(value) for value in ratio]
    spread = subsampled(lambda r, g: sd_ratio(a[r], b[g]), len(a), len(b), numbers)
    result["sd_ratio"] = entry(
        sd_ratio(real.volumes, generated.volumes),
        spread,
        {"constant": 0.0, "noise": sd_ratio(real.volumes, nulls["noise"])},
    )
    return result


def _poses(
    generated: Labelled,
    maps: Mapping[str, Floats],
    tilts: tuple[float, float],
    voxel_size: float,
    nulls: Mapping[str, Floats],
    numbers: np.random.Generator,
) -> dict[str, Any]:
    rows = np.flatnonzero(np.isin(generated.names, list(maps)))
    rows = np.sort(numbers.permutation(rows)[:POSES])
    table = generated.table.iloc[rows]
    right = pose_recovery(generated.volumes[rows], table, maps, tilts, voxel_size)
    noise = np.resize(nulls["noise"], (len(rows), *generated.volumes.shape[1:]))
    by_chance = pose_recovery(noise, table, maps, tilts, voxel_size)
    return entry(
        right.mean(),
        wilson(int(right.sum()), len(right)),
        {"chance": 1 / len(maps), "noise": by_chance.mean()},
    )


def _two_sample(
    real: Labelled, generated: Labelled, seed: int, device: torch.device
) -> dict[str, Any]:
    """How well a fresh classifier tells generated from real on volumes it has not seen."""
    numbers = rng(seed, "two_sample")
    n = min(len(real.volumes), len(generated.volumes))
    a = real.volumes[np.sort(numbers.permutation(len(real.volumes))[:n])]
    b = generated.volumes[np.sort(numbers.permutation(len(generated.volumes))[:n])]
    volumes = np.concatenate([a, b])
    labels = np.repeat([0, 1], n)
    seen = np.tile(np.arange(n) < n // 2, 2)
    trained = train_classifier(
        volumes[seen],
        labels[seen],
        ["real", "generated"],
        np.zeros(int(seen.sum()), np.int8),
        epochs=AUC_EPOCHS,
        symmetric=real.symmetric,
        device=device,
        seed=seed,
        what="telling real from generated",
    )
    scores = trained.scores(volumes[~seen])[:, 1]
    value = auc(scores, labels[~seen] == 1)
    half = 1.96 * np.sqrt(value * (1 - value) / max(n - n // 2, 1))
    interval = max(0.0, value - half), min(1.0, value + half)
    return entry(value, interval, {"same": 0.5})

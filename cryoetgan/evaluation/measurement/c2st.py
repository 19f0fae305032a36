"""Classifier two-sample test (C2ST, doi 10.48550/arXiv.1610.06545) of generated against real."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.evaluation.classifiers.train_classifier import TrainingOptions, train_classifier
from cryoetgan.evaluation.measurement.feature_metrics import match_class_proportions
from cryoetgan.evaluation.measurement.metrics_io import MetricInputs, metric_record
from cryoetgan.evaluation.statistics.clusters import cluster_labels
from cryoetgan.evaluation.statistics.intervals import auc_interval
from cryoetgan.evaluation.statistics.spatial_split import spatial_split
from cryoetgan.seeds import rng

SAMPLES, BASELINE_SAMPLES = 1800, 300
"""Volumes shown in training, for the value and for each baseline."""
EPOCHS = (3, 40)  # lowest and highest number
MIN_VOLUMES = 8  # in each of the four parts: real and generated, training and test
Floats = NDArray[np.floating]
Pair = tuple[Floats, Floats]


@dataclass(frozen=True)
class _Trainer:
    """Trains a new classifier for each test, with volumes drawn by one random generator."""

    symmetric: bool
    device: torch.device
    seed: int
    generator: np.random.Generator

    def test(self, train: Pair, test: Pair, samples: int, name: str) -> tuple[float, Pair]:
        """Return the AUC on the test pair (real, other), and the scores of both sets."""
        from scipy.stats import mannwhitneyu

        n = min(map(len, train))
        equal = [v[np.sort(self.generator.permutation(len(v))[:n])] for v in train]
        epochs = int(np.clip(samples // (2 * n), *EPOCHS))
        title = f"training a classifier of real and {name}"
        classifier = train_classifier(
            np.concatenate(equal),
            np.repeat([0, 1], n),
            ["real", "generated"],
            TrainingOptions("small", epochs, self.device, self.seed, title),
            symmetric=self.symmetric,
        )
        real, other = (classifier.probabilities(v)[:, 1] for v in test)
        pairs_in_order = mannwhitneyu(other, real, method="asymptotic").statistic
        return float(pairs_in_order / (len(real) * len(other))), (real, other)


def c2st_auc(
    inputs: MetricInputs, baselines: Mapping[str, Floats], seed: int, device: torch.device
) -> dict[str, Any] | None:
    """Return the AUC of a new classifier of real and generated volumes on unseen volumes.

    Real crops are split by space, generated volumes by density, so nothing is in both
    parts. The AUC is 0.5 for indistinguishable sets and 1 for perfectly separated ones. Both
    sets have the same number of volumes and the same class proportions.

    `baselines` are volumes `(M, z, y, x)` by name, in place of the generated ones. The result
    is None if a part has fewer than eight volumes.
    """
    real, generated = inputs.real, inputs.generated
    generator = rng(seed, "two_sample")
    sides = spatial_split(real.table, real.box, 0.5, generator)
    warning = ""
    if sides is None:
        sides = generator.permutation(np.arange(len(real)) % 2).astype(np.int8)
        warning = "the real crops are too crowded for a split by space: the two parts overlap"
    rows = match_class_proportions(real.names, generated.names, generator)
    # the clusters of all rows: blocks of space depend on the extent of the whole set
    generated_clusters = cluster_labels(generated.table)[rows]
    generated = generated.subset(rows)
    other_sides = spatial_split(generated.table, real.box, 0.5, generator)
    if other_sides is None:
        other_sides = (np.arange(len(generated)) % 2).astype(np.int8)
    train, test = (
        (real.volumes[sides == side], generated.volumes[other_sides == side]) for side in (0, 1)
    )
    if min(map(len, (*train, *test))) < MIN_VOLUMES:
        return None
    trainer = _Trainer(real.symmetric, device, seed, generator)
    value, scores = trainer.test(train, test, SAMPLES, "generated")
    clusters = cluster_labels(real.table)[sides == 1], generated_clusters[other_sides == 1]
    # real against real: the classes are drawn at random, so the AUC is 0.5 except by chance
    first, second = (_random_halves(part[0], generator) for part in (train, test))
    found = {"real_half": trainer.test(first, second, BASELINE_SAMPLES, "real")[0]}
    for name, volumes in baselines.items():
        half = len(volumes) // 2
        parts = (train[0], volumes[:half]), (test[0], volumes[half:])
        found[name] = trainer.test(*parts, BASELINE_SAMPLES, name)[0]
    return metric_record(value, auc_interval(value, scores, clusters), found, warning)


def _random_halves(volumes: Floats, generator: np.random.Generator) -> Pair:
    first, second = np.array_split(generator.permutation(len(volumes)), 2)
    return volumes[np.sort(first)], volumes[np.sort(second)]

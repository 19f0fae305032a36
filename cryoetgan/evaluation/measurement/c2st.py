"""Classifier two-sample test (C2ST, doi 10.48550/arXiv.1610.06545) of generated against real."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.evaluation.classifiers.train_classifier import TrainingOptions, train_classifier
from cryoetgan.evaluation.labelled_sets import LabelledSet
from cryoetgan.evaluation.measurement.feature_metrics import match_class_proportions
from cryoetgan.evaluation.measurement.metrics_io import MetricInputs, metric_record
from cryoetgan.evaluation.statistics.clusters import cluster_labels
from cryoetgan.evaluation.statistics.intervals import auc_interval, placement_values
from cryoetgan.evaluation.statistics.spatial_split import spatial_folds, spatial_split
from cryoetgan.seeds import rng

SAMPLES, BASELINE_SAMPLES = 1800, 300
"""Volumes shown in each training, for the value and for the baselines."""
EPOCHS = (3, 40)  # lowest and highest number
MIN_VOLUMES = 8  # in each of the four parts: real and generated, training and test
FEW_VOLUMES, FOLDS = 32, 4
"""Volumes of a part below which the real crops are divided into blocks, and their largest number."""
Floats = NDArray[np.floating]
Pair = tuple[Floats, Floats]
"""Volumes, or scores, of the real and of the other set."""
Rows = NDArray[np.int_]
Folds = list[tuple[Rows, Rows]]
"""Rows for training and for the test, fold by fold."""


@dataclass(frozen=True)
class _Trainer:
    """Trains a new classifier for each test, with volumes drawn by one random generator."""

    symmetric: bool
    device: torch.device
    seed: int
    generator: np.random.Generator

    def test(self, folds: Sequence[tuple[Pair, Pair]], samples: int, name: str) -> Pair:
        """Return the placement values of both sets on the test pairs of all folds.

        A fold is a pair (real, other) for training and one for the test.
        """
        found: list[Pair] = []
        for train, test in folds:
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
            found.append((real, other))
        return placement_values(found)


def auc(placements: Pair) -> float:
    """Return the probability that a generated volume scores above a real one."""
    return float(placements[0].mean())


def c2st_auc(
    inputs: MetricInputs, baselines: Mapping[str, Floats], seed: int, device: torch.device
) -> dict[str, Any] | None:
    """Return the AUC of a new classifier of real and generated volumes on unseen volumes.

    Real crops are split by space, generated volumes by density, so nothing is in both
    parts. Each part is the test once. The AUC is 0.5 for indistinguishable sets and 1 for perfectly
    separated ones. Both sets have the same number of volumes and the same class proportions.

    If a part would have fewer than `FEW_VOLUMES`, the real crops are divided into up to `FOLDS`
    blocks of space.

    `baselines` are volumes `(M, z, y, x)` by name, in place of the generated ones. The result
    is None if a part has fewer than eight volumes.
    """
    real, generated = inputs.real, inputs.generated
    generator = rng(seed, "two_sample")
    real_folds, in_blocks, warning = _real_folds(real, generator)
    rows = match_class_proportions(real.names, generated.names, generator)
    # the clusters of all rows: blocks of space depend on the extent of the whole set
    generated_clusters = cluster_labels(generated.table)[rows]
    generated = generated.subset(rows)
    blocks = len(real_folds) if in_blocks else 0
    generated_folds = _generated_folds(generated, blocks, generator)
    if min(len(part) for fold in (*real_folds, *generated_folds) for part in fold) < MIN_VOLUMES:
        return None
    trainer = _Trainer(real.symmetric, device, seed, generator)

    def pairs(volumes: Floats, folds: Folds) -> list[tuple[Pair, Pair]]:
        return [
            ((real.volumes[a], volumes[c]), (real.volumes[b], volumes[d]))
            for (a, b), (c, d) in zip(real_folds, folds, strict=True)
        ]

    placements = trainer.test(pairs(generated.volumes, generated_folds), SAMPLES, "generated")
    clusters = [
        np.concatenate([labels[test] for _, test in folds])
        for labels, folds in (
            (cluster_labels(real.table), real_folds),
            (generated_clusters, generated_folds),
        )
    ]
    # real against real: the classes are drawn at random, so the AUC is 0.5 except by chance
    halves = [
        (
            _random_halves(real.volumes[train], generator),
            _random_halves(real.volumes[test], generator),
        )
        for train, test in real_folds
    ]
    found = {"real_half": auc(trainer.test(halves, BASELINE_SAMPLES, "real"))}
    for name, volumes in baselines.items():
        folds = _all_folds(np.arange(len(volumes)) % len(real_folds))
        found[name] = auc(trainer.test(pairs(volumes, folds), BASELINE_SAMPLES, name))
    return metric_record(auc(placements), auc_interval(placements, clusters), found, warning)


def _real_folds(real: LabelledSet, generator: np.random.Generator) -> tuple[Folds, bool, str]:
    """Return the folds of the real crops, whether they are blocks, and a warning of overlaps."""
    sides = spatial_split(real.table, real.box, 0.5, generator)
    warning = ""
    if sides is None:
        sides = generator.permutation(np.arange(len(real)) % 2).astype(np.int8)
        warning = "the real crops are too crowded for a split by space: the two parts overlap"
    folds = _all_folds(sides)
    if min(map(len, folds[0])) >= FEW_VOLUMES:
        return folds, False, warning
    count = min(FOLDS, len(real) // MIN_VOLUMES)
    blocks = spatial_folds(real.table, real.box, count) if count > 1 else []
    enough = blocks and min(len(part) for fold in blocks for part in fold) >= MIN_VOLUMES
    return (blocks, True, "") if enough else (folds, False, warning)


def _generated_folds(generated: LabelledSet, blocks: int, generator: np.random.Generator) -> Folds:
    """Return folds of the generated volumes, two or one a block; no density is in two parts."""
    if blocks:
        _, members = np.unique(cluster_labels(generated.table), return_inverse=True)
        return _all_folds(generator.permutation(np.arange(members.max() + 1) % blocks)[members])
    sides = spatial_split(generated.table, generated.box, 0.5, generator)
    if sides is None:
        sides = (np.arange(len(generated)) % 2).astype(np.int8)
    return _all_folds(sides)


def _all_folds(parts: NDArray[np.integer]) -> Folds:
    """Return folds in which each part is the test of the others; -1 is in none. `parts` is `(N,)`."""
    return [
        (np.flatnonzero((parts != part) & (parts >= 0)), np.flatnonzero(parts == part))
        for part in reversed(range(parts.max() + 1))
    ]


def _random_halves(volumes: Floats, generator: np.random.Generator) -> Pair:
    first, second = np.array_split(generator.permutation(len(volumes)), 2)
    return volumes[np.sort(first)], volumes[np.sort(second)]

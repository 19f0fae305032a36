"""The two-sample test: whether a fresh classifier tells generated from real on unseen volumes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.evaluation.classifiers.train import train_classifier
from cryoetgan.evaluation.labelled_sets import Labelled, apart
from cryoetgan.evaluation.measurement.feature_metrics import alike
from cryoetgan.evaluation.measurement.record import entry
from cryoetgan.evaluation.metrics import auc
from cryoetgan.evaluation.statistics.intervals import Z, clusters, grouped_variance, wilson
from cryoetgan.seeds import rng

SAMPLES, BASELINE_SAMPLES = 1800, 300
"""Volumes shown in training, for the value and for each null."""
LEAST = 8
Floats = NDArray[np.floating]


def two_sample(
    real: Labelled,
    generated: Labelled,
    baselines: Mapping[str, Floats],
    seed: int,
    device: torch.device,
) -> dict[str, Any] | None:
    """Return the area under the curve of a classifier trained on one part, tested on another.

    Real crops are parted by space, generated volumes by density: nothing is on both
    sides. 0.5: cannot be told apart; 1: always. Equal numbers, equal class shares.

    Parameters
    ----------
    real, generated : Labelled
        The sets.
    baselines : mapping
        Name to volumes, in the place of generated ones.
    seed : int
        Of parts, weights and batches.
    device : torch.device
        Where the classifier is trained.

    Returns
    -------
    dict or None
        The metric; None where a part has fewer than eight volumes.
    """
    numbers = rng(seed, "two_sample")
    box = real.volumes.shape[-1]
    sides = apart(real.table, box, 0.5, numbers)
    warning = ""
    if sides is None:
        sides = numbers.permutation(np.arange(len(real.names)) % 2).astype(np.int8)
        warning = "the real crops are too crowded to be parted by space: the two parts overlap"
    rows = alike(real.names, generated.names, numbers)
    other = apart(generated.rows(rows).table, box, 0.5, numbers)
    if other is None:
        other = (np.arange(len(rows)) % 2).astype(np.int8)
    seen = real.volumes[sides == 0], generated.volumes[rows[other == 0]]
    unseen = real.volumes[sides == 1], generated.volumes[rows[other == 1]]
    if min(len(part) for part in (*seen, *unseen)) < LEAST:
        return None

    def tell(a: Floats, b: Floats, c: Floats, d: Floats, samples: int, name: str) -> Any:
        n = min(len(a), len(b))
        pick = [v[np.sort(numbers.permutation(len(v))[:n])] for v in (a, b)]
        trained = train_classifier(
            np.concatenate(pick),
            np.repeat([0, 1], n),
            ["real", "generated"],
            np.zeros(2 * n, np.int8),
            epochs=int(np.clip(samples // (2 * n), 3, 40)),
            symmetric=real.symmetric,
            device=device,
            seed=seed,
            what=f"telling real from {name}",
        )
        scores = [trained.scores(v)[:, 1] for v in (c, d)]
        positive = np.repeat([False, True], [len(c), len(d)])
        return auc(np.concatenate(scores), positive), scores

    value, scores = tell(*seen, *unseen, SAMPLES, "generated")
    groups = (
        clusters(real.table)[sides == 1],
        clusters(generated.table)[rows[other == 1]],
    )
    found = {}
    # real against real: the two classes are drawn at random, so 0.5 but for chance
    first, second = (_two(part, numbers) for part in (seen[0], unseen[0]))
    found["real_half"] = tell(*first, *second, BASELINE_SAMPLES, "real")[0]
    for name, volumes in baselines.items():
        half = len(volumes) // 2
        parts = (seen[0], volumes[:half], unseen[0], volumes[half:])
        found[name] = tell(*parts, BASELINE_SAMPLES, name)[0]
    return entry(value, auc_interval(value, scores, groups), found, warning)


def _two(volumes: Floats, numbers: np.random.Generator) -> tuple[Floats, Floats]:
    first, second = np.array_split(numbers.permutation(len(volumes)), 2)
    return volumes[np.sort(first)], volumes[np.sort(second)]


def auc_interval(
    value: float, scores: Sequence[Floats], groups: Sequence[NDArray[np.str_]]
) -> tuple[float, float]:
    """Return the 95 % interval of an AUC whose volumes go together within groups.

    The variance of the placement values, summed group by group (Obuchowski 1997, doi
    10.2307/2533958), and at least that of independent volumes (Hanley 1982, doi
    10.1148/radiology.143.1.7063747). What another training would change is not in it.

    Parameters
    ----------
    value : float
        The AUC.
    scores : sequence of ndarray
        `(m,)` of real, `(n,)` of generated volumes; generated ones should be higher.
    groups : sequence of ndarray of str
        As many; see `clusters`.
    """
    real, generated = scores
    m, n = len(real), len(generated)
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    alone = value * (1 - value) + (m - 1) * (q1 - value**2) + (n - 1) * (q2 - value**2)
    above = (generated[None] > real[:, None]) + 0.5 * (generated[None] == real[:, None])
    together = grouped_variance(above.mean(axis=1), groups[0])
    together += grouped_variance(above.mean(axis=0), groups[1])
    half = Z * float(np.sqrt(max(alone / (m * n), together, 0.0)))
    # both variances are 0 where all are told apart, which few volumes are by chance
    least, most = wilson(value * min(m, n), min(m, n)) if value in (0.0, 1.0) else (1.0, 0.0)
    return max(0.0, min(value - half, least)), min(1.0, max(value + half, most))

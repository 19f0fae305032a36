"""Precision, recall and F1 by class, with `other`: classifiers and detectors in an open world."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.evaluation.statistics.clusters import Labels
from cryoetgan.evaluation.statistics.intervals import Z_95, cluster_robust_variance, wilson
from cryoetgan.io.star import OTHER


def class_scores(hits: int, predicted: int, true: int) -> dict[str, float | int]:
    """Return precision, recall and F1 of one class, and their counts.

    precision = hits / predicted, recall = hits / true, F1 = 2 hits / (predicted + true); 0 if the
    denominator is 0.

    Examples
    --------
    >>> scores = class_scores(hits=6, predicted=8, true=12)
    >>> scores["precision"], scores["recall"], scores["f1"]
    (0.75, 0.5, 0.6)
    """
    return {
        "precision": hits / max(predicted, 1),
        "recall": hits / max(true, 1),
        "f1": 2 * hits / max(predicted + true, 1),
        "hits": int(hits),
        "predicted": int(predicted),
        "true": int(true),
    }


def confusion_matrix(names: Labels, predicted: Labels, classes: Sequence[str]) -> list[list[int]]:
    """Return the counts of volumes, true classes in rows and predicted ones in columns."""
    return [[int(((names == a) & (predicted == b)).sum()) for b in classes] for a in classes]


def f1_contributions(
    names: Labels, predicted: Labels, classes: Sequence[str]
) -> NDArray[np.float64]:
    """Return `(N,)` values whose mean is the macro F1, the mean of F1 over `classes`.

    With h, p and t the indicators of a hit, of a prediction and of the true class c, and
    F_c = 2 sum(h) / sum(p + t), volume i contributes

        F + N mean_c (2 h_ic - F_c (p_ic + t_ic)) / sum(p_c + t_c)

    the influence function of F. The variance of its mean is that of F by the delta method, so
    intervals, clusters and paired differences follow as for an accuracy.
    """
    total = np.zeros(len(names))
    for name in classes:
        p, t = predicted == name, names == name
        size = max(int(p.sum() + t.sum()), 1)
        hits = (p & t).astype(float)
        f1 = 2 * hits.sum() / size
        total += f1 + len(names) * (2 * hits - f1 * (p.astype(float) + t)) / size
    return total / len(classes)


def open_record(names: Labels, predicted: Labels, clusters: Labels) -> dict[str, Any]:
    """Return precision, recall and F1 by class, `other` last, and the macro F1 with its interval.

    `chance` is 1 / K for K classes: no guess that ignores the volumes has a higher expected macro
    F1, since F1 is the harmonic mean of the guessed and the true fraction of a class.
    """
    classes = [*sorted({str(name) for name in names} - {OTHER}), OTHER]
    values = f1_contributions(names, predicted, classes)
    f1, variance = float(values.mean()), cluster_robust_variance(values, clusters)
    low, high = f1 - Z_95 * variance**0.5, f1 + Z_95 * variance**0.5
    if variance < 1e-12:  # perfect, which a few volumes reach by chance
        low, high = wilson(f1 * len(names), len(names))
    return {
        "f1": f1,
        "interval": [max(0.0, low), min(1.0, high)],
        "chance": 1 / len(classes),
        "scores": {
            name: class_scores(
                int(((names == name) & (predicted == name)).sum()),
                int((predicted == name).sum()),
                int((names == name).sum()),
            )
            for name in classes
        },
        "classes": classes,
        "confusion": confusion_matrix(names, predicted, classes),
        "n_test": len(names),
    }

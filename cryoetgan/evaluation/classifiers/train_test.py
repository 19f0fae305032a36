"""Train on one set, test on another: the accuracy that every table is made of."""

import logging
from typing import Any

import numpy as np
import torch

from cryoetgan.evaluation.classifiers.classifier import Classifier
from cryoetgan.evaluation.classifiers.train import train_classifier
from cryoetgan.evaluation.labelled_sets import (
    Labelled,
    common_classes,
    overlapping,
    validation_groups,
)
from cryoetgan.evaluation.statistics.intervals import clustered, clusters
from cryoetgan.seeds import rng

log = logging.getLogger("cryoetgan")


def train(
    learnt: Labelled,
    network: str,
    epochs: int | None,
    device: torch.device,
    seed: int,
    what: str,
) -> Classifier:
    """Train a classifier of the classes of a set, stopped early on a part that leaks nothing.

    Parameters
    ----------
    learnt : Labelled
        Volumes, names, rows.
    network : {'small', 'cb3d'}
        Which.
    epochs : int, optional
        At most; by the set's size where None.
    device : torch.device
        Where.
    seed : int
        Of everything drawn.
    what : str
        For the progress line.
    """
    classes = sorted({str(name) for name in learnt.names})
    box = learnt.volumes.shape[-1]
    return train_classifier(
        learnt.volumes,
        np.searchsorted(classes, learnt.names),
        classes,
        validation_groups(learnt.table, box, rng(seed, "validation")),
        network,
        epochs,
        learnt.symmetric,
        device,
        seed,
        what,
    )


def check(learnt: Labelled, tested: Labelled) -> None:
    """Refuse sets that cannot be compared; warn of those that can, but not honestly."""
    common_classes(learnt.names, tested.names)
    shared = overlapping(learnt.table, tested.table, tested.volumes.shape[-1])
    if shared:
        log.warning(
            "%d of %d test crops share voxels with training crops of the same tomogram: the "
            "accuracy is too good to be true; split by tomogram, or by blocks with a gap of a box",
            shared,
            len(tested.names),
        )


def tested_on(classifier: Classifier, tested: Labelled) -> dict[str, Any]:
    """Return accuracy, its 95 % interval, classes and confusion (rows true, columns found)."""
    found = np.array(classifier.classes)[classifier.scores(tested.volumes).argmax(axis=1)]
    right = found == tested.names
    shown = sorted({*classifier.classes, *(str(name) for name in tested.names)})
    return {
        "accuracy": float(right.mean()),
        "interval": list(clustered(right, clusters(tested.table))),
        "classes": shown,
        "confusion": [
            [int(((tested.names == a) & (found == b)).sum()) for b in shown] for a in shown
        ],
        "n_test": len(tested.names),
    }

"""Classification accuracy (paper, section 3.3.5): train on one set, test on another.

GAN-train is trained on generated and tested on real volumes, GAN-test the other way round.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from cryoetgan.evaluation.classifiers.classifier import Classifier, load_classifier
from cryoetgan.evaluation.classifiers.train import TrainingOptions, train_classifier
from cryoetgan.evaluation.labelled_sets import LabelledSet, check_classes
from cryoetgan.evaluation.statistics.clusters import cluster_labels
from cryoetgan.evaluation.statistics.intervals import cluster_robust_wilson
from cryoetgan.evaluation.statistics.spatial_split import count_overlapping, validation_split
from cryoetgan.seeds import rng

log = logging.getLogger("cryoetgan")


def train_on_set(train: LabelledSet, options: TrainingOptions) -> Classifier:
    """Train a classifier of the classes of a set, stopped early on a part without leakage."""
    classes = sorted({str(name) for name in train.names})
    return train_classifier(
        train.volumes,
        np.searchsorted(classes, train.names),
        classes,
        options,
        validation_split(train.table, train.box, rng(options.seed, "validation")),
        train.symmetric,
    )


def train_or_reuse(
    train: LabelledSet, options: TrainingOptions, key: dict[str, Any], kept: Path | None
) -> Classifier:
    """Return the kept classifier if it has the same `key`; otherwise train one."""
    if kept is not None:
        classifier, kept_key = load_classifier(kept, options.device)
        if kept_key == key:
            log.info("%s: reused, its training set is the same", kept)
            return classifier
    return train_on_set(train, options)


def check_train_and_test(train: LabelledSet, test: LabelledSet) -> None:
    """Raise `UserError` if no class is shared; warn if test crops overlap training crops."""
    check_classes(train.names, test.names)
    shared = count_overlapping(train.table, test.table, test.box)
    if shared:
        log.warning(
            "%d of %d test crops share voxels with training crops of the same tomogram, so the "
            "accuracy is too high; split by tomogram, or by blocks with a gap of one box",
            shared,
            len(test),
        )


def evaluate_classifier(classifier: Classifier, test: LabelledSet) -> dict[str, Any]:
    """Return the accuracy on a test set, its 95 % interval, and the confusion matrix.

    Paper, section 3.3.5, if the classifier was trained on real subtomograms and the test set is
    generated (GAN-test). Rows of the matrix are true classes, columns are predicted ones.
    """
    predicted = classifier.predict(test.volumes)
    correct = predicted == test.names
    classes = sorted({*classifier.classes, *(str(name) for name in test.names)})
    return {
        "accuracy": float(correct.mean()),
        "interval": list(cluster_robust_wilson(correct, cluster_labels(test.table))),
        "classes": classes,
        "confusion": [
            [int(((test.names == a) & (predicted == b)).sum()) for b in classes] for a in classes
        ],
        "n_test": len(test),
    }

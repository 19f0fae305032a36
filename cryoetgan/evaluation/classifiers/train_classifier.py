"""Train and test a classifier: physically valid augmentation, early stopping without leakage.

GAN-train is trained on generated and tested on real volumes, GAN-test the other way round.
"""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cryoetgan.devices import multiplies_bfloat16
from cryoetgan.errors import UserError
from cryoetgan.evaluation.classifiers.classifier import NETWORKS, Classifier, standardise
from cryoetgan.evaluation.labelled_sets import LabelledSet, check_classes
from cryoetgan.evaluation.metrics.precision_recall import confusion_matrix, open_record
from cryoetgan.evaluation.statistics.clusters import Labels, cluster_labels
from cryoetgan.evaluation.statistics.intervals import cluster_robust_wilson
from cryoetgan.evaluation.statistics.spatial_split import count_overlapping, validation_split
from cryoetgan.io.star import OTHER
from cryoetgan.physics.geometry import HALF_TURNS
from cryoetgan.progress import track
from cryoetgan.seeds import integer_seed, rng

log = logging.getLogger("cryoetgan")
BATCH_SIZE = 32
MAX_EPOCHS, MIN_EPOCHS = 60, 4
PATIENCE = 0.4  # fraction of the epochs without a lower validation loss after which training stops


@dataclass(frozen=True)
class TrainingOptions:
    """Options of one training; `UserError` if the network is unknown or `epochs` is below 1."""

    network: str = "small"  # or cb3d
    epochs: int | None = None  # at most; None: by the size of the training set
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0  # of weights, batches and augmentation
    title: str = "training a classifier"  # text of the progress line

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise UserError(f"--network: got '{self.network}', wanted {' or '.join(NETWORKS)}")
        if self.epochs is not None and self.epochs < 1:
            raise UserError(f"--epochs: got {self.epochs}, wanted one or more")


@dataclass(frozen=True)
class _Task:
    """The network and the data of one training."""

    model: nn.Module
    options: TrainingOptions
    volumes: NDArray[Any]
    labels: Tensor
    training: NDArray[np.int_]
    validation: NDArray[np.int_]
    symmetric: bool


def rotate_half_turn(batch: Tensor, choices: NDArray[np.int_], symmetric: bool) -> Tensor:
    """Return each volume rotated by 180 degrees about one axis, or unchanged.

    These rotations keep the hand and map the missing wedge onto itself: about y always,
    about x and z if the tilt range is symmetric. A flip of an even box moves its centre
    from n // 2 to n // 2 - 1, so it is rolled back by one.

    The batch is `(B, 1, z, y, x)`; choices, `(B,)`, are 0 to 3: none, about y, about x, about z.
    Choices 2 and 3 are taken as 0 and 1 if the range is not symmetric.
    """
    out = batch.clone()
    choices = choices if symmetric else choices % 2
    for turn in range(1, 4):
        rows = torch.from_numpy(np.flatnonzero(choices == turn)).to(batch.device)
        axes = HALF_TURNS[turn]
        part = torch.flip(batch[rows], axes)
        even = [axis for axis in axes if batch.shape[axis] % 2 == 0]
        out[rows] = torch.roll(part, [1] * len(even), even) if even else part
    return out


def train_classifier(
    volumes: NDArray[Any],
    labels: NDArray[np.int_],
    classes: Sequence[str],
    options: TrainingOptions,
    sides: NDArray[np.int8] | None = None,
    symmetric: bool = True,
) -> Classifier:
    """Train with early stopping on a validation part that shares no voxel with the rest.

    Volumes are `(N, z, y, x)`; `labels`, `(N,)`, are indices into `classes`. `sides`, `(N,)`, are
    1 for validation, 0 for training, -1 for neither; by default all volumes are for training.
    The augmentation depends on whether the tilt range is `symmetric`.
    """
    config, device, box = NETWORKS[options.network], options.device, volumes.shape[-1]
    sides = np.zeros(len(labels), np.int8) if sides is None else sides
    # weights and dropout draw from torch's global generator: restore its state afterwards
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(integer_seed(options.seed, "classifier", options.network))
        model = config.build(box, len(classes)).to(device)
        target = torch.from_numpy(np.array(labels)).long().to(device)
        training, validation = np.flatnonzero(sides == 0), np.flatnonzero(sides == 1)
        task = _Task(model, options, volumes, target, training, validation, symmetric)
        best, accuracy = _fit(task)
    model.load_state_dict(best)
    names = [str(name) for name in classes]
    return Classifier(model.eval(), options.network, names, box, device, accuracy)


def _fit(task: _Task) -> tuple[dict[str, Tensor], float | None]:
    """Return the weights of the best epoch and their validation accuracy."""
    model, options = task.model, task.options
    config, generator = NETWORKS[options.network], rng(options.seed, "batches")
    size = max(len(task.training), 1)
    epochs = options.epochs or int(np.clip(config.samples / size, MIN_EPOCHS, MAX_EPOCHS))
    steps = max(1, round(len(task.training) / BATCH_SIZE))
    optimiser = torch.optim.AdamW(
        model.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = None
    if config.one_cycle:
        # of five steps, the first fifth would be no step: a division by zero
        total = max(epochs * steps + 1, 6)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, config.learning_rate, total_steps=total, pct_start=0.2
        )
    best, best_loss, accuracy, epochs_since = copy.deepcopy(model.state_dict()), np.inf, None, 0
    for _ in track(range(epochs), options.title):
        model.train()
        for batch in np.array_split(generator.permutation(task.training), steps):
            loss = _loss(task, np.sort(batch), generator)  # sorted: volumes may be on disk
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if schedule is not None:
                schedule.step()
        if not len(task.validation):
            best = copy.deepcopy(model.state_dict())
            continue
        validation_loss, correct = _validate(task)
        epochs_since += 1
        if validation_loss < best_loss:
            best, epochs_since = copy.deepcopy(model.state_dict()), 0
            best_loss, accuracy = validation_loss, correct
        if epochs_since > PATIENCE * epochs:
            log.debug("%s: stopped early", options.title)
            break
    return best, accuracy


def _loss(task: _Task, rows: NDArray[np.int_], generator: np.random.Generator) -> Tensor:
    """Return the cross-entropy of one augmented batch."""
    device = task.labels.device
    turns = generator.integers(4, size=len(rows))
    batch = rotate_half_turn(standardise(task.volumes[rows]), turns, task.symmetric)
    fast = multiplies_bfloat16(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast):
        scores = task.model(batch.to(device))
    labels = task.labels[torch.from_numpy(rows).to(device)]
    smoothing = NETWORKS[task.options.network].label_smoothing
    return functional.cross_entropy(scores.float(), labels, label_smoothing=smoothing)


@torch.no_grad()
def _validate(task: _Task) -> tuple[float, float]:
    """Return loss and accuracy on the validation part."""
    task.model.eval()
    device, validation = task.labels.device, task.validation
    size = NETWORKS[task.options.network].inference_batch
    loss, correct = 0.0, 0
    for start in range(0, len(validation), size):
        rows = validation[start : start + size]
        scores = task.model(standardise(task.volumes[rows]).to(device))
        labels = task.labels[torch.from_numpy(rows).to(device)]
        loss += float(functional.cross_entropy(scores, labels, reduction="sum"))
        correct += int((scores.argmax(dim=1) == labels).sum())
    return loss / len(validation), correct / len(validation)


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


def check_train_and_test(train: LabelledSet, test: LabelledSet) -> None:
    """Raise `UserError` if no class is shared; warn if test crops overlap training crops."""
    check_classes(train.names, test.names)
    if shared := count_overlapping(train.table, test.table, test.box):
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

    If both sets hold `other`, `open` has precision, recall and F1 of each class on all volumes
    (`open_record`). The accuracy is then closed: of the named classes, among the named classes.
    With one named class it is the accuracy of telling it from `other`.
    """
    probabilities = classifier.probabilities(test.volumes)
    predicted = classifier.most_probable(probabilities)
    clusters = cluster_labels(test.table)
    is_open = OTHER in classifier.classes and OTHER in test.names
    named = [name for name in classifier.classes if name != OTHER]
    rows = np.arange(len(test))
    closed = predicted
    if len(named) > 1:
        rows = np.flatnonzero(test.names != OTHER)
        closed = classifier.most_probable(probabilities[rows], named)
    found = _accuracy_record(test.names[rows], closed, clusters[rows], classifier.classes)
    return found | ({"open": open_record(test.names, predicted, clusters)} if is_open else {})


def _accuracy_record(
    names: Labels, predicted: Labels, clusters: Labels, trained: Sequence[str]
) -> dict[str, Any]:
    """Return accuracy, interval, classes, confusion and n_test of volumes `(N,)`."""
    correct = predicted == names
    several = len([name for name in trained if name != OTHER]) > 1
    known = {name for name in trained if not (several and name == OTHER)}
    classes = sorted({*known, *map(str, names)})
    return {
        "accuracy": float(correct.mean()),
        "interval": list(cluster_robust_wilson(correct, clusters)),
        "classes": classes,
        "confusion": confusion_matrix(names, predicted, classes),
        "n_test": len(names),
    }

"""A trained classifier of volumes: its probabilities, its features, its file."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cryoetgan.errors import UserError, shown
from cryoetgan.evaluation.cb3d import CB3D, LAYERS
from cryoetgan.evaluation.classifiers.small_cnn import SmallCNN
from cryoetgan.io.star import CLASS_NAME
from cryoetgan.io.weights import DamagedError, find_difference, read_weights, write_weights

KIND = "classifier"
KEYS = {"network", "classes", "box", "validation", "key", "state"}
ADVICE = "delete it and run `evaluation classify` again"
MAX_BOX = 1024
"""Voxels."""


@dataclass(frozen=True)
class ClassifierConfig:
    """A network and its training parameters."""

    build: Callable[[int, int], nn.Module]  # of box (voxels) and number of classes
    learning_rate: float  # of AdamW
    weight_decay: float
    label_smoothing: float  # probability that the targets give to the other classes
    one_cycle: bool  # the learning rate rises and falls once; otherwise it is constant
    samples: int  # volumes shown in training if the number of epochs is not given
    layers: tuple[str, ...]  # layers of possible features; the last one is the default
    inference_batch: int  # volumes at a time outside training


NETWORKS = {
    "small": ClassifierConfig(SmallCNN, 2e-3, 1e-2, 0.05, True, 16_000, ("pool",), 64),
    # the paper names Adam at 1e-4 and no other parameter
    "cb3d": ClassifierConfig(CB3D, 1e-4, 0.0, 0.0, False, 30_000, LAYERS, 16),
}


@dataclass(frozen=True)
class Classifier:
    """A trained network with its class names."""

    network: nn.Module  # in evaluation mode
    name: str  # small or cb3d
    classes: list[str]  # in the order of the outputs
    box: int  # voxels
    device: torch.device
    validation: float | None = None  # accuracy on the validation part, if there is one

    @property
    def config(self) -> ClassifierConfig:
        """Training parameters and layers of the network."""
        return NETWORKS[self.name]

    @torch.no_grad()
    def probabilities(self, volumes: NDArray[Any]) -> NDArray[np.float64]:
        """Return class probabilities `(N, K)` of volumes `(N, z, y, x)`."""
        parts = [functional.softmax(self.network(x), dim=1) for x in self._batches(volumes)]
        return torch.cat(parts).double().cpu().numpy()

    def predict(self, volumes: NDArray[Any]) -> NDArray[np.str_]:
        """Return the most probable class `(N,)` of volumes `(N, z, y, x)`."""
        return self.most_probable(self.probabilities(volumes))

    def most_probable(
        self, probabilities: NDArray[np.float64], among: Sequence[str] | None = None
    ) -> NDArray[np.str_]:
        """Return the most probable class `(N,)`, of all or `among` these, of `probabilities`."""
        columns = [i for i, name in enumerate(self.classes) if among is None or name in among]
        return np.array(self.classes)[columns][probabilities[:, columns].argmax(axis=1)]

    @torch.no_grad()
    def features(self, volumes: NDArray[Any], layer: str | None = None) -> NDArray[np.float32]:
        """Return activations `(N, F)` of a layer before the last; `UserError` if it is unknown."""
        layers = self.config.layers
        if layer is not None and layer not in layers:
            raise UserError(f"--layer: got '{layer}', but {self.name} has {', '.join(layers)}")
        run = self.network.features
        parts = [run(x, layer or layers[-1]) for x in self._batches(volumes)]  # type: ignore[operator]
        return torch.cat(parts).float().cpu().numpy()

    def _batches(self, volumes: NDArray[Any]) -> Iterator[Tensor]:
        # single precision: features are compared, and bfloat16 has three digits
        self.network.eval()
        size = self.config.inference_batch
        for start in range(0, len(volumes), size):
            yield standardise(volumes[start : start + size]).to(self.device)

    def weights_hash(self) -> str:
        """Return a hash of the weights: features of other weights cannot be compared."""
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + value.cpu().numpy().tobytes())
        return digest.hexdigest()[:12]


def standardise(volumes: NDArray[Any]) -> Tensor:
    """Return `(N, 1, z, y, x)`, each volume with mean 0 and standard deviation 1.

    Only for classifiers: elsewhere the contrast between particles is information.
    """
    batch = torch.from_numpy(np.array(volumes, np.float32))[:, None]
    mean = batch.mean(dim=(1, 2, 3, 4), keepdim=True)
    sd = batch.std(dim=(1, 2, 3, 4), keepdim=True).clamp_min(1e-6)
    return (batch - mean) / sd


def save_classifier(path: Path, classifier: Classifier, key: dict[str, Any]) -> None:
    """Write weights, class names and `key`, which identifies the training set."""
    content = {
        "network": classifier.name,
        "classes": classifier.classes,
        "box": classifier.box,
        "validation": classifier.validation,
        "key": key,
        "state": {k: v.cpu() for k, v in classifier.network.state_dict().items()},
    }
    write_weights(path, KIND, content)


def _is_class(name: object) -> bool:
    return isinstance(name, str) and CLASS_NAME.fullmatch(name) is not None


def load_classifier(
    path: Path, device: torch.device, box: int | None = None
) -> tuple[Classifier, dict[str, Any]]:
    """Read a classifier of boxes of `box` voxels, and the key of its training set."""
    content = read_weights(path, KIND, KEYS, ADVICE)
    name, classes, trained_box = content["network"], content["classes"], content["box"]
    validation, key = content["validation"], content["key"]
    wrong = ""
    if not isinstance(name, str) or name not in NETWORKS:
        wrong = f"its network is {shown(name)}"
    elif not (isinstance(classes, list) and all(map(_is_class, classes)) and classes):
        wrong = "its classes are not names"
    elif len(set(classes)) < len(classes):
        wrong = "a class stands twice"
    elif not (type(trained_box) is int and 0 < trained_box <= MAX_BOX):
        wrong = f"its box is {shown(trained_box)}"
    elif not (validation is None or type(validation) in (int, float)):
        wrong = f"its validation is {shown(validation)}"
    else:
        build = functools.partial(NETWORKS[name].build, trained_box, len(classes))
        wrong = find_difference(build, content["state"])
    if wrong:
        raise DamagedError(f"{path}: is not a valid {KIND} ({wrong}); {ADVICE}")
    network = build()
    network.load_state_dict(content["state"])
    if box not in (None, trained_box):
        raise UserError(f"{path}: was trained on boxes of {trained_box} voxels, not {box}")
    network = network.to(device).eval()  # an error of the device is not one of the file
    return Classifier(network, name, classes, trained_box, device, validation), key

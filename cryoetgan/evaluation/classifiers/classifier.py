"""A trained classifier of volumes: its scores, its features, its file."""

import hashlib
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cryoetgan.errors import UserError
from cryoetgan.evaluation.cb3d import CB3D, LAYERS
from cryoetgan.evaluation.classifiers.small_cnn import Small
from cryoetgan.io.files import atomic, check_exists

FORMAT = 3
"""Of the file; 2: another small network."""


@dataclass(frozen=True)
class Recipe:
    """How one of the networks is trained.

    Attributes
    ----------
    build : callable
        Box and number of classes to network.
    learning_rate, weight_decay, smoothing : float
        Of AdamW, and of the labels.
    cycle : bool
        Whether the learning rate rises and falls once; else it stays.
    samples : int
        Volumes shown in all, where no number of epochs is given.
    layer : str
        Whose activations are the features, where none is named.
    layers : tuple of str
        Those that may be named.
    chunk : int
        Volumes at a time outside training.
    """

    build: Callable[[int, int], nn.Module]
    learning_rate: float
    weight_decay: float
    smoothing: float
    cycle: bool
    samples: int
    layer: str
    layers: tuple[str, ...]
    chunk: int


NETWORKS = {
    "small": Recipe(Small, 2e-3, 1e-2, 0.05, True, 16_000, "pool", ("pool",), 64),
    # the paper's: Adam at 1e-4, nothing else said
    "cb3d": Recipe(CB3D, 1e-4, 0.0, 0.0, False, 30_000, "fc7", LAYERS, 16),
}


@dataclass(frozen=True)
class Classifier:
    """A trained network with its class names.

    Attributes
    ----------
    network : torch.nn.Module
        In evaluation mode.
    name : str
        small or cb3d.
    classes : list of str
        In the order of the outputs.
    box : int
        Voxels.
    device : torch.device
        Where it is.
    validation : float, optional
        Accuracy on the part of the training set it was stopped by; None without one.
    """

    network: nn.Module
    name: str
    classes: list[str]
    box: int
    device: torch.device
    validation: float | None = None

    @torch.no_grad()
    def scores(self, volumes: NDArray[Any]) -> NDArray[np.float64]:
        """Return class probabilities `(N, K)` of volumes `(N, z, y, x)`."""
        parts = [functional.softmax(self.network(x), dim=1) for x in self._inputs(volumes)]
        return torch.cat(parts).double().cpu().numpy()

    @torch.no_grad()
    def features(self, volumes: NDArray[Any], layer: str | None = None) -> NDArray[np.float32]:
        """Return activations `(N, F)` of a layer before the last.

        Raises
        ------
        UserError
            Where the network has no layer of that name.
        """
        recipe = NETWORKS[self.name]
        if layer is not None and layer not in recipe.layers:
            raise UserError(
                f"--layer: got '{layer}', but {self.name} has {', '.join(recipe.layers)}"
            )
        run = self.network.features
        parts = [run(x, layer or recipe.layer) for x in self._inputs(volumes)]  # type: ignore[operator]
        return torch.cat(parts).float().cpu().numpy()

    def _inputs(self, volumes: NDArray[Any]) -> Iterator[Tensor]:
        # single precision: features are compared with features, and bfloat16 has three digits
        self.network.eval()
        size = NETWORKS[self.name].chunk
        for start in range(0, len(volumes), size):
            yield standardised(volumes[start : start + size]).to(self.device)

    def weights_hash(self) -> str:
        """Return a hash of the weights: numbers made with others cannot be compared."""
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + value.cpu().numpy().tobytes())
        return digest.hexdigest()[:12]


def standardised(volumes: NDArray[Any]) -> Tensor:
    """Return `(N, 1, z, y, x)`, each volume of mean 0 and standard deviation 1.

    For the classifier's input alone: everywhere else the contrast between particles is
    information.
    """
    batch = torch.from_numpy(np.array(volumes, np.float32))[:, None]
    mean = batch.mean(dim=(1, 2, 3, 4), keepdim=True)
    sd = batch.std(dim=(1, 2, 3, 4), keepdim=True).clamp_min(1e-6)
    return (batch - mean) / sd


def save_classifier(path: Path, classifier: Classifier, key: dict[str, Any]) -> None:
    """Write weights, class names and what they were trained on."""
    content = {
        "format": FORMAT,
        "network": classifier.name,
        "classes": classifier.classes,
        "box": classifier.box,
        "validation": classifier.validation,
        "key": key,
        "state": {k: v.cpu() for k, v in classifier.network.state_dict().items()},
    }
    # to an open file: given a path, torch writes its (random) name into the archive
    with atomic(path) as part, open(part, "wb") as file:
        torch.save(content, file)


def load_classifier(path: Path, device: torch.device) -> tuple[Classifier, dict[str, Any]]:
    """Read a classifier and what it was trained on; only tensors and plain values are loaded."""
    path = check_exists(path, "classifier")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']}, wanted {FORMAT}: train it again")
        network = NETWORKS[content["network"]].build(content["box"], len(content["classes"]))
        network.load_state_dict(content["state"])
    except (
        RuntimeError,
        pickle.UnpicklingError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: is no classifier of `evaluation classify` ({first})") from error
    made = Classifier(
        network.to(device).eval(),
        content["network"],
        content["classes"],
        content["box"],
        device,
        content.get("validation"),
    )
    return made, content["key"]

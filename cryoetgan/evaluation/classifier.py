"""Train and use a classifier of volumes."""

import hashlib
import logging
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cryoetgan.errors import UserError
from cryoetgan.evaluation.cb3d import CB3D, SMALLEST_BOX
from cryoetgan.evaluation.small import Small
from cryoetgan.files import atomic, existing
from cryoetgan.progress import track
from cryoetgan.seeds import integer

log = logging.getLogger("cryoetgan")
NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {"small": Small, "cb3d": CB3D}
BATCH = 32
LEARNING_RATE = {"small": 2e-3, "cb3d": 1e-4}
SAMPLES = {"small": 12_000, "cb3d": 30_000}
"""Volumes shown in all where no number of epochs is given."""
MOST_EPOCHS = 60
PATIENCE = 0.4
"""Share of the epochs without a better validation loss after which training stops."""
VALIDATION = 0.15
FORMAT = 1


@dataclass(frozen=True)
class Classifier:
    """A trained network with its class names."""

    network: nn.Module
    name: str
    classes: list[str]
    box: int
    device: torch.device

    def scores(self, volumes: NDArray[Any]) -> NDArray[np.float64]:
        """Return class probabilities `(N, K)`."""
        parts = [functional.softmax(self._run(v, False), dim=1) for v in _chunks(volumes)]
        return torch.cat(parts).double().cpu().numpy()

    def features(self, volumes: NDArray[Any]) -> NDArray[np.float32]:
        """Return features `(N, F)` of the layer before the last."""
        parts = [self._run(v, True) for v in _chunks(volumes)]
        return torch.cat(parts).float().cpu().numpy()

    @torch.no_grad()
    def _run(self, volumes: NDArray[Any], features: bool) -> Tensor:
        self.network.eval()
        batch = standardised(volumes).to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            out = self.network.features(batch) if features else self.network(batch)  # type: ignore[operator]
        return out.float()

    def weights_hash(self) -> str:
        """Return a hash of the weights: numbers made with others cannot be compared."""
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + value.cpu().numpy().tobytes())
        return digest.hexdigest()[:12]


def _chunks(volumes: NDArray[Any], size: int = 64) -> list[NDArray[Any]]:
    return [np.asarray(volumes[i : i + size], np.float32) for i in range(0, len(volumes), size)]


def standardised(volumes: NDArray[Any]) -> Tensor:
    """Return `(N, 1, z, y, x)`, each volume of mean 0 and standard deviation 1.

    For the classifier's input alone: everywhere else the contrast between particles is
    information.
    """
    batch = torch.from_numpy(np.asarray(volumes, np.float32))[:, None]
    mean = batch.mean(dim=(1, 2, 3, 4), keepdim=True)
    sd = batch.std(dim=(1, 2, 3, 4), keepdim=True).clamp_min(1e-6)
    return (batch - mean) / sd


def turned(batch: Tensor, choice: int, symmetric: bool) -> Tensor:
    """Return the batch turned by 180 degrees about one axis, or as it is.

    Only turns that keep the hand and map the missing wedge onto itself: about y always,
    about x and z where the tilt range is symmetric. A flip of an even box moves its
    centre from n // 2 to n // 2 - 1: it is rolled back by one.

    Parameters
    ----------
    batch : Tensor
        `(B, 1, z, y, x)`.
    choice : int
        0 to 3: none, about y, about x, about z.
    symmetric : bool
        Whether the tilt range is.
    """
    axes = {0: (), 1: (2, 4), 2: (2, 3), 3: (3, 4)}[choice % 4 if symmetric else choice % 2]
    if not axes:
        return batch
    out = torch.flip(batch, axes)
    even = [axis for axis in axes if batch.shape[axis] % 2 == 0]
    return torch.roll(out, [1] * len(even), even) if even else out


def train_classifier(
    volumes: NDArray[Any],
    labels: NDArray[np.int_],
    classes: Sequence[str],
    groups: NDArray[np.int8] | None,
    network: str = "small",
    epochs: int | None = None,
    symmetric: bool = True,
    device: torch.device | None = None,
    seed: int = 0,
    what: str = "training a classifier",
) -> Classifier:
    """Train with early stopping on a validation part that shares no voxel with the rest.

    Parameters
    ----------
    volumes : ndarray
        `(N, z, y, x)`.
    labels : ndarray of int
        `(N,)` indices into `classes`.
    classes : sequence of str
        Names.
    groups : ndarray, optional
        `(N,)` int8: 1 validation, 0 training, -1 neither; drawn at random where None.
    network : {'small', 'cb3d'}
        Which.
    epochs : int, optional
        At most; by the set's size where None.
    symmetric : bool
        Whether the tilt range is symmetric (for augmentation).
    device : torch.device, optional
        CPU where None.
    seed : int
        Of weights, batches and augmentation.
    what : str
        For the progress line.
    """
    device = device or torch.device("cpu")
    torch.manual_seed(integer(seed, "classifier", network) % 2**31)
    box = volumes.shape[-1]
    if network == "cb3d" and box < SMALLEST_BOX:
        raise UserError(f"cb3d needs boxes of {SMALLEST_BOX} voxels, got {box}; use network small")
    model = NETWORKS[network](box, len(classes)).to(device)
    numbers = np.random.default_rng(integer(seed, "batches") % 2**31)
    if groups is None:
        groups = np.zeros(len(labels), np.int8)
        groups[numbers.permutation(len(labels))[: int(VALIDATION * len(labels))]] = 1
    train, held = np.flatnonzero(groups == 0), np.flatnonzero(groups == 1)
    total = epochs or int(np.clip(SAMPLES[network] / max(len(train), 1), 4, MOST_EPOCHS))
    steps = max(1, int(np.ceil(len(train) / BATCH)))
    optimiser = torch.optim.AdamW(model.parameters(), LEARNING_RATE[network], weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE[network], total_steps=total * steps + 1, pct_start=0.2
    )
    target = torch.from_numpy(np.asarray(labels)).long().to(device)
    best, best_loss, since = _state(model), np.inf, 0
    for _ in track(range(total), what):
        model.train()
        for chosen in np.array_split(numbers.permutation(train), steps):
            batch = standardised(volumes[np.sort(chosen)]).to(device)
            wanted = target[torch.from_numpy(np.sort(chosen)).to(device)]
            batch = turned(batch, int(numbers.integers(4)), symmetric)
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast(device.type, dtype=torch.bfloat16):
                scores = model(batch)
            functional.cross_entropy(scores.float(), wanted, label_smoothing=0.05).backward()
            optimiser.step()
            schedule.step()
        if not len(held):
            best = _state(model)
            continue
        loss = _validation_loss(model, volumes, target, held, device)
        if loss < best_loss:
            best, best_loss, since = _state(model), loss, 0
        else:
            since += 1
        if since > PATIENCE * total:
            log.debug("%s: stopped early", what)
            break
    model.load_state_dict(best)
    return Classifier(model, network, [str(name) for name in classes], box, device)


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@torch.no_grad()
def _validation_loss(
    model: nn.Module, volumes: NDArray[Any], target: Tensor, held: NDArray[np.int_], device: Any
) -> float:
    model.eval()
    losses = []
    for start in range(0, len(held), 64):
        part = held[start : start + 64]
        with torch.autocast(device.type, dtype=torch.bfloat16):
            scores = model(standardised(volumes[part]).to(device))
        wanted = target[torch.from_numpy(part).to(device)]
        losses.append(functional.cross_entropy(scores.float(), wanted, reduction="sum"))
    return float(torch.stack(losses).sum()) / len(held)


def save_classifier(path: Path, classifier: Classifier, key: dict[str, Any]) -> None:
    """Write weights, class names and what they were trained on."""
    with atomic(path) as part:
        torch.save(
            {
                "format": FORMAT,
                "network": classifier.name,
                "classes": classifier.classes,
                "box": classifier.box,
                "key": key,
                "state": {k: v.cpu() for k, v in classifier.network.state_dict().items()},
            },
            part,
        )


def load_classifier(path: Path, device: torch.device) -> tuple[Classifier, dict[str, Any]]:
    """Read a classifier and what it was trained on; only tensors and plain values are loaded."""
    path = existing(path, "classifier")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        network = NETWORKS[content["network"]](content["box"], len(content["classes"]))
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
        network.to(device), content["network"], content["classes"], content["box"], device
    )
    return made, content["key"]

"""Train a classifier: augmentation that physics allows, early stopping that does not leak."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cryoetgan.devices import multiplies_bfloat16
from cryoetgan.errors import UserError
from cryoetgan.evaluation.cb3d import SMALLEST_BOX
from cryoetgan.evaluation.classifiers.classifier import NETWORKS, Classifier, Recipe, standardised
from cryoetgan.physics.geometry import HALF_TURNS
from cryoetgan.progress import track
from cryoetgan.seeds import integer_seed, rng

log = logging.getLogger("cryoetgan")
BATCH = 32
MOST_EPOCHS, LEAST_EPOCHS = 60, 4
PATIENCE = 0.4
"""Share of the epochs without a better validation loss after which training stops."""
VALIDATION = 0.15


def turned(batch: Tensor, choices: NDArray[np.int_], symmetric: bool) -> Tensor:
    """Return each volume turned by 180 degrees about one axis, or as it is.

    Only turns that keep the hand and map the missing wedge onto itself: about y always,
    about x and z where the tilt range is symmetric. A flip of an even box moves its
    centre from n // 2 to n // 2 - 1: it is rolled back by one.

    Parameters
    ----------
    batch : Tensor
        `(B, 1, z, y, x)`.
    choices : ndarray of int
        `(B,)` 0 to 3: none, about y, about x, about z; the last two become the first two
        where the range is not symmetric.
    symmetric : bool
        Whether the tilt range is.
    """
    out = batch.clone()
    choices = choices if symmetric else choices % 2
    for turn in range(1, 4):
        where = torch.from_numpy(np.flatnonzero(choices == turn)).to(batch.device)
        axes = HALF_TURNS[turn]
        part = torch.flip(batch[where], axes)
        even = [axis for axis in axes if batch.shape[axis] % 2 == 0]
        out[where] = torch.roll(part, [1] * len(even), even) if even else part
    return out


def train_classifier(
    volumes: NDArray[Any],
    labels: NDArray[np.int_],
    classes: Sequence[str],
    groups: NDArray[np.int8] | None = None,
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

    Raises
    ------
    UserError
        Where the boxes are too small for the network.
    """
    recipe, device = NETWORKS[network], device or torch.device("cpu")
    if network == "cb3d" and volumes.shape[-1] < SMALLEST_BOX:
        raise UserError(
            f"cb3d needs boxes of {SMALLEST_BOX} voxels or more, got {volumes.shape[-1]}; "
            "use --network small (evaluation.network)"
        )
    if groups is None:
        groups = np.zeros(len(labels), np.int8)
        order = rng(seed, "validation").permutation(len(labels))
        groups[order[: int(VALIDATION * len(labels))]] = 1
    train, held = np.flatnonzero(groups == 0), np.flatnonzero(groups == 1)
    total = epochs or int(np.clip(recipe.samples / max(len(train), 1), LEAST_EPOCHS, MOST_EPOCHS))
    # weights and dropout draw from torch's own numbers: give the caller's back
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(integer_seed(seed, "classifier", network))
        model = recipe.build(volumes.shape[-1], len(classes)).to(device)
        target = torch.from_numpy(np.array(labels)).long().to(device)
        losses = _fit(model, recipe, volumes, target, train, held, total, symmetric, seed, what)
    best, accuracy = losses
    model.load_state_dict(best)
    names = [str(name) for name in classes]
    return Classifier(model.eval(), network, names, volumes.shape[-1], device, accuracy)


def _fit(
    model: nn.Module,
    recipe: Recipe,
    volumes: NDArray[Any],
    target: Tensor,
    train: NDArray[np.int_],
    held: NDArray[np.int_],
    total: int,
    symmetric: bool,
    seed: int,
    what: str,
) -> tuple[dict[str, Tensor], float | None]:
    """Return the best epoch's weights and their validation accuracy."""
    device, numbers = target.device, rng(seed, "batches")
    steps = max(1, round(len(train) / BATCH))
    optimiser = torch.optim.AdamW(
        model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = (
        torch.optim.lr_scheduler.OneCycleLR(
            optimiser, recipe.learning_rate, total_steps=total * steps + 1, pct_start=0.2
        )
        if recipe.cycle
        else None
    )
    fast = multiplies_bfloat16(device)
    best, best_loss, accuracy, since = _state(model), np.inf, None, 0
    for _ in track(range(total), what):
        model.train()
        for rows in _batches(train, steps, numbers):
            batch = turned(
                standardised(volumes[rows]), numbers.integers(4, size=len(rows)), symmetric
            )
            wanted = target[torch.from_numpy(rows).to(device)]
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast):
                scores = model(batch.to(device))
            loss = functional.cross_entropy(
                scores.float(), wanted, label_smoothing=recipe.smoothing
            )
            loss.backward()
            optimiser.step()
            if schedule is not None:
                schedule.step()
        if not len(held):
            best = _state(model)
            continue
        value, right = _validate(model, recipe, volumes, target, held)
        since += 1
        if value < best_loss:
            best, best_loss, accuracy, since = _state(model), value, right, 0
        if since > PATIENCE * total:
            log.debug("%s: stopped early", what)
            break
    return best, accuracy


def _batches(
    train: NDArray[np.int_], steps: int, numbers: np.random.Generator
) -> Iterator[NDArray[np.int_]]:
    """Yield about equal batches; in file order within each, for memory-mapped volumes."""
    for rows in np.array_split(numbers.permutation(train), steps):
        yield np.sort(rows)


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@torch.no_grad()
def _validate(
    model: nn.Module,
    recipe: Recipe,
    volumes: NDArray[Any],
    target: Tensor,
    held: NDArray[np.int_],
) -> tuple[float, float]:
    """Return loss and accuracy on the validation part."""
    model.eval()
    loss, right = 0.0, 0
    for start in range(0, len(held), recipe.chunk):
        rows = held[start : start + recipe.chunk]
        scores = model(standardised(volumes[rows]).to(target.device))
        wanted = target[torch.from_numpy(rows).to(target.device)]
        loss += float(functional.cross_entropy(scores, wanted, reduction="sum"))
        right += int((scores.argmax(dim=1) == wanted).sum())
    return loss / len(held), right / len(held)

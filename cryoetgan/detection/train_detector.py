"""Train a detector on tomograms with truth."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cryoetgan.detection.augment import TrainingTomogram, draw_patch
from cryoetgan.detection.calibration import Calibration, join_calibrations, match_picks
from cryoetgan.detection.detector import Detector
from cryoetgan.detection.grey import GreyValues
from cryoetgan.detection.network import ALIGN, build_network
from cryoetgan.detection.predict import detect
from cryoetgan.detection.truth import Truth
from cryoetgan.devices import multiplies_bfloat16
from cryoetgan.errors import UserError
from cryoetgan.io.weights import DamagedError, find_difference, read_weights, write_weights
from cryoetgan.progress import track
from cryoetgan.seeds import integer_seed, rng

if TYPE_CHECKING:
    from cryoetgan.detection.training_tomograms import TrainingInputs

log = logging.getLogger("cryoetgan")
STATE = "detector training"
STATE_KEYS = {"key", "step", "steps", "seconds", "network", "optimiser", "losses"}
SAVE_EVERY_SECONDS = 60.0
TIMED_STEPS = 10
"""Steps whose time decides how many fit into --minutes; the first ones are slower."""
LEAST_STEPS = 10 * TIMED_STEPS
UNKNOWN = 10**9
"""Number of steps until the first ones are timed; the learning rate is then nearly zero."""
WARM_UP = 0.1
"""Fraction of the steps over which the learning rate rises."""
HELD_OUT = 0.2
"""Fraction of each tomogram, at the end of its longest side, that is not trained on."""
BACKGROUND_WEIGHT, OTHER_WEIGHT = 0.05, 0.2
"""Weights of positions of background and of `other` in the loss, relative to positions of particles."""
LOG_ROWS = 100


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of a training."""

    steps: int = 1500
    minutes: float | None = None
    """Time for all steps; it replaces `steps`."""
    batch: int = 4
    patch: int = 64
    """Edge of a patch, voxels."""
    width: int = 16
    """Channels of the first level."""
    learning_rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.patch % (2 * ALIGN):
            raise ValueError(f"patch is {self.patch}, wanted a multiple of {2 * ALIGN}")


def split_off(shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the end of the training part, and the corner of the held-out part, zyx.

    The held-out part is a slab at the end of the longest side.
    """
    axis = int(np.argmax(shape))
    plane = int(shape[axis] * (1 - HELD_OUT)) // ALIGN * ALIGN
    end = tuple(plane if i == axis else n for i, n in enumerate(shape))
    return end, tuple(plane if i == axis else 0 for i in range(3))


def held_out_part(tomogram: TrainingTomogram) -> tuple[GreyValues, Truth]:
    """Return the held-out slab, and its particles relative to it."""
    _, low = split_off(tomogram.grey.shape)
    part = tomogram.grey.part(low, tomogram.grey.shape)
    places = tomogram.truth.places - np.array(low)
    inside = (places >= 0).all(axis=1)
    return part, Truth(places[inside], tomogram.truth.numbers[inside])


class Training:
    """The network, its optimiser, and the state of a run.

    `key` identifies the run: its settings and inputs. A saved state of another key is not used.
    """

    def __init__(
        self,
        tomograms: Sequence[TrainingTomogram],
        classes: int,
        options: TrainOptions,
        device: torch.device,
        key: Mapping[str, Any],
    ) -> None:
        self.tomograms, self.classes, self.options = list(tomograms), classes, options
        self.device, self.key = device, {**asdict(options), **key}
        torch.manual_seed(integer_seed(options.seed, "detection", "network"))
        self.network = build_network(classes + 2, options.width).to(device)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), options.learning_rate, weight_decay=1e-3
        )
        self.step, self.steps, self.seconds = 0, options.steps, 0.0
        self.losses: list[float] = []
        weights = [BACKGROUND_WEIGHT, *[1.0] * classes, OTHER_WEIGHT]
        self.loss = nn.CrossEntropyLoss(torch.tensor(weights, device=device))
        self.amplitudes = [
            tomogram.amplitudes(options.patch, rng(options.seed, "detection", "spectrum", index))
            for index, tomogram in enumerate(self.tomograms)
        ]

    def run(self, save: Callable[[], None]) -> None:
        """Train to the end; call `save` from time to time."""
        saved = start = half = time.monotonic()
        before = self.seconds
        if self.options.minutes and not self.step:
            self.steps = UNKNOWN
        for _ in track(iter(self._more, False), "training", fraction=self._fraction):
            self.train_step()
            now = time.monotonic()
            self.seconds = before + now - start
            if self.steps == UNKNOWN and self.step == TIMED_STEPS:
                half = now
            elif self.steps == UNKNOWN and self.step == 2 * TIMED_STEPS:
                self.steps = self._steps_in_time((now - half) / TIMED_STEPS)
                log.info("%d steps fit into %g minutes", self.steps, self.options.minutes)
            if now - saved > SAVE_EVERY_SECONDS and self.steps < UNKNOWN:
                save()
                saved = now

    def _steps_in_time(self, seconds: float) -> int:
        """Return the number of steps of this duration that fit into `minutes`."""
        minutes = self.options.minutes or 0.0
        steps = int(60 * minutes / seconds)
        if steps < LEAST_STEPS:
            raise UserError(
                f"--minutes: {minutes:g} minutes are {steps} steps, too few to learn; give at least "
                f"{math.ceil(LEAST_STEPS * seconds / 6) / 10:g}, or --steps"
            )
        return steps

    def _fraction(self) -> float:
        return 0.0 if self.steps == UNKNOWN else self.step / self.steps

    def _more(self) -> bool:
        return self.step < self.steps

    def learning_rate(self) -> float:
        """Return the learning rate of the step: it rises, then falls as a cosine."""
        done = self.step / self.steps
        rise = min(1.0, (done + 1 / self.steps) / WARM_UP)
        fall = 0.5 + 0.5 * math.cos(math.pi * max(0.0, done - WARM_UP) / (1 - WARM_UP))
        return self.options.learning_rate * min(rise, 1.0) * fall

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return patches `(B, 1, z, y, x)` and their labels `(B, z/2, y/2, x/2)`."""
        pairs = [
            draw_patch(
                self.tomograms, self.amplitudes, self.classes, self.options.patch,
                rng(self.options.seed, "detection", "patch", self.step, item),
            )
            for item in range(self.options.batch)
        ]  # fmt: skip
        patches, labels = (np.stack(one) for one in zip(*pairs, strict=True))
        return torch.from_numpy(patches)[:, None], torch.from_numpy(labels).long()

    def train_step(self) -> None:
        """Train on one batch."""
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        patches, labels = (part.to(self.device) for part in self.batch())
        with torch.autocast(self.device.type, torch.bfloat16, multiplies_bfloat16(self.device)):
            logits = self.network(patches)
        loss = self.loss(logits.float(), labels)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step += 1
        if not math.isfinite(value := loss.item()):
            raise UserError("the training diverged: its loss is not finite; try another --seed")
        self.losses.append(value)

    def state(self) -> dict[str, Any]:
        """Return the state of the run, from which it resumes."""
        return {
            "key": self.key, "step": self.step, "steps": self.steps, "seconds": self.seconds,
            "network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(),
            "losses": self.losses,
        }  # fmt: skip

    def resume(self, path: Path) -> None:
        """Continue from a saved state, if it belongs to this run."""
        try:
            state = read_weights(path, STATE, STATE_KEYS, "delete it")
        except DamagedError as error:
            log.warning("%s; the training starts anew", error)
            return
        if state["key"] != self.key:
            log.warning("%s: belongs to another training, and is replaced", path)
            return
        channels, width = self.classes + 2, self.options.width
        wrong = find_difference(lambda: build_network(channels, width), state["network"])
        if wrong:
            log.warning("%s: is of another version (%s); the training starts anew", path, wrong)
            return
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.steps, self.seconds = state["step"], state["steps"], state["seconds"]
        self.losses = list(state["losses"])
        log.info("%s: resumes at step %d of %d", path, self.step, self.steps)

    def calibrate(self, radii: NDArray[np.float64]) -> Calibration:
        """Return the held-out picks of all tomograms, and whether they are right."""
        parts = []
        for tomogram in self.tomograms:
            grey, truth = held_out_part(tomogram)
            found = detect(self.network, grey, radii, self.device)
            hits, places = match_picks(found, truth, radii)
            counts = np.bincount(truth.numbers, minlength=self.classes + 2)
            parts.append(
                Calibration(found.scores, found.numbers, hits, places, counts[1 : self.classes + 1])
            )
        return join_calibrations(parts)


def state_path(output: Path) -> Path:
    """Return the path of the state of a running training: `X.training.pt` beside `X.pt`."""
    return output.with_name(f"{output.stem}.training.pt")


def train(
    inputs: "TrainingInputs",
    options: TrainOptions,
    device: torch.device,
    output: Path,
    key: Mapping[str, Any],
) -> tuple[Detector, Training]:
    """Train a detector, or resume; return it with the run.

    The state is saved beside `output` once a minute.
    """
    run = Training(inputs.tomograms, len(inputs.classes), options, device, key)
    path = state_path(output)
    if path.exists():
        run.resume(path)
    run.run(lambda: write_weights(path, STATE, run.state()))
    calibration = run.calibrate(inputs.radii)
    detector = Detector(
        run.network.eval(), inputs.classes, options.width, inputs.voxel_size, inputs.radii,
        calibration.best_threshold(), calibration,
    )  # fmt: skip
    return detector, run

"""What every training loop does, on one device: torch and numpy, nothing else."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cryoetgan.devices import multiplies_bfloat16
from cryoetgan.translation.settings import Settings

log = logging.getLogger("cryoetgan")


class TooLargeError(Exception):
    """The device has not even room for one volume at a time."""


class DivergedError(Exception):
    """A loss is no longer a finite number."""


class Loop:
    """Steps, learning rates, the averaged generator, and a state that a run resumes from.

    A recipe derives from it, makes `networks` and `optimisers` in `_build`, and trains them
    once in `_one_step`.

    Parameters
    ----------
    settings : Settings
        The recipe.
    device : torch.device
        Where it computes.
    seed : int
        Of torch's generator; networks and batches follow from it.
    """

    averaged = "G_ds"
    """The network whose running average is kept."""

    def __init__(self, settings: Settings, device: torch.device, seed: int) -> None:
        self.settings, self.device, self.seed = settings, device, seed
        self.step = 0
        self.last: dict[str, float] = {}
        self.real_count = 1
        self.parts = 1
        """Micro-batches a batch is worked through in, their gradients added up."""
        self.half = settings.precision == "bf16" and multiplies_bfloat16(device)
        self.networks: Any = nn.ModuleDict()
        self.average: nn.Module = nn.Identity()
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        torch.manual_seed(seed)

    def _adopt(self, networks: Mapping[str, nn.Module], average: nn.Module) -> None:
        """Put networks on the device; keep an average, and the generator as it was."""
        self.networks = nn.ModuleDict(dict(networks)).to(self.device)
        if self.device.type == "cuda" or self.half:
            for network in self.networks.values():
                network.to(memory_format=torch.channels_last_3d)
        self.average = average.to(self.device)
        self.average.load_state_dict(self.networks[self.averaged].state_dict())
        self.average.requires_grad_(False)
        self.initial = {k: v.clone().cpu() for k, v in self.average.state_dict().items()}

    def epoch(self) -> float:
        """Return how often, on average, each real volume has been shown."""
        return self.step * self.settings.batch / self.real_count

    def run(self, steps: int, every_step: Callable[[], None] = lambda: None) -> None:
        """Train until `steps` steps are done; `every_step` is called after each."""
        self.networks.train()
        while self.step < steps:
            self._set_learning_rates(steps)
            self._step_that_fits()
            self.step += 1
            bad = [name for name, value in self.last.items() if not math.isfinite(value)]
            if bad:
                raise DivergedError(f"{', '.join(bad)} at step {self.step}")
            every_step()

    def _step_that_fits(self) -> None:
        """Train one step; out of memory, do it again in micro-batches of half the size."""
        while True:
            try:
                self._one_step()
            except torch.OutOfMemoryError:
                if self.parts >= self.settings.batch:
                    raise TooLargeError(
                        f"out of memory on {self.device} with one volume at a time"
                    ) from None
                self.parts *= 2
            else:
                return
            for network in self.networks.values():
                network.requires_grad_(True)
            for optimiser in self.optimisers.values():
                optimiser.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            log.warning(
                "out of memory on %s: batches of %d go in %d parts from step %d on",
                self.device,
                self.settings.batch,
                self.parts,
                self.step,
            )

    def _in_parts(self, *batches: Tensor) -> Iterator[tuple[float, tuple[Tensor, ...]]]:
        """Yield each micro-batch with its share of the batch."""
        whole = len(batches[0])
        for part in zip(*(batch.chunk(self.parts) for batch in batches), strict=True):
            yield len(part[0]) / whole, part

    def _one_step(self) -> None:
        raise NotImplementedError

    def _score(self, name: str, volumes: Tensor) -> Tensor:
        """Return a critic's scores; its weights are normalised in float32.

        Under autocast the power iteration of spectral normalisation would run in bfloat16,
        which is too coarse for it.
        """
        critic = self.networks[name]
        with parametrize.cached():
            for layer in critic.modules():
                if isinstance(layer, nn.Conv3d | nn.Linear):
                    _ = layer.weight
            with self._autocast():
                return critic(volumes).float()

    def _move_average(self) -> None:
        """Move the averaged generator; early on it follows faster."""
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            new = self.networks[self.averaged].parameters()
            for mean, value in zip(self.average.parameters(), new, strict=True):
                mean.lerp_(value, 1 - decay)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half)

    def _set_learning_rates(self, steps: int) -> None:
        s = self.settings
        start = s.decay_start * steps
        share = 1.0 if self.step < start else max(0.0, (steps - self.step) / max(steps - start, 1))
        for name, rate in (("generators", s.lr_generator), ("critics", s.lr_critic)):
            for entry in self.optimisers[name].param_groups:
                entry["lr"] = rate * share

    def state(self) -> dict[str, Any]:
        """Return all that a resumed run needs to go on bit for bit (on a CPU)."""
        return {
            "step": self.step,
            "networks": self.networks.state_dict(),
            "average": self.average.state_dict(),
            "initial": self.initial,
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.step = state["step"]
        self.networks.load_state_dict(state["networks"])
        self.average.load_state_dict(state["average"])
        self.initial = state["initial"]
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        torch.set_rng_state(state["rng"].cpu())
        if self.device.type == "cuda" and state["cuda_rng"]:
            torch.cuda.set_rng_state_all([item.cpu() for item in state["cuda_rng"]])


def make_optimiser(
    parameters: list[nn.Parameter], rate: float, settings: Settings
) -> torch.optim.Optimizer:
    """Return the optimiser that the settings name."""
    if settings.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=rate, betas=settings.betas)
    optimiser = torch.optim.RMSprop(parameters, lr=rate, alpha=0.9, eps=1e-10)
    for parameter in parameters:
        # TensorFlow's accumulator starts at 1: the first steps are small ones
        state = optimiser.state[parameter]
        state["step"] = torch.zeros((), dtype=torch.float32)
        state["square_avg"] = torch.ones_like(parameter)
    return optimiser

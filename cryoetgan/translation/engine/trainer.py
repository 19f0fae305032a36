"""The training loop that both models share, with torch and numpy alone.

A model derives from `Trainer`: its constructor passes networks to `set_networks` and makes
`optimisers`; its `train_step` trains them once.
"""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cryoetgan.devices import multiplies_bfloat16
from cryoetgan.seeds import integer_seed
from cryoetgan.translation.engine.distributed import ProcessGroup

if TYPE_CHECKING:
    from cryoetgan.translation.engine.settings import TrainingSettings

log = logging.getLogger("cryoetgan")
LOSS_LIMIT = 1e6
"""Absolute value of a loss or score beyond which training has diverged."""
DIAGNOSTIC_RATIOS = ("sd_ratio", "noise_ratio", "cycle_hidden", "signal_slope", "back_sd_ratio")
"""Columns without a limit: they are huge or undefined if nothing varies in a batch."""
COLLAPSED = 0.25
"""Contrast of the outputs of G_sd relative to densities, below which it has collapsed."""
DIAGNOSES = 20
"""Number of times in a run that `diagnose` is called."""
CHECK_EVERY_STEPS = 20
"""Steps between two checks of a GPU's losses; each check waits for the GPU."""


class TooLargeError(Exception):
    """The device has not enough memory for one volume at a time."""


class DivergedError(Exception):
    """A loss or a weight is not finite, or a loss is beyond `LOSS_LIMIT`."""


class _OtherProcessOutOfMemoryError(torch.OutOfMemoryError):
    """Another process is out of memory; all processes must use the same micro-batches."""


class Trainer:
    """Steps, learning rates, the averaged generators, and the state of a run.

    `seed` seeds torch's generator, from which networks and batches follow.
    """

    averaged = ("G_ds", "G_sd")
    """Names of the networks with a running average; translation uses the averages."""
    compiled: tuple[str, ...] = ("G_ds", "G_sd")
    """Names of the networks that setting `compile` compiles."""

    def __init__(self, settings: TrainingSettings, device: torch.device, seed: int) -> None:
        self.settings, self.device, self.seed = settings, device, seed
        self.step = 0
        self.last: dict[str, float | Tensor] = {}
        """Losses and diagnostics of the last step; tensors stay on the device until needed."""
        self.processes = ProcessGroup()
        self.real_count = 1
        """Number of training subtomograms."""
        self.micro_batches = 1
        """Number of parts of a batch; their gradients are added."""
        half = settings.precision == "bf16" and multiplies_bfloat16(device)
        self.autocast = functools.partial(torch.autocast, device.type, torch.bfloat16, half)
        """The context in which convolutions run in bfloat16, if the settings want it."""
        self.networks: Any = nn.ModuleDict()
        self.average: Any = nn.ModuleDict()
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.rates: dict[str, float] = {}
        """Learning rate of each optimiser at the start."""
        torch.manual_seed(seed)

    def set_networks(self, networks: Mapping[str, nn.Module]) -> None:
        """Put networks on the device; keep the generators' averages and initial weights."""
        self.networks = nn.ModuleDict(dict(networks)).to(self.device)
        for network in self.networks.values():
            network.to(memory_format=torch.channels_last_3d)
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # all boxes have one size: find fast kernels
        self.average = nn.ModuleDict({k: copy.deepcopy(self.networks[k]) for k in self.averaged})
        self.average.requires_grad_(False).eval()
        if self.device.type == "cuda" and self.settings.compile:
            self.compile_networks()
        self.initial = {k: v.clone().cpu() for k, v in self.average.state_dict().items()}

    def add_optimiser(self, name: str, parameters: list[nn.Parameter], rate: float) -> None:
        """Add an optimiser of the kind that the settings name, with its learning rate."""
        self.rates[name] = rate
        if self.settings.optimiser == "adam":
            betas = self.settings.betas
            self.optimisers[name] = torch.optim.Adam(parameters, lr=rate, betas=betas)
            return
        optimiser = torch.optim.RMSprop(parameters, lr=rate, alpha=0.9, eps=1e-10)
        for parameter in parameters:
            # TensorFlow's accumulator starts at 1, which makes the first steps small
            state = optimiser.state[parameter]
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["square_avg"] = torch.ones_like(parameter)
        self.optimisers[name] = optimiser

    def compile_networks(self, backend: str = "inductor") -> None:
        """Compile networks in place; the names in their states do not change."""
        for name in self.compiled:
            self.networks[name].compile(backend=backend, dynamic=False)

    def join(self, processes: ProcessGroup) -> None:
        """Train as one of several processes, with a share of every batch.

        Networks are equal in all processes because seeds are. Gradients are averaged before each
        optimiser step, so networks stay equal. Each process draws its own noise and dropout.
        """
        self.processes = processes
        if processes.count > 1:
            torch.manual_seed(integer_seed(self.seed, "rank", processes.rank))

    @property
    def batch(self) -> int:
        """Volumes a step of this process."""
        return max(1, self.settings.batch // self.processes.count)

    def max_micro_batches(self) -> int:
        """Return the largest number of parts of a batch."""
        return self.batch

    def run(self, steps: int, after_step: Callable[[], None] = lambda: None) -> None:
        """Train until `steps` steps are done; `after_step` is called after each.

        Raises `DivergedError` or `TooLargeError`.
        """
        self.networks.train()
        hooks = [
            optimiser.register_step_pre_hook(lambda taken, *_: self.before_optimiser_step(taken))
            for optimiser in self.optimisers.values()
        ]
        try:
            while self.step < steps:
                self.set_learning_rates(steps)
                self.train_step_in_memory()
                self.step += 1
                if self.step % max(1, steps // DIAGNOSES) == 0:
                    self.diagnose()
                if self.device.type == "cpu" or self.step % CHECK_EVERY_STEPS == 0:
                    self.check()
                after_step()
        finally:
            for hook in hooks:
                hook.remove()

    def train_step(self) -> None:
        """Train all networks once."""
        raise NotImplementedError

    def diagnose(self) -> None:
        """Add diagnostics to `last` that training does not need."""

    def set_learning_rates(self, steps: int) -> None:
        """Set the rates of this step; they fall to zero after `decay_start` of `steps`."""
        start = self.settings.decay_start * steps
        factor = min(1.0, max(0.0, (steps - self.step) / max(steps - start, 1)))
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = self.rates[name] * factor

    def before_optimiser_step(self, optimiser: torch.optim.Optimizer) -> None:
        """Average the gradients of all processes."""
        if self.processes.any(False):
            raise _OtherProcessOutOfMemoryError
        parameters = (p for group in optimiser.param_groups for p in group["params"])
        self.processes.average([p.grad for p in parameters if p.grad is not None])

    def train_step_in_memory(self) -> None:
        """Train one step; if memory runs out, repeat it with micro-batches of half the size."""
        while True:
            try:
                self.train_step()
                if self.processes.any(False):
                    raise _OtherProcessOutOfMemoryError
            except torch.OutOfMemoryError as error:
                if not isinstance(error, _OtherProcessOutOfMemoryError):
                    self.processes.any(True)
                if self.micro_batches >= self.max_micro_batches():
                    raise TooLargeError(
                        f"out of memory on {self.device} with one volume at a time"
                    ) from None
                self.micro_batches *= 2
            else:
                return
            for optimiser in self.optimisers.values():
                for group in optimiser.param_groups:
                    for parameter in group["params"]:
                        parameter.requires_grad_(True)
                optimiser.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            log.warning(
                "out of memory on %s: batches of %d are computed in %d parts from step %d on",
                self.device,
                self.batch,
                self.micro_batches,
                self.step,
            )

    def split(self, *batches: Tensor) -> Iterator[tuple[float, tuple[Tensor, ...]]]:
        """Yield each micro-batch and its weight, a fraction of the batch."""
        count = len(batches[0])
        for part in zip(*(batch.chunk(self.micro_batches) for batch in batches), strict=True):
            yield len(part[0]) / count, part

    def numbers(self) -> dict[str, float]:
        """Return losses and diagnostics of the last step, averaged over all processes."""
        values = [
            torch.as_tensor(value, dtype=torch.float64, device=self.device)
            for value in self.last.values()
        ]
        if not values:
            return {}
        stacked = torch.stack(values)  # wait for the device once
        self.processes.average([stacked])
        return dict(zip(self.last, stacked.tolist(), strict=True))

    def check(self, weights: bool = False) -> None:
        """Raise `DivergedError` if a loss, or with `weights` a weight, is not usable."""
        wrong = [
            f"{name} is {value:g}"
            for name, value in self.numbers().items()
            if name not in DIAGNOSTIC_RATIOS and not abs(value) <= LOSS_LIMIT  # true of NaN, too
        ]
        if weights and not wrong:
            finite = torch.stack([p.isfinite().all() for p in self.networks.parameters()])
            wrong = [] if bool(finite.all()) else ["weights are not finite"]
        if wrong:
            raise DivergedError(f"{', '.join(wrong)} at step {self.step}")

    def update_average(self) -> None:
        """Move the averaged generators towards the generators, faster in the first steps."""
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            new = [p for name in self.averaged for p in self.networks[name].parameters()]
            torch._foreach_lerp_(list(self.average.parameters()), new, 1 - decay)

    def state(self) -> dict[str, Any]:
        """Return all that a resumed run needs to reach the same bits (on a CPU).

        All processes must call it together.
        """
        return {
            "step": self.step,
            "last": self.numbers(),
            "networks": self.networks.state_dict(),
            "average": self.average.state_dict(),
            "initial": self.initial,
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
            "processes": self.processes.gather(self.process_state()),
        }

    def process_state(self) -> dict[str, Any]:
        """Return the part of the state that differs between processes."""
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {"rng": torch.get_rng_state(), "cuda_rng": cuda}

    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from `state`."""
        self.step, self.last = state["step"], dict(state["last"])
        self.networks.load_state_dict(state["networks"])
        self.average.load_state_dict(state["average"])
        self.initial = state["initial"]
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        states = state["processes"]
        if self.processes.rank < len(states):
            self.load_process(states[self.processes.rank])
        if len(states) != self.processes.count:
            log.warning(
                "the run used %d devices and resumes on %d: random numbers differ from step %d on",
                len(states),
                self.processes.count,
                self.step,
            )

    def load_process(self, state: Mapping[str, Any]) -> None:
        """Resume from the part of the state that belongs to this process."""
        torch.set_rng_state(state["rng"].cpu())
        if self.device.type == "cuda" and isinstance(state["cuda_rng"], Tensor):
            torch.cuda.set_rng_state(state["cuda_rng"].cpu(), self.device)

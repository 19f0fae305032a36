"""What every training loop does, on one device: torch and numpy, nothing else."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cryoetgan.devices import multiplies_bfloat16
from cryoetgan.seeds import integer_seed
from cryoetgan.translation.engine.process_group import Team
from cryoetgan.translation.settings import Settings

log = logging.getLogger("cryoetgan")
LIMIT = 1e6
"""A loss or score beyond it has left every scale that training knows."""
WATCHED = ("sd_ratio", "noise_ratio", "cycle_hidden", "signal_slope")
"""Ratios for a person to see: a batch in which nothing varies makes them huge or undefined."""
PROBES = 20
"""How often in a run `probe` is asked."""
CHECK_EVERY = 20
"""Steps from one look at a GPU's numbers to the next: each look waits for it to end its work."""


class TooLargeError(Exception):
    """The device has not even room for one volume at a time."""


class DivergedError(Exception):
    """A loss or a weight is no longer a finite number, or a loss has left all bounds."""


class _NoRoomElsewhereError(torch.OutOfMemoryError):
    """Another process of the team is out of memory: its micro-batches become everyone's."""


class Loop:
    """Steps, learning rates, the averaged generator, and a state that a run resumes from.

    A recipe derives from it, hands its networks to `_adopt`, makes `optimisers`, and trains
    them once in `_one_step`.

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
        self.last: dict[str, float | Tensor] = {}
        """Numbers of the last step; tensors stay on the device until someone looks."""
        self.team = Team()
        self.real_count = 1
        self.parts = 1
        """Micro-batches a batch is worked through in, their gradients added up."""
        self.half = settings.precision == "bf16" and multiplies_bfloat16(device)
        self.networks: Any = nn.ModuleDict()
        self.average: nn.Module = nn.Identity()
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.rates = {"generators": settings.lr_generator, "critics": settings.lr_critic}
        """Learning rates, by optimiser."""
        torch.manual_seed(seed)

    def _adopt(self, networks: Mapping[str, nn.Module], average: nn.Module) -> None:
        """Put networks on the device; keep an average, and the generator as it was."""
        self.networks = nn.ModuleDict(dict(networks)).to(self.device)
        for network in self.networks.values():
            network.to(memory_format=torch.channels_last_3d)
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # boxes do not change: try which kernel is best
            if self.settings.compile:
                self._compile()
        self.average = average.to(self.device)
        self.average.load_state_dict(self.networks[self.averaged].state_dict())
        self.average.requires_grad_(False)
        self.initial = {k: v.clone().cpu() for k, v in self.average.state_dict().items()}

    def _compile(self, backend: str = "inductor") -> None:
        """Compile networks in place; their states keep their names."""
        s = self.settings
        # nothing compiled keeps the cache of normalised weights, or has second derivatives
        plain = not s.spectral_norm and s.penalty_weight == s.r1_weight == 0
        for name, network in self.networks.items():
            if name.startswith("G_") or (plain and name.startswith("D_")):
                network.compile(backend=backend, dynamic=False)

    def join(self, team: Team) -> None:
        """Train as one of several processes: each takes its share of every batch.

        Networks are alike in all of them, as seeds are; gradients are averaged before each
        step of an optimiser, so that they stay alike. Noise and dropout are each one's own.
        """
        self.team = team
        if team.count > 1:
            torch.manual_seed(integer_seed(self.seed, "rank", team.rank))

    @property
    def batch(self) -> int:
        """Volumes a step of this process."""
        return max(1, self.settings.batch // self.team.count)

    def most_parts(self) -> int:
        """Return how many parts a step can go in."""
        return self.batch

    def _before_step(self, optimiser: torch.optim.Optimizer) -> None:
        """Make the gradients those of the whole batch."""
        if self.team.count == 1:
            return
        if self.team.anyone(False):
            raise _NoRoomElsewhereError
        groups = optimiser.param_groups
        self.team.average([p.grad for g in groups for p in g["params"] if p.grad is not None])

    def epoch(self) -> float:
        """Return how often, on average, each real volume has been shown."""
        return self.step * self.settings.batch / self.real_count

    def run(self, steps: int, every_step: Callable[[], None] = lambda: None) -> None:
        """Train until `steps` steps are done; `every_step` is called after each.

        Raises
        ------
        DivergedError
            Where a number is not finite or beyond all bounds.
        TooLargeError
            Where one volume at a time is too much for the device.
        """
        self.networks.train()
        hooks = [
            optimiser.register_step_pre_hook(lambda made, *_: self._before_step(made))
            for optimiser in self.optimisers.values()
        ]
        try:
            self._run(steps, every_step)
        finally:
            for hook in hooks:
                hook.remove()

    def _run(self, steps: int, every_step: Callable[[], None]) -> None:
        while self.step < steps:
            self._set_learning_rates(steps)
            self._step_that_fits()
            self.step += 1
            if self.step % max(1, steps // PROBES) == 0:
                self.probe()
            if self.device.type == "cpu" or self.step % CHECK_EVERY == 0:
                self.check()
            every_step()

    def probe(self) -> None:
        """Add numbers to `last` that a step does not need: for a person to watch."""

    def numbers(self) -> dict[str, float]:
        """Return the last step's numbers, the mean of all processes'."""
        kept = [
            torch.as_tensor(value, dtype=torch.float64, device=self.device)
            for value in self.last.values()
        ]
        if not kept:
            return {}
        values = torch.stack(kept)  # one wait for the device, not one a number
        self.team.average([values])
        return dict(zip(self.last, values.tolist(), strict=True))

    def check(self, weights: bool = False) -> None:
        """Raise `DivergedError` where the last step's numbers, or the weights, are no good."""
        wrong = [
            f"{name} is {value:g}"
            for name, value in self.numbers().items()
            if name not in WATCHED and not abs(value) <= LIMIT  # so that a NaN counts, too
        ]
        if weights and not wrong:
            whole = torch.stack([p.isfinite().all() for p in self.networks.parameters()])
            wrong = [] if bool(whole.all()) else ["weights are not finite"]
        if wrong:
            raise DivergedError(f"{', '.join(wrong)} at step {self.step}")

    def _step_that_fits(self) -> None:
        """Train one step; out of memory, do it again in micro-batches of half the size."""
        while True:
            try:
                self._one_step()
                if self.team.anyone(False):
                    raise _NoRoomElsewhereError
            except torch.OutOfMemoryError as error:
                if not isinstance(error, _NoRoomElsewhereError):
                    self.team.anyone(True)
                if self.parts >= self.most_parts():
                    raise TooLargeError(
                        f"out of memory on {self.device} with one volume at a time"
                    ) from None
                self.parts *= 2
            else:
                return
            for optimiser in self.optimisers.values():
                for entry in optimiser.param_groups:
                    for parameter in entry["params"]:
                        parameter.requires_grad_(True)
                optimiser.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            log.warning(
                "out of memory on %s: batches of %d go in %d parts from step %d on",
                self.device,
                self.batch,
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
            torch._foreach_lerp_(list(self.average.parameters()), list(new), 1 - decay)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half)

    def _set_learning_rates(self, steps: int) -> None:
        s = self.settings
        start = s.decay_start * steps
        share = 1.0 if self.step < start else max(0.0, (steps - self.step) / max(steps - start, 1))
        for name, optimiser in self.optimisers.items():
            for entry in optimiser.param_groups:
                entry["lr"] = self.rates[name] * share

    def state(self) -> dict[str, Any]:
        """Return all that a resumed run needs to go on bit for bit (on a CPU).

        All processes of a team must call it together.
        """
        return {
            "step": self.step,
            "last": self.numbers(),
            "networks": self.networks.state_dict(),
            "average": self.average.state_dict(),
            "initial": self.initial,
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
            "ranks": self.team.gather(self._own_state()),
        }

    def _own_state(self) -> dict[str, Any]:
        """Return what differs from process to process."""
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {"rng": torch.get_rng_state(), "cuda_rng": cuda}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.step, self.last = state["step"], dict(state.get("last", {}))
        self.networks.load_state_dict(state["networks"])
        self.average.load_state_dict(state["average"])
        self.initial = state["initial"]
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        # states of before there were teams hold their one process's at the top
        ranks = state.get("ranks", [state])
        if self.team.rank < len(ranks):
            self._load_own(ranks[self.team.rank])
        if len(ranks) != self.team.count:
            log.warning(
                "it was trained on %d devices and goes on with %d: other random numbers from "
                "step %d on",
                len(ranks),
                self.team.count,
                self.step,
            )

    def _load_own(self, own: Mapping[str, Any]) -> None:
        torch.set_rng_state(own["rng"].cpu())
        if self.device.type == "cuda" and isinstance(own["cuda_rng"], Tensor):
            torch.cuda.set_rng_state(own["cuda_rng"].cpu(), self.device)


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

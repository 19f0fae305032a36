"""The training loop on one device: torch and numpy, nothing else."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cryoetgan.devices import multiplies_bfloat16
from cryoetgan.translation.networks import Discriminator, Generator
from cryoetgan.translation.objectives import (
    critic_loss,
    cycle_loss,
    generator_loss,
    gradient_penalty,
    lowpass,
    lowpass_cosine,
    lowpass_identity,
    r1_penalty,
)
from cryoetgan.translation.scaling import Scaler
from cryoetgan.translation.settings import Settings


class DivergedError(Exception):
    """A loss is no longer a finite number."""


class Pool:
    """Earlier generated volumes, so that the critic does not forget them (CycleGAN's pool)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: list[Tensor] = []

    def swap(self, volumes: Tensor) -> Tensor:
        """Return a batch half of which, on average, was made earlier."""
        if self.size == 0:
            return volumes
        out = []
        for volume in volumes:
            if len(self.kept) < self.size:
                self.kept.append(volume.clone())
                out.append(volume)
            elif torch.rand(()) < 0.5:
                index = int(torch.randint(self.size, ()))
                out.append(self.kept[index].clone())
                self.kept[index] = volume.clone()
            else:
                out.append(volume)
        return torch.stack(out)


def make_generator(settings: Settings, noise: bool = True) -> Generator:
    """Return a generator of these settings."""
    return Generator(
        settings.widths,
        settings.blocks,
        settings.noise_channels if noise else 0,
        settings.res_norm == "instance",
        settings.bias,
        settings.dropout,
        settings.output,
    )


def make_critic(settings: Settings) -> Discriminator:
    """Return a discriminator of these settings."""
    return Discriminator(
        settings.critic_widths,
        settings.critic_stride,
        settings.critic_norm == "instance",
        settings.spectral_norm,
    )


@dataclass
class Trainer:
    """Everything that changes while training, and how it changes.

    Parameters
    ----------
    settings : Settings
        The recipe.
    densities, subtomograms : Tensor
        `(N, 1, z, y, x)` scaled to [-1, 1], on the device.
    device : torch.device
        Where it computes.
    seed : int
        Of torch's generator; networks and batches follow from it.
    """

    settings: Settings
    densities: Tensor
    subtomograms: Tensor
    device: torch.device
    seed: int
    step: int = 0
    last: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        s = self.settings
        self.half = s.precision == "bf16" and multiplies_bfloat16(self.device)
        # names as in the paper: G_ds makes subtomograms of densities, D_s judges them
        self.networks: Any = nn.ModuleDict(
            {
                "G_ds": make_generator(s),
                "G_sd": make_generator(s, noise=s.noise_generators == "both"),
                "D_s": make_critic(s),
                "D_d": make_critic(s),
            }
        ).to(self.device)
        if self.device.type == "cuda" or self.half:
            for network in self.networks.values():
                network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = make_generator(s).to(self.device)
        self.average.load_state_dict(self.networks["G_ds"].state_dict())
        self.average.requires_grad_(False)
        self.initial = {k: v.clone().cpu() for k, v in self.average.state_dict().items()}
        generators = [*self.networks["G_ds"].parameters(), *self.networks["G_sd"].parameters()]
        critics = [*self.networks["D_s"].parameters(), *self.networks["D_d"].parameters()]
        self.optimisers = {
            "generators": _optimiser(generators, s.lr_generator, s),
            "critics": _optimiser(critics, s.lr_critic, s),
        }
        self.pools = {"s": Pool(s.pool), "d": Pool(s.pool)}
        spread = float(self.densities.std())
        self.noise_sd = s.input_noise * (spread if s.input_noise_unit == "std" else 1.0)
        self.fixed_noise = (
            torch.randn_like(self.densities) if s.input_noise_draw == "once" else None
        )

    def run(self, steps: int, every_step: Callable[[], None] = lambda: None) -> None:
        """Train until `steps` steps are done; `every_step` is called after each."""
        self.networks.train()
        while self.step < steps:
            self._set_learning_rates(steps)
            self._one_step()
            self.step += 1
            bad = [name for name, value in self.last.items() if not math.isfinite(value)]
            if bad:
                raise DivergedError(f"{', '.join(bad)} at step {self.step}")
            every_step()

    def _one_step(self) -> None:
        s = self.settings
        for index in range(s.n_critic):
            d, s_real = self._densities(), self._batch(self.subtomograms)
            with torch.no_grad(), self._autocast():
                fake_s = self._translate("G_ds", self._noisy(d))
                fake_d = self._translate("G_sd", s_real)
            fakes = self.pools["s"].swap(fake_s), self.pools["d"].swap(fake_d)
            self._update_critics(s_real, d, *fakes)
            if index < s.n_critic - 1:
                continue
            self._update_generators(d, s_real)

    def _translate(self, name: str, volumes: Tensor) -> Tensor:
        return self.networks[name](volumes).float()

    def _score(self, name: str, volumes: Tensor) -> Tensor:
        """Return a critic's scores; its weights are normalised in float32.

        Under autocast the power iteration of spectral normalisation would run in bfloat16,
        which is too coarse for it.
        """
        critic = self.networks[name]
        with parametrize.cached():
            for layer in critic.convolutions():
                _ = layer.weight
            with self._autocast():
                return critic(volumes).float()

    def _update_critics(
        self, s_real: Tensor, d_real: Tensor, s_fake: Tensor, d_fake: Tensor
    ) -> None:
        s = self.settings
        optimiser = self.optimisers["critics"]
        optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for name, real, fake in (("D_s", s_real, s_fake), ("D_d", d_real, d_fake)):
            critic = self.networks[name]
            on_real, on_fake = self._score(name, torch.cat([real, fake])).chunk(2)
            loss = critic_loss(s.objective, on_real, on_fake, s.real_label)
            self.last[f"loss_{name}"] = float(loss.detach())
            self.last[f"{name}_real"] = float(on_real.detach().mean())
            self.last[f"{name}_fake"] = float(on_fake.detach().mean())
            if s.objective == "wgan-gp":
                share = torch.rand(len(real), 1, 1, 1, 1, device=self.device)
                loss = loss + s.penalty_weight * gradient_penalty(critic, real, fake, share)
            if s.r1_weight > 0 and self.step % s.r1_every == 0:
                loss = loss + s.r1_weight * s.r1_every * r1_penalty(critic, real)
            total = total + loss
        total.backward()
        optimiser.step()
        if s.objective == "wgan" and s.clip > 0:
            self._clip()

    def _clip(self) -> None:
        """Keep the critics' convolution weights within +-clip (doi 10.48550/arXiv.1701.07875)."""
        bound = self.settings.clip
        with torch.no_grad():
            for name in ("D_s", "D_d"):
                for label, weight in self.networks[name].named_parameters():
                    # under spectral norm the free weight is called ...weight.original
                    if weight.dim() == 5 and "weight" in label:
                        weight.clamp_(-bound, bound)

    def _update_generators(self, d: Tensor, s_real: Tensor) -> None:
        s = self.settings
        optimiser = self.optimisers["generators"]
        optimiser.zero_grad(set_to_none=True)
        self.networks["D_s"].requires_grad_(False)
        self.networks["D_d"].requires_grad_(False)
        with self._autocast():
            fake_s = self._translate("G_ds", self._noisy(d))
            fake_d = self._translate("G_sd", s_real)
            back_d = self._translate("G_sd", fake_s)
            back_s = self._translate("G_ds", self._noisy(fake_d))
        scores_s, scores_d = self._score("D_s", fake_s), self._score("D_d", fake_d)
        adversarial = generator_loss(s.objective, scores_s, s.real_label)
        adversarial = adversarial + generator_loss(s.objective, scores_d, s.real_label)
        cycle_d = cycle_loss(back_d, d)
        sigma = s.cycle_lowpass
        cycle_s = cycle_loss(lowpass(back_s, sigma), lowpass(s_real, sigma))
        loss = adversarial + s.cycle_weight * (cycle_d + cycle_s)  # equation 5
        if s.identity_weight > 0:
            kept = lowpass_cosine if s.identity_kind == "cosine" else lowpass_identity
            identity = kept(fake_s, d, s.identity_lowpass)
            self.last["identity"] = float(identity.detach())
            loss = loss + s.identity_weight * identity
        loss.backward()
        optimiser.step()
        self.networks["D_s"].requires_grad_(True)
        self.networks["D_d"].requires_grad_(True)
        self._average()
        self.last["adversarial"] = float(adversarial.detach())
        self.last["cycle_d"], self.last["cycle_s"] = (
            float(cycle_d.detach()),
            float(cycle_s.detach()),
        )
        self.last["sd_ratio"] = float(fake_s.detach().std() / s_real.std())

    def _average(self) -> None:
        """Move the averaged generator; early on it follows faster."""
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.networks["G_ds"].parameters(), strict=True)
            for mean, new in pairs:
                mean.lerp_(new, 1 - decay)

    def _batch(self, volumes: Tensor) -> Tensor:
        return volumes[torch.randint(len(volumes), (self.settings.batch,)).to(volumes.device)]

    def _densities(self) -> Tensor:
        """Return a batch of densities; noise fixed for each belongs to the domain itself."""
        chosen = torch.randint(len(self.densities), (self.settings.batch,)).to(self.device)
        if self.fixed_noise is None:
            return self.densities[chosen]
        return self.densities[chosen] + self.noise_sd * self.fixed_noise[chosen]

    def _noisy(self, densities: Tensor) -> Tensor:
        """Return what G_ds is given: densities with fresh noise (paper, Table 3)."""
        if self.noise_sd == 0 or self.fixed_noise is not None:
            return densities
        return densities + self.noise_sd * torch.randn_like(densities)

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
            "noise_sd": self.noise_sd,
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
            "pools": {name: pool.kept for name, pool in self.pools.items()},
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "fixed_noise": self.fixed_noise,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.step = state["step"]
        self.networks.load_state_dict(state["networks"])
        self.average.load_state_dict(state["average"])
        self.initial = state["initial"]
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        for name, pool in self.pools.items():
            pool.kept = [volume.to(self.device) for volume in state["pools"][name]]
        if state["fixed_noise"] is not None:
            self.fixed_noise = state["fixed_noise"].to(self.device)
        torch.set_rng_state(state["rng"].cpu())
        if self.device.type == "cuda" and state["cuda_rng"]:
            torch.cuda.set_rng_state_all([item.cpu() for item in state["cuda_rng"]])


def _optimiser(
    parameters: list[nn.Parameter], rate: float, settings: Settings
) -> torch.optim.Optimizer:
    if settings.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=rate, betas=settings.betas)
    optimiser = torch.optim.RMSprop(parameters, lr=rate, alpha=0.9, eps=1e-10)
    for parameter in parameters:
        # TensorFlow's accumulator starts at 1: the first steps are small ones
        state = optimiser.state[parameter]
        state["step"] = torch.zeros((), dtype=torch.float32)
        state["square_avg"] = torch.ones_like(parameter)
    return optimiser


def scalers_to_dict(density: Scaler, subtomogram: Scaler) -> dict[str, dict[str, float]]:
    """Return both scalers as plain numbers for a checkpoint."""
    return {"density": asdict(density), "subtomogram": asdict(subtomogram)}

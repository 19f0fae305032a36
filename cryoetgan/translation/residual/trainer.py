"""Training of the residual network on simulated scenes, with torch and numpy alone.

A step generates volumes for both signs of the same noise and moves their texture and spectrum
towards real crops. The mean over both signs is the effect of the signal alone: the cosine
with the signal, and the slope on it, show whether label, pose and position are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from cryoetgan.translation.engine.batches import VolumeLoader
from cryoetgan.translation.engine.layers import ResidualConvolutions
from cryoetgan.translation.engine.losses import signal_cosine_distance
from cryoetgan.translation.engine.scaling import Scaler
from cryoetgan.translation.engine.trainer import Trainer
from cryoetgan.translation.residual.losses import PowerSpectrum, standardise, texture_distance
from cryoetgan.translation.residual.networks import ResidualGenerator

if TYPE_CHECKING:
    from cryoetgan.translation.residual.scene_bank import SceneBank
    from cryoetgan.translation.residual.settings import ResidualSettings

ESTIMATOR_EVERY_STEPS = 8
"""Steps between two updates of the density estimator, which learns quickly from pairs."""
ESTIMATOR_LR_SCALE = 0.1
"""Ratio of the learning rates of density estimator and generator."""
HELD_OUT_FRACTION, HELD_OUT_EVERY_STEPS = 0.1, 10
"""Fraction of real volumes held out, and steps between two comparisons with them."""
REAL_PER_GENERATED = 2
"""Real volumes a step over generated ones; they cost little."""
GRADIENT_LIMIT = 1.0
"""Norm to which larger gradients are shortened."""
MOMENTS_WEIGHT = 0.1
"""Weight of the squared differences of mean and standard deviation, which texture ignores."""
MIN_SIGNAL_POWER = 1e-4
"""Power of a batch's signal, over the power of real crops, below which no slope is measured."""


def signal_slope_terms(both: Tensor, signal: Tensor) -> Tensor:
    """Return `(2,)`: covariance with the signal, and its variance; their ratio is the slope.

    `both` is `(2B, 1, z, y, x)`, volumes generated with n and then with -n; `signal` has B volumes.
    """
    plus, minus = both.chunk(2)
    centred = signal - signal.mean(dim=(2, 3, 4), keepdim=True)
    return torch.stack([((plus + minus) / 2 * centred).mean(), centred.square().mean()])


class ResidualTrainer(Trainer):
    """A residual generator and a density estimator.

    Subtomograms are `(N, 1, z, y, x)`, grey values. `scalers` holds one scaler for densities and one
    for subtomograms. `half_turns` holds the half turns that keep the missing wedge, as axes of
    `(B, 1, z, y, x)` to flip (`physics.geometry.HALF_TURNS`).
    """

    settings: ResidualSettings

    def __init__(
        self,
        settings: ResidualSettings,
        scenes: SceneBank,
        subtomograms: Tensor,
        scalers: tuple[Scaler, Scaler],
        half_turns: Sequence[tuple[int, ...]],
        device: torch.device,
        seed: int,
    ) -> None:
        super().__init__(settings, device, seed)
        s = settings
        self.scenes, self.scalers, self.half_turns = scenes, scalers, half_turns
        scaled = scalers[1].forward(subtomograms)
        order = torch.randperm(len(scaled))
        held_out = max(1, int(HELD_OUT_FRACTION * len(scaled))) if len(scaled) > 1 else 0
        train = scaled[order[held_out:]]
        self.held_out = scaled[order[:held_out]].to(device)
        self.real = VolumeLoader(train, device)
        self.real_count = len(train)
        self.real_mean, self.real_sd = float(train.mean()), float(train.std(correction=0))
        networks: dict[str, nn.Module] = {
            "G_ds": ResidualGenerator(s.diffusion_steps, s.filters),
            "G_sd": ResidualConvolutions(s.width, s.blocks),
            "spectrum": PowerSpectrum(standardise(train)),
        }
        self.set_networks(networks)
        trained = [p for p in self.networks["G_ds"].parameters() if p.requires_grad]
        self.add_optimiser("generator", trained, s.lr_generator)
        estimator = [*self.networks["G_sd"].parameters()]
        self.add_optimiser("estimator", estimator, ESTIMATOR_LR_SCALE * s.lr_generator)

    def max_micro_batches(self) -> int:
        """Return the largest number of parts of a batch: one scene each, with both noises."""
        return max(1, self.batch // 2)

    def before_optimiser_step(self, optimiser: torch.optim.Optimizer) -> None:
        """Average the gradients of all processes, then shorten the generator's."""
        super().before_optimiser_step(optimiser)
        if optimiser is self.optimisers["generator"]:
            parameters = self.networks["G_ds"].parameters()
            nn.utils.clip_grad_norm_(parameters, GRADIENT_LIMIT)

    def train_step(self) -> None:
        """Update generator, spectrum and contrast; every few steps the density estimator."""
        pairs = self.max_micro_batches()
        u, n, density = self.scenes.draw(pairs)
        u, n = (self.scalers[1].forward(x.to(self.device)) for x in (u, n))
        rows = torch.randint(len(self.real), (pairs * REAL_PER_GENERATED * 2,))
        real = self.real.batch(rows).unflatten(0, (pairs, REAL_PER_GENERATED * 2))
        optimiser, spectrum = self.optimisers["generator"], self.networks["spectrum"]
        optimiser.zero_grad(set_to_none=True)
        outputs, deviation = [], torch.zeros_like(spectrum.seen)
        slope_terms = torch.zeros(2, device=self.device)
        for weight, (u_part, n_part, real_part) in self.split(u, n, real):
            both = self.generate(u_part, n_part)
            loss, part_deviation = self.loss(both, u_part, n_part, real_part.flatten(0, 1))
            (loss * weight).backward()
            deviation += weight * part_deviation
            slope_terms += weight * signal_slope_terms(both.detach(), u_part)
            outputs.append(both.detach()[: len(u_part)])
        self.processes.average([deviation, slope_terms])
        optimiser.step()
        spectrum.update(deviation)
        self.update_contrast(slope_terms)
        if self.step % HELD_OUT_EVERY_STEPS == 0 and len(self.held_out):
            self.compare_held_out(torch.cat(outputs))
        if self.step % ESTIMATOR_EVERY_STEPS == 0:
            self.update_estimator(torch.cat(outputs), density.to(self.device))
        self.update_average()

    def generate(self, u: Tensor, n: Tensor) -> Tensor:
        """Return `(2B, 1, z, y, x)`: volumes generated with n, then with -n."""
        with self.autocast():
            return self.networks["G_ds"](torch.cat([u, u]), torch.cat([n, -n])).float()

    def update_contrast(self, slope_terms: Tensor) -> None:
        """Move the contrast so that the slope of generated volumes on their signal becomes 1.

        The slope of real crops on the signal fitted to them is near 1 (0.92 to 1.09 by class, two
        data sets; `imaging/fit/class_agreement.py`). The fitted signal contains the flattening by
        the microscope's processing already, and r would flatten it once more. A batch without
        particles has no slope and changes nothing.
        """
        covariance, power = slope_terms
        measured = power > MIN_SIGNAL_POWER * self.real_sd**2
        slope = torch.where(measured, covariance / power, 1.0)
        self.last["signal_slope"] = slope
        contrast = self.networks["G_ds"].log_contrast
        contrast.data -= self.settings.contrast_rate * slope.clamp(0.1, 10).log()

    def augment(self, volumes: Tensor) -> Tensor:
        """Return a batch, turned by 180 degrees about a random axis that keeps the wedge."""
        if not self.settings.augment:
            return volumes
        axes = self.half_turns[int(torch.randint(len(self.half_turns), ()))]
        return torch.flip(volumes, axes) if axes else volumes

    def loss(self, both: Tensor, u: Tensor, n: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of `generate`'s volumes, and the spectrum's deviations `(bins,)`."""
        s = self.settings
        augmented = self.augment(standardise(both))
        texture = texture_distance(augmented, self.augment(standardise(real)))
        spectrum, deviation = self.networks["spectrum"](augmented)
        plus, minus = both.chunk(2)
        cosine_distance = signal_cosine_distance((plus + minus) / 2, u)
        mix = self.networks["G_ds"].mix
        penalty = (both - torch.cat([mix(u, n), mix(u, -n)])).square().mean()
        sd_ratio = both.std() / self.real_sd
        level = (both.mean() - self.real_mean) / self.real_sd
        names = ("voxels", "filters", "strengths")
        self.last |= zip(names, texture.detach(), strict=True)
        self.last["spectrum"] = spectrum.detach()
        self.last["signal_cosine_distance"] = cosine_distance.detach()
        self.last["change_rms"] = penalty.detach().sqrt()
        self.last["sd_ratio"] = sd_ratio.detach()
        # a generator that ignores the noise returns one volume again and again: ratio 0
        self.last["noise_ratio"] = ((plus - minus) / 2).detach().std() / n.std()
        loss = (
            s.texture_weight * texture.sum()
            + s.spectrum_weight * spectrum
            + s.identity_weight * cosine_distance
            + s.residual_penalty * penalty
            + MOMENTS_WEIGHT * ((sd_ratio - 1).square() + level.square())
        )
        return loss, deviation

    @torch.no_grad()
    def compare_held_out(self, generated: Tensor) -> None:
        """Measure the texture distance to held-out and to as many training volumes."""
        standardised = standardise(generated)
        count = min(len(self.held_out), 2 * len(standardised))
        train = self.real.batch(torch.randperm(len(self.real))[:count])
        held_out = self.held_out[torch.randperm(len(self.held_out))[:count].to(self.device)]
        for name, volumes in (("held_out", held_out), ("train", train)):
            distances = texture_distance(standardised, standardise(volumes))
            self.last[f"texture_{name}"] = distances.sum()

    def update_estimator(self, generated: Tensor, density: Tensor) -> None:
        """Train the density estimator on pairs, by mean squares: it learns expected densities."""
        optimiser = self.optimisers["estimator"]
        optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for one, wanted in zip(generated.split(2), density.split(2), strict=True):
            with self.autocast():
                estimate = self.networks["G_sd"](one).float()
            loss = (
                functional.mse_loss(estimate, self.scalers[0].forward(wanted))
                * len(one)
                / len(density)
            )
            loss.backward()
            total += loss.detach()
        optimiser.step()
        self.last["cycle_d"] = total.sqrt()

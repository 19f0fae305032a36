"""Training of the paper's CycleGAN, with torch and numpy alone.

`CycleGANTrainer.train_step` is one step, from the discriminators' update to the generators'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from cryoetgan.seeds import rng
from cryoetgan.translation.cyclegan import losses
from cryoetgan.translation.cyclegan.neighbours import add_neighbours
from cryoetgan.translation.cyclegan.networks import Discriminator, FilterGenerator, Generator
from cryoetgan.translation.engine.batches import ShuffledIndices, VolumeLoader
from cryoetgan.translation.engine.losses import patch_distance, signal_cosine_distance
from cryoetgan.translation.engine.trainer import Trainer
from cryoetgan.translation.residual.losses import PowerSpectrum, standardise

if TYPE_CHECKING:
    from cryoetgan.translation.cyclegan.settings import CycleGANSettings

HIDDEN_MESSAGE_SD = 0.1
"""Standard deviation of noise that a message hidden in a generated volume would not survive."""
SCORED_VOLUMES = 16
"""Held-out subtomograms that are scored at each diagnosis, and as many training ones."""
DIAGNOSED_DENSITIES = 8
"""Densities, evenly spaced in the set, from which each diagnosis takes a batch."""


class ReplayPool:
    """Up to `size` earlier volumes, shown again to a discriminator (CycleGAN's image pool)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.volumes: list[Tensor] = []

    def swap(self, volumes: Tensor) -> Tensor:
        """Return a batch in which, on average, half of the volumes are earlier ones."""
        if self.size == 0:
            return volumes
        out = []
        for volume in volumes:
            shown = volume
            if len(self.volumes) < self.size:
                self.volumes.append(volume.clone())
            elif torch.rand(()) < 0.5:
                index = int(torch.randint(self.size, ()))
                shown, self.volumes[index] = self.volumes[index], volume.clone()
            out.append(shown)
        return torch.stack(out)


def make_generator(settings: CycleGANSettings, noise: bool = True) -> Generator | FilterGenerator:
    """Return a generator of these settings."""
    dropout = settings.dropout if settings.dropout_on == "blocks" else 0.0
    if settings.generator == "filters":
        noise = noise and settings.noise_channels > 0
        return FilterGenerator(
            settings.filter_size, settings.widths[0], settings.blocks, noise, dropout
        )
    generator = Generator(
        settings.widths,
        settings.blocks,
        settings.noise_channels if noise else 0,
        settings.res_norm == "instance",
        settings.bias,
        dropout,
        "resize" if settings.upsampling == "resize" else settings.padding,
        settings.noise_at,
    )
    if settings.output == "linear":
        generator.decoder[-1] = nn.Identity()
    if settings.dropout_on == "output":
        generator.decoder.append(nn.Dropout(settings.dropout))
    return generator


def make_discriminator(settings: CycleGANSettings) -> Discriminator:
    """Return a discriminator of these settings."""
    return Discriminator(
        settings.discriminator_widths,
        settings.discriminator_stride,
        settings.discriminator_norm == "instance",
        settings.spectral_norm,
        settings.discriminator_bias,
        settings.padding,
        settings.discriminator_kernel,
    )


def count_held_out(settings: CycleGANSettings, count: int) -> int:
    """Return the number of subtomograms, of `count`, held out from the discriminator."""
    return min(int(settings.held_out * count), count - 1)


class CycleGANTrainer(Trainer):
    """Two generators and two discriminators, trained with unpaired volumes.

    Densities and subtomograms are `(N, 1, z, y, x)`, scaled to [-1, 1]; `Trainer` has the other
    parameters.
    """

    settings: CycleGANSettings

    def __init__(
        self,
        settings: CycleGANSettings,
        densities: Tensor,
        subtomograms: Tensor,
        device: torch.device,
        seed: int,
    ) -> None:
        super().__init__(settings, device, seed)
        s = settings
        order = torch.from_numpy(rng(seed, "held out").permutation(len(subtomograms)))
        held_out = count_held_out(s, len(subtomograms))
        self.held_out = subtomograms[order[:held_out]]
        if held_out:
            subtomograms = subtomograms[order[held_out:]]
        self.real_count = len(subtomograms)
        # names as in the paper: G_ds makes subtomograms from densities, D_s scores them
        networks: dict[str, nn.Module] = {
            "G_ds": make_generator(s),
            "G_sd": make_generator(s, noise=s.noise_generators == "both"),
            "D_s": make_discriminator(s),
            "D_d": make_discriminator(s),
        }
        if s.spectrum_weight > 0:
            networks["spectrum"] = PowerSpectrum(standardise(subtomograms))
        # a compiled network has no cache of normalised weights and no second derivatives
        if not s.spectral_norm and s.penalty_weight == s.r1_weight == 0:
            self.compiled = ("G_ds", "G_sd", "D_s", "D_d")
        self.set_networks(networks)
        for name, members, rate in (
            ("generators", ("G_ds", "G_sd"), s.lr_generator),
            ("discriminators", ("D_s", "D_d"), s.lr_discriminator),
        ):
            parameters = [p for member in members for p in self.networks[member].parameters()]
            self.add_optimiser(name, parameters, rate)
        self.spectrum_deviation = torch.zeros((), device=device)
        self.pools = {"s": ReplayPool(s.replay_pool), "d": ReplayPool(s.replay_pool)}
        sd = float(densities.std())
        self.noise_sd = s.input_noise * (sd if s.input_noise_unit == "std" else 1.0)
        if self.noise_sd > 0 and s.input_noise_draw == "once":
            # part of the domain D itself; a resumed run draws the same noise again
            densities = densities + self.noise_sd * torch.randn_like(densities)
        pair = {"d": densities, "s": subtomograms}
        self.sets = {name: VolumeLoader(volumes, device) for name, volumes in pair.items()}
        self.indices = {k: ShuffledIndices(len(v), seed, k) for k, v in self.sets.items()}

    def train_step(self) -> None:
        """Update the discriminators, once or more, then the generators."""
        for index in range(self.settings.discriminator_steps):
            d, s = self.next_batch("d"), self.next_batch("s")
            # the last generated volumes also train the generators, if their graphs fit in memory
            last = index == self.settings.discriminator_steps - 1 and self.micro_batches == 1
            with torch.set_grad_enabled(last):
                fakes = [self.generate(*part) for _, part in self.split(d, s)]
            fake_s, fake_d = (torch.cat(parts).detach() for parts in zip(*fakes, strict=True))
            shown = self.pools["s"].swap(fake_s), self.pools["d"].swap(fake_d)
            self.update_discriminators(s, d, *shown)
        self.update_generators(d, s, fakes[0] if last else None)
        self.update_average()

    def next_batch(self, domain: str) -> Tensor:
        """Return this process's part of the next batch of domain d or s."""
        rows = self.indices[domain].draw(self.batch * self.processes.count)
        volumes = self.sets[domain].batch(rows.chunk(self.processes.count)[self.processes.rank])
        if domain == "s":
            return volumes
        # the place in the deck seeds the neighbours, so a resumed run draws the same
        place = self.indices[domain].position, self.processes.rank
        return self.add_neighbours(volumes, rng(self.seed, "neighbours", *place))

    def add_neighbours(self, d: Tensor, random: np.random.Generator) -> Tensor:
        """Return densities `(B, 1, z, y, x)` with neighbours, if the settings want them."""
        loader, mean = self.sets["d"], self.settings.neighbours

        def others(rows: NDArray[np.int_]) -> Tensor:
            return loader.batch(torch.from_numpy(rows))

        return add_neighbours(d, mean, others, len(loader), random) if mean else d

    def generate(self, d: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return G_ds(d) and G_sd(s)."""
        with self.autocast():
            return self.translate("G_ds", self.add_input_noise(d)), self.translate("G_sd", s)

    def translate(self, name: str, volumes: Tensor) -> Tensor:
        """Return the output of a generator in float32."""
        output: Tensor = self.networks[name](volumes).float()
        return output

    def add_input_noise(self, densities: Tensor) -> Tensor:
        """Return densities with new noise, the input of G_ds (paper, Table 3)."""
        if self.noise_sd == 0 or self.settings.input_noise_draw == "once":
            return densities
        return densities + self.noise_sd * torch.randn_like(densities)

    def update_discriminators(self, s: Tensor, d: Tensor, fake_s: Tensor, fake_d: Tensor) -> None:
        """Train D_s and D_d once."""
        optimiser = self.optimisers["discriminators"]
        optimiser.zero_grad(set_to_none=True)
        for weight, part in self.split(s, d, fake_s, fake_d):
            (self.discriminators_loss(*part) * weight).backward()
        optimiser.step()
        if self.settings.objective == "wgan" and self.settings.clip > 0:
            for name in ("D_s", "D_d"):
                losses.clip_weights(self.networks[name], self.settings.clip)

    def discriminators_loss(self, s: Tensor, d: Tensor, fake_s: Tensor, fake_d: Tensor) -> Tensor:
        """Return the sum of the losses of D_s and D_d, with their penalties."""
        settings = self.settings
        total = torch.zeros((), device=self.device)
        for name, real, fake in (("D_s", s, fake_s), ("D_d", d, fake_d)):
            discriminator = self.networks[name]
            real_scores, fake_scores = self.score(name, torch.cat([real, fake])).chunk(2)
            loss = losses.discriminator_loss(
                settings.objective, real_scores, fake_scores, settings.real_label
            )
            self.last[f"loss_{name}"] = loss.detach()
            self.last[f"{name}_real"] = real_scores.detach().mean()
            self.last[f"{name}_fake"] = fake_scores.detach().mean()
            if settings.penalty_weight > 0:
                fraction = torch.rand(len(real), 1, 1, 1, 1, device=self.device)
                penalty = losses.gradient_penalty(
                    discriminator, real, fake, fraction, settings.penalty_norm
                )
                loss = loss + settings.penalty_weight * penalty
            if settings.r1_weight > 0 and self.step % settings.r1_every == 0:
                weight = settings.r1_weight * settings.r1_every
                loss = loss + weight * losses.r1_penalty(discriminator, real)
            total = total + loss
        return total

    def score(self, name: str, volumes: Tensor) -> Tensor:
        """Return the scores of a discriminator; its weights are normalised in float32.

        The power iteration of spectral normalisation is too coarse in bfloat16.
        """
        discriminator = self.networks[name]
        with parametrize.cached():
            for layer in discriminator.convolutions():
                _ = layer.weight
            with self.autocast():
                scores: Tensor = discriminator(volumes).float()
                return scores

    def update_generators(
        self, d: Tensor, s: Tensor, fakes: tuple[Tensor, Tensor] | None = None
    ) -> None:
        """Train G_ds and G_sd once; `fakes` are G_ds(d) and G_sd(s), generated again by default."""
        optimiser = self.optimisers["generators"]
        optimiser.zero_grad(set_to_none=True)
        self.networks["D_s"].requires_grad_(False)
        self.networks["D_d"].requires_grad_(False)
        deviation = torch.zeros((), device=self.device)
        for weight, (d_part, s_part) in self.split(d, s):
            (self.generators_loss(d_part, s_part, fakes) * weight).backward()
            deviation = deviation + weight * self.spectrum_deviation
        optimiser.step()
        if self.settings.spectrum_weight > 0:
            self.processes.average([deviation])
            self.networks["spectrum"].update(deviation)
        self.networks["D_s"].requires_grad_(True)
        self.networks["D_d"].requires_grad_(True)

    def generators_loss(
        self, d: Tensor, s: Tensor, fakes: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Return the generators' loss: Paper, eq. 5, and the terms that the settings add."""
        settings = self.settings
        fake_s, fake_d = self.generate(d, s) if fakes is None else fakes
        with self.autocast():
            cycled_d = self.translate("G_sd", fake_s)
            cycled_s = self.translate("G_ds", self.add_input_noise(fake_d))
        adversarial_s, adversarial_d = (
            losses.generator_loss(settings.objective, self.score(name, fake), settings.real_label)
            for name, fake in (("D_s", fake_s), ("D_d", fake_d))
        )
        smooth_s, smooth_cycled_s = (
            losses.lowpass(x, settings.cycle_lowpass) for x in (s, cycled_s)
        )
        cycle = losses.cycle_loss(d, cycled_d, smooth_s, smooth_cycled_s)
        loss = losses.full_objective(adversarial_s, adversarial_d, cycle, settings.cycle_weight)
        if settings.identity_weight > 0:
            kinds = {"l1": losses.identity_l1, "cosine": losses.identity_cosine}
            identity = kinds[settings.identity_kind](fake_s, d, settings.identity_lowpass)
            self.last["identity"] = identity.detach()
            loss = loss + settings.identity_weight * identity
        if settings.patch_weight > 0:
            patches = patch_distance(fake_s, s)
            self.last["patches"] = patches.detach()
            loss = loss + settings.patch_weight * patches
        if settings.spectrum_weight > 0:
            spectrum, self.spectrum_deviation = self.networks["spectrum"](standardise(fake_s))
            self.last["spectrum"] = spectrum.detach()
            loss = loss + settings.spectrum_weight * spectrum
        self.last["adversarial"] = (adversarial_s + adversarial_d).detach()
        self.last["cycle_d"] = functional.l1_loss(cycled_d.detach(), d)
        self.last["cycle_s"] = functional.l1_loss(smooth_cycled_s.detach(), smooth_s)
        self.last["sd_ratio"] = fake_s.detach().std() / s.std().clamp_min(1e-6)
        return loss

    @torch.no_grad()
    def diagnose(self) -> None:
        """Add diagnostics to `last`.

        noise_ratio: standard deviation over noise inputs, over that between generated voxels.
        cycle_hidden: error of the cycle d, G_ds(d), G_sd(G_ds(d)) with noise added to G_ds(d), over
        the error without. Far above 1, G_ds(d) carries an invisible message.
        signal_cosine_distance: 1 minus the cosine between densities and generated volumes.
        centre_shift: voxels between their centres (peak of the cross-correlation).
        background_offset: difference of the background's grey value between generated and real
        subtomograms, in standard deviations. Invented or missing neighbours change it.
        back_sd_ratio: standard deviation of G_sd(s), over the standard deviation of densities.
        D_s_held_out, D_s_train: see `score_held_out`.
        """
        volumes, count = self.sets["d"], max(1, self.batch // self.micro_batches)
        rows = torch.linspace(0, len(volumes) - 1, min(DIAGNOSED_DENSITIES, len(volumes))).long()
        # the choice depends on the step alone, so a resumed run makes the same
        first = int(rng(self.step, "probe").integers(len(rows)))
        d = volumes.batch(torch.roll(rows, -first)[:count])
        d = self.add_neighbours(d, rng(self.step, "probe", "neighbours"))
        s = self.sets["s"].batch(torch.linspace(0, len(self.sets["s"]) - 1, SCORED_VOLUMES).long())
        self.networks.eval()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), self.autocast():
            one, other = (self.translate("G_ds", d) for _ in range(2))
            noisy = one + HIDDEN_MESSAGE_SD * torch.randn_like(one)
            cycled, noisy_cycled = (self.translate("G_sd", x) for x in (one, noisy))
            back = self.average["G_sd"](s[:count]).float()
        self.score_held_out()
        self.networks.train()
        mean = (one + other).float() / 2
        offset = losses.background_mean(one.float()) - losses.background_mean(s)
        self.last["noise_ratio"] = (one - other).std() / (2**0.5 * one.std())
        hidden, plain = (functional.l1_loss(x, d) for x in (noisy_cycled, cycled))
        self.last["cycle_hidden"] = hidden / plain
        self.last["signal_cosine_distance"] = signal_cosine_distance(mean, d)
        self.last["centre_shift"] = losses.centre_shift(mean, d)
        self.last["back_sd_ratio"] = back.std() / d.std().clamp_min(1e-6)
        self.last["background_offset"] = offset / s.std().clamp_min(1e-6)

    def score_held_out(self) -> None:
        """Score held-out and training subtomograms.

        If D_s_train is far above D_s_held_out, the discriminator overfits.
        """
        count = min(len(self.held_out), SCORED_VOLUMES)
        if not count:
            return
        rows = torch.linspace(0, len(self.sets["s"]) - 1, count).long()
        pair = {"held_out": self.held_out[:count], "train": self.sets["s"].batch(rows)}
        for name, volumes in pair.items():
            scores = [self.score("D_s", v[None].to(self.device)).mean() for v in volumes]
            self.last[f"D_s_{name}"] = torch.stack(scores).mean()

    def state(self) -> dict[str, Any]:
        """Return all that a resumed run needs to reach the same bits (on a CPU)."""
        positions = {name: indices.position for name, indices in self.indices.items()}
        return {**super().state(), "noise_sd": self.noise_sd, "positions": positions}

    def process_state(self) -> dict[str, Any]:
        """Return the part of the state that differs between processes."""
        pools = {name: [v.cpu() for v in pool.volumes] for name, pool in self.pools.items()}
        return {**super().process_state(), "pools": pools}

    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from `state`."""
        super().load(state)
        for name, position in state["positions"].items():
            self.indices[name].position = position

    def load_process(self, state: Mapping[str, Any]) -> None:
        """Resume from the part of the state that belongs to this process."""
        super().load_process(state)
        for name, pool in self.pools.items():
            pool.volumes = [volume.to(self.device) for volume in state["pools"][name]]

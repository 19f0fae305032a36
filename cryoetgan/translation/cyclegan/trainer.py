"""The paper's CycleGAN, one step after another: torch and numpy, nothing else."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cryoetgan.seeds import rng
from cryoetgan.translation.cyclegan.diagnostics import centre_drift, far_mean
from cryoetgan.translation.cyclegan.losses import (
    critic_loss,
    cycle_loss,
    generator_loss,
    gradient_penalty,
    label_cosine,
    lowpass,
    lowpass_cosine,
    lowpass_identity,
    r1_penalty,
)
from cryoetgan.translation.cyclegan.networks import Discriminator, Generator
from cryoetgan.translation.engine.batches import Deck, Volumes
from cryoetgan.translation.engine.patches import patch_distance
from cryoetgan.translation.engine.trainer import Loop, make_optimiser
from cryoetgan.translation.settings import Settings

HIDDEN_SD = 0.1
"""Of the noise that a message hidden in a generated volume would not survive."""
HELD_SHOWN = 16
"""Subtomograms held out that are scored each time, and as many of those learnt from."""
PROBED = 8
"""Densities that are looked at in turns, from the whole set: of all its classes."""


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
        settings.dropout_on,
        settings.padding,
    )


def make_critic(settings: Settings) -> Discriminator:
    """Return a discriminator of these settings."""
    return Discriminator(
        settings.critic_widths,
        settings.critic_stride,
        settings.critic_norm == "instance",
        settings.spectral_norm,
        settings.critic_bias,
        settings.padding,
    )


def held_out(settings: Settings, count: int) -> int:
    """Return how many of so many subtomograms the critic is kept from (`held_out`)."""
    return min(int(settings.held_out * count), count - 1) if settings.frame == "cycle" else 0


class Trainer(Loop):
    """Two generators and two critics, trained unpaired.

    Parameters
    ----------
    settings : Settings
        The recipe.
    densities, subtomograms : Tensor
        `(N, 1, z, y, x)` scaled to [-1, 1].
    device : torch.device
        Where it computes.
    seed : int
        Of torch's generator; networks and batches follow from it.
    """

    def __init__(
        self,
        settings: Settings,
        densities: Tensor,
        subtomograms: Tensor,
        device: torch.device,
        seed: int,
    ) -> None:
        super().__init__(settings, device, seed)
        s = settings
        order = torch.from_numpy(rng(seed, "held out").permutation(len(subtomograms)))
        held = held_out(s, len(subtomograms))
        self.held = subtomograms[order[:held]]
        if held:
            subtomograms = subtomograms[order[held:]]
        self.real_count = len(subtomograms)
        # names as in the paper: G_ds makes subtomograms of densities, D_s judges them
        networks = {
            "G_ds": make_generator(s),
            "G_sd": make_generator(s, noise=s.noise_generators == "both"),
            "D_s": make_critic(s),
            "D_d": make_critic(s),
        }
        self._adopt(networks, make_generator(s))
        generators = [*self.networks["G_ds"].parameters(), *self.networks["G_sd"].parameters()]
        critics = [*self.networks["D_s"].parameters(), *self.networks["D_d"].parameters()]
        self.optimisers = {
            "generators": make_optimiser(generators, s.lr_generator, s),
            "critics": make_optimiser(critics, s.lr_critic, s),
        }
        self.pools = {"s": Pool(s.pool), "d": Pool(s.pool)}
        spread = float(densities.std())
        self.noise_sd = s.input_noise * (spread if s.input_noise_unit == "std" else 1.0)
        if self.noise_sd > 0 and s.input_noise_draw == "once":
            # it belongs to the domain itself, and a resumed run draws the same again
            densities = densities + self.noise_sd * torch.randn_like(densities)
        self.sets = {"d": Volumes(densities, device), "s": Volumes(subtomograms, device)}
        self.decks = {name: Deck(len(kept), seed, name) for name, kept in self.sets.items()}

    def _one_step(self) -> None:
        s = self.settings
        for index in range(s.n_critic):
            d, s_real = self._next("d"), self._next("s")
            # what the critics are shown last, the generators are then trained on: made once,
            # unless the batch goes in parts, whose graphs do not fit in memory together
            once = index == s.n_critic - 1 and self.parts == 1
            with torch.set_grad_enabled(once):
                made = [self._made(*part) for _, part in self._in_parts(d, s_real)]
            fake_s, fake_d = (torch.cat(parts).detach() for parts in zip(*made, strict=True))
            fakes = self.pools["s"].swap(fake_s), self.pools["d"].swap(fake_d)
            self._update_critics(s_real, d, *fakes)
        self._update_generators(d, s_real, made[0] if once else None)

    def _made(self, d: Tensor, s_real: Tensor) -> tuple[Tensor, Tensor]:
        """Return a subtomogram of each density and a density of each subtomogram."""
        with self._autocast():
            return self._translate("G_ds", self._noisy(d)), self._translate("G_sd", s_real)

    def _translate(self, name: str, volumes: Tensor) -> Tensor:
        return self.networks[name](volumes).float()

    def _update_critics(
        self, s_real: Tensor, d_real: Tensor, s_fake: Tensor, d_fake: Tensor
    ) -> None:
        s = self.settings
        optimiser = self.optimisers["critics"]
        optimiser.zero_grad(set_to_none=True)
        for share, part in self._in_parts(s_real, d_real, s_fake, d_fake):
            (self._critics_loss(*part) * share).backward()
        optimiser.step()
        if s.objective == "wgan" and s.clip > 0:
            self._clip()

    def _critics_loss(
        self, s_real: Tensor, d_real: Tensor, s_fake: Tensor, d_fake: Tensor
    ) -> Tensor:
        s = self.settings
        total = torch.zeros((), device=self.device)
        for name, real, fake in (("D_s", s_real, s_fake), ("D_d", d_real, d_fake)):
            critic = self.networks[name]
            on_real, on_fake = self._score(name, torch.cat([real, fake])).chunk(2)
            loss = critic_loss(s.objective, on_real, on_fake, s.real_label)
            self.last[f"loss_{name}"] = loss.detach()
            self.last[f"{name}_real"] = on_real.detach().mean()
            self.last[f"{name}_fake"] = on_fake.detach().mean()
            if s.penalty_weight > 0:
                share = torch.rand(len(real), 1, 1, 1, 1, device=self.device)
                penalty = gradient_penalty(critic, real, fake, share, s.penalty_norm)
                loss = loss + s.penalty_weight * penalty
            if s.r1_weight > 0 and self.step % s.r1_every == 0:
                loss = loss + s.r1_weight * s.r1_every * r1_penalty(critic, real)
            total = total + loss
        return total

    def _clip(self) -> None:
        """Keep the critics' convolution weights within +-clip (doi 10.48550/arXiv.1701.07875)."""
        bound = self.settings.clip
        with torch.no_grad():
            for name in ("D_s", "D_d"):
                for label, weight in self.networks[name].named_parameters():
                    # under spectral norm the free weight is called ...weight.original
                    if weight.dim() == 5 and "weight" in label:
                        weight.clamp_(-bound, bound)

    def _update_generators(
        self, d: Tensor, s_real: Tensor, made: tuple[Tensor, Tensor] | None = None
    ) -> None:
        optimiser = self.optimisers["generators"]
        optimiser.zero_grad(set_to_none=True)
        self.networks["D_s"].requires_grad_(False)
        self.networks["D_d"].requires_grad_(False)
        for share, (d_part, s_part) in self._in_parts(d, s_real):
            (self._generators_loss(d_part, s_part, made) * share).backward()
        optimiser.step()
        self.networks["D_s"].requires_grad_(True)
        self.networks["D_d"].requires_grad_(True)
        self._move_average()

    def _generators_loss(
        self, d: Tensor, s_real: Tensor, made: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        s = self.settings
        fake_s, fake_d = self._made(d, s_real) if made is None else made
        with self._autocast():
            back_d = self._translate("G_sd", fake_s)
            back_s = self._translate("G_ds", self._noisy(fake_d))
        scores_s, scores_d = self._score("D_s", fake_s), self._score("D_d", fake_d)
        adversarial = generator_loss(s.objective, scores_s, s.real_label)
        adversarial = adversarial + generator_loss(s.objective, scores_d, s.real_label)
        cycle_d = cycle_loss(back_d, d)
        sigma = s.cycle_lowpass
        cycle_s = cycle_loss(lowpass(back_s, sigma), lowpass(s_real, sigma))
        # equation 5; its third term is equation 3
        loss = adversarial + s.cycle_weight * (cycle_d + cycle_s)
        if s.identity_weight > 0:
            kept = lowpass_cosine if s.identity_kind == "cosine" else lowpass_identity
            identity = kept(fake_s, d, s.identity_lowpass)
            self.last["identity"] = identity.detach()
            loss = loss + s.identity_weight * identity
        if s.patch_weight > 0:
            patches = patch_distance(fake_s, s_real)
            self.last["patches"] = patches.detach()
            loss = loss + s.patch_weight * patches
        self.last["adversarial"] = adversarial.detach()
        self.last["cycle_d"] = cycle_d.detach()
        self.last["cycle_s"] = cycle_s.detach()
        self.last["sd_ratio"] = fake_s.detach().std() / s_real.std().clamp_min(1e-6)
        return loss

    @torch.no_grad()
    def probe(self) -> None:
        """Measure whether the noise input is ignored, and whether the cycle hides a message.

        noise_ratio: standard deviation over noise inputs, over that of the generated volumes.
        D_s_held, D_s_learnt: as `_look_at_held` says.
        cycle_hidden: the cycle d, G(d), G(G(d)) with a little noise on G(d), over the one
        without: far above 1, G(d) carries what no eye sees.
        label: one minus the cosine between densities and what is made of them, noise averaged.
        drift: voxels between their centres (peak of the cross-correlation).
        far: mean grey value far from the particle less that of subtomograms, in standard
        deviations: neighbours that are invented, or left out.
        """
        volumes, count = self.sets["d"], max(1, self.batch // self.parts)
        spread = torch.linspace(0, len(volumes) - 1, min(PROBED, len(volumes))).long()
        # which of them hangs on the step alone: a resumed run looks at the same
        first = int(rng(self.step, "probe").integers(len(spread)))
        d = volumes.batch(torch.roll(spread, -first)[:count])
        self.networks.eval()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), self._autocast():
            one, other = (self._translate("G_ds", d) for _ in range(2))
            shaken = one + HIDDEN_SD * torch.randn_like(one)
            back, after = (self._translate("G_sd", x) for x in (one, shaken))
        self._look_at_held()
        self.networks.train()
        self.last["noise_ratio"] = (one - other).std() / (2**0.5 * one.std())
        self.last["cycle_hidden"] = cycle_loss(after, d) / cycle_loss(back, d)
        self.last["label"] = label_cosine((one + other).float() / 2, d)
        self.last["drift"] = centre_drift((one + other).float() / 2, d)
        s = self.sets["s"].batch(torch.linspace(0, len(self.sets["s"]) - 1, HELD_SHOWN).long())
        self.last["far"] = (far_mean(one.float()) - far_mean(s)) / s.std().clamp_min(1e-6)

    def _look_at_held(self) -> None:
        """Score subtomograms that the critic has not seen, and as many that it has.

        D_s_learnt far above D_s_held: it knows crops by heart.
        """
        count = min(len(self.held), HELD_SHOWN)
        if not count:
            return
        rows = torch.linspace(0, len(self.sets["s"]) - 1, count).long()
        for name, volumes in (("held", self.held[:count]), ("learnt", self.sets["s"].batch(rows))):
            scores = [self._score("D_s", v[None].to(self.device)).mean() for v in volumes]
            self.last[f"D_s_{name}"] = torch.stack(scores).mean()

    def _next(self, domain: str) -> Tensor:
        """Return this process's share of the next batch."""
        rows = self.decks[domain].deal(self.batch * self.team.count)
        return self.sets[domain].batch(rows.chunk(self.team.count)[self.team.rank])

    def _noisy(self, densities: Tensor) -> Tensor:
        """Return what G_ds is given: densities with fresh noise (paper, Table 3)."""
        if self.noise_sd == 0 or self.settings.input_noise_draw == "once":
            return densities
        return densities + self.noise_sd * torch.randn_like(densities)

    def state(self) -> dict[str, Any]:
        """Return all that a resumed run needs to go on bit for bit (on a CPU)."""
        dealt = {name: deck.dealt for name, deck in self.decks.items()}
        return {**super().state(), "noise_sd": self.noise_sd, "dealt": dealt}

    def _own_state(self) -> dict[str, Any]:
        pools = {name: [kept.cpu() for kept in pool.kept] for name, pool in self.pools.items()}
        return {**super()._own_state(), "pools": pools}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        super().load(state)
        for name, dealt in state.get("dealt", {}).items():
            self.decks[name].dealt = dealt

    def _load_own(self, own: Mapping[str, Any]) -> None:
        super()._load_own(own)
        for name, pool in self.pools.items():
            pool.kept = [volume.to(self.device) for volume in own["pools"][name]]

"""Train the residual generator on scenes through fitted physics: torch and numpy, nothing else.

A step makes volumes of both signs of the same noise. Their mean is what the generator makes of
the signal alone: smoothed, it must keep its cosine with the signal, so that label, pose and
place stay, while contrast is the critics' to decide.
"""

import torch
from torch import Tensor
from torch.nn import functional

from cryoetgan.translation.loop import Loop, make_optimiser
from cryoetgan.translation.objectives import (
    critic_loss,
    generator_loss,
    gradient_penalty,
    label_cosine,
    r1_penalty,
)
from cryoetgan.translation.residual import (
    Change,
    ResidualGenerator,
    SpectrumCritic,
    TextureCritic,
)
from cryoetgan.translation.scaling import Scaler
from cryoetgan.translation.settings import Settings
from cryoetgan.translation.stock import Scenes

BACK_EVERY = 4
"""Steps from one of the way back to the next: it is learnt from pairs, and is quick."""
HELD_SHARE, HELD_EVERY = 0.1, 10
"""Real volumes no critic is trained on: does it know the others by heart?"""
TURNS: tuple[tuple[int, ...], ...] = ((), (2, 4), (2, 3), (3, 4))
"""Axes of `(B, 1, z, y, x)` that a half turn flips: none, about y, about x, about z."""


def make_residual(settings: Settings) -> ResidualGenerator:
    """Return the generator of these settings."""
    return ResidualGenerator(settings.width, settings.blocks)


class ResidualTrainer(Loop):
    """A residual generator, its two critics, and the way back to densities.

    Parameters
    ----------
    settings : Settings
        The recipe.
    scenes : Scenes
        Signals and noises, grey values.
    subtomograms : Tensor
        `(N, 1, z, y, x)` real volumes, grey values.
    scalers : (Scaler, Scaler)
        Of densities and subtomograms.
    symmetric : bool
        Whether the tilt range is: half turns about x and z then map the wedge onto itself.
    device : torch.device
        Where it computes.
    seed : int
        Of torch's generator.
    expected : Tensor, optional
        `(N, 1, z, y, x)` grey values: the signal physics expects in each real volume.
    """

    def __init__(
        self,
        settings: Settings,
        scenes: Scenes,
        subtomograms: Tensor,
        scalers: tuple[Scaler, Scaler],
        symmetric: bool,
        device: torch.device,
        seed: int,
        expected: Tensor | None = None,
    ) -> None:
        super().__init__(settings, device, seed)
        s = settings
        self.scenes, self.scalers = scenes, scalers
        self.turns = TURNS if symmetric else TURNS[:2]
        scaled = scalers[1].forward(subtomograms)
        order = torch.randperm(len(scaled))
        held = max(1, int(HELD_SHARE * len(scaled))) if len(scaled) > 1 else 0
        self.paired = expected is not None and s.pair_weight > 0
        if self.paired:  # a critic that is shown both: what it judges is the look of that signal
            assert expected is not None
            scaled = torch.cat([scaled, scalers[1].forward(expected)], dim=1)
        self.held, self.real = (scaled[part].to(device) for part in (order[:held], order[held:]))
        self.real_count = len(self.real)
        networks = {
            "G_ds": make_residual(s),
            "G_sd": Change(1, s.width, s.blocks),
            "D_s": TextureCritic(s.critic_widths, s.spectral_norm, scaled.shape[1]),
            "D_p": SpectrumCritic(scaled.shape[-1], self.real[:, :1]),
        }
        self._adopt(networks, make_residual(s))
        generators = [*self.networks["G_ds"].parameters(), *self.networks["G_sd"].parameters()]
        critics = [*self.networks["D_s"].parameters(), *self.networks["D_p"].parameters()]
        self.optimisers = {
            "generators": make_optimiser(generators, s.lr_generator, s),
            "critics": make_optimiser(critics, s.lr_critic, s),
        }

    def smallest_box(self) -> int:
        """Return the smallest box the critics can judge."""
        return int(self.networks["D_s"].smallest_box())

    def _one_step(self) -> None:
        s = self.settings
        pairs = max(1, s.batch // 2)
        u, n, density = self.scenes.draw(pairs)
        u, n = (self.scalers[1].forward(x.to(self.device)) for x in (u, n))
        self.seen = None
        if self.paired and pairs > 1:  # half of the scenes are those of picks
            rows = torch.randint(len(self.real), (pairs // 2,)).to(self.device)
            self.seen = self.real[rows, :1]
            u = torch.cat([u[: pairs - len(rows)], self.real[rows, 1:]])
            density = density[: pairs - len(rows)]
        both = self._made(u, n) if self.parts == 1 else None
        if both is None:  # short of memory: made twice, in parts
            with torch.no_grad():
                made = [self._made(*part).chunk(2) for _, part in self._in_parts(u, n)]
            fake = torch.cat([*(plus for plus, _ in made), *(minus for _, minus in made)])
        else:
            fake = both.detach()
        for _ in range(s.n_critic):
            rows = torch.randint(len(self.real), (len(fake),)).to(self.device)
            self._update_critics(self.real[rows], self._shown(fake, u))
        self._update_generator(both, u, n)
        if self.step % BACK_EVERY == 0:
            self._update_back(fake[: len(density)], density.to(self.device))
        self._move_average()

    def _made(self, u: Tensor, n: Tensor) -> Tensor:
        """Return the volumes of both signs of the noise, the plus ones first."""
        with self._autocast():
            return self.networks["G_ds"](torch.cat([u, u]), torch.cat([n, -n])).float()

    def _shown(self, fake: Tensor, u: Tensor) -> Tensor:
        """Return what the critics are shown: with the signal as second channel, where paired."""
        return torch.cat([fake, torch.cat([u, u])], dim=1) if self.paired else fake

    def _judged(self, name: str, volumes: Tensor) -> Tensor:
        """Return a critic's scores; that of spectra looks at the volume alone."""
        return self._score(name, volumes[:, :1] if name == "D_p" else volumes)

    def _turned(self, volumes: Tensor) -> Tensor:
        """Return a batch turned by 180 degrees about an axis that keeps the wedge, or as it is."""
        if not self.settings.augment:
            return volumes
        axes = self.turns[int(torch.randint(len(self.turns), ()))]
        return torch.flip(volumes, axes) if axes else volumes

    def _update_critics(self, real: Tensor, fake: Tensor) -> None:
        optimiser = self.optimisers["critics"]
        optimiser.zero_grad(set_to_none=True)
        for share, part in self._in_parts(real, fake):
            (self._critics_loss(*part) * share).backward()
        optimiser.step()
        if self.step % HELD_EVERY == 0 and len(self.held):
            with torch.no_grad():
                self.last["D_s_held"] = float(self._judged("D_s", self.held[: len(real)]).mean())

    def _critics_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        s = self.settings
        total = torch.zeros((), device=self.device)
        for name in ("D_s", "D_p"):
            shown = torch.cat([self._turned(real), self._turned(fake)])
            on_real, on_fake = self._judged(name, shown).chunk(2)
            loss = critic_loss(s.objective, on_real, on_fake, s.real_label)
            self.last[f"loss_{name}"] = float(loss.detach())
            self.last[f"{name}_real"] = float(on_real.detach().mean())
            self.last[f"{name}_fake"] = float(on_fake.detach().mean())
            critic = self.networks[name]
            if name == "D_p":
                real, fake = real[:, :1], fake[:, :1]
            if s.penalty_weight > 0:
                share = torch.rand(len(real), 1, 1, 1, 1, device=self.device)
                penalty = gradient_penalty(critic, real, fake, share, s.penalty_norm)
                loss = loss + s.penalty_weight * penalty
            if s.r1_weight > 0 and self.step % s.r1_every == 0:
                loss = loss + s.r1_weight * s.r1_every * r1_penalty(critic, real)
            total = total + loss
        return total

    def _update_generator(self, both: Tensor | None, u: Tensor, n: Tensor) -> None:
        optimiser = self.optimisers["generators"]
        optimiser.zero_grad(set_to_none=True)
        critics = [self.networks[name].requires_grad_(False) for name in ("D_s", "D_p")]
        for share, (u_part, n_part) in self._in_parts(u, n):
            made = self._made(u_part, n_part) if both is None else both
            (self._generator_loss(made, u_part, n_part) * share).backward()
        optimiser.step()
        for critic in critics:
            critic.requires_grad_(True)

    def _generator_loss(self, both: Tensor, u: Tensor, n: Tensor) -> Tensor:
        s = self.settings
        shown = self._turned(self._shown(both, u))
        texture = generator_loss(s.objective, self._judged("D_s", shown), s.real_label)
        spectrum = generator_loss(s.objective, self._judged("D_p", both), s.real_label)
        plus, minus = both.chunk(2)
        label = label_cosine((plus + minus) / 2, u)
        change = both - torch.cat([u, u]) - torch.cat([n, -n])
        penalty = change.square().mean()
        self.last["texture"] = float(texture.detach())
        self.last["spectrum"] = float(spectrum.detach())
        self.last["label"] = float(label.detach())
        self.last["change_rms"] = float(penalty.detach().sqrt())
        self.last["sd_ratio"] = float(both.detach().std() / self.real[:, :1].std())
        # what the noise still does: a generator that ignores it makes the same volume again
        odd = ((plus - minus) / 2).detach()
        self.last["noise_ratio"] = float(odd.std() / n.std())
        loss = texture + s.spectrum_weight * spectrum
        if self.seen is not None and self.parts == 1:
            # least squares: the mean over noises becomes what the crops of such a signal are
            # on average
            mean = ((plus + minus) / 2)[-len(self.seen) :]
            pair = functional.mse_loss(mean, self.seen)
            self.last["pair"] = float(pair.detach())
            loss = loss + s.pair_weight * pair
        return loss + s.identity_weight * label + s.residual_penalty * penalty

    def _update_back(self, made: Tensor, density: Tensor) -> None:
        """Learn the way back from pairs we own: mean squares, so the density one may expect."""
        optimiser = self.optimisers["generators"]
        optimiser.zero_grad(set_to_none=True)
        with self._autocast():
            back = self.networks["G_sd"](made).float()
        loss = functional.mse_loss(back, self.scalers[0].forward(density))
        loss.backward()
        # the other generator's gradients are None: it is left as it is
        optimiser.step()
        self.last["cycle_d"] = float(loss.detach().sqrt())

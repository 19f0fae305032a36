"""Train the residual generator on scenes through fitted physics: torch and numpy, nothing else.

A step makes volumes of both signs of the same noise, and draws their texture and spectrum to
those of real crops. The mean over both signs is what the generator makes of the signal alone:
smoothed, it must keep its cosine with the signal, so that label, pose and place stay.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cryoetgan.translation.loop import Loop, make_optimiser
from cryoetgan.translation.objectives import label_cosine
from cryoetgan.translation.residual import Change, ResidualGenerator
from cryoetgan.translation.scaling import Scaler
from cryoetgan.translation.settings import Settings
from cryoetgan.translation.stock import Scenes
from cryoetgan.translation.texture import Spectrum, standardised, texture_distance

BACK_EVERY = 8
"""Steps from one of the way back to the next: it is learnt from pairs, and is quick."""
BACK_RATE = 0.1
"""Its learning rate, over the generator's: a network of convolutions wants a smaller one."""
HELD_SHARE, HELD_EVERY = 0.1, 10
"""Real volumes that are not learnt from: are those that are known by heart?"""
REAL = 2
"""Real volumes a step, over those made: they cost nothing but sorting."""
CLIP = 1.0
"""Norm beyond which a gradient is shortened."""
SD_WEIGHT = 0.1
"""Of the relative difference of standard deviations, squared: texture is told apart from it."""
TURNS: tuple[tuple[int, ...], ...] = ((), (2, 4), (2, 3), (3, 4))
"""Axes of `(B, 1, z, y, x)` that a half turn flips: none, about y, about x, about z."""


def make_residual(settings: Settings) -> ResidualGenerator:
    """Return the generator of these settings."""
    return ResidualGenerator(settings.stages, settings.filters)


class ResidualTrainer(Loop):
    """A residual generator, and the way back to densities.

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
    ) -> None:
        super().__init__(settings, device, seed)
        s = settings
        self.scenes, self.scalers = scenes, scalers
        self.turns = TURNS if symmetric else TURNS[:2]
        scaled = scalers[1].forward(subtomograms)
        order = torch.randperm(len(scaled))
        held = max(1, int(HELD_SHARE * len(scaled))) if len(scaled) > 1 else 0
        self.held, self.real = (scaled[part].to(device) for part in (order[:held], order[held:]))
        self.real_count, self.real_sd = len(self.real), float(self.real.std())
        networks: dict[str, nn.Module] = {
            "G_ds": make_residual(s),
            "G_sd": Change(1, s.width, s.blocks),
            "spectrum": Spectrum(standardised(self.real)),
        }
        self._adopt(networks, make_residual(s))
        self.optimisers = {
            "generators": make_optimiser([*self.networks["G_ds"].parameters()], s.lr_generator, s),
            "back": make_optimiser([*self.networks["G_sd"].parameters()], s.lr_generator, s),
        }
        self.rates["back"] = BACK_RATE * s.lr_generator

    def _one_step(self) -> None:
        s = self.settings
        pairs = max(1, s.batch // 2)
        u, n, density = self.scenes.draw(pairs)
        u, n = (self.scalers[1].forward(x.to(self.device)) for x in (u, n))
        rows = torch.randint(len(self.real), (REAL * 2 * pairs,)).to(self.device)
        optimiser = self.optimisers["generators"]
        optimiser.zero_grad(set_to_none=True)
        made = []
        for share, (u_part, n_part, real) in self._in_parts(u, n, self.real[rows]):
            both = self._made(u_part, n_part)
            (self._loss(both, u_part, n_part, real) * share).backward()
            made.append(both.detach()[: len(u_part)])
        nn.utils.clip_grad_norm_(self.networks["G_ds"].parameters(), CLIP)
        optimiser.step()
        if self.step % HELD_EVERY == 0 and len(self.held):
            self._look_at_held(torch.cat(made))
        if self.step % BACK_EVERY == 0:
            self._update_back(torch.cat(made), density.to(self.device))
        self._move_average()

    def _made(self, u: Tensor, n: Tensor) -> Tensor:
        """Return the volumes of both signs of the noise, the plus ones first."""
        with self._autocast():
            return self.networks["G_ds"](torch.cat([u, u]), torch.cat([n, -n])).float()

    def _turned(self, volumes: Tensor) -> Tensor:
        """Return a batch turned by 180 degrees about an axis that keeps the wedge, or as it is."""
        if not self.settings.augment:
            return volumes
        axes = self.turns[int(torch.randint(len(self.turns), ()))]
        return torch.flip(volumes, axes) if axes else volumes

    def _loss(self, both: Tensor, u: Tensor, n: Tensor, real: Tensor) -> Tensor:
        s = self.settings
        shown = self._turned(standardised(both))
        texture = texture_distance(shown, self._turned(standardised(real)))
        spectrum = self.networks["spectrum"](shown)
        plus, minus = both.chunk(2)
        label = label_cosine((plus + minus) / 2, u)
        change = both - torch.cat([u, u]) - torch.cat([n, -n])
        penalty = change.square().mean()
        sd_ratio = both.std() / self.real_sd
        for name, value in zip(("voxels", "filters", "strengths"), texture, strict=True):
            self.last[name] = value.detach()
        self.last["spectrum"] = spectrum.detach()
        self.last["label"] = label.detach()
        self.last["change_rms"] = penalty.detach().sqrt()
        self.last["sd_ratio"] = sd_ratio.detach()
        # what the noise still does: a generator that ignores it makes the same volume again
        self.last["noise_ratio"] = ((plus - minus) / 2).detach().std() / n.std()
        return (
            s.texture_weight * texture.sum()
            + s.spectrum_weight * spectrum
            + s.identity_weight * label
            + s.residual_penalty * penalty
            + SD_WEIGHT * (sd_ratio - 1).square()
        )

    @torch.no_grad()
    def _look_at_held(self, made: Tensor) -> None:
        """Measure texture against volumes that are not learnt from, and as many that are."""
        shown = standardised(made)
        count = min(len(self.held), 2 * len(shown))
        for name, volumes in (("held", self.held), ("learnt", self.real)):
            rows = torch.randperm(len(volumes))[:count].to(self.device)
            distance = texture_distance(shown, standardised(volumes[rows])).sum()
            self.last[f"texture_{name}"] = distance

    def _update_back(self, made: Tensor, density: Tensor) -> None:
        """Learn the way back from pairs we own: mean squares, so the density one may expect."""
        optimiser = self.optimisers["back"]
        optimiser.zero_grad(set_to_none=True)
        with self._autocast():
            back = self.networks["G_sd"](made).float()
        loss = functional.mse_loss(back, self.scalers[0].forward(density))
        loss.backward()
        optimiser.step()
        self.last["cycle_d"] = loss.detach().sqrt()

"""Train the residual generator on scenes through fitted physics: torch and numpy, nothing else.

A step makes volumes of both signs of the same noise, and draws their texture and spectrum to
those of real crops. The mean over both signs is what the generator makes of the signal alone:
the cosine with it, smoothed, says whether label, pose and place stay.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cryoetgan.physics.geometry import HALF_TURNS
from cryoetgan.translation.cyclegan.losses import label_cosine
from cryoetgan.translation.engine.batches import Volumes
from cryoetgan.translation.engine.scaling import Scaler
from cryoetgan.translation.engine.trainer import Loop, make_optimiser
from cryoetgan.translation.residual.networks import Change, ResidualGenerator
from cryoetgan.translation.residual.scene_bank import Scenes
from cryoetgan.translation.residual.texture import Spectrum, standardised, texture_distance
from cryoetgan.translation.settings import Settings

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
"""Of the differences of mean and standard deviation, squared: texture is told apart from them."""
FAINT = 1e-4
"""Power of a batch's signal, over that of real crops, below which its slope is not asked for."""


def make_residual(settings: Settings) -> ResidualGenerator:
    """Return the generator of these settings."""
    return ResidualGenerator(settings.stages, settings.filters)


def signal_sums(both: Tensor, signal: Tensor) -> Tensor:
    """Return `(2,)`, whose ratio is the slope of the regression of volumes on their signal.

    Parameters
    ----------
    both : Tensor
        `(2B, 1, z, y, x)`: volumes of the noises, then of the same with their signs turned.
    signal : Tensor
        `(B, 1, z, y, x)`.
    """
    plus, minus = both.chunk(2)
    centred = signal - signal.mean(dim=(2, 3, 4), keepdim=True)
    return torch.stack([((plus + minus) / 2 * centred).mean(), centred.square().mean()])


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
        self.turns = HALF_TURNS if symmetric else HALF_TURNS[:2]
        scaled = scalers[1].forward(subtomograms)
        order = torch.randperm(len(scaled))
        held = max(1, int(HELD_SHARE * len(scaled))) if len(scaled) > 1 else 0
        learnt = scaled[order[held:]]
        self.held, self.real = scaled[order[:held]].to(device), Volumes(learnt, device)
        self.real_count = len(learnt)
        self.real_mean, self.real_sd = float(learnt.mean()), float(learnt.std(correction=0))
        networks: dict[str, nn.Module] = {
            "G_ds": make_residual(s),
            "G_sd": Change(1, s.width, s.blocks),
            "spectrum": Spectrum(standardised(learnt)),
        }
        self._adopt(networks, make_residual(s))
        learning = [p for p in self.networks["G_ds"].parameters() if p.requires_grad]
        self.optimisers = {
            "generators": make_optimiser(learning, s.lr_generator, s),
            "back": make_optimiser([*self.networks["G_sd"].parameters()], s.lr_generator, s),
        }
        self.rates["back"] = BACK_RATE * s.lr_generator

    def most_parts(self) -> int:
        """Return how many parts a step can go in: a scene each, both signs of its noise."""
        return max(1, self.batch // 2)

    def _before_step(self, optimiser: torch.optim.Optimizer) -> None:
        super()._before_step(optimiser)
        if optimiser is self.optimisers["generators"]:
            # after the mean over processes, so that two are as one of the whole batch
            nn.utils.clip_grad_norm_(self.networks["G_ds"].parameters(), CLIP)

    def _one_step(self) -> None:
        pairs = self.most_parts()
        u, n, density = self.scenes.draw(pairs)
        u, n = (self.scalers[1].forward(x.to(self.device)) for x in (u, n))
        rows = torch.randint(len(self.real), (pairs * REAL * 2,))
        real = self.real.batch(rows).unflatten(0, (pairs, REAL * 2))
        optimiser = self.optimisers["generators"]
        optimiser.zero_grad(set_to_none=True)
        spectrum = self.networks["spectrum"]
        made, away = [], torch.zeros_like(spectrum.seen)
        sums = torch.zeros(2, device=self.device)
        for share, (u_part, n_part, real_part) in self._in_parts(u, n, real):
            both = self._made(u_part, n_part)
            loss, bins = self._loss(both, u_part, n_part, real_part.flatten(0, 1))
            (loss * share).backward()
            away += share * bins
            sums += share * signal_sums(both.detach(), u_part)
            made.append(both.detach()[: len(u_part)])
        self.team.average([away, sums])
        optimiser.step()
        spectrum.remember(away)
        self._hold_contrast(sums)
        if self.step % HELD_EVERY == 0 and len(self.held):
            self._look_at_held(torch.cat(made))
        if self.step % BACK_EVERY == 0:
            self._update_back(torch.cat(made), density.to(self.device))
        self._move_average()

    def _made(self, u: Tensor, n: Tensor) -> Tensor:
        """Return the volumes of both signs of the noise, the plus ones first."""
        with self._autocast():
            return self.networks["G_ds"](torch.cat([u, u]), torch.cat([n, -n])).float()

    def _hold_contrast(self, sums: Tensor) -> None:
        """Move the contrast to where the slope of made volumes on their signal is 1.

        That of real crops on the signal fitted to them is near 1 (.92 to 1.09 class by class on
        the two looks tried; `imaging/agreement.py`): what flattens the crops is in the fitted
        signal already, and r would flatten it once more. A batch without particles has no slope,
        and moves nothing.
        """
        product, power = sums
        slope = torch.where(power > FAINT * self.real_sd**2, product / power, 1.0)
        self.last["signal_slope"] = slope
        contrast = self.networks["G_ds"].log_contrast
        contrast.data -= self.settings.contrast_rate * slope.clamp(0.1, 10).log()

    def _turned(self, volumes: Tensor) -> Tensor:
        """Return a batch turned by 180 degrees about an axis that keeps the wedge, or as it is."""
        if not self.settings.augment:
            return volumes
        axes = self.turns[int(torch.randint(len(self.turns), ()))]
        return torch.flip(volumes, axes) if axes else volumes

    def _loss(self, both: Tensor, u: Tensor, n: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, and how far each bin of the spectrum is away."""
        s = self.settings
        shown = self._turned(standardised(both))
        texture = texture_distance(shown, self._turned(standardised(real)))
        spectrum, away = self.networks["spectrum"](shown)
        plus, minus = both.chunk(2)
        label = label_cosine((plus + minus) / 2, u)
        shown_to_r = self.networks["G_ds"].shown
        change = both - torch.cat([shown_to_r(u, n), shown_to_r(u, -n)])
        penalty = change.square().mean()
        sd_ratio = both.std() / self.real_sd
        level = (both.mean() - self.real_mean) / self.real_sd
        for name, value in zip(("voxels", "filters", "strengths"), texture, strict=True):
            self.last[name] = value.detach()
        self.last["spectrum"] = spectrum.detach()
        self.last["label"] = label.detach()
        self.last["change_rms"] = penalty.detach().sqrt()
        self.last["sd_ratio"] = sd_ratio.detach()
        # what the noise still does: a generator that ignores it makes the same volume again
        self.last["noise_ratio"] = ((plus - minus) / 2).detach().std() / n.std()
        loss = (
            s.texture_weight * texture.sum()
            + s.spectrum_weight * spectrum
            + s.identity_weight * label
            + s.residual_penalty * penalty
            + SD_WEIGHT * ((sd_ratio - 1).square() + level.square())
        )
        return loss, away

    @torch.no_grad()
    def _look_at_held(self, made: Tensor) -> None:
        """Measure texture against volumes that are not learnt from, and as many that are."""
        shown = standardised(made)
        count = min(len(self.held), 2 * len(shown))
        learnt = self.real.batch(torch.randperm(len(self.real))[:count])
        held = self.held[torch.randperm(len(self.held))[:count].to(self.device)]
        for name, volumes in (("held", held), ("learnt", learnt)):
            distance = texture_distance(shown, standardised(volumes)).sum()
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

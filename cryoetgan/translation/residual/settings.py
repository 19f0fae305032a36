"""Settings of the residual network; the defaults are preset `recommended`."""

from typing import Annotated, Literal

from pydantic import Field

from cryoetgan.translation.engine.settings import (
    Count,
    DecayRate,
    Depth,
    Fraction,
    NonNegative,
    Positive,
    TrainingSettings,
    Width,
)


class ResidualSettings(TrainingSettings):
    """Settings of y = x + r(x) with x = c u + n, signal u and noise n of the fitted simulation."""

    model: Literal["residual"] = "residual"
    steps: Count = 600
    batch: Count = 8
    optimiser: Literal["rmsprop", "adam"] = "adam"
    lr_generator: Positive = 8e-3
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.99)
    decay_start: Fraction = 0.5
    ema: Fraction = 0.99
    precision: Literal["bf16", "float32"] = "float32"

    diffusion_steps: Annotated[Depth, Field(ge=1)] = 5
    """Steps of learned reaction diffusion in r."""
    filters: Width = 16
    """Filters of each of these steps."""
    width: Width = 16
    """Channels of the density estimator G_sd."""
    blocks: Depth = 4
    """Residual blocks of the density estimator G_sd."""
    texture_weight: NonNegative = 1.0
    """Weight of the distance of textures."""
    spectrum_weight: NonNegative = 0.02
    """Weight of the distance of power spectra."""
    identity_weight: NonNegative = 0.0
    """Weight of 1 minus the cosine between u and y, averaged over both signs of the noise."""
    residual_penalty: NonNegative = 0.01
    """Weight of the mean of r^2."""
    contrast_rate: Fraction = 0.02
    """Rate at which c moves towards a slope of 1 of y on u: fraction of the log slope a step."""
    n_scenes: Count = 2100
    """Scenes simulated before training; each signal meets many noises."""
    class_fractions: Literal["matched", "uniform"] = "matched"
    """Class fractions in the scenes: equal to the picks', or uniform."""
    augment: bool = True
    """Turn volumes by 180 degrees before their textures are compared, about axes that keep wedge
    and hand."""

"""Settings of the residual network; the defaults are those of preset `recommended`."""

from typing import Literal

from pydantic import Field

from cryoetgan.translation.engine.settings import Momentum, TrainingSettings


class ResidualSettings(TrainingSettings):
    """Settings of y = x + r(x) with x = c u + n, signal u and noise n of the fitted simulation."""

    model: Literal["residual"] = "residual"
    steps: int = Field(600, ge=1, description="Training steps.")
    batch: int = Field(8, ge=1, description="Volumes a step, of all devices together.")
    optimiser: Literal["rmsprop", "adam"] = Field("adam", description="Optimiser.")
    lr_generator: float = Field(8e-3, gt=0, description="Learning rate of the generator.")
    betas: tuple[Momentum, Momentum] = Field((0.9, 0.99), description="Decay rates of adam.")
    decay_start: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Fraction of the steps after which learning rates fall linearly to zero.",
    )
    ema: float = Field(0.99, ge=0, le=1, description="Decay of the averaged generator.")
    precision: Literal["bf16", "float32"] = Field(
        "float32", description="Precision of convolutions."
    )

    diffusion_steps: int = Field(5, ge=1, description="Steps of learned reaction diffusion in r.")
    filters: int = Field(16, ge=1, description="Filters of each of these steps.")
    width: int = Field(16, ge=1, description="Channels of the density estimator G_sd.")
    blocks: int = Field(4, ge=0, description="Residual blocks of the density estimator G_sd.")
    texture_weight: float = Field(1.0, ge=0, description="Weight of the distance of textures.")
    spectrum_weight: float = Field(
        0.02, ge=0, description="Weight of the distance of power spectra."
    )
    identity_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of 1 minus the cosine between u and the output, averaged over both signs "
        "of the noise.",
    )
    residual_penalty: float = Field(0.01, ge=0, description="Weight of the mean of r^2.")
    contrast_rate: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Rate at which the contrast c moves towards a slope of 1 of y on u: fraction of "
        "the log slope a step. 0: c stays 1.",
    )
    n_scenes: int = Field(
        2100,
        ge=1,
        description="Scenes simulated before training; each signal meets many noises.",
    )
    class_fractions: Literal["matched", "uniform"] = Field(
        "matched", description="Class fractions in the scenes: those of the picks, or equal."
    )
    augment: bool = Field(
        True,
        description="Turn volumes by 180 degrees before their textures are compared, about axes that "
        "keep wedge and hand.",
    )

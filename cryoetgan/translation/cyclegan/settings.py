"""Settings of the paper's CycleGAN; the defaults are the paper's, as far as it states them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from cryoetgan.translation.engine.settings import Channels, TrainingSettings


class CycleGANSettings(TrainingSettings):
    """Settings of two generators and two discriminators, trained with unpaired volumes."""

    model: Literal["cyclegan"] = "cyclegan"

    # generators
    widths: tuple[Channels, Channels, Channels] = Field(
        (32, 64, 128), description="Channels after c7s1, d and d (paper: c7s1-32, d64, d128)."
    )
    blocks: int = Field(
        5, ge=0, description="Residual blocks (paper's text: five; published code: six)."
    )
    bias: bool = Field(True, description="Biases in the generators' convolutions.")
    res_norm: Literal["instance", "none"] = Field(
        "instance", description="Normalisation inside residual blocks."
    )
    noise_channels: int = Field(
        1,
        ge=0,
        description="Channels of Gaussian noise, concatenated before the first u layer.",
    )
    noise_generators: Literal["both", "ds"] = Field(
        "both", description="Generators that draw noise."
    )
    dropout: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Dropout probability; `translation uncertainty` samples this dropout.",
    )
    dropout_on: Literal["blocks", "output"] = Field(
        "blocks",
        description="Dropout after each residual block, or on the output as the published code has it.",
    )
    output: Literal["tanh", "linear"] = Field("tanh", description="Last activation.")
    padding: Literal["even", "same"] = Field(
        "even",
        description="Padding of strided layers. same: as TensorFlow pads, more at the far end; the "
        "published code's four strides then leave a score of a 28^3 box.",
    )

    # discriminators
    discriminator_widths: tuple[Channels, ...] = Field(
        (64, 128, 256), min_length=1, description="Channels (paper: C64-C128-C256)."
    )
    discriminator_stride: Literal[1, 2] = Field(
        2, description="Stride; 1 as the paper prints it costs 166 times more at 40^3."
    )
    discriminator_norm: Literal["instance", "none"] = Field(
        "instance",
        description="Normalisation from the second layer on. Instance norm hides the noise level.",
    )
    discriminator_bias: bool = Field(
        True, description="Biases in convolutions; the last one always has a bias."
    )
    spectral_norm: bool = Field(
        True, description="Spectral normalisation of every convolution of the discriminators."
    )

    # losses
    objective: Literal["wgan", "wgan-gp", "lsgan", "hinge", "bce"] = Field(
        "wgan", description="Adversarial loss; bce: Paper, eq. 1 and 2; wgan: Paper, eq. 4."
    )
    clip: float = Field(
        0.01,
        ge=0,
        description="Bound of the discriminators' weights with wgan; 0: no clipping.",
    )
    real_label: float = Field(1.0, description="Target score of real volumes with lsgan.")
    penalty_weight: float = Field(
        0.0, ge=0, description="Weight of the gradient penalty; 10 in the paper of wgan-gp."
    )
    penalty_norm: Literal["volume", "axis"] = Field(
        "volume",
        description="Norm of the gradient over a volume, or over one axis as in the published code.",
    )
    r1_weight: float = Field(
        0.0, ge=0, description="Weight of the penalty on gradients at real volumes."
    )
    r1_every: int = Field(16, ge=1, description="Steps between two such penalties.")
    cycle_weight: float = Field(10.0, ge=0, description="lambda of Paper, eq. 5.")
    cycle_lowpass: float = Field(
        0.0,
        ge=0,
        description="Standard deviation in voxels of a Gaussian through which the cycle of S is "
        "compared; 0: none. An exact cycle of noise would teach the networks to hide it.",
    )
    identity_weight: float = Field(
        0.0, ge=0, description="Weight of the difference between low-passed G_ds(d) and d."
    )
    identity_lowpass: float = Field(
        1.5, ge=0, description="Standard deviation in voxels of that low-pass filter."
    )
    identity_kind: Literal["l1", "cosine"] = Field(
        "l1",
        description="l1 keeps contrast and position; cosine keeps the position alone.",
    )
    patch_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of the sliced Wasserstein distance between patches of generated and real "
        "subtomograms.",
    )

    # data
    input_noise: float = Field(
        0.2,
        ge=0,
        description="Standard deviation of the noise added to densities (paper, Table 3).",
    )
    input_noise_unit: Literal["std", "absolute"] = Field(
        "std",
        description="Unit: the densities' standard deviation, or the scaled grey value.",
    )
    input_noise_draw: Literal["step", "once"] = Field(
        "step", description="New noise at each step, or the same noise in the whole run."
    )
    scaling: Literal["domain", "volume", "zscore"] = Field(
        "domain",
        description="Scale of grey values: one for all subtomograms, one a volume (which loses the "
        "difference between light and heavy particles), or z-scores as in the published code.",
    )
    scale_clip: float = Field(
        3.0,
        gt=0,
        description="Standard deviations of subtomograms that become 1; values beyond are cut.",
    )

    # training
    lr_discriminator: float = Field(5e-4, gt=0, description="Learning rate of discriminators.")
    discriminator_steps: int = Field(
        1, ge=1, description="Discriminator steps for each generator step."
    )
    replay_pool: int = Field(
        50, ge=0, description="Earlier generated volumes shown to discriminators; 0: none."
    )
    held_out: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Fraction of the subtomograms that the discriminator never sees. If its scores of "
        "these (log.csv: D_s_held_out) fall below D_s_train, it overfits.",
    )

    @model_validator(mode="after")
    def check_penalty(self) -> Self:
        """Raise a `ValueError` if wgan-gp has no gradient penalty."""
        if self.objective == "wgan-gp" and self.penalty_weight <= 0:
            raise ValueError(
                "objective is wgan-gp, penalty_weight is 0. Only the penalty bounds the "
                "discriminator; set penalty_weight to 10"
            )
        return self

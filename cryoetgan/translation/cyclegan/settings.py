"""Settings of the paper's CycleGAN; the defaults are the paper's, as far as it states them."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cryoetgan.translation.engine.settings import (
    Count,
    CountOrNone,
    Depth,
    Fraction,
    NonNegative,
    Positive,
    TrainingSettings,
    Width,
)


class CycleGANSettings(TrainingSettings):
    """Settings of two generators and two discriminators, trained with unpaired volumes."""

    model: Literal["cyclegan"] = "cyclegan"

    # generators
    generator: Literal["resnet", "filters"] = "resnet"
    """resnet: the paper's. filters: one learned filter for the density, one for white noise, then
    residual convolutions at full resolution without norm (`FilterGenerator`)."""
    filter_size: Annotated[int, Field(ge=1, le=63)] = 15
    """Edge in voxels of those filters."""
    widths: tuple[Width, Width, Width] = (32, 64, 128)
    """Channels after c7s1, d and d (paper: c7s1-32, d64, d128); filters: the first alone."""
    blocks: Depth = 5
    """Residual blocks (paper's text: five; published code: six)."""
    bias: bool = True
    """Biases in the generators' convolutions."""
    res_norm: Literal["instance", "none"] = "instance"
    """Normalisation inside residual blocks."""
    noise_channels: Annotated[int, Field(ge=0, le=4096)] = 1
    """Channels of Gaussian noise; filters: 1 or 0."""
    noise_at: Literal["bottleneck", "last"] = "bottleneck"
    """Layer that the noise is concatenated before: the first u (a quarter of the resolution), or
    c7s1-1 (full resolution)."""
    noise_generators: Literal["both", "ds"] = "both"
    """Generators that draw noise."""
    dropout: Fraction = 0.1
    """Dropout probability; `translation uncertainty` samples this dropout."""
    dropout_on: Literal["blocks", "output"] = "blocks"
    """Dropout after each residual block, or on the output as in the published code."""
    output: Literal["tanh", "linear"] = "tanh"
    """Last activation."""
    padding: Literal["even", "same"] = "even"
    """Padding of strided layers. same: as TensorFlow pads, more at the far end; for transposed."""
    upsampling: Literal["transposed", "resize"] = "transposed"
    """u layers: transposed convolutions, or interpolation and a convolution, which leave no grid."""

    # discriminators
    discriminator_widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=20)] = (
        64,
        128,
        256,
    )
    """Channels (paper: C64-C128-C256)."""
    discriminator_stride: Literal[1, 2] = 2
    """Stride; 1 as the paper prints it costs 166 times more at 40^3."""
    discriminator_kernel: Literal[3, 4] = 4
    """Edge of the convolutions in voxels (paper: 4)."""
    discriminator_norm: Literal["instance", "none"] = "instance"
    """Normalisation from the second layer on. Instance norm hides the noise level."""
    discriminator_bias: bool = True
    """Biases in convolutions; the last one always has a bias."""
    spectral_norm: bool = True
    """Spectral normalisation of every convolution of the discriminators."""

    # losses
    objective: Literal["wgan", "wgan-gp", "lsgan", "hinge", "bce"] = "wgan"
    """Adversarial loss. bce: Paper, eq. 1 and eq. 2; wgan: Paper, eq. 4."""
    clip: NonNegative = 0.01
    """Bound of the discriminators' weights with wgan; 0: no clipping."""
    real_label: float = 1.0
    """Target score of real volumes with lsgan."""
    penalty_weight: NonNegative = 0.0
    """Weight of the gradient penalty; 10 in the paper of wgan-gp."""
    penalty_norm: Literal["volume", "axis"] = "volume"
    """Norm of the gradient over a volume, or over one axis as in the published code."""
    r1_weight: NonNegative = 0.0
    """Weight of the penalty on gradients at real volumes."""
    r1_every: Count = 16
    """Steps between two such penalties."""
    cycle_weight: NonNegative = 10.0
    """lambda of Paper, eq. 5."""
    cycle_lowpass: NonNegative = 0.0
    """Standard deviation of a Gaussian through which the cycle of S is compared, voxels; 0: none.
    An exact cycle of noise would teach the networks to hide it."""
    identity_weight: NonNegative = 0.0
    """Weight of the difference between low-passed G_ds(d) and d."""
    identity_lowpass: NonNegative = 1.5
    """Standard deviation of that low-pass filter, voxels."""
    identity_kind: Literal["l1", "cosine"] = "l1"
    """l1 keeps contrast and position; cosine keeps the position alone."""
    patch_weight: NonNegative = 0.0
    """Weight of the sliced Wasserstein distance between patches of generated and real volumes."""
    spectrum_weight: NonNegative = 0.0
    """Weight of the distance between mean log power spectra of generated and real volumes."""

    # data
    input_noise: NonNegative = 0.2
    """Standard deviation of the noise added to densities (paper, Table 3)."""
    input_noise_unit: Literal["std", "absolute"] = "std"
    """Unit: the densities' standard deviation, or the scaled grey value."""
    input_noise_draw: Literal["step", "once"] = "step"
    """New noise at each step, or the same noise in the whole run."""
    neighbours: NonNegative = 0.0
    """Mean number of other densities beside each density; real boxes hold their neighbours."""
    scaling: Literal["domain", "volume", "zscore", "sd"] = "domain"
    """Grey scale: one for all subtomograms, one a volume, z-scores as in the published code, or
    both domains with standard deviation 1, subtomograms uncut, for a linear output. With one a
    volume, light and heavy particles look alike. If densities had a smaller standard deviation than
    subtomograms, the steps of G_sd would be large beside its filter and its training unstable."""
    scale_clip: Positive = 3.0
    """Standard deviations of subtomograms that become 1; values beyond are cut."""

    # training
    lr_discriminator: Positive = 5e-4
    """Learning rate of the discriminators."""
    discriminator_steps: Count = 1
    """Discriminator steps for each generator step."""
    replay_pool: CountOrNone = 50
    """Earlier generated volumes shown to discriminators; 0: none."""
    held_out: Fraction = 0.0
    """Fraction of the subtomograms that the discriminator never sees. If its scores of these
    (log.csv: D_s_held_out) fall below D_s_train, it overfits."""

    @property
    def makes_tomograms(self) -> bool:
        """Whether the generator makes whole tomograms; instance norm (resnet) depends on the tile."""
        return self.generator == "filters"

    def makes_tomograms_of(self, source: str) -> bool:
        """Whether it is asked to: its tomograms taught a detector less than fitted physics did."""
        return self.makes_tomograms and source == "generated"

    @model_validator(mode="after")
    def check_combinations(self) -> Self:
        """Raise a `ValueError` if wgan-gp has no gradient penalty, or resize has TensorFlow's padding."""
        if self.upsampling == "resize" and self.padding == "same":
            raise ValueError(
                "upsampling is resize, padding is same. That padding belongs to transposed "
                "convolutions; set padding to even"
            )
        if self.objective == "wgan-gp" and self.penalty_weight <= 0:
            raise ValueError(
                "objective is wgan-gp, penalty_weight is 0. Only the penalty bounds the "
                "discriminator; set penalty_weight to 10"
            )
        return self

"""Every switch of the CycleGAN, typed; a preset is a YAML file of these."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One recipe. Defaults are the paper's, in the reading of our README's table.

    Attributes
    ----------
    frame : {'cycle', 'residual'}
        cycle: the paper's two generators and two critics. residual: y = x + r(x), what is added
        to signal and noise of fitted physics, x = c u + n (`--imaging`); no critic. It uses
        optimiser, lr_generator, betas, decay_start, batch, steps, epochs, snapshot_every, ema,
        identity_weight (of the cosine of both signs of the noise with u), blocks (of the way
        back), and what begins at stages.
    widths : (int, int, int)
        Generator channels after c7s1, d, d (paper: c7s1-32, d64, d128).
    blocks : int
        Residual blocks (paper's text: five; released code: six).
    bias : bool
        Biases in the generator's convolutions.
    res_norm : {'instance', 'none'}
        Normalisation inside residual blocks.
    noise_channels : int
        Channels of Gaussian noise joined to the bottleneck before the first u layer.
    noise_generators : {'both', 'ds'}
        Which generators draw noise.
    dropout, dropout_on : float, {'blocks', 'output'}
        After each residual block, or on the output volume as the released code has it; the
        passes of `translation uncertainty` use it.
    output : {'tanh', 'linear'}
        Last activation.
    padding : {'even', 'same'}
        Of strided layers. same: as TensorFlow pads, more at the far end; the released code's
        four strides then leave a score of 28^3.
    critic_widths : tuple of int
        Discriminator channels (paper: C64-C128-C256).
    critic_stride : int
        2, or 1 as the paper prints it, 166 times dearer at 40^3.
    critic_norm : {'instance', 'none'}
        From the second layer on. Instance norm hides the noise level from the critic.
    critic_bias : bool
        Biases in the discriminator's convolutions; its last one always has one.
    spectral_norm : bool
        On every convolution of the discriminator.
    objective : {'wgan', 'wgan-gp', 'lsgan', 'hinge', 'bce'}
        Adversarial loss; `bce` is equations 1 and 2.
    clip : float
        Bound of the critic's weights after each step; 0: none. Only with wgan.
    real_label : float
        Target of lsgan for real volumes.
    penalty_weight, penalty_norm : float, {'volume', 'axis'}
        Of the gradient penalty, with any objective; wgan-gp needs it (its paper has 10). The
        norm is that over a volume; `axis`: along one axis, the released code's mistake.
    r1_weight, r1_every : float, int
        Penalty on the critic's gradient at real volumes, every so many steps.
    cycle_weight : float
        lambda of equation 5.
    cycle_lowpass : float
        Gaussian width in voxels through which the cycle of S is compared; 0: none. S is
        mostly noise, and an exact cycle of noise teaches hiding it.
    identity_weight, identity_lowpass : float
        Low-passed G_ds(d) should stay d.
    identity_kind : {'l1', 'cosine'}
        l1 keeps contrast and place; cosine keeps place, the critic decides on contrast.
    patch_weight : float
        Of the distance between patches of generated and real subtomograms, which needs no
        critic (`patches.py`).
    input_noise : float
        Standard deviation added to densities before translation (paper's Table 3).
    input_noise_unit : {'std', 'absolute'}
        In units of the densities' own standard deviation, or of the scaled values.
    input_noise_draw : {'step', 'once'}
        Fresh at each step, or fixed for each volume: then it belongs to the domain D.
    optimiser : {'rmsprop', 'adam'}
        rmsprop's average decays by 0.9 and starts at 1, as TensorFlow's does.
    lr_generator, lr_critic : float
        Learning rates.
    betas : (float, float)
        Of adam.
    decay_start : float
        Share of the steps after which learning rates fall linearly to zero; 1: never.
    batch : int
        Volumes a step, of all devices together.
    steps, epochs : int, float
        Generator steps; where `epochs` is not 0, instead so many passes: as many volumes made
        as there are subtomograms, each.
    n_critic, pool : int
        Critic steps for each step of the generators; replay pool (0: none).
    held_out : float
        Share of the subtomograms that the cycle's critic never sees, to watch (log.csv) whether it
        knows the others by heart: D_s_held beside D_s_learnt.
    snapshot_every : int
        Epochs from one kept generator to the next (`snapshots/epoch_N.pt`, each a checkpoint
        to translate with); 0: none.
    ema : float
        Decay of the averaged generator; 0: none.
    scaling, scale_clip : {'domain', 'volume', 'zscore'}, float
        Subtomograms are divided by this many standard deviations, of all of them or each of
        its own, and cut at -1 and 1. Per volume, light and heavy particles look alike.
        zscore: both domains by their standard deviation, not cut, as the released code has it.
    stages, filters : int
        Of r: steps of learned reaction diffusion, and filters of each.
    width : int
        Channels of the way back, whose blocks are `blocks`.
    texture_weight, spectrum_weight, residual_penalty : float
        Of the distances of texture (`texture.py`), of power spectra, and of the mean of r^2.
    contrast_rate : float
        Share of the distance from 1 of the log slope of y on u that the log contrast makes up for
        at each step, to the end of the run; 0: the contrast stays as it is, 1 at the start.
    scenes : int
        Scenes made before training; each signal meets many noises.
    shares : {'matched', 'uniform'}
        How often each class occurs in them: as in the picks, or all as often.
    augment : bool
        residual: real and generated volumes are turned by 180 degrees before their texture is
        compared, about axes that keep wedge and hand.
    precision : {'bf16', 'float32'}
        Of convolutions; bf16 becomes float32 where the device only emulates it.
    compile : bool
        On GPUs, generators through torch.compile: a minute at the start, fewer launches after;
        critics too, without spectral norm and gradient penalty. CPUs: not worth its start.
    """

    frame: Literal["cycle", "residual"] = "cycle"
    widths: tuple[int, int, int] = (32, 64, 128)
    blocks: int = 5
    bias: bool = True
    res_norm: Literal["instance", "none"] = "instance"
    noise_channels: int = 1
    noise_generators: Literal["both", "ds"] = "both"
    dropout: float = 0.1
    dropout_on: Literal["blocks", "output"] = "blocks"
    output: Literal["tanh", "linear"] = "tanh"
    padding: Literal["even", "same"] = "even"
    critic_widths: tuple[int, ...] = (64, 128, 256)
    critic_stride: Literal[1, 2] = 2
    critic_norm: Literal["instance", "none"] = "instance"
    critic_bias: bool = True
    spectral_norm: bool = True
    objective: Literal["wgan", "wgan-gp", "lsgan", "hinge", "bce"] = "wgan"
    clip: float = 0.01
    real_label: float = 1.0
    penalty_weight: float = 0.0
    penalty_norm: Literal["volume", "axis"] = "volume"
    r1_weight: float = 0.0
    r1_every: int = 16
    cycle_weight: float = 10.0
    cycle_lowpass: float = 0.0
    identity_weight: float = 0.0
    identity_lowpass: float = 1.5
    identity_kind: Literal["l1", "cosine"] = "l1"
    patch_weight: float = 0.0
    input_noise: float = 0.2
    input_noise_unit: Literal["std", "absolute"] = "std"
    input_noise_draw: Literal["step", "once"] = "step"
    optimiser: Literal["rmsprop", "adam"] = "rmsprop"
    lr_generator: float = 5e-4
    lr_critic: float = 5e-4
    betas: tuple[float, float] = (0.5, 0.999)
    decay_start: float = 1.0
    batch: int = 1
    steps: int = 80_000
    epochs: float = 0.0
    n_critic: int = 1
    pool: int = 50
    held_out: float = 0.0
    snapshot_every: int = 0
    ema: float = 0.0
    scaling: Literal["domain", "volume", "zscore"] = "domain"
    scale_clip: float = 3.0
    stages: int = 5
    filters: int = 16
    width: int = 16
    contrast_rate: float = 0.0
    texture_weight: float = 1.0
    spectrum_weight: float = 0.02
    residual_penalty: float = 0.01
    scenes: int = 2100
    shares: Literal["matched", "uniform"] = "matched"
    augment: bool = True
    precision: Literal["bf16", "float32"] = "bf16"
    compile: bool = False

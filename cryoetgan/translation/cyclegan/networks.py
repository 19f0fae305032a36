"""Generator and discriminator of CryoETGAN (Paper, section 2.7 and Figure 1)."""

import functools
import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from cryoetgan.translation.engine import layers
from cryoetgan.translation.engine.layers import NEGATIVE_SLOPE

NORM_EPS = 1e-5
INITIAL_SD = 0.02
"""Standard deviation of the initial weights."""
FILTER_DECAY = 2.5
"""Decay length of the filters' envelope, voxels."""
DENSITY_GAIN = 0.1
"""Standard deviation of the density over the noise's in an untrained `FilterGenerator`."""
UPSAMPLING_LAYERS = 6
"""Layers of u64 and u32 in the decoder: three each."""


class ResidualBlock(nn.Module):
    """R: two 3^3 convolutions with reflection padding, added to their input; then dropout."""

    def __init__(self, width: int, norm: bool, bias: bool, dropout: float) -> None:
        super().__init__()

        def convolution() -> list[nn.Module]:
            last = [instance_norm(width)] if norm else []
            return [nn.ReflectionPad3d(1), nn.Conv3d(width, width, 3, bias=bias), *last]

        self.body = nn.Sequential(*convolution(), nn.ReLU(), *convolution())
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, C, z, y, x)`."""
        return self.dropout(x + self.body(x))


class Generator(nn.Module):
    """c7s1-32, d64, d128, R128 x 5, noise, u64, u32, c7s1-1; without arguments the paper's.

    Paper, section 2.7. c7s1: a 7^3 convolution; d: a 3^3 convolution with stride 2; R: a residual
    block; u: a 3^3 transposed convolution with stride 2. Noise is concatenated before u64, which
    has 128 + 1 input channels. (The paper prints u32, whose input has 64 channels.)

    Parameters
    ----------
    widths : sequence of int
        Channels after c7s1 and the two d layers.
    blocks : int
        Residual blocks.
    noise_channels : int
        Channels of N(0, 1) noise; 0: none.
    norm_in_blocks, bias : bool
        Instance norm in residual blocks; biases in convolutions.
    dropout : float
        Dropout probability after each residual block (Paper, section 3.4).
    resampling : {'even', 'same', 'resize'}
        d and u layers with PyTorch's padding, or with TensorFlow's at the far end; or u as trilinear
        interpolation and a 3^3 convolution.
    noise_at : {'bottleneck', 'last'}
        Concatenate the noise before u64, or before the last c7s1-1, at full resolution.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128),
        blocks: int = 5,
        noise_channels: int = 1,
        norm_in_blocks: bool = True,
        bias: bool = True,
        dropout: float = 0.1,
        resampling: str = "even",
        noise_at: str = "bottleneck",
    ) -> None:
        super().__init__()
        first, second, third = widths
        self.noise_channels, self.noise_at = noise_channels, noise_at
        deep, late = (noise_channels if noise_at == at else 0 for at in ("bottleneck", "last"))
        self.encoder = nn.Sequential(
            nn.ReflectionPad3d(3),
            layers.FirstConv3d(1, first, 7, bias=bias),
            instance_norm(first),
            nn.ReLU(),
            *down(first, second, bias, resampling),
            *down(second, third, bias, resampling),
        )
        self.blocks = nn.Sequential(
            *(ResidualBlock(third, norm_in_blocks, bias, dropout) for _ in range(blocks))
        )
        self.decoder = nn.Sequential(
            *up(third + deep, second, bias, resampling),
            *up(second, first, bias, resampling),
            nn.ReflectionPad3d(3),
            layers.LastConv3d(first + late, 1, 7, bias=bias),
            nn.Tanh(),
        )
        self.apply(initialise)

    def noise_shape(self, x: Tensor) -> tuple[int, ...]:
        """Return the shape of the noise that belongs to a batch `x`."""
        scale = 4 if self.noise_at == "bottleneck" else 1
        return (x.shape[0], self.noise_channels, *(n // scale for n in x.shape[2:]))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Translate a batch `(B, 1, z, y, x)`, scaled to [-1, 1]; 4 must divide each edge.

        The noise has `noise_shape(x)`; it is drawn from N(0, 1) by default.
        """
        features = self.blocks(self.encoder(x))
        if self.noise_channels and noise is None:
            noise = torch.randn(self.noise_shape(x), device=x.device)
        if noise is not None and self.noise_at == "bottleneck":
            features = torch.cat([features, noise.to(features.dtype)], dim=1)
        features = self.decoder[:UPSAMPLING_LAYERS](features)
        if noise is not None and self.noise_at == "last":
            features = torch.cat([features, noise.to(features.dtype)], dim=1)
        return self.decoder[UPSAMPLING_LAYERS:](features)


class FilterGenerator(nn.Module):
    """y = x + r(x), x = h * d + k * z + c: learned filters h and k, white noise z, a network r.

    h and k are the parameters times an envelope that decays from the centre, so that thousands of
    small outer parameters do not add up to noise. An image in a tomogram is the density, blurred by
    one point spread function, in coloured noise. A generator of this form starts with g d + z, g
    being `DENSITY_GAIN` (G_sd with its input), and learns both filters as it learns everything
    else, by the losses of the CycleGAN. r starts at zero: residual convolutions without norm. Any
    box size; the filters act on periodic boxes. G_sd has no noise.

    Parameters
    ----------
    size : int
        Edge of the filters in voxels.
    width, blocks : int
        Channels and residual blocks of r.
    noise : bool
        Whether there is a noise z.
    dropout : float
        Dropout probability after each residual block.
    """

    envelope: Tensor

    def __init__(
        self,
        size: int = 15,
        width: int = 16,
        blocks: int = 1,
        noise: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.noise_channels = int(noise)
        delta = torch.zeros(1 + self.noise_channels, 1, size, size, size)
        delta[..., size // 2, size // 2, size // 2] = 1.0
        self.filters = nn.Parameter(delta)
        axis = torch.arange(size) - size // 2
        square = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
        # a step of the optimiser then changes both filters by a like part of their size
        gains = torch.tensor([DENSITY_GAIN, 1.0] if noise else [1.0]).reshape(-1, 1, 1, 1, 1)
        envelope = gains * torch.exp(-square.sqrt() / FILTER_DECAY)
        self.register_buffer("envelope", envelope, persistent=False)
        self.level = nn.Parameter(torch.zeros(()))
        self.correction = layers.ResidualConvolutions(width, blocks, dropout)

    def noise_shape(self, x: Tensor) -> tuple[int, ...]:
        """Return the shape of the noise that belongs to a batch `x`."""
        return (x.shape[0], self.noise_channels, *x.shape[2:])

    def radius(self) -> int:
        """Return the receptive radius in voxels."""
        return self.filters.shape[-1] // 2 + self.correction.radius()

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Translate a batch `(B, 1, z, y, x)`; the noise is drawn from N(0, 1) by default."""
        if self.noise_channels:
            if noise is None:
                noise = torch.randn(self.noise_shape(x), device=x.device)
            x = torch.cat([x, noise], dim=1)
        filters = (self.filters * self.envelope)[:, 0]
        filtered = convolve_periodically(x, filters).sum(dim=1, keepdim=True) + self.level
        return filtered + self.correction(filtered)


def convolve_periodically(volumes: Tensor, kernels: Tensor) -> Tensor:
    """Return volumes `(B, C, z, y, x)`, channel c convolved with kernel c of `(C, k, k, k)`.

    Kernels larger than the box are wrapped around it.
    """
    shape, axes = volumes.shape[2:], (-3, -2, -1)
    size, steps = kernels.shape[-1], torch.arange(kernels.shape[-1], device=kernels.device)
    z, y, x = ((steps - size // 2) % n for n in shape)
    places = (
        torch.arange(len(kernels), device=kernels.device)[:, None, None, None],
        z[:, None, None],
        y[:, None],
        x,
    )
    padded = kernels.new_zeros((len(kernels), *shape)).index_put(places, kernels, accumulate=True)
    product = torch.fft.rfftn(volumes.float(), dim=axes) * torch.fft.rfftn(padded, dim=axes)
    return torch.fft.irfftn(product, s=shape, dim=axes)


class Discriminator(nn.Module):
    """C64-C128-C256, then one channel; without arguments the paper's.

    Paper, section 2.7. C: a 4^3 convolution, instance norm (not in the first layer), leaky ReLU of
    slope 0.2; spectral normalisation of every convolution.

    Parameters
    ----------
    widths : sequence of int
        Channels.
    stride : int
        2, or 1 as the paper prints it.
    norm : bool
        Instance norm from the second layer on.
    spectral : bool
        Spectral normalisation of every convolution.
    bias : bool
        Biases in convolutions; the last one always has a bias.
    padding : {'even', 'same'}
        One voxel on each side, or TensorFlow's: ceil(n / stride) voxels of n remain.
    kernel : int
        Edge of the convolutions in voxels.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256),
        stride: int = 2,
        norm: bool = True,
        spectral: bool = True,
        bias: bool = True,
        padding: str = "even",
        kernel: int = 4,
    ) -> None:
        super().__init__()
        self.strides = [stride] * len(widths)
        self.kernel, self.padding, self.norm = kernel, padding, norm
        conv = layers.SameConv3d if padding == "same" else functools.partial(nn.Conv3d, padding=1)
        body: list[nn.Module] = []
        channels = 1
        for index, width in enumerate(widths):
            body.append(conv(channels, width, kernel, stride=self.strides[index], bias=bias))
            if norm and index > 0:
                body.append(instance_norm(width))
            body.append(nn.LeakyReLU(NEGATIVE_SLOPE))
            channels = width
        self.body = nn.Sequential(*body, conv(channels, 1, kernel))
        self.apply(initialise)
        if spectral:
            for layer in self.convolutions():
                spectral_norm(layer)

    def convolutions(self) -> Iterable[nn.Conv3d]:
        """Yield the convolutions, from the input on."""
        return (layer for layer in self.body if isinstance(layer, nn.Conv3d))

    def smallest_box(self) -> int:
        """Return the edge in voxels of the smallest box that has a score."""
        for box in itertools.count(1):
            sizes = [box]
            for stride in (*self.strides, 1):
                n = sizes[-1]
                same = self.padding == "same"
                sizes.append(-(-n // stride) if same else (n + 2 - self.kernel) // stride + 1)
            # instance norm of a single voxel is not defined
            if min(sizes) >= 1 and not (self.norm and sizes[-2] == 1):
                return box
        raise AssertionError

    def forward(self, x: Tensor) -> Tensor:
        """Return scores `(B, 1, z', y', x')`, one a patch; real volumes score higher."""
        features = self.body[:-1](x)
        # in float32: on CPUs oneDNN computes the bfloat16 weight gradient of a convolution to one
        # channel from memory that was never written
        with torch.autocast(x.device.type, enabled=False):
            return self.body[-1](features.float())


def down(channels: int, width: int, bias: bool, resampling: str) -> list[nn.Module]:
    """Return the layers of d: a 3^3 convolution with stride 2, instance norm, ReLU."""
    conv = layers.SameConv3d if resampling == "same" else functools.partial(nn.Conv3d, padding=1)
    return [conv(channels, width, 3, stride=2, bias=bias), instance_norm(width), nn.ReLU()]


def up(channels: int, width: int, bias: bool, resampling: str) -> list[nn.Module]:
    """Return the three layers of u: to twice the resolution by a 3^3 convolution, norm, ReLU."""
    conv: nn.Module
    if resampling == "resize":
        enlarge = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False)
        conv = nn.Sequential(enlarge, nn.Conv3d(channels, width, 3, padding=1, bias=bias))
    elif resampling == "same":
        conv = layers.SameConvTranspose3d(channels, width, 3, stride=2, bias=bias)
    else:
        conv = nn.ConvTranspose3d(channels, width, 3, 2, padding=1, output_padding=1, bias=bias)
    return [conv, instance_norm(width), nn.ReLU()]


def instance_norm(width: int) -> layers.InstanceNorm3d:
    """Return an instance norm with a trained scale and shift."""
    return layers.InstanceNorm3d(width, eps=NORM_EPS, affine=True)


def initialise(layer: nn.Module) -> None:
    """Draw weights from N(0, INITIAL_SD), scales of norms from N(1, INITIAL_SD); shifts are 0."""
    if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.normal_(layer.weight, 0.0, INITIAL_SD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.InstanceNorm3d):
        nn.init.normal_(layer.weight, 1.0, INITIAL_SD)
        nn.init.zeros_(layer.bias)

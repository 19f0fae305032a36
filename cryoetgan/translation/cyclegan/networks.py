"""Generator and discriminator of CryoETGAN (Paper, section 2.7 and Figure 1)."""

import functools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from cryoetgan.translation.engine import layers

NORM_EPS = 1e-5
INITIAL_SD = 0.02
"""Standard deviation of the initial weights."""
NEGATIVE_SLOPE = 0.2
"""Slope of the leaky ReLU for negative values."""


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
    output : {'tanh', 'linear'}
        Last activation.
    padding : {'even', 'same'}
        Padding of d and u layers: PyTorch's, or TensorFlow's at the far end.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128),
        blocks: int = 5,
        noise_channels: int = 1,
        norm_in_blocks: bool = True,
        bias: bool = True,
        dropout: float = 0.1,
        output: str = "tanh",
        padding: str = "even",
    ) -> None:
        super().__init__()
        first, second, third = widths
        self.noise_channels = noise_channels
        self.encoder = nn.Sequential(
            nn.ReflectionPad3d(3),
            layers.FirstConv3d(1, first, 7, bias=bias),
            instance_norm(first),
            nn.ReLU(),
            *down(first, second, bias, padding),
            *down(second, third, bias, padding),
        )
        self.blocks = nn.Sequential(
            *(ResidualBlock(third, norm_in_blocks, bias, dropout) for _ in range(blocks))
        )
        self.decoder = nn.Sequential(
            *up(third + noise_channels, second, bias, padding),
            *up(second, first, bias, padding),
            nn.ReflectionPad3d(3),
            layers.LastConv3d(first, 1, 7, bias=bias),
            nn.Tanh() if output == "tanh" else nn.Identity(),
        )
        self.apply(initialise)

    def noise_shape(self, x: Tensor) -> tuple[int, ...]:
        """Return the shape of the noise that belongs to a batch `x`."""
        return (x.shape[0], self.noise_channels, *(n // 4 for n in x.shape[2:]))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Translate a batch `(B, 1, z, y, x)`, scaled to [-1, 1]; 4 must divide each edge.

        The noise has `noise_shape(x)`; it is drawn from N(0, 1) by default.
        """
        features = self.blocks(self.encoder(x))
        if self.noise_channels:
            if noise is None:
                noise = torch.randn(self.noise_shape(x), device=x.device)
            features = torch.cat([features, noise.to(features.dtype)], dim=1)
        return self.decoder(features)


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
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256),
        stride: int = 2,
        norm: bool = True,
        spectral: bool = True,
        bias: bool = True,
        padding: str = "even",
    ) -> None:
        super().__init__()
        self.stride, self.depth, self.padding = stride, len(widths), padding
        self.norm = norm
        conv = layers.SameConv3d if padding == "same" else functools.partial(nn.Conv3d, padding=1)
        body: list[nn.Module] = []
        channels = 1
        for index, width in enumerate(widths):
            body.append(conv(channels, width, 4, stride=stride, bias=bias))
            if norm and index > 0:
                body.append(instance_norm(width))
            body.append(nn.LeakyReLU(NEGATIVE_SLOPE))
            channels = width
        self.body = nn.Sequential(*body, conv(channels, 1, 4))
        self.apply(initialise)
        if spectral:
            for layer in self.convolutions():
                spectral_norm(layer)

    def convolutions(self) -> Iterable[nn.Conv3d]:
        """Yield the convolutions, from the input on."""
        return (layer for layer in self.body if isinstance(layer, nn.Conv3d))

    def smallest_box(self) -> int:
        """Return the edge in voxels of the smallest box that has a score."""
        if self.padding == "same":  # instance norm of a single voxel is not defined
            return self.stride**self.depth + 1 if self.norm else 1
        return 2 ** (self.depth + 1) if self.stride == 2 else self.depth + 2

    def forward(self, x: Tensor) -> Tensor:
        """Return scores `(B, 1, z', y', x')`, one a patch; real volumes score higher."""
        features = self.body[:-1](x)
        # in float32: on CPUs oneDNN computes the bfloat16 weight gradient of a convolution to one
        # channel from memory that was never written
        with torch.autocast(x.device.type, enabled=False):
            return self.body[-1](features.float())


def down(channels: int, width: int, bias: bool, padding: str) -> list[nn.Module]:
    """Return the layers of d: a 3^3 convolution with stride 2, instance norm, ReLU."""
    conv = layers.SameConv3d if padding == "same" else functools.partial(nn.Conv3d, padding=1)
    return [conv(channels, width, 3, stride=2, bias=bias), instance_norm(width), nn.ReLU()]


def up(channels: int, width: int, bias: bool, padding: str) -> list[nn.Module]:
    """Return the layers of u: a 3^3 transposed convolution with stride 2, instance norm, ReLU."""
    even = functools.partial(nn.ConvTranspose3d, padding=1, output_padding=1)
    conv = layers.SameConvTranspose3d if padding == "same" else even
    return [conv(channels, width, 3, stride=2, bias=bias), instance_norm(width), nn.ReLU()]


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

"""Generator and discriminator of CryoETGAN (paper, section 2.7 and Figure 1)."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

NORM_EPS = 1e-5
INIT_SD = 0.02
LEAK = 0.2


class FirstConv3d(nn.Conv3d):
    """A convolution of one channel, on CPUs with a gradient of its own: three times quicker."""

    def forward(self, input: Tensor) -> Tensor:
        """Return what `nn.Conv3d` returns, to rounding; no padding, no stride."""
        if input.device.type != "cpu":
            return super().forward(input)
        made: Tensor = _FirstConvolution.apply(input, self.weight, self.bias)
        return made


class _FirstConvolution(torch.autograd.Function):
    """Libraries are slow at the gradient of a single channel: it is made as seven, then added.

    The k slices of the kernel give k channels, each of which is moved by its z.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return functional.conv3d(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        slope = slope.contiguous(memory_format=torch.channels_last_3d)
        x, weight = (saved.to(slope.dtype) for saved in ctx.saved_tensors)
        _, to_weight, to_bias = torch.ops.aten.convolution_backward(
            slope, x, weight, [len(weight)] if ctx.has_bias else None,
            [1] * 3, [0] * 3, [1] * 3, False, [0] * 3, 1, [False, True, ctx.has_bias],
        )  # fmt: skip
        to_x = None
        if ctx.needs_input_grad[0]:
            planes = functional.conv_transpose3d(slope, weight.transpose(1, 2)).float()
            to_x, count = torch.zeros_like(ctx.saved_tensors[0]), slope.shape[2]
            for z in range(weight.shape[2]):
                to_x[:, :, z : z + count] += planes[:, z : z + 1]
        return to_x, to_weight.float(), None if to_bias is None else to_bias.float()


class LastConv3d(nn.Conv3d):
    """A convolution to one channel, on CPUs as a sum of its z slices: four times quicker.

    Libraries are slow at one output channel: the k slices of the kernel become k output
    channels of a flat convolution, which are then added, each moved by its z.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return what `nn.Conv3d` returns, to rounding; no padding, no stride."""
        if input.device.type != "cpu":
            return super().forward(input)
        depth = self.kernel_size[0]
        slices = self.weight[0].transpose(0, 1).unsqueeze(2)  # (z, channels, 1, y, x)
        planes = functional.conv3d(input, slices)
        count = input.shape[2] - depth + 1
        moved = (planes[:, z : z + 1, z : z + count].float() for z in range(depth))
        out = functools.reduce(torch.add, moved)
        return out if self.bias is None else out + self.bias


class InstanceNorm3d(nn.InstanceNorm3d):
    """Instance norm, on CPUs as a group norm of one channel a group: the same, in half the time.

    On CPUs PyTorch's own takes a channels-last gradient of a single volume for a contiguous one
    (seen with 2.13): its gradients are then noise.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return what `nn.InstanceNorm3d` returns."""
        if input.device.type != "cpu":
            return super().forward(input)
        flat = input.contiguous()  # channels-last group norm is 15 times slower
        return functional.group_norm(flat, self.num_features, self.weight, self.bias, self.eps)


class SameConv3d(nn.Conv3d):
    """A convolution padded as TensorFlow's SAME: ceil(n / stride) voxels, more at the far end."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of `(B, C, z, y, x)`."""
        sides: list[int] = []
        for size, kernel, stride in zip(
            reversed(input.shape[2:]),
            reversed(self.kernel_size),
            reversed(self.stride),
            strict=True,
        ):
            missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            sides += [missing // 2, missing - missing // 2]
        return super().forward(functional.pad(input, sides))


class SameConvTranspose3d(nn.ConvTranspose3d):
    """The transpose of `SameConv3d` (3^3, stride 2) on even edges: twice the edge."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the transposed convolution of `(B, C, z, y, x)`."""
        return super().forward(input, output_size)[..., :-1, :-1, :-1]


class ResidualBlock(nn.Module):
    """R: two 3^3 convolutions with reflect padding, added to their input; then dropout."""

    def __init__(self, width: int, norm: bool, bias: bool, dropout: float) -> None:
        super().__init__()

        def half() -> list[nn.Module]:
            layers: list[nn.Module] = [
                nn.ReflectionPad3d(1),
                nn.Conv3d(width, width, 3, bias=bias),
            ]
            return layers + ([_instance_norm(width)] if norm else [])

        self.body = nn.Sequential(*half(), nn.ReLU(), *half())
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus what the block adds."""
        return self.dropout(x + self.body(x))


class Generator(nn.Module):
    """c7s1-32, d64, d128, R128 x 5, noise, u64, u32, c7s1-1; without arguments the paper's.

    Parameters
    ----------
    widths : sequence of int
        Channels after c7s1 and the two d layers.
    blocks : int
        Residual blocks.
    noise_channels : int
        Channels of N(0, 1) noise joined to the bottleneck before the first u layer
        (129 = 128 + 1 channels go into u64); 0: none.
    norm_in_blocks, bias : bool
        Instance norm in residual blocks; biases in convolutions.
    dropout : float
        After each residual block (Monte Carlo dropout, section 3.4).
    dropout_on : {'blocks', 'output'}
        Or on the voxels of the output, as the authors' code has it.
    output : {'tanh', 'linear'}
        Last activation.
    padding : {'even', 'same'}
        Of d and u layers: as PyTorch pads, or as TensorFlow does, at the far end.
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
        dropout_on: str = "blocks",
        padding: str = "even",
    ) -> None:
        super().__init__()
        first, second, third = widths
        self.noise_channels = noise_channels
        self.encoder = nn.Sequential(
            nn.ReflectionPad3d(3),
            FirstConv3d(1, first, 7, bias=bias),
            _instance_norm(first),
            nn.ReLU(),
            *_down(first, second, bias, padding),
            *_down(second, third, bias, padding),
        )
        inside = dropout if dropout_on == "blocks" else 0.0
        self.blocks = nn.Sequential(
            *(ResidualBlock(third, norm_in_blocks, bias, inside) for _ in range(blocks))
        )
        last: list[nn.Module] = [nn.Tanh()] if output == "tanh" else []
        if dropout_on == "output":
            last.append(nn.Dropout(dropout))
        self.decoder = nn.Sequential(
            *_up(third + noise_channels, second, bias, padding),
            *_up(second, first, bias, padding),
            nn.ReflectionPad3d(3),
            LastConv3d(first, 1, 7, bias=bias),
            *last,
        )
        self.apply(_init)

    def noise_shape(self, x: Tensor) -> tuple[int, ...]:
        """Return the shape of the noise that a batch `x` needs."""
        return (x.shape[0], self.noise_channels, *(n // 4 for n in x.shape[2:]))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Translate a batch.

        Parameters
        ----------
        x : Tensor
            `(B, 1, z, y, x)`, each edge divisible by 4, scaled to [-1, 1].
        noise : Tensor, optional
            `noise_shape(x)`; drawn from N(0, 1) where not given.

        Returns
        -------
        Tensor
            Same shape as `x`.
        """
        features = self.blocks(self.encoder(x))
        if self.noise_channels:
            if noise is None:
                noise = torch.randn(self.noise_shape(x), device=x.device)
            features = torch.cat([features, noise.to(features.dtype)], dim=1)
        return self.decoder(features)


class Discriminator(nn.Module):
    """C64-C128-C256 of 4^3 kernels, then one channel; without arguments the paper's.

    Parameters
    ----------
    widths : sequence of int
        Channels.
    stride : int
        2, or 1 as the paper's text has it.
    norm : bool
        Instance norm from the second layer on.
    spectral : bool
        Spectral normalisation of every convolution.
    bias : bool
        Biases in convolutions but the last, which always has one.
    padding : {'even', 'same'}
        One voxel on each side; or as TensorFlow pads, which leaves ceil(n / stride) voxels of n.
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
        conv = SameConv3d if padding == "same" else functools.partial(nn.Conv3d, padding=1)
        layers: list[nn.Module] = []
        channels = 1
        for index, width in enumerate(widths):
            layers.append(conv(channels, width, 4, stride=stride, bias=bias))
            if norm and index > 0:
                layers.append(_instance_norm(width))
            layers.append(nn.LeakyReLU(LEAK))
            channels = width
        layers.append(conv(channels, 1, 4))
        self.body = nn.Sequential(*layers)
        self.apply(_init)
        if spectral:
            for layer in self.convolutions():
                spectral_norm(layer)

    def convolutions(self) -> Iterable[nn.Conv3d]:
        """Yield the convolutions, from the input on."""
        return (layer for layer in self.body if isinstance(layer, nn.Conv3d))

    def receptive_field(self) -> int:
        """Return how many voxels an edge one score sees."""
        field = 4
        for _ in range(self.depth):
            field = field * self.stride + (4 - self.stride)
        return field

    def smallest_box(self) -> int:
        """Return the smallest box for which a score is left."""
        if self.padding == "same":  # a single voxel has no spread to be divided by
            return self.stride**self.depth + 1 if self.norm else 1
        size = 2
        for _ in range(self.depth):
            size = size * self.stride if self.stride == 2 else size + 1
        return size

    def forward(self, x: Tensor) -> Tensor:
        """Return scores `(B, 1, z', y', x')`, one a patch; higher is more real."""
        features = self.body[:-1](x)
        # to one channel in float32: on CPUs the bfloat16 weight gradient of this layer is
        # computed from memory that was never written (seen with oneDNN; NaN or noise)
        with torch.autocast(x.device.type, enabled=False):
            return self.body[-1](features.float())


def _down(into: int, out: int, bias: bool, padding: str) -> list[nn.Module]:
    conv = SameConv3d if padding == "same" else functools.partial(nn.Conv3d, padding=1)
    return [conv(into, out, 3, stride=2, bias=bias), _instance_norm(out), nn.ReLU()]


def _up(into: int, out: int, bias: bool, padding: str) -> list[nn.Module]:
    conv: nn.Module
    if padding == "same":
        conv = SameConvTranspose3d(into, out, 3, stride=2, bias=bias)
    else:
        conv = nn.ConvTranspose3d(into, out, 3, stride=2, padding=1, output_padding=1, bias=bias)
    return [conv, _instance_norm(out), nn.ReLU()]


def _instance_norm(width: int) -> InstanceNorm3d:
    return InstanceNorm3d(width, eps=NORM_EPS, affine=True)


def _init(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.normal_(layer.weight, 0.0, INIT_SD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.InstanceNorm3d):
        nn.init.normal_(layer.weight, 1.0, INIT_SD)
        nn.init.zeros_(layer.bias)

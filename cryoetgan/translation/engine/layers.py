"""Layers that are fast on CPUs, layers padded as TensorFlow pads, and a small network.

PyTorch is slow at convolutions from or to one channel, and at instance norm, on CPUs. The first
three layers have the names, parameters and results of PyTorch's own; on GPUs they are PyTorch's.
"""

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

NEGATIVE_SLOPE = 0.2
"""Slope of the leaky ReLU for negative values."""


class FirstConv3d(nn.Conv3d):
    """Convolution of one channel, no padding, no stride; its gradient is 3 times faster on CPUs."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of `(B, 1, z, y, x)`, equal to `nn.Conv3d` up to rounding."""
        if input.device.type != "cpu":
            return super().forward(input)
        output: Tensor = _FirstConvolution.apply(input, self.weight, self.bias)
        return output


class _FirstConvolution(torch.autograd.Function):
    """Convolution whose input gradient is computed in the k z-slices of its kernel.

    Each slice gives one channel of a flat transposed convolution. The channels are then added,
    each shifted by the z of its slice.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return functional.conv3d(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
        x, weight = (saved.to(gradient.dtype) for saved in ctx.saved_tensors)
        _, d_weight, d_bias = torch.ops.aten.convolution_backward(
            gradient, x, weight, [len(weight)] if ctx.has_bias else None,
            [1] * 3, [0] * 3, [1] * 3, False, [0] * 3, 1, [False, True, ctx.has_bias],
        )  # fmt: skip
        d_x = None
        if ctx.needs_input_grad[0]:
            slices = functional.conv_transpose3d(gradient, weight.transpose(1, 2)).float()
            d_x, depth = torch.zeros_like(ctx.saved_tensors[0]), gradient.shape[2]
            for z in range(weight.shape[2]):
                d_x[:, :, z : z + depth] += slices[:, z : z + 1]
        return d_x, d_weight.float(), None if d_bias is None else d_bias.float()


class LastConv3d(nn.Conv3d):
    """Convolution to one channel, no padding, no stride; 4 times faster on CPUs.

    The k z-slices of the kernel become k output channels of a flat convolution. The channels are
    then added, each shifted by the z of its slice.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of `(B, C, z, y, x)`, equal to `nn.Conv3d` up to rounding."""
        if input.device.type != "cpu":
            return super().forward(input)
        kernel_depth = self.kernel_size[0]
        slices = self.weight[0].transpose(0, 1).unsqueeze(2)  # (z, C, 1, y, x)
        planes = functional.conv3d(input, slices)
        depth = input.shape[2] - kernel_depth + 1
        shifted = (planes[:, z : z + 1, z : z + depth].float() for z in range(kernel_depth))
        output = functools.reduce(torch.add, shifted)
        return output if self.bias is None else output + self.bias


class InstanceNorm3d(nn.InstanceNorm3d):
    """Instance norm; on CPUs a group norm of one channel a group, in half the time.

    PyTorch's own (seen with 2.13, on CPUs) takes the channels-last gradient of a single volume
    for a contiguous one; its gradients are then wrong.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return `(B, C, z, y, x)` normalised."""
        if input.device.type != "cpu":
            return super().forward(input)
        flat = input.contiguous()  # channels-last group norm is 15 times slower
        return functional.group_norm(flat, self.num_features, self.weight, self.bias, self.eps)


class SameConv3d(nn.Conv3d):
    """Convolution padded as TensorFlow's SAME: ceil(n / stride) voxels, more at the far end."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of `(B, C, z, y, x)`."""
        padding: list[int] = []
        axes = zip(input.shape[2:], self.kernel_size, self.stride, strict=True)
        for size, kernel, stride in reversed(list(axes)):
            missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [missing // 2, missing - missing // 2]
        return super().forward(functional.pad(input, padding))


class SameConvTranspose3d(nn.ConvTranspose3d):
    """Transpose of `SameConv3d` (3^3 kernel, stride 2) for even edges: twice the edge."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the transposed convolution of `(B, C, z, y, x)`."""
        return super().forward(input, output_size)[..., :-1, :-1, :-1]


class ResidualConvolutions(nn.Module):
    """3^3 convolutions and residual blocks without norm; the last layer starts at zero.

    Dropout follows each residual block.
    """

    def __init__(self, width: int, blocks: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = FirstConv3d(1, width, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LeakyReLU(NEGATIVE_SLOPE),
                nn.Conv3d(width, width, 3, padding=1),
                nn.LeakyReLU(NEGATIVE_SLOPE),
                nn.Conv3d(width, width, 3, padding=1),
                nn.Dropout3d(dropout),
            )
            for _ in range(blocks)
        )
        self.last = LastConv3d(width, 1, 3)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def radius(self) -> int:
        """Return the receptive radius in voxels: one for each 3^3 convolution."""
        return 2 + 2 * len(self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Return a volume `(B, 1, z, y, x)` of that shape."""
        features = self.first(functional.pad(x, (1,) * 6))
        for block in self.blocks:
            features = features + block(features)
        features = functional.leaky_relu(features, NEGATIVE_SLOPE)
        return self.last(functional.pad(features, (1,) * 6))

"""Operations of the residual network that are fast on CPUs, with torch alone.

`torch.conv_transpose3d` to one channel takes four times as long on CPUs as a matrix product and
shifted sums; the gradient of `torch.conv3d` from one channel is such a convolution. Delete these
functions once PyTorch is as fast.
"""

from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv3d_weight

CHANNEL_DIMENSIONS = (0, 2, 3, 4)
"""Dimensions over which a parameter of a channel is shared."""


def conv3d_from_one(volumes: Tensor, kernels: Tensor) -> Tensor:
    """Return `conv3d(volumes, kernels)` of `(B, 1, z, y, x)` and `(F, 1, e, e, e)`."""
    if _is_cpu_float32(volumes):
        return _ConvolutionFromOne.apply(volumes, kernels)
    return functional.conv3d(volumes, kernels)


def conv_transpose3d_to_one(responses: Tensor, kernels: Tensor) -> Tensor:
    """Return `conv_transpose3d(responses, kernels, padding=e - 1)`, `(B, 1, z - e + 1, ...)`.

    Responses are `(B, F, z, y, x)`, kernels `(F, 1, e, e, e)`.
    """
    if _is_cpu_float32(responses):
        return _TransposeToOne.apply(responses, kernels)
    return functional.conv_transpose3d(responses, kernels, padding=kernels.shape[-1] - 1)


def _is_cpu_float32(values: Tensor) -> bool:
    return (
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


class _ConvolutionFromOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, volumes: Tensor, kernels: Tensor) -> Tensor:
        ctx.save_for_backward(volumes, kernels)
        return functional.conv3d(volumes, kernels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        volumes, kernels = ctx.saved_tensors
        d_volumes = d_kernels = None
        if ctx.needs_input_grad[0]:
            d_volumes = _full_transpose(gradients[0], kernels)
        if ctx.needs_input_grad[1]:  # random filters need no gradient
            gradient = gradients[0].contiguous()
            d_kernels = conv3d_weight(volumes, list(kernels.shape), gradient)
        return d_volumes, d_kernels


class _TransposeToOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, responses: Tensor, kernels: Tensor) -> Tensor:
        ctx.save_for_backward(responses, kernels)
        edge = kernels.shape[-1] - 1
        z, y, x = (slice(edge, n) for n in responses.shape[2:])
        return _full_transpose(responses, kernels)[:, :, z, y, x].contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        responses, kernels = ctx.saved_tensors
        padded = functional.pad(gradients[0], (kernels.shape[-1] - 1,) * 6)
        d_kernels = conv3d_weight(padded, list(kernels.shape), responses)
        return functional.conv3d(padded, kernels), d_kernels


def _full_transpose(responses: Tensor, kernels: Tensor) -> Tensor:
    """Return `conv_transpose3d(responses, kernels)`, larger by the kernels' edge minus 1."""
    count, shape, edge = len(kernels), responses.shape[2:], kernels.shape[-1]
    out = responses.new_zeros((len(responses), 1, *(n + edge - 1 for n in shape)))
    matrix = kernels.reshape(count, -1).t().contiguous()
    maps = responses.new_empty((edge**3, shape.numel()))
    for response, volume in zip(responses, out[:, 0], strict=True):
        torch.mm(matrix, response.reshape(count, -1), out=maps)
        for corner, part in zip(product(range(edge), repeat=3), maps, strict=True):
            region = tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))
            volume[region] += part.view(shape)
    return out


def influence_function(z: Tensor, a: Tensor, b: Tensor, c: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Return a z + b tanh(s z) + c z exp(-t z^2 / 2) of filter responses z `(B, F, z, y, x)`.

    The parameters are `(1, F, 1, 1, 1)`.
    """
    if z.device.type == "cpu" and z.dtype == torch.float32:
        return _InfluenceByVolume.apply(z, a, b, c, s, t)
    bell = torch.exp(-0.5 * t * z.square())
    return (a + c * bell) * z + b * torch.tanh(s * z)


class _InfluenceByVolume(torch.autograd.Function):
    """The influence function, one volume at a time, which stays in the processor's cache."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(z, *parameters)
        a, b, c, s, t = parameters
        out = torch.empty_like(z)
        for x, value in zip(z.split(1), out.split(1), strict=True):
            bell = x.square().mul_(-0.5 * t).exp_()
            torch.mul(bell.mul_(c).add_(a), x, out=value)
            value.addcmul_((s * x).tanh_(), b)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        z, a, b, c, s, t = ctx.saved_tensors
        d_z = torch.empty_like(z)
        d_a, d_b, d_c, d_s, d_t = (torch.zeros_like(a) for _ in range(5))
        volumes = zip(z.split(1), gradients[0].split(1), d_z.split(1), strict=True)
        for x, gradient, d_x in volumes:
            square = x.square()
            bell = (square * (-0.5 * t)).exp_()
            tanh = (s * x).tanh_()
            product_x = gradient * x
            d_a += product_x.sum(CHANNEL_DIMENSIONS, keepdim=True)
            d_b += (gradient * tanh).sum(CHANNEL_DIMENSIONS, keepdim=True)
            slope = tanh.square_().neg_().add_(1)  # 1 - tanh^2
            d_s += (product_x * slope).sum(CHANNEL_DIMENSIONS, keepdim=True)
            product_x.mul_(bell)
            d_c += product_x.sum(CHANNEL_DIMENSIONS, keepdim=True)
            d_t += product_x.mul_(square).sum(CHANNEL_DIMENSIONS, keepdim=True)
            bell.mul_(square.mul_(-t).add_(1)).mul_(c).add_(a).addcmul_(slope, b * s)
            torch.mul(bell, gradient, out=d_x)
        return d_z, d_a, d_b, d_c, d_s * b, d_t * c * -0.5

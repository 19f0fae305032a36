"""What a filter's answer does to a volume, in few passes through memory: torch alone."""

from typing import Any

import torch
from torch import Tensor

CHANNELS = (0, 2, 3, 4)
"""Dimensions that a channel's parameter is shared over."""


def influence(
    z: Tensor, linear: Tensor, bounded: Tensor, falling: Tensor, steep: Tensor, narrow: Tensor
) -> Tensor:
    """Return a z + b tanh(s z) + c z exp(-t z^2 / 2), element by element.

    Parameters
    ----------
    z : Tensor
        `(B, filters, z, y, x)` answers.
    linear, bounded, falling, steep, narrow : Tensor
        `(1, filters, 1, 1, 1)`: a, b, c, s, t.
    """
    if z.device.type == "cpu" and z.dtype == torch.float32:
        return _ByVolume.apply(z, linear, bounded, falling, steep, narrow)
    near = torch.exp(-0.5 * narrow * z.square())
    return (linear + falling * near) * z + bounded * torch.tanh(steep * z)


class _ByVolume(torch.autograd.Function):
    """The same, a volume at a time, so that all steps of it find it in the cache."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(z, *parameters)
        a, b, c, s, t = parameters
        out = torch.empty_like(z)
        for x, made in zip(z.split(1), out.split(1), strict=True):
            near = x.square().mul_(-0.5 * t).exp_()
            torch.mul(near.mul_(c).add_(a), x, out=made)
            made.addcmul_((s * x).tanh_(), b)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        z, a, b, c, s, t = ctx.saved_tensors
        down = torch.empty_like(z)
        of_a, of_b, of_c, of_s, of_t = (torch.zeros_like(a) for _ in range(5))
        for x, g, made in zip(z.split(1), grads[0].split(1), down.split(1), strict=True):
            square = x.square()
            near = (square * (-0.5 * t)).exp_()
            bent = (s * x).tanh_()
            along = g * x
            of_a += along.sum(CHANNELS, keepdim=True)
            of_b += (g * bent).sum(CHANNELS, keepdim=True)
            rest = bent.square_().neg_().add_(1)  # 1 - tanh^2
            of_s += (along * rest).sum(CHANNELS, keepdim=True)
            along.mul_(near)
            of_c += along.sum(CHANNELS, keepdim=True)
            of_t += along.mul_(square).sum(CHANNELS, keepdim=True)
            near.mul_(square.mul_(-t).add_(1)).mul_(c).add_(a).addcmul_(rest, b * s)
            torch.mul(near, g, out=made)
        return down, of_a, of_b, of_c, of_s * b, of_t * c * -0.5

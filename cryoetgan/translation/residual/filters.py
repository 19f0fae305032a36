"""One volume's answers to filters, and answers put back into one volume: torch alone.

`torch.conv_transpose3d` to one channel takes four times as long on CPUs as a product of
matrices and shifted sums; it is also the way back through `torch.conv3d` from one channel.
"""

from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv3d_weight


def answered(volumes: Tensor, kernels: Tensor) -> Tensor:
    """Return `conv3d(volumes, kernels)`.

    Parameters
    ----------
    volumes : Tensor
        `(B, 1, z, y, x)`.
    kernels : Tensor
        `(filters, 1, e, e, e)`.
    """
    if _quick(volumes):
        return _Answered.apply(volumes, kernels)
    return functional.conv3d(volumes, kernels)


def put_back(answers: Tensor, kernels: Tensor) -> Tensor:
    """Return `conv_transpose3d(answers, kernels, padding=e - 1)`, `(B, 1, ...)`.

    Parameters
    ----------
    answers : Tensor
        `(B, filters, z, y, x)`.
    kernels : Tensor
        `(filters, 1, e, e, e)`.
    """
    if _quick(answers):
        return _PutBack.apply(answers, kernels)
    return functional.conv_transpose3d(answers, kernels, padding=kernels.shape[-1] - 1)


def _quick(values: Tensor) -> bool:
    return (
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


class _Answered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, volumes: Tensor, kernels: Tensor) -> Tensor:
        ctx.save_for_backward(volumes, kernels)
        return functional.conv3d(volumes, kernels)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        volumes, kernels = ctx.saved_tensors
        down = weight = None
        if ctx.needs_input_grad[0]:
            down = _spread(grads[0], kernels)
        if ctx.needs_input_grad[1]:  # drawn filters learn nothing
            weight = conv3d_weight(volumes, list(kernels.shape), grads[0].contiguous())
        return down, weight


class _PutBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, answers: Tensor, kernels: Tensor) -> Tensor:
        ctx.save_for_backward(answers, kernels)
        edge = kernels.shape[-1] - 1
        z, y, x = (slice(edge, n) for n in answers.shape[2:])
        return _spread(answers, kernels)[:, :, z, y, x].contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        answers, kernels = ctx.saved_tensors
        grown = functional.pad(grads[0], (kernels.shape[-1] - 1,) * 6)
        weight = conv3d_weight(grown, list(kernels.shape), answers)
        return functional.conv3d(grown, kernels), weight


def _spread(answers: Tensor, kernels: Tensor) -> Tensor:
    """Return `conv_transpose3d(answers, kernels)`: larger by the kernels' edge less one."""
    count, shape, edge = len(kernels), answers.shape[2:], kernels.shape[-1]
    out = answers.new_zeros((len(answers), 1, *(n + edge - 1 for n in shape)))
    matrix = kernels.reshape(count, -1).t().contiguous()
    maps = answers.new_empty((edge**3, shape.numel()))
    for answer, made in zip(answers, out[:, 0], strict=True):
        torch.mm(matrix, answer.reshape(count, -1), out=maps)
        for corner, part in zip(product(range(edge), repeat=3), maps, strict=True):
            made[tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))] += part.view(
                shape
            )
    return out

"""Operations of the residual network that are fast on CPUs, with torch alone.

PyTorch's convolutions from and to one channel, and their gradients, take several times as long on
CPUs as matrix products with patches. Delete these functions once PyTorch is as fast.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cryoetgan.translation.engine.threads import in_threads

SLAB_VOXELS = 16384
"""Voxels of a slab. Fewer keep patches and responses nearer in the cache, but calls cost more."""


def conv3d_from_one(volumes: Tensor, kernels: Tensor) -> Tensor:
    """Return `conv3d(volumes, kernels)` of `(B, 1, z, y, x)` and `(F, 1, e, e, e)`.

    On CPUs the kernels must be constants; raises `ValueError` if they want a gradient.
    """
    if kernels.requires_grad and _is_cpu_float32(volumes):
        raise ValueError("the kernels get no gradient on CPUs")
    if _is_cpu_float32(volumes):
        return _ConvolutionFromOne.apply(volumes, kernels)
    return functional.conv3d(volumes, kernels)


def diffuse(padded: Tensor, kernels: Tensor, *parameters: Tensor) -> Tensor:
    """Return the sum over filters k of k^T * f(k * x) of volumes x, `(B, 1, z, y, x)`.

    f(z) = a z + b tanh(s z) + c z exp(-t z^2 / 2).

    Parameters
    ----------
    padded : Tensor
        `(B, 1, z + 4, y + 4, x + 4)`, x with two more voxels on each side.
    kernels : Tensor
        `(F, 1, 3, 3, 3)`.
    *parameters : Tensor
        a, b, c, s and t, `(1, F, 1, 1, 1)` each.
    """
    if _is_cpu_float32(padded):
        return _Diffusion.apply(padded, kernels, *parameters)
    a, b, c, s, t = parameters
    z = functional.conv3d(padded, kernels)
    f = (a + c * torch.exp(-0.5 * t * z.square())) * z + b * torch.tanh(s * z)
    return functional.conv_transpose3d(f, kernels, padding=kernels.shape[-1] - 1)


def _is_cpu_float32(values: Tensor) -> bool:
    return (
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


class _ConvolutionFromOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, volumes: Tensor, kernels: Tensor) -> Tensor:
        ctx.save_for_backward(kernels)
        ctx.shape = volumes.shape
        return functional.conv3d(volumes, kernels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (kernels,) = ctx.saved_tensors
        matrix = kernels.flatten(1).t().contiguous()
        out = gradients[0].new_zeros(ctx.shape)

        def add(volume: Tensor, gradient: Tensor) -> None:
            _add_patches(matrix @ gradient.flatten(1), volume, kernels.shape[-1])

        in_threads(add, out[:, 0], gradients[0])
        return out, None


class _Diffusion(torch.autograd.Function):
    """`diffuse` and its gradients, slab by slab, which keep no response of a filter in memory."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, kernels: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(padded, kernels, *parameters)
        influence = _Influence(*parameters)
        matrix = kernels.flatten(1)
        adjoint = matrix.t().contiguous()
        out = torch.zeros_like(padded)

        def diffuse_one(volume: Tensor, result: Tensor) -> None:
            for slab in _slabs(volume):
                f = influence.values(matrix @ _patches(volume[slab], 3))
                _add_patches(adjoint @ f, result[slab], 3)

        in_threads(diffuse_one, padded[:, 0], out[:, 0])
        return out[..., 2:-2, 2:-2, 2:-2].contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        padded, kernels, *parameters = ctx.saved_tensors
        influence = _Influence(*parameters)
        matrix = kernels.flatten(1)
        adjoint, d_padded = matrix.t().contiguous(), torch.zeros_like(padded)
        outside = functional.pad(gradients[0], (2,) * 6)

        def gradients_of_one(volume: Tensor, outer: Tensor, result: Tensor) -> tuple[Tensor, ...]:
            d_adjoint, sums = torch.zeros_like(adjoint), kernels.new_zeros(5, len(kernels))
            for slab in _slabs(volume):
                patches, outer_patches = _patches(volume[slab], 3), _patches(outer[slab], 3)
                f, d_z = influence.gradients(matrix @ patches, matrix @ outer_patches, sums)
                # the transpose takes 1.6 times as long
                d_adjoint.addmm_(outer_patches, f.t()).addmm_(patches, d_z.t())
                if ctx.needs_input_grad[0]:
                    _add_patches(adjoint @ d_z, result[slab], 3)
            return d_adjoint, sums

        made = in_threads(gradients_of_one, padded[:, 0], outside[:, 0], d_padded[:, 0])
        d_adjoint, sums = (torch.stack(parts).sum(0) for parts in zip(*made, strict=True))
        shaped = (d.view_as(p) for d, p in zip(sums, parameters, strict=True))
        return d_padded, d_adjoint.t().reshape(kernels.shape), *shaped


class _Influence:
    """f(z) = a z + b tanh(s z) + c z exp(-t z^2 / 2) of responses `(F, N)`, and its gradients.

    Parameters are `(1, F, 1, 1, 1)` each.
    """

    def __init__(self, *parameters: Tensor) -> None:
        a, b, c, s, t = (p.reshape(-1, 1) for p in parameters)
        self.a, self.b, self.c, self.s, self.t = a, b, c, s, t
        # PyTorch's exp takes 3 times as long as exp2 on CPUs, and 15 times if the result underflows
        self.rate = t * (-0.5 / math.log(2))

    def values(self, z: Tensor) -> Tensor:
        """Return f."""
        f = z.square().mul_(self.rate).exp2_().mul_(self.c).add_(self.a).mul_(z)
        return f.addcmul_(_tanh(z, self.s), self.b)

    def gradients(self, z: Tensor, d_f: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and the gradient of z; add the gradients of a, b, c, s and t to `sums`.

        `sums` is `(5, F)`; z and its gradient are `(F, N)`.
        """
        b, s, t, dot = self.b, self.s, self.t, torch.linalg.vecdot
        square = z.square()
        bell = (square * self.rate).exp2_()
        product = z * d_f
        tanh = _tanh(z, s)
        slope = bell * self.c
        raised = slope + self.a
        f = (raised * z).addcmul_(tanh, b)
        d_b = dot(d_f, tanh)
        rise = tanh.square_().neg_().add_(1)  # 1 - tanh^2
        d_a, d_s = product.sum(1), dot(product, rise)
        product.mul_(bell)
        d_c, d_t = product.sum(1), dot(product, square)
        sums += torch.stack([d_a, d_b, d_c, d_s * b[:, 0], d_t * self.c[:, 0] * -0.5])
        # d_z = d_f (a + c bell (1 - t z^2) + b s (1 - tanh^2))
        d_z = raised.addcmul_(slope.mul_(square), t, value=-1).addcmul_(rise, b * s).mul_(d_f)
        return f, d_z


def _slabs(volume: Tensor) -> Iterator[slice]:
    """Yield parts of a volume `(z, y, x)` along z; together they have each 3^3 patch once."""
    depth, height, width = (n - 2 for n in volume.shape)
    step = max(1, SLAB_VOXELS // (height * width))
    for start in range(0, depth, step):
        yield slice(start, min(start + step, depth) + 2)


def _tanh(values: Tensor, scale: Tensor) -> Tensor:
    """Return tanh(scale * values); PyTorch's own tanh takes six times as long."""
    return (values * (2 * scale)).sigmoid_().mul_(2).sub_(1)


def _patches(volume: Tensor, edge: int) -> Tensor:
    """Return the patches `(edge^3, N)` of a volume `(z, y, x)`."""
    inner = [n - edge + 1 for n in volume.shape]
    strides = volume.stride()
    view = volume.as_strided((edge,) * 3 + tuple(inner), strides * 2, volume.storage_offset())
    return view.reshape(edge**3, -1)


def _add_patches(patches: Tensor, volume: Tensor, edge: int) -> None:
    """Add patches `(edge^3, N)` to the volume `(z, y, x)` that `_patches` takes them from."""
    depth, height, width = (n - edge + 1 for n in volume.shape)
    parts = patches.view(edge, edge, edge, depth, height, width)
    # one axis after the other
    rows = parts.new_zeros((edge, edge, depth, height, volume.shape[2]))
    planes = parts.new_zeros((edge, depth, *volume.shape[1:]))
    for i in range(edge):
        rows[..., i : i + width] += parts[:, :, i]
    for i in range(edge):
        planes[:, :, i : i + height] += rows[:, i]
    for i in range(edge):
        volume[i : i + depth] += planes[i]

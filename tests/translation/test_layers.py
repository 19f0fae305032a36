"""Fast layers equal PyTorch's; SAME padding equals TensorFlow's."""

import pytest
import torch
from torch.nn import functional

from cryoetgan.translation.cyclegan.networks import Generator
from cryoetgan.translation.engine.layers import (
    FirstConv3d,
    LastConv3d,
    SameConv3d,
    SameConvTranspose3d,
)
from cryoetgan.translation.residual.layers import conv3d_from_one, diffuse


@pytest.mark.parametrize(("kind", "into", "out"), [(FirstConv3d, 1, 5), (LastConv3d, 5, 1)])
def test_first_and_last_convolution_equal_the_librarys(kind, into, out):
    torch.manual_seed(0)
    ours, x = kind(into, out, 7), torch.randn(2, into, 12, 13, 14, requires_grad=True)
    made, wanted = ours(x), torch.nn.functional.conv3d(x, ours.weight, ours.bias)
    assert torch.allclose(made, wanted, atol=1e-5)
    weight = torch.randn_like(made)
    slopes = [
        torch.autograd.grad((y * weight).sum(), [x, ours.weight, ours.bias]) for y in (made, wanted)
    ]
    for one, other in zip(*slopes, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_same_padding_is_tensorflows():
    # SAME pads (size - 1) // 2 * 2 + 3 - size voxels for 3^3 and stride 2: none before, one after
    torch.manual_seed(0)
    down, up = SameConv3d(1, 1, 3, stride=2), SameConvTranspose3d(1, 1, 3, stride=2, bias=False)
    x = torch.randn(1, 1, 8, 8, 8)
    wanted = torch.nn.functional.conv3d(
        torch.nn.functional.pad(x, [0, 1] * 3), down.weight, down.bias, stride=2
    )
    assert torch.equal(down(x), wanted)
    # <down(x), y> = <x, up(y)> with equal weights: one is the transpose of the other
    down.bias.data.zero_()
    up.weight.data.copy_(down.weight)
    y = torch.randn(1, 1, 4, 4, 4)
    assert (down(x) * y).sum().item() == pytest.approx((x * up(y)).sum().item(), rel=1e-4)
    generator = Generator((4, 4, 8), 1, resampling="same")
    assert generator(torch.zeros(1, 1, 20, 20, 20)).shape == (1, 1, 20, 20, 20)


def value_and_gradients(function, *inputs):
    """Return the value of a function, and the gradients of a fixed mixture of its voxels."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    value = function(*inputs)
    weights = torch.linspace(-1, 1, value.numel(), dtype=value.dtype).reshape(value.shape)
    (value * weights.sin()).sum().backward()
    return [value.detach(), *(x.grad for x in inputs)]


@pytest.mark.parametrize(("shape", "edge"), [((2, 1, 7, 8, 9), 3), ((1, 1, 6, 6, 6), 2)])
def test_a_convolution_from_one_channel_equals_the_librarys(shape, edge):
    torch.manual_seed(0)
    volumes, kernels = torch.randn(shape), torch.randn(4, 1, edge, edge, edge)

    def exact(x):
        return functional.conv3d(x, kernels.to(x))

    wanted = value_and_gradients(exact, volumes.double())
    found = value_and_gradients(lambda x: conv3d_from_one(x, kernels.to(x)), volumes)
    for ours, plain in zip(found, wanted, strict=True):
        assert torch.allclose(ours.double(), plain, rtol=1e-4, atol=1e-4)
    # other kinds of numbers go torch's own way
    assert torch.equal(conv3d_from_one(volumes.double(), kernels.double()), wanted[0])


@pytest.mark.parametrize("shape", [(2, 1, 7, 8, 9), (1, 1, 40, 60, 60)], ids=["one", "slabs"])
def test_diffusion_has_value_and_gradients_of_its_formula(shape):
    torch.manual_seed(0)
    drawn = [torch.randn(shape), torch.randn(4, 1, 3, 3, 3) / 5]
    drawn += [torch.randn(1, 4, 1, 1, 1) for _ in range(3)]
    drawn += [torch.rand(1, 4, 1, 1, 1) + 0.5 for _ in range(2)]
    # float64 goes the plain way
    wanted = value_and_gradients(diffuse, *(x.double() for x in drawn))
    for ours, plain in zip(value_and_gradients(diffuse, *drawn), wanted, strict=True):
        assert torch.allclose(ours.double(), plain, rtol=1e-4, atol=1e-4 * float(plain.std()))
    x, k, a, b, c, s, t = (x.double() for x in drawn)
    z = functional.conv3d(x, k)
    f = a * z + b * torch.tanh(s * z) + c * z * torch.exp(-t * z**2 / 2)
    # the sum over filters of k^T * f is the slope of <k * x, f> by x, without its margin
    x.requires_grad_()
    (slope,) = torch.autograd.grad((functional.conv3d(x, k) * f).sum(), x)
    assert torch.allclose(wanted[0], slope[..., 2:-2, 2:-2, 2:-2])

"""The quick way of a filter's influence has the value and the slopes of its formula."""

import pytest
import torch

from cryoetgan.translation.residual.activation import influence


@pytest.mark.parametrize("shape", [(1, 3, 4, 5, 6), (3, 2, 5, 4, 3)])
def test_volume_by_volume_it_is_the_formula(shape):
    torch.manual_seed(0)
    drawn = [torch.randn(shape), *(torch.randn(1, shape[1], 1, 1, 1) for _ in range(3))]
    drawn += [torch.rand(1, shape[1], 1, 1, 1) + 0.5 for _ in range(2)]
    weights = torch.randn(shape)
    found = []
    for kind in (torch.float32, torch.float64):  # float64 goes the plain way
        inputs = [x.to(kind).clone().requires_grad_() for x in drawn]
        value = influence(*inputs)
        (value * weights.to(kind)).sum().backward()
        found.append([value.detach(), *(x.grad for x in inputs)])
    for quick, plain in zip(*found, strict=True):
        assert torch.allclose(quick.double(), plain, rtol=1e-4, atol=1e-5)
    z, a, b, c, s, t = (x.double() for x in drawn)
    wanted = a * z + b * torch.tanh(s * z) + c * z * torch.exp(-t * z**2 / 2)
    assert torch.allclose(found[1][0], wanted)

"""Quick filtering is torch's convolution and its transpose, values and slopes."""

import pytest
import torch
from torch.nn import functional

from cryoetgan.translation.residual.filters import answered, put_back


def there_and_down(function, *inputs):
    """Return the value of a function, and the slopes of a fixed mixture of its voxels."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    value = function(*inputs)
    weights = torch.linspace(-1, 1, value.numel(), dtype=value.dtype).reshape(value.shape)
    (value * weights.sin()).sum().backward()
    return [value.detach(), *(x.grad for x in inputs)]


@pytest.mark.parametrize(("shape", "edge"), [((2, 1, 7, 8, 9), 3), ((1, 1, 6, 6, 6), 2)])
def test_it_is_the_convolution_and_its_transpose(shape, edge):
    torch.manual_seed(0)
    volumes, kernels = torch.randn(shape), torch.randn(4, 1, edge, edge, edge)
    answers = torch.randn(shape[0], 4, *shape[2:])
    ways = (
        (answered, functional.conv3d, (volumes, kernels)),
        (
            put_back,
            lambda a, k: functional.conv_transpose3d(a, k, padding=edge - 1),
            (answers, kernels),
        ),
    )
    for quick, plain, inputs in ways:
        exact = there_and_down(plain, *(x.double() for x in inputs))
        for ours, wanted in zip(there_and_down(quick, *inputs), exact, strict=True):
            assert torch.allclose(ours.double(), wanted, rtol=1e-4, atol=1e-4)
        # other kinds of numbers go torch's own way
        assert torch.equal(quick(*(x.double() for x in inputs)), exact[0])


def test_one_is_the_transpose_of_the_other():
    """<k * x, a> = <x, k^T a> where a is zero at the faces."""
    torch.manual_seed(0)
    x, kernels = torch.randn(1, 1, 12, 12, 12), torch.randn(3, 1, 3, 3, 3)
    a = torch.zeros(1, 3, 10, 10, 10)
    a[..., 2:-2, 2:-2, 2:-2] = torch.randn(1, 3, 6, 6, 6)
    left = (answered(x, kernels) * a).sum()
    right = (x[..., 2:-2, 2:-2, 2:-2] * put_back(a, kernels)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-4, abs=1e-3)

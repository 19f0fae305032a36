"""The residual networks: the simulation at step 0, and a receptive radius."""

import math

import pytest
import torch

from cryoetgan.translation.residual.networks import DiffusionStep, ResidualGenerator
from tests.translation.helpers import changed_generator


def test_the_untrained_generator_is_the_simulation():
    u, n = torch.randn(2, 1, 12, 12, 12), torch.randn(2, 1, 12, 12, 12)
    assert torch.equal(ResidualGenerator()(u, n), u + n)


def test_only_the_sum_of_signal_and_noise_matters():
    torch.manual_seed(0)
    generator = changed_generator()
    generator.log_contrast.fill_(math.log(1.2))
    u, n, other = torch.randn(3, 1, 1, 10, 10, 10)
    made = generator(u, n)
    assert torch.allclose(generator(u + other, n - 1.2 * other), made, atol=1e-5)
    assert not torch.allclose(made, u + n, atol=0.1)


@pytest.mark.parametrize("diffusion_steps", [1, 4])
def test_a_voxel_depends_on_its_receptive_radius(diffusion_steps):
    torch.manual_seed(0)
    generator = changed_generator(diffusion_steps)
    x = torch.randn(1, 1, 31, 7, 7, requires_grad=True)
    generator(x, torch.zeros_like(x))[0, 0, 15, 3, 3].backward()
    reached = torch.nonzero(x.grad[0, 0].abs().amax(dim=(1, 2)) > 0).flatten()
    radius = generator.radius()
    assert (int(reached.min()), int(reached.max())) == (15 - radius, 15 + radius)


def test_a_diffusion_step_lowers_total_variation():
    """Filters that take differences, with a bounded influence function, lower total variation."""
    torch.manual_seed(0)
    step = DiffusionStep(3)
    with torch.no_grad():
        step.kernels.zero_()
        for axis in range(3):
            place = [1, 1, 1]
            step.kernels[axis, 0, 1, 1, 1] = -1
            place[axis] = 2
            step.kernels[axis, 0][tuple(place)] = 1
        step.bounded.fill_(0.05)
    step.requires_grad_(False)
    x = torch.randn(1, 1, 16, 16, 16)
    before = [torch.diff(x, dim=axis).abs().mean() for axis in (2, 3, 4)]
    after = [torch.diff(step(x), dim=axis).abs().mean() for axis in (2, 3, 4)]
    assert all(b < 0.95 * a for a, b in zip(before, after, strict=True))
    # the sum is kept if the edges are empty
    inside = torch.zeros(1, 1, 16, 16, 16)
    inside[..., 4:12, 4:12, 4:12] = x[..., 4:12, 4:12, 4:12]
    assert float(step(inside).sum() - inside.sum()) == pytest.approx(0, abs=1e-3)

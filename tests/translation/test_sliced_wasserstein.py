"""The distance of patches compares distributions: positions do not matter."""

import pytest
import torch

from cryoetgan.translation.cyclegan import losses
from cryoetgan.translation.engine.losses import DILATIONS, patch_distance, signal_cosine_distance


def distance(generated, real, seed=0, max_patches=8192):
    torch.manual_seed(seed)
    return float(patch_distance(generated, real, max_patches).detach())


@pytest.fixture
def noise():
    torch.manual_seed(3)
    return torch.randn(4, 1, 14, 14, 14)


def test_the_same_patches_in_any_order_have_distance_0(noise):
    # all patches are compared, so that only their order differs
    assert distance(noise, noise, max_patches=10**6) == 0
    assert distance(noise[[2, 0, 3, 1]], noise, max_patches=10**6) == pytest.approx(0, abs=1e-10)


def test_scaled_volumes_have_the_distance_of_scaled_responses(noise):
    """Answers of c x are c times those of x: (c - 1)^2 of their mean square, over the variance."""
    for factor in (0.5, 1.5, 3.0):
        found = distance(factor * noise, noise, max_patches=10**6)
        assert found == pytest.approx((factor - 1) ** 2, rel=0.02)


def test_draws_of_one_process_are_close_and_smoothed_ones_are_not(noise):
    torch.manual_seed(4)
    other = torch.randn_like(noise)
    smooth = torch.nn.functional.avg_pool3d(other, 3, 1, 1)
    smooth = smooth * noise.std() / smooth.std()
    assert distance(other, noise) < 0.01
    assert distance(smooth, noise) > 4 * distance(other, noise)


def test_only_patches_of_the_filters_size_matter():
    """Volumes that differ only in what lies farther apart than the widest field are alike."""
    edge = 2 * max(DILATIONS) + 1
    torch.manual_seed(0)
    tile = torch.randn(1, 1, edge, edge, edge)
    rolled = torch.roll(tile, (3, 3, 3), (2, 3, 4))
    # periodic volumes have the same patches wherever they begin
    a, b = (x.repeat(1, 1, 4, 4, 4) for x in (tile, rolled))
    assert distance(a, b) < 0.02


def test_gradients_reach_the_generated_volumes_alone(noise):
    made, real = noise.clone().requires_grad_(), noise.clone().requires_grad_()
    torch.manual_seed(0)
    patch_distance(2 * made, real).backward()
    assert made.grad is not None
    assert real.grad is None
    # downhill is quieter
    assert float((made.grad * made.detach()).sum()) > 0


def test_the_signal_cosine_ignores_the_noise_and_depends_on_position():
    torch.manual_seed(0)
    u = losses.lowpass(torch.randn(2, 1, 16, 16, 16), 1.5)
    n = torch.randn_like(u)
    plus, minus = 3 * u + 5 * n + 1, 3 * u - 5 * n + 1
    assert float(signal_cosine_distance((plus + minus) / 2, u)) == pytest.approx(0, abs=1e-5)
    assert float(signal_cosine_distance(-u, u)) == pytest.approx(2, abs=1e-5)
    assert float(signal_cosine_distance(torch.roll(u, 4, -1), u)) > 0.5
    # a scene without particles has no direction: no gradient
    flat = torch.zeros_like(u)
    made = u.clone().requires_grad_()
    signal_cosine_distance(made, flat).backward()
    assert float(made.grad.abs().max()) == 0

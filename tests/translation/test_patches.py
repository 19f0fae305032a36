"""Patches: the distance is one between distributions, whatever lies where."""

import pytest
import torch

from cryoetgan.translation.engine.patches import DILATIONS, patch_distance


def distance(made, real, seed=0):
    torch.manual_seed(seed)
    return float(patch_distance(made, real).detach())


@pytest.fixture
def noise():
    torch.manual_seed(3)
    return torch.randn(4, 1, 14, 14, 14)


def test_the_same_patches_in_any_order_are_at_no_distance(noise, monkeypatch):
    # all places are compared, so that only their order differs
    monkeypatch.setattr("cryoetgan.translation.engine.patches.PLACES", 10**6)
    assert distance(noise, noise) == 0
    assert distance(noise[[2, 0, 3, 1]], noise) == pytest.approx(0, abs=1e-10)


def test_louder_volumes_are_as_far_as_their_answers_are_stretched(noise, monkeypatch):
    """Answers of c x are c times those of x: (c - 1)^2 of their mean square, over the variance."""
    monkeypatch.setattr("cryoetgan.translation.engine.patches.PLACES", 10**6)
    for factor in (0.5, 1.5, 3.0):
        found = distance(factor * noise, noise)
        assert found == pytest.approx((factor - 1) ** 2, rel=0.02)


def test_two_draws_of_one_process_are_close_and_another_colour_is_not(noise):
    torch.manual_seed(4)
    other = torch.randn_like(noise)
    smooth = torch.nn.functional.avg_pool3d(other, 3, 1, 1)
    smooth = smooth * noise.std() / smooth.std()
    assert distance(other, noise) < 0.01
    assert distance(smooth, noise) > 4 * distance(other, noise)


def test_it_sees_no_farther_than_its_filters():
    """Volumes that differ only in what lies farther apart than the widest field are alike."""
    edge = 2 * max(DILATIONS) + 1
    torch.manual_seed(0)
    tile = torch.randn(1, 1, edge, edge, edge)
    rolled = torch.roll(tile, (3, 3, 3), (2, 3, 4))
    # periodic volumes have the same patches wherever they begin
    a, b = (x.repeat(1, 1, 4, 4, 4) for x in (tile, rolled))
    assert distance(a, b) < 0.02


def test_gradients_reach_what_is_made_alone(noise):
    made, real = noise.clone().requires_grad_(), noise.clone().requires_grad_()
    torch.manual_seed(0)
    patch_distance(2 * made, real).backward()
    assert made.grad is not None
    assert real.grad is None
    # downhill is quieter
    assert float((made.grad * made.detach()).sum()) > 0

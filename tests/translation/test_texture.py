"""Texture and spectrum: distances between distributions, blind to where anything lies."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from cryoetgan.translation.residual import texture
from cryoetgan.translation.residual.texture import (
    ANGLES,
    Spectrum,
    spectrum_bins,
    standardised,
    texture_distance,
)


def distance(made, real, seed=0):
    torch.manual_seed(seed)
    return texture_distance(made, real).detach()


@pytest.fixture
def noise():
    torch.manual_seed(3)
    return standardised(torch.randn(6, 1, 14, 14, 14))


@pytest.fixture
def whole(monkeypatch):
    """All places are compared, so that only their order differs."""
    monkeypatch.setattr(texture, "PLACES", 10**6)
    monkeypatch.setattr(texture, "STRENGTHS", 10**6)


def flattened(x, steps=20):
    """Return volumes as a denoiser leaves them: the same seams, flats between."""
    for _ in range(steps):
        grown = functional.pad(x, (1,) * 6, mode="replicate")
        x = torch.stack(
            [torch.roll(grown, d, a)[..., 1:-1, 1:-1, 1:-1] for a in (2, 3, 4) for d in (-1, 1)]
            + [x]
        ).median(dim=0)[0]
    return standardised(x)


def test_standardised_volumes_have_mean_0_and_sd_1_and_an_empty_one_stays_empty():
    made = standardised(
        torch.stack([5 + 3 * torch.randn(1, 9, 9, 9), torch.full((1, 9, 9, 9), 7.0)])
    )
    assert made.mean(dim=(1, 2, 3, 4)).abs().max() < 1e-5
    assert float(made[0].std(correction=0)) == pytest.approx(1, abs=1e-3)
    assert made[1].abs().max() < 1e-2


def test_the_same_patches_in_any_order_are_at_no_distance(noise, whole):
    assert float(distance(noise, noise).max()) < 1e-9
    assert float(distance(noise[[2, 0, 3, 1, 5, 4]], noise).max()) < 1e-9


def test_two_draws_of_one_process_are_close_and_flats_are_not(noise):
    torch.manual_seed(4)
    other = standardised(torch.randn_like(noise))
    close = distance(other, noise)
    assert float(close.max()) < 0.1
    seen = distance(flattened(other), noise)
    assert (seen > 4 * close).all()


def test_a_bent_grey_scale_is_seen_in_the_voxels(noise):
    bent = standardised(torch.tanh(1.5 * noise))
    assert float(distance(bent, noise)[0]) > 10 * float(distance(noise.flip(2), noise)[0])


def test_gradients_reach_what_is_made_alone(noise):
    made, real = flattened(noise, 1).requires_grad_(), noise.clone().requires_grad_()
    torch.manual_seed(0)
    texture_distance(made, real).sum().backward()
    assert real.grad is None
    # downhill is nearer
    with torch.no_grad():
        lower = made - 0.05 * made.grad / made.grad.std()
    assert float(distance(lower, noise).sum()) < float(distance(made, noise).sum())


def test_filters_see_no_mean_but_one_in_four():
    torch.manual_seed(0)
    for filters, free in ((texture._always(), slice(None)), (texture._random(16), slice(0, 3))):
        size = filters.flatten(1).norm(dim=1)
        assert torch.allclose(size, torch.ones_like(size), atol=1e-5)
        assert filters[free].sum(dim=(1, 2, 3, 4)).abs().max() < 1e-5
    first, second = torch.arange(5.0), torch.arange(5.0) ** 2
    ramp, bowl = (x.reshape(1, 1, 5, 1, 1).expand(1, 1, 5, 5, 5) for x in (first, second))
    along = functional.conv3d(ramp, texture._always())[0, :, 0, 0, 0]
    assert torch.allclose(along[:1], torch.tensor([1 / 2**0.5]))
    assert along[1:].abs().max() < 1e-6
    assert float(functional.conv3d(bowl, texture._always())[0, 3, 0, 0, 0]) == pytest.approx(
        2 / 6**0.5
    )


def test_waves_fall_into_the_bins_of_their_radius_and_angle_to_the_beam():
    box = 16
    index, count = spectrum_bins(box)
    assert index.shape == (16, 16, 9)
    assert count == 8 * ANGLES
    z = torch.cos(2 * torch.pi * 3 * torch.arange(16.0) / 16)
    for axis, part in ((0, 0), (1, ANGLES - 1), (2, ANGLES - 1)):
        shape = [1, 1, 1]
        shape[axis] = 16
        wave = z.reshape(shape).expand(16, 16, 16)
        power = torch.fft.rfftn(wave).abs().square()
        assert int(index.flatten()[power.flatten().argmax()]) == 2 * ANGLES + part
    assert int(index[0, 0, 0]) == -1


def test_the_spectrum_sees_power_alone():
    torch.manual_seed(0)
    real = torch.randn(30, 1, 12, 12, 12)
    spectrum = Spectrum(real)
    x = torch.randn(2, 1, 12, 12, 12)
    power = spectrum.log_power(x)
    assert torch.allclose(spectrum.log_power(-x + 3), power, atol=1e-4)
    louder = spectrum.log_power(2 * x) - power
    assert torch.allclose(louder, torch.full_like(louder, np.log(4)), atol=1e-4)
    assert float(spectrum(real)[0]) == pytest.approx(0, abs=1e-8)
    wanted = (np.log(4) / spectrum.spread).square().mean()
    assert float(spectrum(2 * real)[0]) == pytest.approx(float(wanted), rel=1e-3)


def test_the_spectrums_gradient_is_that_of_the_running_mean():
    torch.manual_seed(0)
    real = torch.randn(30, 1, 12, 12, 12)
    spectrum = Spectrum(real)
    loud = (1.5 * torch.randn(4, 1, 12, 12, 12)).requires_grad_()
    first, away = spectrum(loud)
    spectrum.remember(away)
    first.backward()
    # downhill is quieter
    assert float((loud.grad * loud.detach()).sum()) > 0
    for _ in range(60):
        last, away = spectrum(torch.randn(8, 1, 12, 12, 12))
        spectrum.remember(away)
    assert float(last) < 0.05 * float(first.detach())
    # only what was seen goes into a checkpoint: the rest follows from the real volumes
    assert list(spectrum.state_dict()) == ["seen"]


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("edge", [5, 8, 9, 16])
def test_few_small_boxes_still_give_numbers_of_a_sensible_size(count, edge):
    torch.manual_seed(0)
    made, real = (standardised(torch.randn(9, 1, edge, edge, edge)) for _ in range(2))
    parts = distance(made, real[:count])
    assert torch.isfinite(parts).all()
    assert float(parts.max()) < 200
    assert float(Spectrum(real[:count])(made)[0]) < 10

"""Texture and spectrum: distances between distributions; positions do not matter."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from cryoetgan.translation.residual.losses import (
    ANGLE_BINS,
    PowerSpectrum,
    derivative_filters,
    random_filters,
    spectrum_bins,
    standardise,
    texture_distance,
)

ALL = 10**6
"""All patches and strengths are compared, so that only their order differs."""


def distance(generated, real, seed=0, count=ALL):
    torch.manual_seed(seed)
    return texture_distance(generated, real, count, count).detach()


@pytest.fixture
def noise():
    torch.manual_seed(3)
    return standardise(torch.randn(6, 1, 14, 14, 14))


def flatten(x, steps=20):
    """Return denoised volumes: their edges are kept, flat regions lie between."""
    for _ in range(steps):
        grown = functional.pad(x, (1,) * 6, mode="replicate")
        x = torch.stack(
            [torch.roll(grown, d, a)[..., 1:-1, 1:-1, 1:-1] for a in (2, 3, 4) for d in (-1, 1)]
            + [x]
        ).median(dim=0)[0]
    return standardise(x)


def test_standardised_volumes_have_mean_0_and_sd_1_and_an_empty_one_stays_empty():
    made = standardise(
        torch.stack([5 + 3 * torch.randn(1, 9, 9, 9), torch.full((1, 9, 9, 9), 7.0)])
    )
    assert made.mean(dim=(1, 2, 3, 4)).abs().max() < 1e-5
    assert float(made[0].std(correction=0)) == pytest.approx(1, abs=1e-3)
    assert made[1].abs().max() < 1e-2


def test_the_same_patches_in_any_order_have_distance_0(noise):
    assert float(distance(noise, noise).max()) < 1e-9
    assert float(distance(noise[[2, 0, 3, 1, 5, 4]], noise).max()) < 1e-9


def test_draws_of_one_process_are_close_and_denoised_ones_are_not(noise):
    torch.manual_seed(4)
    other = standardise(torch.randn_like(noise))
    close = distance(other, noise)
    assert float(close.max()) < 0.1
    seen = distance(flatten(other), noise)
    assert (seen > 4 * close).all()


def test_another_grey_scale_changes_the_distance_of_voxels(noise):
    bent = standardise(torch.tanh(1.5 * noise))
    assert float(distance(bent, noise)[0]) > 10 * float(distance(noise.flip(2), noise)[0])


def test_gradients_reach_the_generated_volumes_alone(noise):
    made, real = flatten(noise, 1).requires_grad_(), noise.clone().requires_grad_()
    torch.manual_seed(0)
    texture_distance(made, real).sum().backward()
    assert real.grad is None
    # downhill is nearer
    with torch.no_grad():
        lower = made - 0.05 * made.grad / made.grad.std()
    assert float(distance(lower, noise).sum()) < float(distance(made, noise).sum())


def test_one_filter_in_four_has_a_mean():
    torch.manual_seed(0)
    for filters, free in ((derivative_filters(), slice(None)), (random_filters(16), slice(0, 3))):
        size = filters.flatten(1).norm(dim=1)
        assert torch.allclose(size, torch.ones_like(size), atol=1e-5)
        assert filters[free].sum(dim=(1, 2, 3, 4)).abs().max() < 1e-5
    first, second = torch.arange(5.0), torch.arange(5.0) ** 2
    ramp, bowl = (x.reshape(1, 1, 5, 1, 1).expand(1, 1, 5, 5, 5) for x in (first, second))
    along = functional.conv3d(ramp, derivative_filters())[0, :, 0, 0, 0]
    assert torch.allclose(along[:1], torch.tensor([1 / 2**0.5]))
    assert along[1:].abs().max() < 1e-6
    assert float(functional.conv3d(bowl, derivative_filters())[0, 3, 0, 0, 0]) == pytest.approx(
        2 / 6**0.5
    )


def test_waves_fall_into_the_bins_of_their_radius_and_angle_to_the_beam():
    box = 16
    index, count = spectrum_bins(box)
    assert index.shape == (16, 16, 9)
    assert count == 8 * ANGLE_BINS
    z = torch.cos(2 * torch.pi * 3 * torch.arange(16.0) / 16)
    for axis, part in ((0, 0), (1, ANGLE_BINS - 1), (2, ANGLE_BINS - 1)):
        shape = [1, 1, 1]
        shape[axis] = 16
        wave = z.reshape(shape).expand(16, 16, 16)
        power = torch.fft.rfftn(wave).abs().square()
        assert int(index.flatten()[power.flatten().argmax()]) == 2 * ANGLE_BINS + part
    assert int(index[0, 0, 0]) == -1


def test_the_spectrum_depends_on_power_alone():
    torch.manual_seed(0)
    real = torch.randn(30, 1, 12, 12, 12)
    spectrum = PowerSpectrum(real)
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
    spectrum = PowerSpectrum(real)
    loud = (1.5 * torch.randn(4, 1, 12, 12, 12)).requires_grad_()
    first, away = spectrum(loud)
    spectrum.update(away)
    first.backward()
    # downhill is quieter
    assert float((loud.grad * loud.detach()).sum()) > 0
    for _ in range(60):
        last, away = spectrum(torch.randn(8, 1, 12, 12, 12))
        spectrum.update(away)
    assert float(last) < 0.05 * float(first.detach())
    # only what was seen goes into a checkpoint: the rest follows from the real volumes
    assert list(spectrum.state_dict()) == ["seen"]


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("edge", [5, 8, 9, 16])
def test_few_small_boxes_give_finite_distances(count, edge):
    torch.manual_seed(0)
    made, real = (standardise(torch.randn(9, 1, edge, edge, edge)) for _ in range(2))
    parts = distance(made, real[:count])
    assert torch.isfinite(parts).all()
    assert float(parts.max()) < 200
    assert float(PowerSpectrum(real[:count])(made)[0]) < 10

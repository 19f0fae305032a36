"""What is planted is seen: a shift, a neighbour far off; what is right gives nought."""

import pytest
import torch

from cryoetgan.translation.cyclegan.diagnostics import FAR, centre_drift, far_mean


@pytest.fixture
def densities():
    numbers = torch.Generator().manual_seed(1)
    return torch.nn.functional.avg_pool3d(torch.rand(6, 1, 20, 22, 24, generator=numbers), 3, 1, 1)


def test_drift_is_the_shift_whatever_contrast_and_noise_do(densities):
    noise = torch.randn(densities.shape, generator=torch.Generator().manual_seed(2))
    for shift in ((0, 0, 0), (1, 0, -2), (-3, 2, 1)):
        moved = 0.3 * torch.roll(densities, shift, (-3, -2, -1)) + 0.02 * noise - 5
        length = sum(s**2 for s in shift) ** 0.5
        assert float(centre_drift(moved, densities)) == pytest.approx(length)


def test_far_is_beyond_the_particle_alone():
    volumes = torch.zeros(2, 1, 20, 20, 20)
    volumes[..., 6:15, 6:15, 6:15] = 7.0
    assert far_mean(volumes) == 0
    volumes[..., 0:4, 0:4, 0:4] = 2.0
    z, y, x = torch.meshgrid(*[torch.arange(20) - 10] * 3, indexing="ij")
    share = 64 / int((z**2 + y**2 + x**2 > (20 * FAR) ** 2).sum())
    assert float(far_mean(volumes)) == pytest.approx(2 * share)

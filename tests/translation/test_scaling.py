"""One scale a domain, estimated from all parts of the boxes."""

import pytest
import torch

from cryoetgan.translation.engine import scaling


@pytest.mark.parametrize("edge", [8, 12, 15])
def test_the_scale_does_not_depend_on_the_number_of_volumes(edge):
    """A step of one edge, or a part of it, once sampled the boxes' faces alone: all empty."""
    axis = torch.arange(edge) - edge // 2
    ball = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2) < 9
    one = ball.float()[None, None]
    spread = one.std()
    for count in range(4, 4 * 2 * edge + 1):
        volumes = one.expand(count, -1, -1, -1, -1).contiguous()
        assert scaling.fit_density_scaler(volumes, 4 * edge**3).scale == pytest.approx(1)
        assert scaling.fit_sd_scaler(volumes, 4 * edge**3).scale == pytest.approx(
            float(spread), rel=0.1
        )
        assert scaling.fit_subtomogram_scaler(volumes, 1.0, 4 * edge**3).offset == pytest.approx(
            float(one.mean()), rel=0.2
        )


def test_one_scale_for_all_volumes_and_back():
    s = torch.randn(20, 1, 8, 8, 8) * 5 + 2
    scaler = scaling.fit_subtomogram_scaler(s, 3.0)
    inside = scaler.forward(s).abs() < 1
    assert torch.allclose(scaler.backward(scaler.forward(s))[inside], s[inside], atol=1e-5)
    assert scaler.forward(s).abs().max() == 1
    d = torch.rand(20, 1, 8, 8, 8)
    d[:10] *= 0.1  # light particles stay lighter
    scaled = scaling.fit_density_scaler(d).forward(d)
    assert scaled[:10].mean() < 0.2 * scaled[10:].mean()


def test_scaling_by_volume_removes_mass_and_zscores_are_not_cut():
    d, s = torch.rand(6, 1, 8, 8, 8), torch.randn(6, 1, 8, 8, 8)
    s[:3] *= 5
    _, own = scaling.fit_scalers(d, s, "volume", 3.0)
    spread = own.forward(s).std(dim=(1, 2, 3, 4))
    assert spread.max() < 1.1 * spread.min()
    _, domain = scaling.fit_scalers(d, s, "domain", 3.0)
    assert domain.forward(s)[:3].std() > 3 * domain.forward(s)[3:].std()
    scaled = scaling.fit_scalers(d, s, "zscore", 3.0)[0].forward(d)
    assert (scaled.mean().abs() < 1e-4) & (scaled.std() - 1 < 1e-3)
    assert scaled.abs().max() > 1  # beyond what a tanh reaches
    d_scaler, s_scaler = scaling.fit_scalers(d, s, "sd", 3.0)
    assert d_scaler.offset == 0  # empty space stays 0
    dense = float(d.quantile(0.999) / d.std())
    assert d_scaler.forward(9 * d).max() == pytest.approx(dense, rel=1e-2)
    for scaler, volumes in ((d_scaler, d), (s_scaler, s)):
        assert scaler.forward(volumes).std() == pytest.approx(1, rel=1e-3)
    assert s_scaler.forward(s).abs().max() > 3

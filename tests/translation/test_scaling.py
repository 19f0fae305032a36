"""One scale a domain: of all places of the boxes, whatever their number."""

import pytest
import torch

from cryoetgan.translation.engine import scaling


@pytest.mark.parametrize("edge", [8, 12, 15])
def test_the_scale_does_not_depend_on_how_many_volumes_there_are(monkeypatch, edge):
    """A step of one edge, or a part of it, once sampled the boxes' faces alone: all empty."""
    axis = torch.arange(edge) - edge // 2
    ball = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2) < 9
    one = ball.float()[None, None]
    monkeypatch.setattr(scaling, "SAMPLE", 4 * edge**3)
    spread = one.std()
    for count in range(4, 4 * 2 * edge + 1):
        volumes = one.expand(count, -1, -1, -1, -1).contiguous()
        assert scaling.fit_density(volumes).scale == pytest.approx(1)
        assert scaling.fit_plain(volumes).scale == pytest.approx(float(spread), rel=0.1)
        assert scaling.fit_subtomogram(volumes, 1.0).offset == pytest.approx(
            float(one.mean()), rel=0.2
        )


def test_scaled_and_back_nothing_is_lost():
    volumes = torch.rand(3, 1, 8, 8, 8) * 5
    found = scaling.fit_plain(volumes)
    assert torch.allclose(found.backward(found.forward(volumes)), volumes, atol=1e-5)

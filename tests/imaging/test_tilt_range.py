"""The tilt range in a spectrum, beside the typed one."""

import numpy as np
import pytest
from scipy import fft

from cryoetgan.imaging.fit.tilt_range import check_tilt_range, find_tilt_range
from cryoetgan.physics.optics import missing_wedge


def seen_through(tilts, shape, seed=0):
    noise = np.random.default_rng(seed).normal(size=shape)
    return fft.irfftn(fft.rfftn(noise) * missing_wedge(shape, tilts), shape).astype(np.float32)


@pytest.mark.parametrize("tilts", [(-60, 60), (-45, 45), (-40, 60)])
@pytest.mark.parametrize("shape", [(96, 96, 96), (40, 96, 96)])
def test_the_range_is_found(tilts, shape):
    found = check_tilt_range(seen_through(tilts, shape), tilts, 0)
    assert found["seen"] == pytest.approx(tilts, abs=5)
    assert found["warning"] is None
    wrong = check_tilt_range(seen_through(tilts, shape), (-60, 30), 0)
    assert wrong["seen"] == found["seen"]
    assert "-60 to 30 degrees" in wrong["warning"]
    assert "tilt_low" in wrong["warning"]


def test_a_full_spectrum_has_no_wedge(rng):
    volume = rng.normal(size=(64, 64, 64)).astype(np.float32)
    found = check_tilt_range(volume, (-60, 60), 0)
    assert found["seen"] is None
    assert "no missing wedge" in found["warning"]
    assert check_tilt_range(volume, (-90, 90), 0)["warning"] is None


def test_edges_lie_where_power_falls_to_half():
    angles = np.arange(-88.0, 90, 4)
    power = np.interp(angles, [-50, -46, 60, 64], [0, 1, 1, 0])
    low, high = find_tilt_range(angles, power)
    assert low == pytest.approx(-48, abs=1.5)
    assert high == pytest.approx(62, abs=1.5)


def sloped(edge: float, angles: np.ndarray) -> np.ndarray:
    """Power that falls fourfold to 60 degrees, as in a thick sample, and ends at an edge."""
    smooth = np.exp(-np.abs(angles) / 60 * np.log(4))
    return smooth / (1 + np.exp((np.abs(angles) - edge) / 0.7)) + 0.001


@pytest.mark.parametrize("edge", [45, 60])
def test_a_smooth_loss_of_power_is_no_edge(edge):
    angles = np.arange(-89.0, 90, 2)
    assert find_tilt_range(angles, sloped(edge, angles)) == pytest.approx((-edge, edge), abs=2)
    assert find_tilt_range(angles, sloped(200, angles)) is None


def test_a_wrong_tilt_axis_is_warned_of():
    turned = np.swapaxes(seen_through((-60, 60), (96, 96, 96)), 1, 2)
    assert "does not lie along y" in check_tilt_range(turned, (-60, 60), 0)["warning"]

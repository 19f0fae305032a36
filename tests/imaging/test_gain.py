"""Gain and surroundings: regressions that other density does not bias."""

import numpy as np
import pytest
from scipy import fft

from cryoetgan.imaging.fit.gain import (
    KNOT_SHELLS,
    PowerBins,
    constant_gain,
    fit_gain,
    fit_surroundings,
    reduce_noise,
)
from cryoetgan.imaging.model import EnvelopeGain, crop_centre, surroundings_filter
from tests.imaging.conftest import BOX, TILTS, VOXEL


@pytest.fixture
def bins() -> PowerBins:
    return PowerBins.for_box(BOX, TILTS)


def test_density_beside_the_signal_changes_the_power_but_not_the_regression(bins, rng):
    signals = rng.normal(size=(400, BOX, BOX, BOX))
    boxes = 0.5 * signals + rng.normal(size=signals.shape)
    product, error, square = bins.regress(zip(boxes, signals, strict=True))
    factor = (product / np.maximum(square, 1e-9))[:, 2:]
    assert factor == pytest.approx(np.full_like(factor, 0.5), abs=0.08)
    assert ((factor - 0.5) / (error / np.maximum(square, 1e-9))[:, 2:]).std() == pytest.approx(
        1, abs=0.4
    )
    # by power, the density would be given to the signal: sqrt(0.25 + 1)
    gained = np.sqrt(bins.power(boxes)[0] / np.maximum(bins.power(signals)[0], 1e-9))[:, 2:]
    assert gained.mean() == pytest.approx(np.sqrt(1.25), abs=0.05)
    before = constant_gain(TILTS, BOX, VOXEL)
    fitted = fit_gain(before, product, error, np.zeros(bins.shape), square, exponent=1)
    assert fitted.values[:, 1:4] == pytest.approx(0.5, abs=0.05)


def test_surroundings_have_the_residual_power(bins, rng):
    k = np.arange(9)
    wanted = EnvelopeGain(np.tile(2 * np.exp(-k / 2.0), (3, 1)), 1 / (BOX * VOXEL), 60.0)
    applied = surroundings_filter((2 * BOX,) * 3, VOXEL, wanted, TILTS)
    white = rng.normal(size=(300, *(2 * BOX,) * 3))
    boxes = [
        crop_centre(fft.irfftn(fft.rfftn(noise) * applied, noise.shape), BOX) for noise in white
    ]
    power, _ = bins.power(boxes)
    expected = bins.expected_power(applied)
    assert (power / np.maximum(expected, 1e-12))[:, 2:] == pytest.approx(1, abs=0.15)
    found = fit_surroundings(bins, power, VOXEL, TILTS)
    again = bins.expected_power(surroundings_filter((2 * BOX,) * 3, VOXEL, found, TILTS))
    assert again[:, 2:] == pytest.approx(power[:, 2:], rel=0.08)
    none = fit_surroundings(bins, -power, VOXEL, TILTS)
    assert np.all(none.values == 0)


def test_negative_power_is_subtracted_from_the_rest_of_its_shell(bins, rng):
    power = rng.normal(1.0, 2.0, bins.shape)
    found = bins.clip_by_shell(power)
    assert np.all(found >= 0)
    assert np.all(found[power < 0] == 0)
    wanted = np.maximum(bins.average_angles(power), 0)
    assert bins.average_angles(found) == pytest.approx(wanted)
    assert (bins.average_angles(np.maximum(power, 0)) > wanted + 0.1).any()


def test_noise_is_reduced_to_the_power_that_is_left(known):
    bins = PowerBins.for_box(BOX, TILTS, 30.0, wedge=True)
    noise, shape = known.noise_spectrum, (2 * BOX,) * 3
    k, size = np.arange(1, BOX // 2 + 1) / (BOX * VOXEL), bins.modes()[:, 1:] > 0

    def power(spectrum):
        # the mean of a box is removed: less power than expected in the lowest shells
        removed = np.r_[1.0, 0.7, 0.9, np.ones(bins.shape[1] - 3)]
        return removed * bins.expected_power(spectrum.noise_filter(shape, VOXEL))

    def check(wanted):
        lower = noise.scale(k, wanted)
        found = reduce_noise(bins, noise, power(noise), power(lower), VOXEL)
        left = power(found)[:, 1:] / power(lower)[:, 1:]
        assert left[size] == pytest.approx(1, abs=0.08)

    same = reduce_noise(bins, noise, power(noise), power(noise), VOXEL)
    assert same.seen == pytest.approx(noise.seen)
    assert same.unseen == pytest.approx(noise.unseen)
    rows, step = np.ones((bins.shape[0], 1)), 1 / (BOX * VOXEL)
    check(rows * np.where(k < 2.5 * step, 0.4, 1.0))
    # a denoised tomogram: the measured noise exceeds the power far more at high frequencies
    check(rows * np.where(k > 5.5 * step, 0.04, 1.0))
    # a filter that depends on the tilt: much less power at high tilts and in the wedge
    check(np.array([[1.0], [0.2], [0.1]]) * np.ones(len(k)))
    more = reduce_noise(bins, noise, power(noise), 2 * power(noise), VOXEL)
    assert more.seen == pytest.approx(noise.seen)


@pytest.mark.parametrize("fall", [0.3, 0.6])
def test_a_gain_that_falls_steeply_is_found(bins, fall):
    """A denoiser leaves little of the high frequencies: the low ones may not hide the others."""
    shells = np.arange(bins.shape[1])
    true = np.tile(np.exp(-fall * shells), (bins.shape[0], 1))
    gain = constant_gain(TILTS, BOX, VOXEL)
    for _ in range(4):
        k = np.broadcast_to(shells / (BOX * VOXEL), bins.shape)
        angle = (np.arange(bins.shape[0])[:, None] + 0.5) / bins.shape[0] * gain.max_tilt
        now = gain.interpolate(k, angle)
        product, none = true * now, np.zeros(bins.shape)
        gain = fit_gain(gain, product, 0.03 * product, none, now**2, exponent=1)
    found = gain.interpolate(k, angle)
    judged = (shells > 0) & (true > 0.01)
    assert (found / true)[judged] == pytest.approx(1, abs=0.15)


def test_the_gain_is_held_where_noise_hides_the_signal():
    """The slope of the last shells with information is noisy: it may not go on beyond them."""
    box, error = 48, 0.1
    bins = PowerBins.for_box(box, TILTS)
    shells, first = np.arange(bins.shape[1]), constant_gain(TILTS, box, VOXEL)
    true = np.tile(np.exp(-0.6 * shells), (bins.shape[0], 1))
    k = np.broadcast_to(shells / (box * VOXEL), bins.shape)
    angle = (np.arange(bins.shape[0])[:, None] + 0.5) / bins.shape[0] * first.max_tilt
    found, none = [], np.zeros(bins.shape)
    for seed in range(12):
        noisy, gain = true + np.random.default_rng(seed).normal(0, error, true.shape), first
        for _ in range(4):
            now = gain.interpolate(k, angle)
            gain = fit_gain(gain, now * noisy, now * error, none, now**2, exponent=1)
        found.append(gain.values)
    knots = np.exp(-0.6 * KNOT_SHELLS * np.arange(first.values.shape[1]))
    hidden = knots < error
    assert np.array(found)[..., hidden].max() < 4 * error
    assert np.mean(found, axis=0)[:, 1] == pytest.approx(knots[1], rel=0.25)

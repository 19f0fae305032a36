"""Inception score, SSIM and spectra: closed forms, and independent implementations."""

import numpy as np
import pytest

from cryoetgan.evaluation.metrics import inception_score, ssim
from cryoetgan.evaluation.metrics.spectra import power_ratio, shell_powers, worst_ratio
from cryoetgan.physics.optics import missing_wedge


def test_inception_score_of_certain_and_of_uniform_probabilities():
    assert inception_score(np.eye(5)) == pytest.approx(5)
    assert inception_score(np.full((7, 5), 0.2)) == pytest.approx(1)
    assert inception_score([[1.0, 0.0], [1.0, 0.0]]) == pytest.approx(1)


def test_ssim_equals_scikit_image(rng):
    from skimage.metrics import structural_similarity

    a, b = rng.standard_normal((2, 20, 22, 24))
    expected = structural_similarity(a, a + 0.5 * b, data_range=6.0)
    assert ssim(a, a + 0.5 * b, 6.0) == pytest.approx(expected, abs=1e-9)
    assert ssim(a, a, 6.0) == pytest.approx(1)


def shell_ratio(real, generated, *tilts, **options):
    return power_ratio(
        *(shell_powers(v, *tilts, **options).mean(axis=0) for v in (real, generated))
    )


def test_doubling_the_amplitude_is_four_times_the_power(rng):
    real = rng.standard_normal((6, 16, 16, 16))
    assert np.allclose(shell_ratio(real, 2 * real), 4)
    assert np.allclose(shell_ratio(real, real, (-60, 60)), 1)


def test_power_is_counted_inside_and_outside_the_tilt_range(rng):
    """Three times the amplitude inside the range alone; asymmetric, so a flipped sign shows."""
    tilts = (-60, 20)
    real = rng.standard_normal((8, 16, 16, 16))
    mask = np.where(missing_wedge((16,) * 3, tilts), 3.0, 1.0)
    axes = (1, 2, 3)
    made = np.fft.irfftn(np.fft.rfftn(real, axes=axes) * mask, s=(16,) * 3, axes=axes)
    assert np.allclose(shell_ratio(real, made, tilts), 9)
    assert np.allclose(shell_ratio(real, made, tilts, inside=False)[1:], 1)
    other = shell_ratio(real, made, (-20, 60))
    assert other.min() < 8


def test_white_noise_has_flat_power(rng):
    volumes = rng.standard_normal((40, 12, 12, 12))
    assert np.allclose(shell_powers(volumes).mean(axis=0), 12**3, rtol=0.1)


def test_the_worst_ratio_ignores_empty_shells():
    assert worst_ratio([np.nan, 1.1, 0.5]) == 0.5
    assert np.isnan(worst_ratio([np.nan, np.inf]))

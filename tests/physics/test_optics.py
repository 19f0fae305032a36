"""Wedge and contrast transfer: laws in Fourier space."""

import numpy as np
import pytest

from cryoetgan.physics import optics


@pytest.mark.parametrize("shape", [(24, 20, 24), (21, 16, 25)])
@pytest.mark.parametrize("tilts", [(-60, 60), (-40, 60)])
def test_the_wedge_is_a_projector_of_real_volumes(rng, shape, tilts):
    mask = optics.missing_wedge(shape, tilts)
    volume = rng.standard_normal(shape)

    def seen(v):
        return np.fft.irfftn(np.fft.rfftn(v) * mask, s=shape, axes=(0, 1, 2))

    assert np.allclose(seen(seen(volume)), seen(volume), atol=1e-12)


def test_the_wedge_is_made_of_the_directions_that_are_sampled():
    kz, _, kx = optics.frequency_axes((21, 21, 21), 1.0)  # odd: no plane stands for both signs
    for tilts in ((-60, 60), (-20, 50), (0, 90)):
        sampled = optics.is_sampled(kz, kx, tilts)
        assert np.array_equal(sampled, optics.is_sampled(-kz, -kx, tilts))
        mask = optics.missing_wedge((21, 21, 21), tilts)
        assert np.array_equal(mask, np.broadcast_to(sampled, mask.shape))
    angle = optics.tilt_angle((21, 21, 21))
    assert np.array_equal(optics.is_sampled(kz, kx, (-20, 50)), (angle >= -20) & (angle <= 50))


def test_shells_hold_all_modes_of_both_half_spaces(rng):
    for box in (8, 9):
        volume = rng.standard_normal((box, box, box))
        whole = np.rint(
            np.linalg.norm(np.stack(np.meshgrid(*[np.fft.fftfreq(box) * box] * 3)), axis=0)
        )
        power = np.abs(np.fft.fftn(volume)) ** 2
        sums = [power[whole == shell].sum() for shell in range(box // 2 + 1)]
        half = np.abs(np.fft.rfftn(volume)) ** 2
        assert np.allclose(optics.shell_sums(half, optics.fourier_shells(box)), sums)


def test_sixty_degrees_lose_a_third():
    mask = optics.missing_wedge((96, 96, 96), (-60, 60))
    radius = optics.radius_grid((96, 96, 96), 1.0)
    ball = (radius < 0.5) * optics.hermitian_weights(96)
    assert abs((ball * mask).sum() / ball.sum() - 2 / 3) < 0.01


def test_the_wedge_lies_along_the_beam_and_not_along_the_tilt_axis():
    mask = optics.missing_wedge((32, 32, 32), (-60, 60))
    assert not mask[1:, 0, 0].any()  # along z, but for the zero frequency
    assert mask[0, :, 0].all()  # along y
    assert mask[0, 0, :].all()  # along x
    kz, kx = 4, 8  # 26.6 degrees from x: seen; 63.4 degrees: not
    assert mask[kz, 0, kx]
    assert not mask[kx, 0, kz]


def test_an_asymmetric_range_is_not_mirrored():
    mask = optics.missing_wedge((32, 32, 32), (-20, 60))
    # at tilt t the slice lies along (kx, kz) = (cos t, sin t)
    assert mask[5, 0, 5]  # +45 degrees
    assert not mask[-5, 0, 5]  # -45 degrees


def test_ctf_at_zero_frequency_is_the_amplitude_contrast_and_its_first_zero_moves_with_defocus():
    frequency = np.linspace(0, 0.1, 20_001)
    assert optics.ctf(frequency, 3.0, amplitude_contrast=0.07)[0] == pytest.approx(0.07)

    def first_zero(defocus):
        values = optics.ctf(frequency, defocus)
        return frequency[np.argmax(values < 0)]

    # with Cs and amplitude contrast negligible the zero lies at 1 / sqrt(wavelength defocus)
    expected = 1 / np.sqrt(optics.electron_wavelength(300) * 4e4)
    assert first_zero(4.0) == pytest.approx(expected, rel=0.02)
    assert first_zero(2.0) / first_zero(4.0) == pytest.approx(np.sqrt(2), rel=0.02)


def test_wavelength_at_300_kv():
    assert optics.electron_wavelength(300) == pytest.approx(0.01969, abs=2e-5)
    assert optics.electron_wavelength(200) == pytest.approx(0.02508, abs=2e-5)


def test_the_envelope_halves_where_it_should():
    k = 0.05
    b_factor = 4 * np.log(2) / k**2
    ratio = optics.ctf(np.array([k]), 3.0, b_factor=b_factor) / optics.ctf(np.array([k]), 3.0)
    assert ratio[0] == pytest.approx(0.5)


@pytest.mark.parametrize("n", [8, 9])
def test_hermitian_weights_count_every_mode_of_a_volume(n):
    weights = np.broadcast_to(optics.hermitian_weights(n), (n, n, n // 2 + 1))
    assert weights.sum() == n**3
    whole = np.rint(np.sqrt(sum(k**2 for k in np.meshgrid(*[np.fft.fftfreq(n) * n] * 3))))
    shells = optics.fourier_shells(n)
    counts = np.bincount(shells.ravel(), weights.ravel())
    assert np.array_equal(counts, np.bincount(whole.astype(int).ravel()))


def test_a_direction_and_its_opposite_are_sampled_at_one_tilt(rng):
    kz, kx = rng.standard_normal((2, 500))
    seen = optics.is_sampled(kz, kx, (-40, 60))
    assert np.array_equal(seen, optics.is_sampled(-kz, -kx, (-40, 60)))
    angle = np.degrees(np.arctan(kz / kx))
    assert np.array_equal(seen, (angle >= -40) & (angle <= 60))
    assert optics.is_sampled(np.array([-1.0]), np.array([0.0]), (-60, 90)).all()

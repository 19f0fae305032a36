"""Simulated tilt series: contrast transfer, dose, detector, noise."""

from dataclasses import replace

import numpy as np
import pytest

from cryoetgan.errors import UserError
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import ctf
from cryoetgan.seeds import rng as generator_for
from cryoetgan.tomograms.simulation.detector import detector_transfer
from cryoetgan.tomograms.simulation.reconstruction import project_tilt_series
from cryoetgan.tomograms.simulation.tilt_series import (
    Microscope,
    TiltSeries,
    accumulated_dose,
    dose_envelope,
    dose_weights,
    record_projections,
    simulate_noise,
    tilt_angles,
    true_tilts,
)

PERFECT = Microscope(dose=0.0, b_factor=0.0, misalignment=0.0)


def recorded(acquisition, microscope=PERFECT):
    return TiltSeries(
        voxel_size=10.0, acquisition=acquisition, name="t", seed=1, microscope=microscope
    )


def test_an_image_is_multiplied_by_the_ctf_of_its_state():
    """A wave of one frequency comes out times the CTF there, sign and all."""
    y = np.arange(64)
    cycles = 24  # of 64 pixels of 10 angstrom
    wave = np.broadcast_to(np.cos(2 * np.pi * cycles * y / 64), (1, 64, 64)).astype(np.float32)
    frequency = cycles / 640
    expected = ctf(frequency, 4.0)
    assert abs(expected) > 0.2
    for state, factor in (
        ("raw", expected),
        ("phase-flipped", abs(expected)),
        ("corrected", expected**2 / (expected**2 + 0.1)),
    ):
        flat = Acquisition(tilt_low=0, tilt_high=3, tilt_step=3, defocus=4.0, ctf=state)
        images = np.concatenate([wave, wave])
        found = record_projections(images, recorded(flat))[0]
        assert np.allclose(found, factor * wave[0], atol=1e-4), state
    assert ctf(0.01, 4.0) > 0  # slow waves keep their sign: protein stays bright


def test_dose_accumulates_from_tilt_zero_outwards_and_removes_fine_detail():
    tilts = tilt_angles(Acquisition(tilt_low=-60, tilt_high=54, tilt_step=3))
    assert (tilts[0], tilts[-1], len(tilts)) == (-60, 54, 39)
    spent = accumulated_dose(tilts, 100)
    assert spent[tilts == 0] == pytest.approx(0.5 * 100 / 39)
    assert spent[0] == spent.max() < 100
    assert (np.diff(spent[tilts >= 0]) > 0).all()
    # Grant and Grigorieff: 1/Nc falls with resolution; 50 e/A^2 take half at 10 A or so
    assert dose_envelope(np.array(0.1), 14.1) == pytest.approx(np.exp(-0.5), rel=0.02)
    assert dose_envelope(np.array(0.02), 50) > dose_envelope(np.array(0.1), 50)
    assert dose_envelope(np.array(0.3), 0) == 1


def test_half_of_the_noise_passes_the_ctf_and_noise_grows_with_the_tilt():
    steep = Acquisition(tilt_low=-60, tilt_high=60, tilt_step=60, defocus=4.0)
    images = simulate_noise((3, 256, 256), recorded(steep))
    low, middle, high = (image.var() for image in images)
    assert middle == pytest.approx(1, abs=0.03)
    assert low / middle == pytest.approx(2, abs=0.1)
    assert high / middle == pytest.approx(2, abs=0.1)
    # where the CTF is zero, only what comes after it is left
    power = np.abs(np.fft.rfft2(images[1])) ** 2
    k = np.sqrt(np.fft.fftfreq(256, 10.0)[:, None] ** 2 + np.fft.rfftfreq(256, 10.0) ** 2)
    transfer = np.abs(ctf(k, 4.0))
    inside = k < 0.05
    dark = power[inside & (transfer < 0.05)].mean()
    light = power[inside & (transfer > 0.95)].mean()
    assert dark / power.mean() == pytest.approx(0.5, abs=0.05)
    assert light / dark == pytest.approx(1 + 1 / (transfer**2).mean(), rel=0.1)


def test_the_detector_multiplies_the_nyquist_frequency_by_its_mtf():
    flat = Acquisition(tilt_low=0, tilt_high=3, tilt_step=3, defocus=4.0)
    y = np.arange(64)
    wave = np.broadcast_to((-1.0) ** y, (2, 64, 64)).astype(np.float32)  # the highest frequency
    soft = Microscope(dose=0, b_factor=0, misalignment=0, mtf=0.3)
    sharp = record_projections(wave, recorded(flat))
    blurred = record_projections(wave, recorded(flat, soft))
    assert np.allclose(blurred, 0.3 * sharp, atol=1e-3)


def test_a_measured_detector_transfers_by_the_frequency_of_its_own_pixel(tmp_path, caplog):
    series = recorded(Acquisition(defocus=4.0), Microscope(detector="k2", detector_pixel=5.0))
    k = np.array([0.0, 0.05, 0.1])  # voxels of 10 A: half of the detector's Nyquist is 0.05
    assert np.allclose(series.mtf(k) ** 2 * 0.795, [0.795, 0.638, 0.354])
    path = tmp_path / "mtf.star"
    path.write_text(
        "data_mtf\n\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n"
        "0 1\n0.25 0.8\n0.5 0.4\n"
    )
    own = recorded(Acquisition(defocus=4.0), Microscope(detector=str(path), detector_pixel=10.0))
    assert np.allclose(own.mtf(np.array([0.0, 0.0125, 0.025, 0.05])), [1, 0.9, 0.8, 0.4])
    for text in ("0 1\n", "0 0\n0.5 0\n"):
        path.write_text(f"data_\n\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n{text}")
        with pytest.raises(UserError, match="two values"):
            own.mtf(k)
    with pytest.raises(UserError, match="k4"):
        Microscope(detector="k4", detector_pixel=5.0)
    with pytest.raises(UserError, match="--detector-pixel"):
        Microscope(detector="k3")
    assert not caplog.records
    recorded(Acquisition(voltage=200.0), Microscope(detector="k3", detector_pixel=5.0))
    assert "300 kV" in caplog.text


def test_two_measurements_of_a_counting_detector_agree():
    """Gatan's MTF of a K2 (mtf_k2_300kV_FL2.star) and the DQE of Ruskin 2013, by a flat noise."""
    gatan = [1.0, 0.988, 0.966, 0.937, 0.900, 0.858, 0.812, 0.763, 0.712, 0.660, 0.607]
    at = np.linspace(0, 1, 11)
    assert np.abs(detector_transfer("k2", at) - gatan).max() < 0.065
    k3 = detector_transfer("k3", at)
    assert (k3 > np.array(gatan) - 0.004).all()
    assert (k3[1:] < 1).all()
    assert k3[10] == pytest.approx(2 / np.pi, abs=0.01)  # sinc(k / 2 k_Nyquist) of a square pixel


def test_drift_multiplies_a_wave_by_the_mean_of_its_phase():
    """A motion d during an image: the mean of exp(2 pi i k d s) for s from -1/2 to 1/2."""
    series = Acquisition(tilt_low=0, tilt_high=60, tilt_step=1, ctf="corrected", defocus=0.0)
    flat = Microscope(dose=0, b_factor=0, misalignment=0)
    moved = Microscope(dose=0, b_factor=0, misalignment=0, drift=15.0)
    wave = np.cos(2 * np.pi * 16 * np.arange(64) / 64).astype(np.float32)  # k = 1 / 40 A
    images = np.broadcast_to(wave, (61, 64, 64))
    still, drifted = (record_projections(images, recorded(series, one)) for one in (flat, moved))
    factor = drifted.std(axis=(1, 2)) / still.std(axis=(1, 2))
    s = (np.arange(1000) + 0.5) / 1000 - 0.5
    most = np.mean(np.cos(2 * np.pi * 15 / 40 * s))  # along the wave; across it nothing
    assert most - 1e-3 < factor.min() < most + 0.02
    assert 0.99 < factor.max() <= 1 + 1e-6


def test_ice_that_stays_is_seen_in_neighbouring_images_and_keeps_the_variance(rng):
    near = Acquisition(tilt_low=-60, tilt_high=60, tilt_step=1, defocus=0.0, ctf="corrected")
    series = recorded(near)
    ice = project_tilt_series(rng.standard_normal((12, 64, 64), np.float32), tilt_angles(near))
    middle = 60
    for given, expected in ((None, 0.0), (ice, 0.5)):
        found = simulate_noise((121, 64, 64), series, 0.0, given)
        pair = np.corrcoef(found[middle].ravel(), found[middle + 1].ravel())[0, 1]
        assert pair == pytest.approx(expected, abs=0.1)
        assert found[0].var() / found[middle].var() == pytest.approx(2, rel=0.1)


def test_ice_is_shifted_and_blurred_like_the_specimen_in_each_image(rng):
    """Two ices of opposite sign differ by twice the ice, recorded like a specimen of its shape."""
    series = recorded(
        Acquisition(tilt_low=-60, tilt_high=60, tilt_step=20, defocus=3.0, ctf="corrected"),
        Microscope(
            dose=100, misalignment=2, misalignment_growth=2, drift=15, mtf=0.5, dose_weighting=True,
            defocus_gradient=True,
        ),
    )  # fmt: skip
    ice = rng.standard_normal((7, 48, 48), np.float32)
    one, other = (simulate_noise(ice.shape, series, 0.0, sign * ice) for sign in (1, -1))
    expected = record_projections(ice, series)
    growth = []
    for found, wanted, projection in zip(one - other, expected, ice, strict=True):
        growth.append(float((found * wanted).sum() / (wanted**2).sum() * projection.std()))
        assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.9999
    tilts = np.radians(tilt_angles(series.acquisition))
    assert np.allclose(np.array(growth) / growth[3], 1 / np.sqrt(np.cos(tilts)), rtol=1e-3)


@pytest.mark.parametrize("state", ["raw", "corrected"])
def test_structural_noise_is_recorded_like_a_specimen_without_damage_and_blur(state):
    """Noise is white structure, recorded by the same optics, and white shots after them."""
    series = recorded(
        Acquisition(tilt_low=-60, tilt_high=60, tilt_step=60, defocus=3.0, ctf=state),
        Microscope(
            dose=100, b_factor=300, misalignment=2, detector="k2", detector_pixel=5.0, drift=15,
            defocus_gradient=True,
        ),
    )  # fmt: skip
    sharp = replace(series.microscope, dose=0.0, b_factor=0.0, misalignment=0)
    white = np.empty((2, 3, 48, 49), np.float32)
    for index, tilt in enumerate(tilt_angles(series.acquisition)):
        drawn = generator_for(1, "noise", "t", f"{tilt:.3f}")
        white[:, index] = [drawn.standard_normal((48, 49), np.float32) for _ in range(2)]
    images = record_projections(white[0], replace(series, microscope=sharp))
    found = simulate_noise(white[0].shape, replace(series, microscope=sharp))
    assert np.array_equal(found, simulate_noise(white[0].shape, series))
    if state == "raw":
        shots = white[1] / np.sqrt(2 * np.array([0.5, 1.0, 0.5]))[:, None, None]
        for one, structure, shot in zip(found, images, shots, strict=True):
            assert np.corrcoef((one - shot).ravel(), structure.ravel())[0, 1] > 0.9999
    else:
        # the correction of the shots varies across a tilted image with the local defocus
        flat = replace(sharp, defocus_gradient=False)
        other = simulate_noise(white[0].shape, replace(series, microscope=flat))
        difference = (other - found).std(axis=(1, 2))
        assert difference[1] < 1e-6 < difference[0]


def microscope(**values):
    return Microscope(**({"dose": 0.0, "b_factor": 0.0, "misalignment": 0.0} | values))


def test_a_phase_plate_turns_the_sine_of_the_ctf_into_a_cosine():
    k = np.linspace(0, 0.05, 50)
    wave = np.arcsin(ctf(k[:5], 4.0))
    assert np.allclose(ctf(k[:5], 4.0, phase_shift=90.0), np.cos(wave))
    assert np.allclose(ctf(k, 4.0, phase_shift=180.0), -ctf(k, 4.0))


def test_astigmatism_gives_each_direction_a_defocus_of_its_own():
    flat = Acquisition(tilt_low=0, tilt_high=3, tilt_step=3, defocus=4.0)
    series = recorded(flat, microscope(astigmatism=1.0, astigmatism_angle=0.0))
    k = series.frequencies((64, 64))
    found = series.ctf((64, 64))
    assert np.allclose(found[:, 0], ctf(k[:, 0], 4.5))  # along u
    assert np.allclose(found[0], ctf(k[0], 3.5))
    diagonal = np.arange(1, 32)
    turned = recorded(flat, microscope(astigmatism=1.0)).ctf((64, 64))  # 45 degrees
    assert np.allclose(turned[diagonal, diagonal], ctf(k[diagonal, diagonal], 4.5))
    assert np.allclose(turned[-diagonal, diagonal], ctf(k[-diagonal, diagonal], 3.5))
    plate = recorded(flat, microscope(phase_shift=90.0))
    assert np.allclose(plate.ctf((64, 64)), ctf(k, 4.0, phase_shift=90.0))


@pytest.mark.parametrize("width", [64, 65])
def test_astigmatism_is_along_its_angle_in_images_of_odd_width(width):
    """The defocus depends on the direction of the frequency in cycles per angstrom."""
    flat = Acquisition(tilt_low=0, tilt_high=3, tilt_step=3, defocus=4.0)
    series = recorded(flat, microscope(astigmatism=1.0, astigmatism_angle=30.0))
    ku, ky = np.fft.fftfreq(64, 10.0)[:, None], np.fft.rfftfreq(width, 10.0)
    defocus = 4.0 + 0.5 * np.cos(2 * (np.arctan2(ky, ku) - np.radians(30)))
    assert np.allclose(series.ctf((64, width)), ctf(np.hypot(ku, ky), defocus))


def test_the_defocus_gradient_is_none_at_the_axis_and_grows_across_a_tilted_image():
    """A wave along y keeps its frequency, and its amplitude is the CTF of its own u."""
    steep = Acquisition(tilt_low=60, tilt_high=63, tilt_step=3, defocus=4.0)
    n, cycles = 256, 95
    wave = np.cos(2 * np.pi * cycles * np.arange(n) / n).astype(np.float32)
    images = np.broadcast_to(wave, (2, n, n))
    found = record_projections(images, recorded(steep, microscope(defocus_gradient=True)))[0]
    amplitude = 2 * (found * wave).mean(axis=1)
    u = (np.arange(n) - n // 2) * 10 * 1e-4
    expected = ctf(np.full(n, cycles / n / 10), 4.0 + u * np.tan(np.radians(60)))
    assert np.ptp(expected) > 0.3
    assert np.abs(amplitude - expected).max() < 0.02
    level = Acquisition(tilt_low=0, tilt_high=3, tilt_step=3, defocus=4.0)
    same = [
        record_projections(images, recorded(level, microscope(defocus_gradient=on)))[0]
        for on in (False, True)
    ]
    assert np.array_equal(*same)


def test_shot_noise_grows_with_the_electrons_that_are_lost():
    steep = Acquisition(tilt_low=0, tilt_high=60, tilt_step=60, defocus=4.0)
    scope = microscope(mean_free_path=3800.0)
    thin, thick = (
        simulate_noise((2, 256, 256), recorded(steep, scope), t) for t in (380.0, 3800.0)
    )
    assert np.array_equal(thin[0], thick[0])  # at tilt zero the scale is the same
    for images, thickness in ((thin, 380), (thick, 3800)):
        # half structural, twice at 60 degrees; half shots, exp(t / L)
        expected = (2 + np.exp(thickness / 3800)) / 2
        assert images[1].var() / images[0].var() == pytest.approx(expected, rel=0.04)


def test_dose_weighting_keeps_the_noise_spectrum_and_prefers_the_first_images():
    series = Acquisition(tilt_low=-60, tilt_high=60, tilt_step=3)
    doses = accumulated_dose(tilt_angles(series), 120.0)
    k = np.linspace(0.001, 0.1, 40)
    weights = dose_weights(k, doses)
    assert np.allclose((weights**2).mean(axis=0), 1)
    wave = np.cos(2 * np.pi * 8 * np.arange(64) / 64).astype(np.float32)
    images = np.broadcast_to(wave, (41, 64, 64))
    off, on = (
        record_projections(images, recorded(series, microscope(dose=120.0, dose_weighting=flag)))
        for flag in (False, True)
    )
    expected = dose_weights(np.array([8 / 640]), doses)[:, 0]
    assert np.allclose(on.std(axis=(1, 2)) / off.std(axis=(1, 2)), expected, rtol=1e-3)
    first = int(doses.argmin())
    assert (weights[first] >= weights.max(axis=0) - 1e-12).all()
    assert (np.diff(weights[first]) > 0).all()


def test_angles_and_alignment_have_errors_of_the_given_size():
    series = Acquisition(tilt_low=-60, tilt_high=60, tilt_step=0.5)
    errors = true_tilts(recorded(series, microscope(tilt_error=0.5))) - tilt_angles(series)
    assert errors.std() == pytest.approx(0.5, rel=0.15)
    assert np.array_equal(true_tilts(recorded(series)), tilt_angles(series))
    delta = np.zeros((3, 65, 65), np.float32)
    delta[:, 32, 32] = 1
    wide = Acquisition(tilt_low=-60, tilt_high=60, tilt_step=60, ctf="corrected")
    shifts = []
    for seed in range(200):
        scope = microscope(misalignment=1.0, misalignment_growth=2.0)
        one = TiltSeries(voxel_size=10.0, acquisition=wide, name="t", seed=seed, microscope=scope)
        phase = np.angle(np.fft.fft2(record_projections(delta, one))[:, 1, 0])
        shifts.append(phase - np.angle(np.fft.fft2(delta[0])[1, 0]))
    spread = np.std(np.angle(np.exp(1j * np.array(shifts))), axis=0)
    assert spread[0] / spread[1] == pytest.approx(3, rel=0.25)
    assert spread[2] / spread[1] == pytest.approx(3, rel=0.25)

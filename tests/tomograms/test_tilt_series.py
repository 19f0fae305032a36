"""Simulated tilt series: contrast transfer, dose, detector, noise."""

import numpy as np
import pytest

from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import ctf
from cryoetgan.tomograms.simulation.tilt_series import (
    Microscope,
    TiltSeries,
    accumulated_dose,
    dose_envelope,
    record_projections,
    simulate_noise,
    tilt_angles,
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

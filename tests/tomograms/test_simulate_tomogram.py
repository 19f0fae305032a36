"""The simulated microscope, and the command with its truth."""

import json

import mrcfile
import numpy as np
import pytest
from scipy import ndimage

from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import COORDINATES, read_star
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import ctf, missing_wedge
from cryoetgan.tomograms.simulation.simulate_tomogram import simulate_tomogram
from cryoetgan.tomograms.simulation.tilt_series import (
    Microscope,
    dose_before,
    dose_envelope,
    noise,
    record,
    tilt_angles,
)
from tests.conftest import refused

PERFECT = Microscope(dose=0.0, b_factor=0.0, misalignment=0.0)


def test_a_tilt_range_leaves_its_wedge_and_no_other(rng):
    density = ndimage.gaussian_filter(rng.standard_normal((48, 48, 48)), 1)
    recorded = Acquisition(tilt_low=-20, tilt_high=60, tilt_step=2, defocus=2.0)
    tomogram = simulate_tomogram(density, 10.0, recorded, 100.0, "t", 1)
    assert tomogram.mean() == pytest.approx(0, abs=0.01)
    assert tomogram.std() == pytest.approx(1, abs=0.01)
    power = np.abs(np.fft.rfftn(tomogram)) ** 2
    k = np.fft.fftfreq(48)
    radius = np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + np.fft.rfftfreq(48) ** 2)
    ring = (radius > 0.08) & (radius < 0.3)

    def share(tilts):
        return power[ring & missing_wedge((48, 48, 48), tilts)].sum() / power[ring].sum()

    assert share((-20, 60)) > 0.93
    assert share((-60, 20)) < share((-20, 60)) - 0.2  # not mirrored
    swapped = np.abs(np.fft.rfftn(tomogram.transpose(2, 1, 0))) ** 2
    seen = missing_wedge((48, 48, 48), (-20, 60))
    assert swapped[ring & seen].sum() / swapped[ring].sum() < share((-20, 60)) - 0.2


def test_the_ratio_of_signal_to_noise_is_as_typed(rng):
    density = ndimage.gaussian_filter(rng.standard_normal((32, 48, 48)), 2)

    def tomogram(snr):
        return simulate_tomogram(density, 10.0, Acquisition(defocus=3.0), snr, "t", 1).astype(float)

    clean = tomogram(1e9)
    for snr in (0.1, 1.0):
        # correlation with the clean one: c^2 = snr / (1 + snr), the same jitter in both
        c = np.corrcoef(tomogram(snr).ravel(), clean.ravel())[0, 1]
        assert c**2 / (1 - c**2) == pytest.approx(snr, rel=0.1)


def test_an_image_passes_the_ctf_of_its_state():
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
        found = record(images, 10.0, flat, PERFECT, "t", 1)[0]
        assert np.allclose(found, factor * wave[0], atol=1e-4), state
    assert ctf(0.01, 4.0) > 0  # slow waves keep their sign: protein stays bright


def test_dose_is_spent_from_the_middle_outwards_and_damages_fine_detail():
    tilts = tilt_angles(Acquisition(tilt_low=-60, tilt_high=54, tilt_step=3))
    assert (tilts[0], tilts[-1], len(tilts)) == (-60, 54, 39)
    spent = dose_before(tilts, 100)
    assert spent[tilts == 0] == pytest.approx(0.5 * 100 / 39)
    assert spent[0] == spent.max() < 100
    assert (np.diff(spent[tilts >= 0]) > 0).all()
    # Grant and Grigorieff: 1/Nc falls with resolution; 50 e/A^2 take half at 10 A or so
    assert dose_envelope(np.array(0.1), 14.1) == pytest.approx(np.exp(-0.5), rel=0.02)
    assert dose_envelope(np.array(0.02), 50) > dose_envelope(np.array(0.1), 50)
    assert dose_envelope(np.array(0.3), 0) == 1


def test_noise_is_half_the_specimens_and_grows_with_the_tilt():
    steep = Acquisition(tilt_low=-60, tilt_high=60, tilt_step=60, defocus=4.0)
    images = noise((3, 256, 256), 10.0, steep, PERFECT, "t", 1)
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


def test_the_detector_blurs_what_reaches_it():
    flat = Acquisition(tilt_low=0, tilt_high=3, tilt_step=3, defocus=4.0)
    y = np.arange(64)
    wave = np.broadcast_to((-1.0) ** y, (2, 64, 64)).astype(np.float32)  # the highest frequency
    sharp = record(wave, 10.0, flat, PERFECT, "t", 1)
    blurred = record(
        wave, 10.0, flat, Microscope(dose=0, b_factor=0, misalignment=0, mtf=0.3), "t", 1
    )
    assert np.allclose(blurred, 0.3 * sharp, atol=1e-3)


def test_gold_does_not_drown_the_rest(rng):
    density = ndimage.gaussian_filter(rng.standard_normal((32, 48, 48)), 2)
    beads = np.zeros_like(density)
    beads[14:18, 20:24, 20:24] = 50 * density.max()
    recorded = Acquisition(defocus=3.0)
    plain = simulate_tomogram(density, 10.0, recorded, 1.0, "t", 1)
    gold = simulate_tomogram(density, 10.0, recorded, 1.0, "t", 1, beads=beads)
    assert gold[15, 21, 21] > 10
    far = (slice(None), slice(34, None), slice(None))
    assert np.corrcoef(plain[far].ravel(), gold[far].ravel())[0, 1] > 0.99


@pytest.fixture
def maps(tmp_path):
    z, y, x = np.indices((24, 24, 24)) - 12.0
    blob = np.exp(-(x**2 / 18 + y**2 / 8 + z**2 / 30))
    for name, density in (("a", blob), ("b", 2 * blob.transpose(1, 2, 0)), ("c", blob**3)):
        write_volume(tmp_path / f"{name}.mrc", density, 10.0)
    return ("tomograms", "simulate", "a.mrc", "b.mrc", "--shape=64,56,40")


def test_the_command_gives_the_same_bytes_and_a_truth_that_fits(cryoetgan, tmp_path, maps):
    for folder in ("one", "two"):
        cryoetgan(
            *maps,
            "--copies",
            5,
            "--tilts=-60,60,6",
            "--snr",
            5,
            "--seed",
            3,
            "-o",
            f"{folder}/t.mrc",
        )
    for name in ("t.mrc", "t.star", "t_labels.mrc", "t.mrc.json", "t_labels.mrc.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    tomogram = read_volume(tmp_path / "one" / "t.mrc").data
    assert tomogram.shape == (40, 56, 64)
    tables = read_star(tmp_path / "one" / "t.star")
    at = tables.particles[COORDINATES].to_numpy(float).round().astype(int)
    assert tomogram[at[:, 2], at[:, 1], at[:, 0]].mean() > 1  # protein is bright
    labels = read_volume(tmp_path / "one" / "t_labels.mrc").data
    names = json.loads((tmp_path / "one" / "t.mrc.json").read_text())["labels"]
    found = [names.get(str(int(labels[z, y, x]))) for x, y, z in at]
    assert found == list(tables.particles["cryoetganClass"])
    assert tables.optics["cryoetganTiltHigh"][0] == 60
    assert tables.optics["cryoetganDefocus"][0] == 4  # what is simulated has one
    cryoetgan(*maps, "--copies", 5, "--tilts=-60,60,6", "--snr", 5, "--seed", 4, "-o", "o/t.mrc")
    assert (tmp_path / "o" / "t.mrc").read_bytes() != (tmp_path / "one" / "t.mrc").read_bytes()


def test_surroundings_are_labelled_but_no_particles(cryoetgan, tmp_path, maps):
    done = cryoetgan(
        *maps,
        *("--copies", 3, "--class-copies", "b=300", "--crowder", "c.mrc", "--crowder-copies", 6),
        *("--vesicles", 1, "--vesicle-radius", "120,150", "--beads", 2, "--bead-diameter", 60),
        *("--snr", 1, "--reconstruction", "sirt", "--iterations", 3, "--tilts=-60,60,10"),
        *("-o", "t.mrc"),
    )
    truth = read_star(tmp_path / "t.star").particles
    assert set(truth["cryoetganClass"]) == {"a", "b"}
    placed = (truth["cryoetganClass"] == "b").sum()
    assert f"no place for {300 - placed} of 300 b" in done.stderr
    record = json.loads((tmp_path / "t.mrc.json").read_text())
    named = ["a", "b", "vesicle", "bead", "crowder_c"]
    assert list(record["labels"].values())[: len(named)] == named
    assert record["provenance"]["parameters"]["missing"]["b"] == 300 - placed
    present = set(np.unique(read_volume(tmp_path / "t_labels.mrc").data))
    assert {0, 1, 2, 3, 4} <= present


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--snr", 0), ("--snr", "above zero")),
        (("--snr", 1, "--shape=20,56,40"), ("--shape", "too small", "a.mrc")),
        (("--snr", 1, "--mtf", 2), ("--mtf", "at most 1")),
        (("--snr", 1, "--dose", -1), ("--dose", "zero or more")),
        (("--snr", 1, "--class-copies", "z=3"), ("--class-copies", "NAME=N")),
        (("--snr", 1, "--vesicle-radius", "5,2"), ("--vesicle-radius", "LO <= HI")),
        (("--snr", 1, "--reconstruction", "art"), ("--reconstruction", "wbp, sirt")),
        (("--snr", 1, "--shape=64.5,56,40"), ("--shape", "whole numbers")),
        (("--snr", 1, "--shape=1e9,1e9,1e9"), ("--shape", "GB of memory")),
        (("--snr", 1, "--tilts=-60,60,1e-6"), ("--tilts", "at most 1000")),
        (("--snr", 1, "--beads", 1, "--bead-diameter", 9000), ("--bead-diameter", "or less")),
        (("--snr", 1, "--vesicles", 1, "--vesicle-radius", "9e3,9e4"), ("--vesicle-radius",)),
        (("--snr", 1, "--defocus", "nan"), ("--defocus", "zero or more")),
        (("--snr", 1, "--crowder", "c.mrc", "--crowder", "two/c.mrc"), ("c.mrc, c.mrc", "rename")),
        (("--snr", 1, "--crowder", "finer.mrc"), ("finer.mrc", "5.000 A")),
        (("--snr", 1, "--crowder", "empty.mrc"), ("empty.mrc", "no voxel above zero")),
        (("--snr", 1, "--crowder", "endless.mrc"), ("endless.mrc", "not finite")),
        (("--snr", 1, "--crowder", "tiny.mrc"), ("tiny.mrc", "3 x 3 x 3", "8 or more")),
    ],
)
def test_a_wrong_option_is_refused_and_nothing_is_left(cryoetgan, tmp_path, maps, words, said):
    write_volume(tmp_path / "finer.mrc", np.ones((8, 8, 8)), 5.0)
    write_volume(tmp_path / "empty.mrc", np.zeros((8, 8, 8)), 10.0)
    write_volume(tmp_path / "endless.mrc", np.ones((8, 8, 8)), 10.0)
    with mrcfile.mmap(tmp_path / "endless.mrc", mode="r+") as file:
        file.data[0, 0, 0] = np.inf
    write_volume(tmp_path / "tiny.mrc", np.ones((3, 3, 3)), 10.0)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "c.mrc").write_bytes((tmp_path / "c.mrc").read_bytes())
    before = set(tmp_path.iterdir())
    refused(cryoetgan(*maps, "--copies", 2, *words, "-o", "t.mrc", code=2), *said)
    assert set(tmp_path.iterdir()) == before

"""Simulated tomograms: missing wedge, signal-to-noise ratio, and the command with its truth."""

import json

import mrcfile
import numpy as np
import pytest
from scipy import ndimage

from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import COORDINATES, read_star
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import missing_wedge
from cryoetgan.tomograms.simulation.processing import process
from cryoetgan.tomograms.simulation.simulate_tomogram import (
    simulate_tomogram,
    simulate_with_halves,
)
from cryoetgan.tomograms.simulation.tilt_series import TiltSeries
from tests.conftest import refused


def recorded(**acquisition):
    return TiltSeries(voxel_size=10.0, acquisition=Acquisition(**acquisition), name="t", seed=1)


def test_a_tilt_range_leaves_its_wedge_and_no_other(rng):
    density = ndimage.gaussian_filter(rng.standard_normal((48, 48, 48)), 1)
    series = recorded(tilt_low=-20, tilt_high=60, tilt_step=2, defocus=2.0)
    tomogram = simulate_tomogram(density, series, 100.0)
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


def test_the_signal_to_noise_ratio_is_the_given_one(rng):
    density = ndimage.gaussian_filter(rng.standard_normal((32, 48, 48)), 2)

    def tomogram(snr):
        return simulate_tomogram(density, recorded(defocus=3.0), snr).astype(float)

    clean = tomogram(1e9)
    for snr in (0.1, 1.0):
        # correlation with the clean one: c^2 = snr / (1 + snr), the same jitter in both
        c = np.corrcoef(tomogram(snr).ravel(), clean.ravel())[0, 1]
        assert c**2 / (1 - c**2) == pytest.approx(snr, rel=0.1)


def test_gold_does_not_change_the_contrast_of_the_rest(rng):
    density = ndimage.gaussian_filter(rng.standard_normal((32, 48, 48)), 2)
    beads = np.zeros_like(density)
    beads[14:18, 20:24, 20:24] = 50 * density.max()
    plain = simulate_tomogram(density, recorded(defocus=3.0), 1.0)
    gold = simulate_tomogram(density, recorded(defocus=3.0), 1.0, beads=beads)
    assert gold[15, 21, 21] > 10
    far = (slice(None), slice(34, None), slice(None))
    assert np.corrcoef(plain[far].ravel(), gold[far].ravel())[0, 1] > 0.99


def test_halves_are_of_every_other_tilt_and_their_noise_is_independent(rng):
    """Their mean is the whole tomogram; their difference is noise and aliasing of the signal."""
    density = ndimage.gaussian_filter(rng.standard_normal((32, 48, 48)), 2)
    series = recorded(tilt_step=2.0, defocus=3.0)
    whole, even, odd = simulate_with_halves(density, series, 0.5)
    assert np.array_equal(whole, simulate_tomogram(density, series, 0.5))
    mean = even + odd
    # the step of the angles doubles, the odd half has one tilt less
    assert np.corrcoef(mean.ravel(), whole.ravel())[0, 1] > 0.99
    _, noisy_even, noisy_odd = simulate_with_halves(0 * density, series, 0.5)
    assert abs(np.corrcoef(noisy_even.ravel(), noisy_odd.ravel())[0, 1]) < 0.05
    assert np.corrcoef(even.ravel(), odd.ravel())[0, 1] > 0.15


def test_the_denoiser_more_than_halves_the_noise_over_the_contrast_of_a_particle(rng):
    noisy = rng.standard_normal((24, 32, 32)).astype(np.float32)
    particle = np.zeros(noisy.shape, bool)
    particle[8:16, 12:20, 12:20] = True
    noisy[particle] += 2

    def noise(volume):
        return volume[~particle].std() / (volume[particle].mean() - volume[~particle].mean())

    denoised = process(noisy, denoise=1.0)
    assert noise(denoised) < 0.5 * noise(noisy)
    assert np.array_equal(denoised, process(noisy, denoise=1.0))
    assert noise(process(noisy, denoise=1.0)) < noise(process(noisy, denoise=0.3)) < noise(noisy)
    assert (denoised.mean(), denoised.std()) == (
        pytest.approx(0, abs=1e-4),
        pytest.approx(1, abs=1e-4),
    )


def test_the_grey_scale_keeps_the_order_of_values_and_draws_in_the_brightest(rng):
    plain = np.sort(rng.standard_normal(1000).astype(np.float32)).reshape(10, 10, 10)
    assert process(plain) is plain
    bent = process(plain, saturation=1.0)
    assert (np.diff(bent.ravel()) > 0).all()
    assert np.abs(bent).max() < 0.7 * np.abs(plain).max()
    # the wider the scale, the more linear
    assert np.corrcoef(process(plain, saturation=50.0).ravel(), plain.ravel())[0, 1] > 0.999999


@pytest.fixture
def maps(tmp_path):
    z, y, x = np.indices((24, 24, 24)) - 12.0
    blob = 1000 * np.exp(-(x**2 / 18 + y**2 / 8 + z**2 / 30))  # in the units of gold
    for name, density in (("a", blob), ("b", 2 * blob.transpose(1, 2, 0)), ("c", blob**3 / 1e6)):
        write_volume(tmp_path / f"{name}.mrc", density, 10.0)
    return ("tomograms", "simulate", "a.mrc", "b.mrc", "--shape=64,56,40")


def test_the_command_gives_the_same_bytes_and_a_truth_that_fits(cryoetgan, tmp_path, maps):
    words = ("--copies", 5, "--tilts=-60,60,6", "--snr", 5, "--seed", 3)
    for folder in ("one", "two"):
        cryoetgan(*maps, *words, "-o", f"{folder}/t.mrc")
    for name in ("t.mrc", "t.star", "t_labels.mrc", "t.mrc.json", "t_labels.mrc.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    cryoetgan(*maps, *words, "--denoise", 1, "--saturation", 2, "-o", "look/t.mrc")
    for name in ("t.star", "t_labels.mrc", "t_instances.mrc"):
        assert (tmp_path / "look" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    tomogram, look = (read_volume(tmp_path / name / "t.mrc").data for name in ("one", "look"))
    assert np.array_equal(look, process(np.array(tomogram), 1.0, 2.0))
    assert tomogram.shape == (40, 56, 64)
    tables = read_star(tmp_path / "one" / "t.star")
    at = tables.particles[COORDINATES].to_numpy(float).round().astype(int)
    assert tomogram[at[:, 2], at[:, 1], at[:, 0]].mean() > 1  # protein is bright
    labels = read_volume(tmp_path / "one" / "t_labels.mrc").data
    names = json.loads((tmp_path / "one" / "t.mrc.json").read_text())["labels"]
    found = [names.get(str(int(labels[z, y, x]))) for x, y, z in at]
    assert found == list(tables.particles["cryoetganClass"])
    assert tables.optics["cryoetganTiltHigh"][0] == 60
    assert tables.optics["cryoetganDefocus"][0] == 4  # the default
    cryoetgan(*maps, "--copies", 5, "--tilts=-60,60,6", "--snr", 5, "--seed", 4, "-o", "o/t.mrc")
    assert (tmp_path / "o" / "t.mrc").read_bytes() != (tmp_path / "one" / "t.mrc").read_bytes()


def test_vesicles_beads_and_crowders_are_labelled_but_not_in_the_truth(cryoetgan, tmp_path, maps):
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
    assert f"{300 - placed} of 300 b are not placed" in done.stderr
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
        (("--snr", 1, "--denoise", -1), ("--denoise", "zero or more")),
        (("--snr", 1, "--saturation", 0), ("--saturation", "above zero")),
        (("--snr", 1, "--class-copies", "z=3"), ("--class-copies", "NAME=N")),
        (("--snr", 1, "--vesicle-radius", "5,2"), ("--vesicle-radius", "LO <= HI")),
        (("--snr", 1, "--reconstruction", "art"), ("--reconstruction", "'wbp', 'sirt', 'sart'")),
        (("--snr", 1, "--shape=64.5,56,40"), ("--shape", "whole numbers")),
        (("--snr", 1, "--shape=1e9,1e9,1e9"), ("--shape", "GB of memory")),
        (("--snr", 1, "--tilts=-60,60,1e-6"), ("--tilts", "at most 1000")),
        (("--snr", 1, "--beads", 1, "--bead-diameter", 9000), ("--bead-diameter", "or less")),
        (("--snr", 1, "--vesicles", 1, "--vesicle-radius", "9e3,9e4"), ("--vesicle-radius",)),
        (("--snr", 1, "--defocus", "nan"), ("defocus", "zero or more")),
        (("--snr", 1, "--crowder", "c.mrc", "--crowder", "two/c.mrc"), ("c.mrc, c.mrc", "rename")),
        (("--snr", 1, "--crowder", "finer.mrc"), ("finer.mrc", "5.000 A")),
        (("--snr", 1, "--crowder", "empty.mrc"), ("empty.mrc", "no voxel is above zero")),
        (("--snr", 1, "--crowder", "endless.mrc"), ("endless.mrc", "not finite")),
        (("--snr", 1, "--crowder", "tiny.mrc"), ("tiny.mrc", "3x3x3", "8 or more")),
    ],
)
def test_invalid_options_are_refused_and_nothing_is_written(cryoetgan, tmp_path, maps, words, said):
    write_volume(tmp_path / "finer.mrc", np.eye(8)[None] * np.ones((8, 1, 1)), 5.0)
    write_volume(tmp_path / "empty.mrc", np.zeros((8, 8, 8)), 10.0)
    write_volume(tmp_path / "endless.mrc", np.ones((8, 8, 8)), 10.0)
    with mrcfile.mmap(tmp_path / "endless.mrc", mode="r+") as file:
        file.data[0, 0, 0] = np.inf
    write_volume(tmp_path / "tiny.mrc", np.eye(3)[None] * np.ones((3, 1, 1)), 10.0)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "c.mrc").write_bytes((tmp_path / "c.mrc").read_bytes())
    before = set(tmp_path.iterdir())
    refused(cryoetgan(*maps, "--copies", 2, *words, "-o", "t.mrc", code=2), *said)
    assert set(tmp_path.iterdir()) == before


def test_a_scene_gives_the_tomogram_that_its_maps_give(cryoetgan, tmp_path, maps):
    cryoetgan("tomograms", "scene", *maps[2:], "--copies", 4, "-o", "s/T.mrc")
    words = ("tomograms", "simulate", "--scene", "s/T.mrc", "--snr", 1, "--halves")
    cryoetgan(*words, "-o", "T.mrc")
    cryoetgan(*maps, "--copies", 4, "--snr", 1, "-o", "m/T.mrc")
    for name in ("T.mrc", "T_labels.mrc", "T_instances.mrc"):
        ours, theirs = (read_volume(tmp_path / folder / name).data for folder in ("", "m"))
        assert np.allclose(ours, theirs, atol=1e-4)
    ours, theirs = (read_star(tmp_path / folder / "T.star").particles for folder in ("", "m"))
    assert set(ours["cryoetganSource"]) == {"simulated"}
    assert list(ours["cryoetganId"]) == list(theirs["cryoetganId"])
    assert json.loads((tmp_path / "T.mrc.json").read_text())["labels"] == {"1": "a", "2": "b"}
    for name in ("T_EVN.mrc", "T_ODD.mrc"):
        assert read_volume(tmp_path / name).data.std() == pytest.approx(1, abs=0.1)
    refused(cryoetgan(*words, "a.mrc", "-o", "U.mrc", code=2), "--scene")
    refused(cryoetgan("tomograms", "simulate", "--snr", 1, "-o", "U.mrc", code=2), "--scene")


def test_no_copies_leave_the_membranes_alone(cryoetgan, tmp_path, maps):
    words = ("--vesicles", 1, "--vesicle-radius", "150,200", "--resolution", 30)
    cryoetgan("tomograms", "scene", *maps[2:], "--copies", 0, *words, "-o", "s.mrc")
    assert len(read_star(tmp_path / "s.star").particles) == 0
    assert set(np.unique(read_volume(tmp_path / "s_labels.mrc").data)) == {0, 3}


def test_gold_of_a_scene_is_no_signal(cryoetgan, tmp_path, maps):
    """As with maps: the noise of a tomogram does not grow with its beads."""
    words = ("--copies", 4, "--beads", 2, "--bead-diameter", 80, "--resolution", 30)
    cryoetgan("tomograms", "scene", *maps[2:], *words, "-o", "s/T.mrc")
    cryoetgan("tomograms", "simulate", "--scene", "s/T.mrc", "--snr", 1, "-o", "T.mrc")
    cryoetgan(*maps, *words, "--snr", 1, "-o", "m/T.mrc")
    ours, theirs = (read_volume(tmp_path / folder / "T.mrc").data for folder in ("", "m"))
    assert np.abs(ours - theirs).max() < 0.01 * np.std(theirs)
    words = ("tomograms", "simulate", "--scene", "s/T.mrc", "--snr", 1, "--membranes", 2)
    refused(cryoetgan(*words, "-o", "U.mrc", code=2), "--scene", "--membranes")


def test_labels_of_another_tomogram_are_not_taken_for_its_own(cryoetgan, tmp_path, maps):
    cryoetgan(*maps, "--copies", 4, "--snr", 1, "-o", "T.mrc")
    write_volume(tmp_path / "plain.mrc", np.ones((40, 56, 64), np.float32), 10.0)
    before = (tmp_path / "T.mrc").read_bytes()
    words = ("tomograms", "simulate", "--scene", "plain.mrc", "--snr", 1, "-o", "T.mrc")
    refused(cryoetgan(*words, code=2), "T_labels.mrc", "-o")
    assert (tmp_path / "T.mrc").read_bytes() == before

"""The traditional simulation: its ratio of variances, its wedge, its transfer, its seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from cryoetgan.errors import UserError
from cryoetgan.imaging.simulate.conventional import Physics, Simulator
from cryoetgan.io.star import item_names
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import ctf, missing_wedge, radius_grid
from tests.conftest import refused

BOX = 24


@pytest.fixture
def density(rng):
    z, y, x = np.indices((BOX,) * 3) - BOX // 2
    return np.exp(-(x**2 + y**2 / 2 + z**2) / 12).astype(np.float32) * 50


def physics(**changes):
    return Physics(**{"snr": 0.1, "tilts": (-60, 60), "defocus": 4.0, "lowpass": 30.0} | changes)


@pytest.mark.parametrize("snr", [0.01, 0.1, 0.5])
def test_the_ratio_of_variances_is_as_typed(density, rng, snr):
    simulator = Simulator(physics(snr=snr), BOX, 10.0)
    state = rng.bit_generator.state
    both = simulator.simulate(density, rng)
    rng.bit_generator.state = state
    signal = simulator.signal(density)
    assert signal.var() / (both - signal).var() == pytest.approx(snr, rel=1e-4)


def test_half_of_the_noise_passes_the_ctf_and_none_the_wedge(rng):
    simulator = Simulator(physics(tilts=(-40, 60)), BOX, 10.0)
    power = sum(np.abs(np.fft.rfftn(simulator.noise(rng))) ** 2 for _ in range(30))
    seen = missing_wedge((BOX,) * 3, (-40, 60))
    k = radius_grid((BOX,) * 3, 10.0)
    ring = (k > 0.012) & (k < 0.03)
    # cropping from the scene smears the wedge's edge, no more
    assert power[ring & ~seen].mean() < 0.25 * power[ring & seen].mean()


def test_the_signal_passes_ctf_and_lowpass(density):
    flipped = Simulator(physics(ctf="phase-flipped", defocus=12.0), BOX, 10.0)
    raw = Simulator(physics(defocus=12.0), BOX, 10.0)
    k = radius_grid((2 * BOX,) * 3, 10.0)
    contrast = ctf(k, 12.0)
    low = (k < 0.025) & (raw.transfer != 0)
    assert np.allclose(raw.transfer[low], contrast[low], atol=1e-5)
    assert np.allclose(flipped.transfer[low], np.abs(contrast[low]), atol=1e-5)
    assert (contrast[low] < -0.1).any()
    assert np.abs(raw.transfer[k > 0.045]).max() < 0.02
    assert np.allclose(Simulator(physics(ctf="corrected"), BOX, 10.0).transfer[low], 1, atol=1e-5)


def test_a_finer_lowpass_than_the_voxels_show_is_refused():
    with pytest.raises(UserError, match="lowpass"):
        Simulator(physics(lowpass=15.0), BOX, 10.0)


def test_adding_items_of_one_class_renames_no_other():
    assert item_names(["a", "b", "a"]) == ["a/0", "b/0", "a/1"]
    assert item_names(["b", "a", "a", "b"])[1:3] == ["a/0", "a/1"]


def test_the_command_keeps_labels_geometry_and_bytes(cryoetgan, tmp_path, density, rng):
    volumes = np.stack([ndimage.shift(density, s) for s in ((0, 0, 0), (2, 0, 0), (0, 1, 0))])
    table = pd.DataFrame({"cryoetganClass": ["a", "b", "a"], "rlnAngleRot": [1.0, 2.0, 3.0]})
    write_volume_set(tmp_path / "d.star", volumes, table, 10.0)
    write_volume_set(tmp_path / "more.star", volumes[[0, 1, 2, 0]], table.iloc[[0, 1, 2, 0]], 10.0)
    words = ("--snr", 0.5, "--tilts=-50,60", "--defocus", 3, "--lowpass", 30, "--seed", 4)
    for source, target in (("d", "one"), ("d", "two"), ("more", "four")):
        cryoetgan("imaging", "simulate", f"{source}.star", *words, "-o", f"{target}.star")
    assert (tmp_path / "one.mrcs").read_bytes() == (tmp_path / "two.mrcs").read_bytes()
    made, more = (read_volume_set(tmp_path / f"{n}.star") for n in ("one", "four"))
    assert list(made.table["cryoetganClass"]) == ["a", "b", "a"]
    assert set(made.table["cryoetganSource"]) == {"simulated"}
    assert made.volumes.mean() == pytest.approx(0, abs=1e-4)
    assert made.volumes.std() == pytest.approx(1, abs=1e-4)
    assert Acquisition.from_optics(made.optics.iloc[0].to_dict()).tilts == (-50, 60)
    for first, second in zip(made.volumes, more.volumes[:3], strict=True):
        assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.999999
    words = ("imaging", "simulate", "d.star", "--tilts=-50,60", "-o", "x.star")
    for option, value in (
        ("--snr", 0),
        ("--defocus", "nan"),
        ("--cs", -1),
        ("--amplitude-contrast", 1.5),
        ("--voltage", "inf"),
    ):
        given = {"--snr": 1, option: value}
        done = cryoetgan(*words, *(f"{name}={one}" for name, one in given.items()), code=2)
        refused(done, option.removeprefix("--").replace("-", "_"), str(value))
    assert not (tmp_path / "x.star").exists()


def test_an_envelope_falls_as_a_gaussian_of_the_frequency(density):
    """Signal with over signal without it: exp(-(k / E)^2), E a share of the Nyquist frequency."""
    plain, damped = (Simulator(physics(envelope=e), BOX, 10.0) for e in (None, 0.4))
    seen = np.abs(plain.transfer) > 1e-6
    k = radius_grid((*plain.transfer.shape[:2], plain.scene), 10.0)
    assert np.allclose(
        damped.transfer[seen], (plain.transfer * np.exp(-((k * 20 / 0.4) ** 2)))[seen], rtol=1e-4
    )
    assert np.array_equal(plain.detector, damped.detector)


def test_densities_without_anything_in_them_are_refused(cryoetgan, tmp_path):
    table = pd.DataFrame({"cryoetganClass": ["a", "b"]})
    write_volume_set(tmp_path / "d.star", np.zeros((2, 16, 16, 16), np.float32), table, 10.0)
    words = ("--snr", 0.5, "--tilts=-60,60", "-o", "x.star")
    refused(cryoetgan("imaging", "simulate", "d.star", *words, code=2), "d.star", "everywhere")
    assert not list(tmp_path.glob("x.*"))

"""Conventional simulation: its signal-to-noise ratio, wedge, transfer and seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from cryoetgan.errors import UserError
from cryoetgan.imaging.simulate.conventional import ConventionalParameters, ConventionalSimulator
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import item_names
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import ctf, missing_wedge, radius_grid
from tests.conftest import refused

BOX = 24


@pytest.fixture
def density():
    z, y, x = np.indices((BOX,) * 3) - BOX // 2
    return np.exp(-(x**2 + y**2 / 2 + z**2) / 12).astype(np.float32) * 50


def simulator(snr=0.1, lowpass=30.0, envelope=None, **recorded):
    acquisition = Acquisition(**{"defocus": 4.0} | recorded)
    parameters = ConventionalParameters(
        snr=snr, acquisition=acquisition, lowpass=lowpass, envelope=envelope
    )
    return ConventionalSimulator(parameters, BOX, 10.0)


@pytest.mark.parametrize("snr", [0.01, 0.1, 0.5])
def test_the_signal_to_noise_ratio_is_as_given(density, rng, snr):
    simulate = simulator(snr)
    signal = simulate.signal(density)
    both = simulate.simulate(density, rng)
    assert signal.var() / (both - signal).var() == pytest.approx(snr, rel=1e-4)


def test_the_noise_does_not_fill_the_wedge(rng):
    simulate = simulator(tilt_low=-40, tilt_high=60)
    power = sum(np.abs(np.fft.rfftn(simulate.noise(rng))) ** 2 for _ in range(30))
    seen = missing_wedge((BOX,) * 3, (-40, 60))
    k = radius_grid((BOX,) * 3, 10.0)
    ring = (k > 0.012) & (k < 0.03)
    # cropping from the scene blurs the edge of the wedge, no more
    assert power[ring & ~seen].mean() < 0.25 * power[ring & seen].mean()


def test_the_signal_passes_ctf_and_lowpass():
    raw, flipped, corrected = (
        simulator(defocus=12.0, ctf=state) for state in ("raw", "phase-flipped", "corrected")
    )
    k = radius_grid((2 * BOX,) * 3, 10.0)
    contrast = ctf(k, 12.0)
    low = (k < 0.025) & (raw.transfer != 0)
    assert np.allclose(raw.transfer[low], contrast[low], atol=1e-5)
    assert np.allclose(flipped.transfer[low], np.abs(contrast[low]), atol=1e-5)
    assert np.allclose(corrected.transfer[low], 1, atol=1e-5)
    assert (contrast[low] < -0.1).any()
    assert np.abs(raw.transfer[k > 0.045]).max() < 0.02


def test_an_envelope_falls_as_a_gaussian_of_the_frequency():
    """Signal with over signal without: exp(-(k / E)^2), E as a fraction of Nyquist."""
    plain, damped = (simulator(envelope=e) for e in (None, 0.4))
    seen = np.abs(plain.transfer) > 1e-6
    k = radius_grid((2 * BOX,) * 3, 10.0)
    wanted = plain.transfer * np.exp(-((k * 20 / 0.4) ** 2))
    assert np.allclose(damped.transfer[seen], wanted[seen], rtol=1e-4)
    assert np.array_equal(plain.detector, damped.detector)


def test_a_lowpass_beyond_nyquist_is_refused():
    with pytest.raises(UserError, match="lowpass"):
        simulator(lowpass=15.0)


def test_item_names_do_not_change_if_items_of_another_class_are_added():
    assert item_names(["a", "b", "a"]) == ["a/0", "b/0", "a/1"]
    assert item_names(["b", "a", "a", "b"])[1:3] == ["a/0", "a/1"]


@pytest.fixture
def sets(tmp_path, density):
    """`d.star`, and `more.star` with one volume more."""
    volumes = np.stack([ndimage.shift(density, s) for s in ((0, 0, 0), (2, 0, 0), (0, 1, 0))])
    table = pd.DataFrame({"cryoetganClass": ["a", "b", "a"], "rlnAngleRot": [1.0, 2.0, 3.0]})
    write_volume_set(tmp_path / "d.star", volumes, table, 10.0)
    write_volume_set(tmp_path / "more.star", volumes[[0, 1, 2, 0]], table.iloc[[0, 1, 2, 0]], 10.0)


def test_the_command_keeps_rows_geometry_and_bytes(cryoetgan, tmp_path, sets):
    words = ("--snr", 0.5, "--tilts=-50,60", "--defocus", 3, "--lowpass", 30, "--seed", 4)
    for source, target in (("d", "one"), ("d", "two"), ("more", "four")):
        cryoetgan("imaging", "simulate", f"{source}.star", *words, "-o", f"{target}.star")
    assert (tmp_path / "one.mrcs").read_bytes() == (tmp_path / "two.mrcs").read_bytes()
    one, more = (read_volume_set(tmp_path / f"{n}.star") for n in ("one", "four"))
    assert list(one.table["cryoetganClass"]) == ["a", "b", "a"]
    assert set(one.table["cryoetganSource"]) == {"simulated"}
    assert one.volumes.mean() == pytest.approx(0, abs=1e-4)
    assert one.volumes.std() == pytest.approx(1, abs=1e-4)
    assert Acquisition.from_optics(one.optics.iloc[0].to_dict()).tilts == (-50, 60)
    for first, second in zip(one.volumes, more.volumes[:3], strict=True):
        assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.999999


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--snr", "0"),
        ("--defocus", "nan"),
        ("--cs", "-1"),
        ("--amplitude-contrast", "1.5"),
        ("--voltage", "inf"),
        ("--ctf", "flipped"),
        ("--lowpass", "0"),
        ("--envelope", "-1"),
    ],
)
def test_a_value_out_of_range_is_named(cryoetgan, tmp_path, sets, option, value):
    given = {"--snr": 1, option: value}
    words = [f"{name}={one}" for name, one in given.items()]
    done = cryoetgan(
        "imaging", "simulate", "d.star", "--tilts=-50,60", *words, "-o", "x.star", code=2
    )
    refused(done, option.removeprefix("--").replace("-", "_"), value)
    assert not (tmp_path / "x.star").exists()


def test_empty_boxes_of_class_other_give_noise_alone(cryoetgan, tmp_path):
    one = np.pad(np.ones((2, 2, 2), np.float32), 7)
    write_volume(tmp_path / "m.mrc", one, 10.0)
    cryoetgan("densities", "other", "m.mrc", "--count", 3, "--unnamed", 0, "-o", "o.star")
    words = ("--snr", 0.5, "--tilts=-60,60", "-o", "x.star")
    cryoetgan("imaging", "simulate", "o.star", *words)
    made = read_volume_set(tmp_path / "x.star")
    assert made.classes() == ["other"]
    assert np.std(made.volumes) == pytest.approx(1, abs=1e-3)
    assert abs(np.corrcoef(made.volumes[0].ravel(), made.volumes[1].ravel())[0, 1]) < 0.2


def test_boxes_of_class_other_share_their_noise_whether_they_are_empty_or_not(tmp_path, cryoetgan):
    light = ndimage.gaussian_filter(np.pad(np.ones((5, 5, 5), np.float32), 7)[:16, :16, :16], 1)
    volumes = np.stack([light, 4 * light, 0 * light, 0 * light, 2 * light])
    table = pd.DataFrame({"cryoetganClass": ["other"] * 5})
    words = ("--snr", 0.1, "--tilts=-60,60", "-o", "x.star")
    for unit in (1e-3, 1e3):  # maps of other programs have any unit
        write_volume_set(tmp_path / "d.star", unit * volumes, table, 10.0)
        cryoetgan("imaging", "simulate", "d.star", *words)
        sds = np.std(np.asarray(read_volume_set(tmp_path / "x.star").volumes), axis=(1, 2, 3))
        assert sds[2:4] == pytest.approx(np.median(sds), rel=0.1)
        assert sds.max() < 1.5 * sds.min()


def test_empty_densities_are_refused(cryoetgan, tmp_path):
    table = pd.DataFrame({"cryoetganClass": ["a", "b"]})
    write_volume_set(tmp_path / "d.star", np.zeros((2, 16, 16, 16), np.float32), table, 10.0)
    words = ("--snr", 0.5, "--tilts=-60,60", "-o", "x.star")
    refused(cryoetgan("imaging", "simulate", "d.star", *words, code=2), "d.star", "everywhere")
    assert not list(tmp_path.glob("x.*"))

"""Fixtures of the stage: commands in this process, since importing torch takes seconds."""

import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cryoetgan.cli import main
from cryoetgan.imaging.model import EnvelopeGain, ImagingModel
from cryoetgan.imaging.noise_spectrum import NoiseSpectrum
from cryoetgan.imaging.pair_correlation import PairCorrelation
from cryoetgan.io.star import ANGLES
from cryoetgan.io.volume_set import write_volume_set
from cryoetgan.physics.acquisition import Acquisition
from tests.translation.helpers import train_in, write_preset


@pytest.fixture
def here(tmp_path, monkeypatch, capfd):
    """Run the command line in this process: `here("translation", "train", ...)`."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object, code: int = 0):
        monkeypatch.setattr(sys, "argv", ["cryoetgan", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert ended.value.code == code, err
        return SimpleNamespace(stdout=out, stderr=err)

    return run


def make_model():
    """Return an imaging model of 16^3 boxes with two classes."""
    axis = np.arange(16) - 8
    r = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2)
    maps = {
        name: np.asarray(np.exp(-(r**2) / width), np.float32)
        for name, width in (("a", 12.0), ("b", 4.0))
    }
    tilts = (-60.0, 60.0)
    return ImagingModel(
        voxel_size=10.0,
        box=16,
        acquisition=Acquisition(tilt_low=-60, tilt_high=60, defocus=3.5, ctf="phase-flipped"),
        gain=EnvelopeGain(np.full((3, 12), 2.0), 1 / 160, 60.0),
        noise_spectrum=NoiseSpectrum(
            np.full((12, 24, 17), 1e3), np.full((24, 17), 2e2), 1 / 320, tilts
        ),
        pair_correlation=PairCorrelation(2e-7, 20.0, np.array([0, 0, 0, 0, 0.5, 1.0])),
        class_fractions={"a": 0.7, "b": 0.2, "other": 0.1},
        maps=maps,
        offset=-0.2,
        tomogram="t1",
    )


@pytest.fixture
def model():
    """Return an imaging model of 16^3 boxes with two classes."""
    return make_model()


def write_densities(folder):
    """Write twelve densities of the model's maps, `d.star`."""
    table = pd.DataFrame({"cryoetganClass": ["a", "b"] * 6})
    rng = np.random.default_rng(3)
    for name in ANGLES:
        table[name] = rng.random(12)
    table["cryoetganSource"] = "density"
    maps = make_model().maps
    volumes = np.stack([maps[name] for name in table["cryoetganClass"]])
    write_volume_set(folder / "d.star", volumes, table, 10.0)


@pytest.fixture
def posed(tmp_path):
    """Write twelve densities of the model's maps; return their STAR file."""
    write_densities(tmp_path)
    return tmp_path / "d.star"


def write_sets(folder):
    """Write twelve densities and subtomograms, eight of them to train on."""
    rng = np.random.default_rng(7)
    optics = pd.DataFrame(
        {
            "rlnOpticsGroup": [1, 2],
            "rlnOpticsGroupName": ["test", "train"],
            "cryoetganTiltLow": [-40.0, -60.0],
            "cryoetganTiltHigh": [40.0, 60.0],
        }
    )
    table = pd.DataFrame({"cryoetganClass": ["a", "b"] * 6, **{a: rng.random(12) for a in ANGLES}})
    table["cryoetganSource"] = "density"
    densities = rng.random((12, 16, 16, 16)).astype(np.float32)
    write_volume_set(folder / "d.star", densities, table, 10.0)
    real = table.assign(
        cryoetganSource="real",
        cryoetganSplit=["train"] * 8 + ["test"] * 4,
        rlnOpticsGroup=[2] * 8 + [1] * 4,
    )
    noise = rng.standard_normal((12, 16, 16, 16)).astype(np.float32) * 2 + 1
    write_volume_set(folder / "s.star", noise, real, 10.0, optics)


@pytest.fixture
def sets(tmp_path):
    """Write sets and a tiny preset of twelve steps; return the options that name them."""
    write_sets(tmp_path)
    write_preset(tmp_path, 12)
    return ("--densities", "d.star", "--subtomograms", "s.star", "--preset", "./p.yaml")


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory):
    """Train four steps in folder t of a folder with sets and preset, once for all tests."""
    folder = tmp_path_factory.mktemp("trained")
    write_sets(folder)
    write_preset(folder, 4)
    train_in(folder)
    return folder


@pytest.fixture
def trained(tmp_path, sets, trained_folder):
    """Copy a trained run to folder t; return the name of its checkpoint."""
    shutil.copytree(trained_folder, tmp_path, dirs_exist_ok=True)
    return "t/checkpoint.pt"

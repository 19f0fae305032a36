"""Fixtures of the stage's tests: commands in this process (a new one imports torch for seconds)."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cryoetgan.cli import main
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.imaging.noise_spectrum import NoiseSpectrum
from cryoetgan.imaging.pair_correlation import PairCorrelation
from cryoetgan.imaging.transfer import EnvelopeGain
from cryoetgan.io.star import ANGLES
from cryoetgan.io.volume_set import write_volume_set
from cryoetgan.physics.acquisition import Acquisition


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


@pytest.fixture
def model(rng):
    """An imaging model of 16^3 boxes with two classes, made by hand."""
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
        class_fractions={"a": 0.7, "b": 0.2, "empty": 0.1},
        maps=maps,
        offset=-0.2,
        tomogram="t1",
    )


@pytest.fixture
def posed(tmp_path, model):
    """Twelve densities of the model's maps: `d.star`."""
    table = pd.DataFrame({"cryoetganClass": ["a", "b"] * 6})
    numbers = np.random.default_rng(3)
    for name in ANGLES:
        table[name] = numbers.random(12)
    table["cryoetganSource"] = "density"
    volumes = np.stack([model.maps[name] for name in table["cryoetganClass"]])
    write_volume_set(tmp_path / "d.star", volumes, table, 10.0)
    return tmp_path / "d.star"

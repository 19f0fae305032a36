"""A small imaging model, and a tomogram simulated with it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from cryoetgan.densities.poses import Poser
from cryoetgan.imaging.fit.fit_data import Picks
from cryoetgan.imaging.model import EnvelopeGain, ImagingModel, add_box
from cryoetgan.imaging.noise_spectrum import NoiseSpectrum
from cryoetgan.imaging.pair_correlation import PairCorrelation
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, write_star
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import random_rotations, relion_from_rotation

BOX, VOXEL = 16, 12.0
TILTS = (-60.0, 60.0)


def blob(*widths: float) -> np.ndarray:
    """A Gaussian of these widths along x, y, z, voxels."""
    axis = np.arange(BOX) - BOX // 2
    x, y, z = (
        np.exp(-(axis**2) / (2 * w**2)).reshape(s)
        for w, s in zip(widths, ((1, 1, -1), (1, -1, 1), (-1, 1, 1)), strict=True)
    )
    return (z * y * x).astype(np.float32)


@pytest.fixture(scope="session")
def maps() -> dict[str, np.ndarray]:
    return {"ball": 40 * blob(1.6, 1.6, 1.6), "rod": 40 * blob(1.2, 1.2, 2.8)}


@pytest.fixture(scope="session")
def known(maps) -> ImagingModel:
    """Coloured noise, weaker in the missing wedge; a gain that falls with frequency."""
    step = 1 / (2 * BOX * VOXEL)
    q, y = np.meshgrid(np.arange(2 * BOX), np.arange(BOX + 1), indexing="ij")
    shape = (1 + 2 * np.exp(-(q**2 + y**2) / 60.0)) * VOXEL**3
    angles = np.linspace(1.3, 0.7, 12)[:, None, None]
    k = np.arange(9)
    gain = np.tile(np.exp(-((k / 6.0) ** 2)), (3, 1))
    return ImagingModel(
        voxel_size=VOXEL,
        box=BOX,
        acquisition=Acquisition(defocus=3.0, ctf="phase-flipped"),
        gain=EnvelopeGain(gain, 2 / (BOX * VOXEL), 60.0),
        noise_spectrum=NoiseSpectrum(angles * shape, 0.05 * shape, step, TILTS),
        pair_correlation=PairCorrelation(1e-8, 20.0, np.array([0.0] * 8 + [1.0] * 8)),
        class_fractions={"ball": 0.5, "rod": 0.5, "other": 0.0},
        maps=maps,
        tomogram="known",
    )


@dataclass
class Known:
    """A tomogram, with the model and the picks from which it was simulated."""

    model: ImagingModel
    data: np.ndarray
    picks: Picks


@pytest.fixture(scope="session")
def tomogram(known) -> Known:
    """Particles on a jittered grid that do not touch, with noise and transfer of `known`."""
    rng = np.random.default_rng(3)
    shape = (64, 96, 96)
    cells = [np.arange(12, n - 11, 12) for n in shape]
    zyx = np.stack(np.meshgrid(*cells, indexing="ij"), axis=-1).reshape(-1, 3)
    zyx = zyx[rng.random(len(zyx)) < 0.5] + rng.integers(-1, 2, (1, 3))
    names = np.array(sorted(known.maps))[rng.integers(2, size=len(zyx))]
    turns = random_rotations(len(zyx), rng)
    scene = np.zeros(shape, np.float32)
    posers = {name: Poser(m) for name, m in known.maps.items()}
    for place, name, turn in zip(zyx, names, turns, strict=True):
        add_box(scene, posers[name](turn, np.zeros(3)), place[::-1])
    data = known.signal(scene) + known.noise(shape, rng)
    return Known(known, data.astype(np.float32), Picks(zyx[:, ::-1].astype(float), names, turns))


@pytest.fixture
def files(tomogram, maps, tmp_path):
    """Write `t.mrc`, `scores.star` (one row a pick and class, the true one best) and the maps."""
    write_volume(tmp_path / "t.mrc", tomogram.data, VOXEL)
    for name, density in maps.items():
        write_volume(tmp_path / f"{name}.mrc", density, VOXEL)
    picks = tomogram.picks
    rows = pd.DataFrame(picks.places, columns=COORDINATES)
    rows[ANGLES] = relion_from_rotation(picks.rotations)
    rows["cryoetganId"] = [f"p{i}" for i in range(len(rows))]
    scored = [
        rows.assign(cryoetganClass=n, cryoetganScore=np.where(picks.names == n, 0.6, 0.3))
        for n in maps
    ]
    write_star(tmp_path / "scores.star", pd.concat(scored, ignore_index=True))
    return tmp_path

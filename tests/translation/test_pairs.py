"""What physics expects at aligned picks is what the tomogram shows there, but for its noise."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from cryoetgan.geometry import relion_from_rotation
from cryoetgan.imaging.data import cut, inside
from cryoetgan.star import ANGLES, COORDINATES, ORIGINS
from cryoetgan.translation.pairs import paired_signals
from cryoetgan.translation.presets import read_preset
from cryoetgan.translation.residual_training import ResidualTrainer
from cryoetgan.translation.scaling import Scaler
from cryoetgan.translation.stock import Scenes
from cryoetgan.volumes import VolumeSet
from tests.imaging.conftest import BOX, VOXEL, known, maps, tomogram

__all__ = ["known", "maps", "tomogram"]


@pytest.fixture
def crops(tomogram, tmp_path) -> VolumeSet:
    picks = tomogram.picks
    rows = inside(picks.places, tomogram.data.shape, BOX)
    table = pd.DataFrame(picks.places, columns=COORDINATES)
    table[ANGLES] = relion_from_rotation(picks.rotations)
    table["cryoetganClass"], table["rlnTomoName"] = picks.names, "known"
    boxes = np.stack([cut(tomogram.data, place, BOX) for place in picks.places[rows]])
    table = table.iloc[rows].reset_index(drop=True)
    return VolumeSet(tmp_path / "s.star", table, pd.DataFrame(), boxes, VOXEL)


def test_an_expected_signal_explains_its_crop_up_to_the_noise(crops, tomogram):
    rows = np.arange(len(crops.table))
    signals = paired_signals(crops, rows, [tomogram.model]).numpy()[:, 0]
    noise = tomogram.model.noise((2 * BOX,) * 3, np.random.default_rng(0))
    left = np.array([box - signal for box, signal in zip(crops.volumes, signals, strict=True)])
    # crops at the edge have neighbours that were cut off: the median crop has none
    variances = left.reshape(len(left), -1).var(axis=1)
    assert np.median(variances) == pytest.approx(noise.var(), rel=0.1)
    turned = np.roll(signals, 1, axis=0)
    others = (crops.volumes - turned).reshape(len(left), -1).var(axis=1)
    assert np.median(others) > 1.1 * np.median(variances)


def test_rows_are_the_chosen_ones(crops, tomogram):
    every = paired_signals(crops, np.arange(len(crops.table)), [tomogram.model])
    some = paired_signals(crops, np.array([5, 2]), [tomogram.model])
    assert torch.equal(some, every[[5, 2]])


def test_a_box_beside_its_particle_shows_it_beside_the_middle(crops, tomogram):
    rows = np.arange(6)
    centred = paired_signals(crops, rows, [tomogram.model])
    moved = crops.table.copy()
    moved[COORDINATES] += [2, 0, -1]  # xyz
    moved[ORIGINS] = np.array([2, 0, -1]) * VOXEL
    beside = paired_signals(replace(crops, table=moved), rows, [tomogram.model])
    away = beside[:, :, 1:, :, :-2] - centred[:, :, :-1, :, 2:]
    # the scene wraps around at its edges: not to the last digit
    assert away.std() < 0.05 * centred.std()


@pytest.mark.parametrize("column", [ANGLES[0], "cryoetganClass", "rlnTomoName"])
def test_without_what_matching_found_there_are_no_pairs(crops, tomogram, column):
    lacking = replace(crops, table=crops.table.drop(columns=column))
    assert paired_signals(lacking, np.arange(3), [tomogram.model]) is None


def test_crops_of_a_tomogram_without_a_model_are_no_pairs(crops, tomogram):
    other = replace(tomogram.model, tomogram="other")
    assert paired_signals(crops, np.arange(3), [other]) is None


def test_pairs_teach_a_contrast_that_physics_lacks():
    """Crops show twice the signal: the mean over noises learns it, at the same cosine."""
    torch.manual_seed(0)
    settings = replace(
        read_preset("recommended"), width=8, blocks=1, critic_widths=(4, 8), batch=8, steps=60,
        pair_weight=10.0, lr_generator=5e-3, ema=0.9, augment=False,
    )  # fmt: skip
    u = torch.nn.functional.avg_pool3d(torch.randn(24, 1, 14, 14, 14), 3, 1)
    n = 0.5 * torch.randn_like(u)
    real = 2 * u + 0.5 * torch.randn_like(u)
    stock = Scenes(u, n, u.half(), torch.zeros(len(u), dtype=torch.long))
    scalers = Scaler(0.0, 1.0), Scaler(0.0, 1.0)
    trainer = ResidualTrainer(settings, stock, real, scalers, True, torch.device("cpu"), 0, u)
    trainer.run(60)
    with torch.no_grad():
        mean = (trainer.average(u, n) + trainer.average(u, -n)) / 2
    factor = float((mean * u).sum() / u.square().sum())
    assert 1.6 < factor < 2.3
    assert trainer.last["label"] < 0.05

"""Whole tomograms: the same whatever the tiles, physics where nothing was learnt."""

import numpy as np
import pytest
import torch

from cryoetgan.imaging.model import crop
from cryoetgan.translation.residual import ResidualGenerator
from cryoetgan.translation.scaling import Scaler
from cryoetgan.translation.synthesis import Synthesizer, cut, tiles, white_noise

GREY = Scaler(0.0, 0.8, bounded=False)


@pytest.fixture
def learnt():
    """A generator that changes what it is given."""
    torch.manual_seed(1)
    generator = ResidualGenerator(4, 1)
    torch.nn.init.normal_(generator.change.last.weight, 0.0, 0.2)
    torch.nn.init.normal_(generator.change.last.bias, 0.0, 0.2)
    return generator.eval()


def whole(made, scene, core):
    out = np.full(scene.shape, np.nan, np.float32)
    for corner, shape in tiles(scene.shape, core):
        out[tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))] = made.part(
            scene, corner, shape
        )
    return out


def test_two_tilings_give_the_same_tomogram_without_seams(model, learnt, rng):
    scene = rng.random((30, 41, 37)).astype(np.float32)
    made = Synthesizer(model, learnt, GREY, torch.device("cpu"), 5)
    one, many = whole(made, scene, 64), whole(made, scene, 17)
    assert np.isfinite(one).all()
    assert np.abs(one - many).max() < 1e-5 * one.std() + 1e-5
    assert made.halo == learnt.radius() + model.box
    other = whole(Synthesizer(model, learnt, GREY, torch.device("cpu"), 6), scene, 64)
    assert np.abs(one - other).max() > 0.1 * one.std()


def test_untrained_it_is_the_imaging_model(model):
    made = Synthesizer(model, ResidualGenerator(4, 1), GREY, torch.device("cpu"), 0)
    scene = np.zeros((32, 32, 32), np.float32)
    scene[14:18, 15:19, 16:17] = 1.0
    empty = whole(made, np.zeros_like(scene), 40)
    signal = whole(made, scene, 40) - empty
    wanted = model.signal(scene) - model.offset
    # the model's own transform wraps around at the faces, the kernel does not
    inner = tuple(slice(8, 24) for _ in range(3))
    assert np.abs(signal - wanted)[inner].max() < 0.02 * np.abs(wanted).max()
    boxes = [crop(model.noise((32, 32, 32), np.random.default_rng(i)), 16) for i in range(20)]
    assert empty.std() == pytest.approx(np.std(boxes), rel=0.05)
    assert empty.mean() == pytest.approx(model.offset, abs=0.05)


def test_noise_belongs_to_the_place():
    block = white_noise(1, (-5, 30, 10), (40, 20, 30))
    part = white_noise(1, (3, 31, 20), (10, 9, 8))
    assert np.array_equal(block[8:18, 1:10, 10:18], part)
    assert block.std() == pytest.approx(1, abs=0.02)
    assert not np.array_equal(block, white_noise(2, (-5, 30, 10), (40, 20, 30)))


def test_beyond_the_scene_lies_nothing():
    scene = np.ones((4, 5, 6), np.float32)
    part = cut(scene, (-1, 2, 4), (3, 3, 4))
    assert part.sum() == 2 * 3 * 2
    assert part[0].sum() == 0
    assert cut(scene, (10, 10, 10), (2, 2, 2)).sum() == 0

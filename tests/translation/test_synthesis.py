"""Whole tomograms: the same whatever the tiles, physics where nothing was learnt."""

import numpy as np
import pytest
import torch

from cryoetgan.imaging.simulate.tiling import TiledSimulator
from cryoetgan.physics.geometry import tiles
from cryoetgan.translation.engine.scaling import Scaler
from cryoetgan.translation.residual.networks import ResidualGenerator
from cryoetgan.translation.synthesize import Synthesizer

GREY = Scaler(0.0, 0.8, bounded=False)


@pytest.fixture
def learnt():
    """A generator that changes what it is given."""
    torch.manual_seed(1)
    generator = ResidualGenerator(2, 4)
    with torch.no_grad():
        for stage in generator.stages:
            stage.linear.uniform_(0.0, 0.2)
            stage.bounded.uniform_(0.0, 0.2)
        generator.bend.normal_(0.0, 0.2)
    return generator.eval()


def synthesizer(model, generator, seed=5):
    return Synthesizer(TiledSimulator(model, seed, "t"), generator, GREY, torch.device("cpu"))


def whole(made, scene, core):
    out = np.full(scene.shape, np.nan, np.float32)
    for corner, shape in tiles(scene.shape, core):
        out[tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))] = (
            made.simulate_block(scene, corner, shape)
        )
    return out


def test_two_tilings_give_the_same_tomogram_without_seams(model, learnt, rng):
    scene = rng.random((30, 41, 37)).astype(np.float32)
    made = synthesizer(model, learnt)
    one, many = whole(made, scene, 64), whole(made, scene, 17)
    assert np.isfinite(one).all()
    assert np.abs(one - many).max() < 1e-5 * one.std() + 1e-5
    assert made.halo == learnt.radius() + model.box
    other = whole(synthesizer(model, learnt, 6), scene, 64)
    assert np.abs(one - other).max() > 0.1 * one.std()


def test_a_network_has_no_edge_at_the_faces(model, learnt):
    """Noise and field go on beyond the faces: nothing is padded with zeros there."""
    scene = np.zeros((24, 30, 30), np.float32)
    made = synthesizer(model, learnt)
    out = whole(made, scene, 16)
    larger = made.simulate_block(scene, (-5, -5, -5), (34, 40, 40))
    assert np.allclose(out, larger[5:-5, 5:-5, 5:-5], atol=1e-5)
    assert out[:2].std() == pytest.approx(out[6:-6].std(), rel=0.1)


def test_untrained_it_is_the_imaging_model(model, rng):
    scene = rng.random((20, 24, 26)).astype(np.float32)
    made = whole(synthesizer(model, ResidualGenerator(2, 4)), scene, 40)
    physics = whole(TiledSimulator(model, 5, "t"), scene, 15)
    assert np.allclose(made, physics, atol=1e-5 * physics.std())

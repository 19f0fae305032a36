"""Whole tomograms: independent of the tiles, equal to the simulation before training."""

import numpy as np
import pytest
import torch

from cryoetgan.imaging.simulate.tiling import TiledSimulator
from cryoetgan.physics.geometry import block_slices, tiles
from cryoetgan.translation.engine.scaling import Scaler
from cryoetgan.translation.residual.networks import ResidualGenerator
from cryoetgan.translation.synthesize import TiledGenerator

SCALER = Scaler(0.0, 0.8, bounded=False)


@pytest.fixture
def trained():
    """Return a generator that changes its input."""
    torch.manual_seed(1)
    generator = ResidualGenerator(2, 4)
    with torch.no_grad():
        for stage in generator.stages:
            stage.linear.uniform_(0.0, 0.2)
            stage.bounded.uniform_(0.0, 0.2)
        generator.bend.normal_(0.0, 0.2)
    return generator.eval()


def tiled_generator(model, generator, seed=5):
    return TiledGenerator(TiledSimulator(model, seed, "t"), generator, SCALER, torch.device("cpu"))


def simulate(simulator, scene, edge):
    """Return the tomogram of a scene, made in tiles of `edge` voxels."""
    out = np.full(scene.shape, np.nan, np.float32)
    for corner, shape in tiles(scene.shape, edge):
        out[block_slices(corner, shape)] = simulator.simulate_block(scene, corner, shape)
    return out


def test_two_tilings_give_the_same_tomogram_without_seams(model, trained, rng):
    scene = rng.random((30, 41, 37)).astype(np.float32)
    made = tiled_generator(model, trained)
    one, many = simulate(made, scene, 64), simulate(made, scene, 17)
    assert np.isfinite(one).all()
    assert np.abs(one - many).max() < 1e-5 * one.std() + 1e-5
    assert made.simulator.halo == model.box
    other = simulate(tiled_generator(model, trained, 6), scene, 64)
    assert np.abs(one - other).max() > 0.1 * one.std()


def test_a_network_has_no_edge_at_the_faces(model, trained):
    """Noise continues beyond the faces: nothing is padded with zeros there."""
    scene = np.zeros((24, 30, 30), np.float32)
    made = tiled_generator(model, trained)
    out = simulate(made, scene, 16)
    larger = made.simulate_block(scene, (-5, -5, -5), (34, 40, 40))
    assert np.allclose(out, larger[5:-5, 5:-5, 5:-5], atol=1e-5)
    assert out[:2].std() == pytest.approx(out[6:-6].std(), rel=0.1)


def test_the_untrained_network_is_the_simulation(model, rng):
    scene = rng.random((20, 24, 26)).astype(np.float32)
    made = simulate(tiled_generator(model, ResidualGenerator(2, 4)), scene, 40)
    simulated = simulate(TiledSimulator(model, 5, "t"), scene, 15)
    assert np.allclose(made, simulated, atol=1e-5 * simulated.std())

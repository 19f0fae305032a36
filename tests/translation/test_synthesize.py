"""Whole tomograms: independent of the tiles, equal to the inputs before training."""

import math

import numpy as np
import pytest
import torch

from cryoetgan.imaging.simulate.tiling import TiledSimulator, white_noise
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.physics.geometry import block_slices, tiles
from cryoetgan.translation.cyclegan.networks import DENSITY_GAIN, FilterGenerator
from cryoetgan.translation.engine.scaling import Scaler
from cryoetgan.translation.residual.networks import ResidualGenerator
from cryoetgan.translation.synthesize import TiledGenerator, density_inputs, physics_inputs
from tests.conftest import refused
from tests.translation.helpers import train_in, write_preset

SCALER = Scaler(0.0, 0.8, limit=math.inf)
DENSITIES = Scaler(0.0, 0.7)
SYNTHESIZE = ("translation", "synthesize", "t/checkpoint.pt", "scene.mrc")


def changed(generator):
    """Return a generator whose parameters are random, so that it changes its input."""
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter += 0.05 * torch.rand_like(parameter)
    return generator.eval()


def residual_generator(model, generator, seed=5):
    inputs = physics_inputs(TiledSimulator(model, seed, "t"), SCALER)
    return TiledGenerator(inputs, generator, SCALER, torch.device("cpu"))


def filter_generator(model, generator, seed=5):
    inputs = density_inputs(DENSITIES, 0.1, True, seed, "t", 0.9)
    return TiledGenerator(inputs, generator, SCALER, torch.device("cpu"))


@pytest.fixture(
    params=[
        (residual_generator, lambda: ResidualGenerator(2, 4)),
        (filter_generator, lambda: FilterGenerator(7, 4)),
    ],
    ids=["residual", "filters"],
)
def made(request, model):
    """Return a function of the seed: a tiled generator that changes its input."""
    torch.manual_seed(1)
    tiled, network = request.param
    generator = changed(network())
    return lambda seed=5: tiled(model, generator, seed)


def simulate(simulator, scene, edge):
    """Return the tomogram of a scene, made in tiles of `edge` voxels."""
    out = np.full(scene.shape, np.nan, np.float32)
    for corner, shape in tiles(scene.shape, edge):
        out[block_slices(corner, shape)] = simulator.simulate_block(scene, corner, shape)
    return out


def test_two_tilings_give_the_same_tomogram_without_seams(made, rng):
    scene = rng.random((30, 41, 37)).astype(np.float32)
    one, many = simulate(made(), scene, 64), simulate(made(), scene, 17)
    assert np.isfinite(one).all()
    assert np.abs(one - many).max() < 1e-5 * one.std() + 1e-5
    assert np.abs(one - simulate(made(6), scene, 64)).max() > 0.1 * one.std()


def test_a_network_has_no_edge_at_the_faces(made):
    """Noise continues beyond the faces: nothing is padded with zeros there."""
    scene = np.zeros((24, 30, 30), np.float32)
    out = simulate(made(), scene, 16)
    larger = made().simulate_block(scene, (-5, -5, -5), (34, 40, 40))
    assert np.allclose(out, larger[5:-5, 5:-5, 5:-5], atol=1e-5)
    assert out[:2].std() == pytest.approx(out[6:-6].std(), rel=0.1)


def test_the_radius_is_the_farthest_voxel_that_an_output_depends_on(made):
    network = made().generator
    point = torch.zeros(1, 1, 41, 41, 41)
    inputs = (point, torch.zeros_like(point))
    before = network(*inputs)
    point[..., 20, 20, 20] = 1.0
    reached = torch.nonzero((network(*inputs) - before)[0, 0].abs() > 1e-5) - 20
    assert reached.abs().max() == network.radius()


def test_the_untrained_residual_network_is_the_simulation(model, rng):
    scene = rng.random((20, 24, 26)).astype(np.float32)
    made = simulate(residual_generator(model, ResidualGenerator(2, 4)), scene, 40)
    simulated = simulate(TiledSimulator(model, 5, "t"), scene, 15)
    assert np.allclose(made, simulated, atol=1e-5 * simulated.std())


def test_the_untrained_filters_add_white_noise_to_the_density(rng):
    scene = rng.random((20, 24, 26)).astype(np.float32)
    inputs = density_inputs(DENSITIES, 0.0, True, 5, "t", 0.9)
    generator = TiledGenerator(inputs, FilterGenerator(7, 4), SCALER, torch.device("cpu"))
    noise = white_noise(5, "t", (0, 0, 0), scene.shape)
    expected = SCALER.scale * (DENSITY_GAIN * np.minimum(0.9 * scene / DENSITIES.scale, 1) + noise)
    assert np.allclose(simulate(generator, scene, 15), expected, atol=1e-4)


def test_a_trained_cyclegan_makes_tomograms_if_it_has_no_instance_norm(here, tmp_path, sets, rng):
    write_volume(tmp_path / "scene.mrc", rng.random((20, 24, 28)).astype(np.float32), 10.0)
    write_preset(tmp_path, 2, "generator: filters\nfilter_size: 5\nnoise_generators: ds\n")
    train_in(tmp_path)
    for folder, tile in (("one", 96), ("tiled", 10)):
        here(*SYNTHESIZE, "--tile", tile, "-o", f"{folder}/T.mrc")
    one, tiled = (read_volume(tmp_path / folder / "T.mrc").data for folder in ("one", "tiled"))
    assert np.abs(one - tiled).max() < 1e-4 * one.std()
    refused(here(*SYNTHESIZE, "--tomogram", "no", "-o", "X.mrc", code=2), "has train")


def test_instance_norm_is_refused_with_the_presets_to_use(here, tmp_path, trained, rng):
    write_volume(tmp_path / "scene.mrc", rng.random((20, 24, 28)).astype(np.float32), 10.0)
    refused(here(*SYNTHESIZE, "-o", "X.mrc", code=2), "instance norm", "cyclegan or recommended")

"""Tiled simulation: the result does not depend on the tiles."""

import numpy as np
import pytest

from cryoetgan.imaging.model import crop_centre
from cryoetgan.imaging.simulate.tiling import TiledSimulator, read_padded, white_noise
from cryoetgan.physics.geometry import block_slices, tiles


def simulate(simulator, scene, tile):
    out = np.full(scene.shape, np.nan, np.float32)
    for corner, shape in tiles(scene.shape, tile):
        out[block_slices(corner, shape)] = simulator.simulate_block(scene, corner, shape)
    return out


def test_two_tilings_give_the_same_tomogram(known, rng):
    scene = rng.random((30, 41, 37)).astype(np.float32)
    simulator = TiledSimulator(known, 5, "t")
    one, many = simulate(simulator, scene, 64), simulate(simulator, scene, 17)
    assert np.isfinite(one).all()
    assert np.abs(one - many).max() < 1e-5 * one.std() + 1e-5
    scaled = simulate(TiledSimulator(known, 5, "t", scale=2.0), scene / 2, 64)
    assert np.allclose(one, scaled, atol=1e-4 * one.std())


def test_signal_and_noise_are_those_of_the_imaging_model(known):
    simulator = TiledSimulator(known, 0, "t")
    scene = np.zeros((32, 32, 32), np.float32)
    scene[14:18, 15:19, 16:17] = 10.0
    noise = simulate(simulator, np.zeros_like(scene), 40)
    signal = simulate(simulator, scene, 40) - noise
    wanted = known.signal(scene) - known.offset
    # the Fourier transform of the model wraps around at the faces, the kernel does not
    inner = (slice(8, 24),) * 3
    assert np.abs(signal - wanted)[inner].max() < 0.02 * np.abs(wanted).max()
    boxes = [
        crop_centre(known.noise((32, 32, 32), np.random.default_rng(i)), 16) for i in range(20)
    ]
    assert noise.std() == pytest.approx(np.std(boxes), rel=0.05)


def test_the_noise_has_no_seams(known):
    """At faces and between tiles, values and their steps vary as they do elsewhere."""
    out = simulate(TiledSimulator(known, 3, "t"), np.zeros((48, 64, 64), np.float32), 16)
    for axis in range(3):
        planes = np.moveaxis(out, axis, 0)
        faces = np.concatenate([planes[:3], planes[-3:]])
        assert faces.std() == pytest.approx(planes[5:-5].std(), rel=0.06)
        steps = np.abs(np.diff(planes, axis=0)).mean(axis=(1, 2))
        assert steps[15::16].mean() == pytest.approx(
            np.delete(steps, slice(15, None, 16)).mean(), rel=0.03
        )


def test_white_noise_is_a_function_of_place_and_tomogram():
    block = white_noise(1, "t", (-5, 30, 10), (40, 20, 30))
    part = white_noise(1, "t", (3, 31, 20), (10, 9, 8))
    assert np.array_equal(block[8:18, 1:10, 10:18], part)
    assert block.std() == pytest.approx(1, abs=0.02)
    for seed, name in ((2, "t"), (1, "u")):
        other = white_noise(seed, name, (-5, 30, 10), (40, 20, 30))
        assert abs(np.corrcoef(block.ravel(), other.ravel())[0, 1]) < 0.03


def test_a_scene_is_zero_beyond_its_faces():
    scene = np.ones((4, 5, 6), np.float32)
    part = read_padded(scene, (-1, 2, 4), (3, 3, 4))
    assert part.sum() == 2 * 3 * 2
    assert part[0].sum() == 0
    assert read_padded(scene, (10, 10, 10), (2, 2, 2)).sum() == 0

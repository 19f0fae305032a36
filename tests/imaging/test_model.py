"""The imaging model: its halves, its files, what it refuses."""

import gc
import json
import weakref
from dataclasses import replace

import numpy as np
import pytest

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import EnvelopeGain, add_box, crop_centre, transfer_function
from cryoetgan.imaging.pair_correlation import PairCorrelation
from cryoetgan.imaging.storage import from_parts, load_model, save_model, to_parts
from cryoetgan.physics.optics import missing_wedge, radius_grid
from tests.imaging.conftest import BOX, TILTS, VOXEL


def test_the_signal_is_the_density_times_the_transfer(known, maps):
    scene = np.zeros((32,) * 3, np.float32)
    scene[8:24, 8:24, 8:24] = maps["rod"]
    seen = known.signal(scene)
    wanted = np.fft.irfftn(
        np.fft.rfftn(scene.astype(float))
        * transfer_function((32,) * 3, VOXEL, known.acquisition, known.gain),
        s=scene.shape,
        axes=(0, 1, 2),
    )
    assert np.allclose(seen, wanted, atol=1e-4 * np.abs(wanted).max())
    assert np.allclose(known.signal(2 * scene), 2 * seen, atol=1e-4 * np.abs(seen).max())


def test_the_noise_has_the_power_of_its_table(known):
    shape = (32, 32, 32)
    rng = np.random.default_rng(0)
    power = sum(np.abs(np.fft.rfftn(known.noise(shape, rng).astype(float))) ** 2 for _ in range(40))
    density = power / 40 / np.prod(shape) * VOXEL**3
    wanted = known.noise_spectrum.interpolate(shape, VOXEL)
    seen = missing_wedge(shape, TILTS)
    k = radius_grid(shape, VOXEL)
    for low, high in ((0.005, 0.015), (0.015, 0.03), (0.03, 0.05)):
        for part in (seen, ~seen):
            here = part & (k > low) & (k <= high)
            assert density[here].mean() == pytest.approx(wanted[here].mean(), rel=0.03)


def test_noise_of_any_size_has_one_variance(known):
    rng = np.random.default_rng(1)
    small = np.var([known.noise((32, 32, 32), rng) for _ in range(10)])
    assert known.noise((48, 80, 64), rng).var() == pytest.approx(small, rel=0.05)


def test_a_model_is_freed_with_its_filters(known):
    """Without a cycle: a fit replaces its model many times, and filters are large."""
    model = replace(known)
    model.signal_and_noise(None, np.zeros(3), np.random.default_rng(0))
    alive = weakref.ref(model.transfer)
    gc.disable()
    try:
        del model
        assert alive() is None
    finally:
        gc.enable()


def test_halves_are_one_box_of_signal_and_one_of_noise(known, maps):
    first, second = (
        known.signal_and_noise(maps["rod"], np.zeros(3), np.random.default_rng(5)) for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        assert a.shape == (BOX,) * 3
        assert a.dtype == np.float32
        assert np.array_equal(a, b)
    alone, noise = known.signal_and_noise(maps["rod"], np.zeros(3), np.random.default_rng(5), False)
    scene = np.zeros((2 * BOX,) * 3, np.float32)
    scene[8:24, 8:24, 8:24] = maps["rod"]
    assert np.allclose(alone, crop_centre(known.signal(scene), BOX), atol=1e-5)
    empty, _ = known.signal_and_noise(None, np.zeros(3), np.random.default_rng(5), False)
    assert np.abs(empty).max() < 1e-6
    assert noise.std() > 0.5


def test_a_gain_is_what_its_table_says_between_its_entries():
    gain = EnvelopeGain(np.array([[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]), 0.01, 60.0)
    assert gain.interpolate(np.array([0.01]), np.array([15.0])) == pytest.approx(3)
    assert gain.interpolate(np.array([0.015]), np.array([-15.0])) == pytest.approx(4)
    assert gain.interpolate(np.array([0.01]), np.array([30.0])) == pytest.approx(3.5)
    assert gain.interpolate(np.array([9.0]), np.array([90.0])) == pytest.approx(6)


def test_a_model_comes_back_from_its_files_as_it_was(known, tmp_path):
    for name in ("one", "two"):
        save_model(known, tmp_path / f"{name}.json")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    back = load_model(tmp_path / "one.json")
    assert back.acquisition == known.acquisition
    assert dict(back.class_fractions) == dict(known.class_fractions)
    assert back.tomogram == "known"
    made = [
        m.signal_and_noise(m.maps["ball"], np.ones(3), np.random.default_rng(2))
        for m in (known, back)
    ]
    assert np.allclose(made[0][0], made[1][0], atol=1e-5)
    assert np.allclose(made[0][1], made[1][1], rtol=1e-3, atol=1e-5)


def test_surroundings_add_their_power_to_the_noise_inside_the_tilt_range(known, tmp_path):
    around = EnvelopeGain(np.full((3, 9), 2.0), 1 / (BOX * VOXEL), 60.0)
    crowded = replace(known, surroundings=around)
    shape = (2 * BOX,) * 3
    added = crowded.noise_filter(shape) ** 2 - known.noise_filter(shape) ** 2
    inside = missing_wedge(shape, TILTS)
    inside[0, 0, 0] = False
    assert added[inside] == pytest.approx(4, rel=1e-3)
    assert np.abs(added[~inside]).max() < 1e-4
    save_model(crowded, tmp_path / "M.json")
    back = load_model(tmp_path / "M.json")
    assert np.array_equal(back.surroundings.values, around.values)
    assert (back.surroundings.step, back.surroundings.max_tilt) == (around.step, 60.0)


def test_noise_scales_with_a_factor_of_frequency_and_tilt(known):
    k, noise = np.array([0.0, 1.0]), known.noise_spectrum
    # low tilts, high tilts, the missing wedge
    half = noise.scale(k, np.array([[1.0, 1.0], [0.5, 0.5], [0.25, 0.25]]))
    angles = TILTS[0] + (np.arange(len(noise.seen)) + 0.5) * 120 / len(noise.seen)
    for angle, before, after in zip(angles, noise.seen, half.seen, strict=True):
        assert np.allclose(after, before * (1.0 if abs(angle) < 30 else 0.5))
    assert np.allclose(half.unseen, noise.unseen / 4)
    rising = noise.scale(k, np.array([k, k])).seen / noise.seen
    assert rising[0, 3, 4] == pytest.approx(5 * noise.step)


def test_its_parts_are_plain_numbers_words_and_arrays(known):
    calibrated = replace(known.pair_correlation, acceptance_correction=1.5)
    model = replace(known, pair_correlation=calibrated, offset=0.25, about={"picks": 3})
    content, arrays = to_parts(model)
    assert json.loads(json.dumps(content)) == content
    assert all(value.dtype.kind == "f" for value in arrays.values())
    assert to_parts(from_parts(content, arrays, "x"))[0] == content


def test_broken_files_are_named(known, tmp_path):
    path = tmp_path / "m.json"
    save_model(known, path)
    with pytest.raises(UserError, match=r"end it in \.json"):
        save_model(known, tmp_path / "m.txt")
    beside = path.with_suffix(".npz")
    whole = beside.read_bytes()
    beside.write_bytes(whole[:-20])
    with pytest.raises(UserError, match="does not belong"):
        load_model(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"arrays": {}}))
    with pytest.raises(UserError, match="cannot be read"):
        load_model(path)
    beside.write_bytes(whole)
    for change, word in (({"format": 0}, "format 0"), ({"gain": {}}, "not an imaging model")):
        path.write_text(json.dumps(content | change))
        with pytest.raises(UserError, match=word):
            load_model(path)
    path.write_text("[]")
    with pytest.raises(UserError, match="wanted keys and values"):
        load_model(path)
    beside.unlink()
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"m\.npz"):
        load_model(path)


def test_no_object_is_ever_unpickled(known, tmp_path):
    path = tmp_path / "m.json"
    save_model(known, path)
    np.savez(path.with_suffix(".npz"), gain=np.array([{"a": 1}], object))
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"arrays": {}}))
    with pytest.raises(UserError, match="cannot be read"):
        load_model(path)


def test_a_box_is_added_with_voxel_n_half_at_its_centre(rng):
    scene = np.zeros((12, 12, 12), np.float32)
    box = rng.normal(size=(4, 4, 4)).astype(np.float32)
    add_box(scene, box, (7, 6, 5))  # xyz
    assert scene[5, 6, 7] == box[2, 2, 2]
    assert scene.sum() == pytest.approx(box.sum(), rel=1e-5)


def test_a_box_is_clipped_at_the_faces_of_the_scene(rng):
    scene = np.zeros((12, 12, 12), np.float32)
    box = rng.normal(size=(4, 4, 4)).astype(np.float32)
    add_box(scene, box, (0, 0, 0))
    assert np.array_equal(scene[:2, :2, :2], box[2:, 2:, 2:])
    add_box(scene, box, (90, 0, 0))
    assert np.count_nonzero(scene) == 8


def test_neighbours_surround_the_particle_and_not_the_box(known):
    """With an exclusion of 8 voxels around a shifted centre, none lies nearer to it."""
    dot = np.zeros((8, 8, 8), np.float32)
    dot[4, 4, 4] = 1
    spacing = PairCorrelation(3e-7, VOXEL, np.r_[np.zeros(8), np.ones(10)])
    fractions = {"dot": 1.0}
    model = replace(known, pair_correlation=spacing, maps={"dot": dot}, class_fractions=fractions)
    shift = np.array([5.0, 0.0, 0.0])
    near = []
    for seed in range(60):
        scene = model.build_scene(None, shift, np.random.default_rng(seed))
        places = np.argwhere(scene > 0.5)[:, ::-1]
        if len(places):
            near.append(np.linalg.norm(places - (BOX + shift), axis=1).min())
    assert len(near) > 30
    assert min(near) > 6  # half a voxel of rounding along each axis


def test_without_neighbours_the_scene_holds_the_target_alone(known, maps, rng):
    scene = known.build_scene(maps["ball"], np.ones(3), rng, neighbours=False)
    assert np.array_equal(scene[8:24, 8:24, 8:24], maps["ball"])
    assert scene.sum() == pytest.approx(maps["ball"].sum(), rel=1e-5)

"""Packing: no overlap, a truth that fits, every free position found."""

import numpy as np
import pytest

from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.physics.geometry import rotate_volume, rotation_from_relion
from cryoetgan.tomograms.simulation.packing import (
    MASK_LEVEL,
    FreePlaces,
    empty_scene,
    pack,
)
from cryoetgan.tomograms.simulation.waiting_parts import WaitingParts


@pytest.fixture(scope="module")
def blob():
    z, y, x = np.indices((24, 24, 24)) - 12.0
    return np.exp(-(x**2 / 18 + (y - 2) ** 2 / 8 + (z + 1) ** 2 / 30))


def pack_scene(maps, copies, shape, seed=1):
    scene = empty_scene(shape, list(maps))
    pack(scene, maps, copies, "t", seed)
    return scene


def test_no_two_masks_share_a_voxel_and_the_truth_finds_the_particles(blob):
    maps = {"a": blob, "b": np.roll(blob, 3, 0)}
    scene = pack_scene(maps, {"a": 8, "b": 8}, (40, 64, 64))
    assert len(scene.rows) == 16
    total, masks = np.zeros((2, 40, 64, 64))
    for row in scene.rows:
        centre = np.array([row[c] for c in COORDINATES])
        whole = np.round(centre).astype(int)
        rotation = rotation_from_relion([row[a] for a in ANGLES])
        turned = rotate_volume(maps[row["cryoetganClass"]], rotation, centre - whole)
        places = np.argwhere(turned > 1e-9) - 12 + whole[::-1]
        places = places[((places >= 0) & (places < total.shape)).all(axis=1)]
        values = turned[tuple((places + 12 - whole[::-1]).T)]
        total[tuple(places.T)] += values
        masks[tuple(places.T)] += values > MASK_LEVEL * blob.max()
    assert np.corrcoef(total.ravel(), scene.density.ravel())[0, 1] > 0.999
    assert masks.max() == 1
    assert ((scene.labels > 0) == (masks > 0)).mean() > 0.999
    for number, name in enumerate("ab", start=1):
        at = [[row[c] for c in COORDINATES] for row in scene.rows if row["cryoetganClass"] == name]
        assert len(at) == 8
        assert scene.names[name] == number


def test_positions_are_subvoxel_and_orientations_uniform():
    small = np.zeros((4, 4, 4))
    small[2, 2, 2] = 1
    scene = pack_scene({"a": small}, {"a": 400}, (48, 48, 48))
    places = np.array([[row[c] for c in COORDINATES] for row in scene.rows])
    rests = np.mod(places, 1)
    assert np.abs(rests.mean(axis=0) - 0.5).max() < 0.06
    # Haar: the z axis is uniform on the sphere, so its z component is uniform in (-1, 1)
    angles = np.array([[row[a] for a in ANGLES] for row in scene.rows])
    up = rotation_from_relion(angles).apply([0, 0, 1])[:, 2]
    assert abs(up.mean()) < 0.1
    assert up.var() == pytest.approx(1 / 3, abs=0.05)


def test_copies_that_do_not_fit_are_counted(blob):
    scene = pack_scene({"a": blob}, {"a": 500}, (28, 28, 28))
    assert scene.missing["a"] + len(scene.rows) == 500
    assert scene.missing["a"] > 400
    assert "a" not in pack_scene({"a": blob}, {"a": 2}, (40, 40, 40)).missing


def test_every_class_gets_its_share_if_not_all_fit(blob):
    maps = {"a": blob, "b": np.roll(blob, 1, 0), "c": blob.transpose(2, 1, 0)}
    scene = pack_scene(maps, {"a": 300, "b": 300, "c": 10}, (48, 48, 48))
    placed = {name: sum(row["cryoetganClass"] == name for row in scene.rows) for name in maps}
    assert abs(placed["a"] - placed["b"]) <= 0.4 * placed["a"]
    assert placed["c"] >= 8
    assert set(scene.missing) >= {"a", "b"}


def test_the_last_free_place_is_found():
    occupied = np.ones((30, 40, 50), bool)
    occupied[11:16, 20:24, 7:13] = False
    mask = np.zeros((12, 12, 12), bool)
    mask[4:9, 5:9, 3:9] = True
    place = FreePlaces(occupied).find(mask, np.random.default_rng(1))
    assert tuple(place) == (11 - 4 + 6, 20 - 5 + 6, 7 - 3 + 6)
    occupied[13, 21, 9] = True
    assert FreePlaces(occupied).find(mask, np.random.default_rng(1)) is None


def test_masks_not_spheres_decide_what_fits():
    """Rods as long as the box lie side by side; balls around them would not."""
    rod = np.zeros((24, 24, 24))
    rod[2:22, 11:14, 11:14] = 1
    scene = pack_scene({"rod": rod}, {"rod": 60}, (40, 40, 40))
    assert len(scene.rows) > 4  # balls of diameter 24: no more than 1 in 40^3


def test_another_class_leaves_the_poses_of_the_others_unchanged(blob):
    one = pack_scene({"a": blob}, {"a": 3}, (60, 60, 60))
    two = pack_scene({"a": blob, "b": blob[::-1] * 0.5}, {"a": 3, "b": 3}, (60, 60, 60))
    first = [row[ANGLES[0]] for row in one.rows]
    assert first == [row[ANGLES[0]] for row in two.rows if row["cryoetganClass"] == "a"]


def test_all_free_positions_are_found_and_no_other(rng):
    """By brute force; the positions lie in several blocks and across their borders."""
    mask = rng.random((5, 5, 5)) > 0.4
    occupied = rng.random((9, 60, 55)) < 0.08
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(occupied, 5), (5, 5, 5))
    shift, filled = 2 - 5, np.argwhere(mask)
    inside = [
        tuple(centre)
        for centre in np.argwhere(~(windows & mask).any(axis=(3, 4, 5))) + shift
        if ((centre + filled - 2 >= 0) & (centre + filled - 2 < occupied.shape)).all()
    ]
    for place in inside[::20]:
        alone = np.ones_like(occupied)
        alone[tuple((np.array(place) + filled - 2).T)] = False
        assert tuple(FreePlaces(alone).find(mask, rng)) == place
    found = {tuple(FreePlaces(occupied).find(mask, rng)) for _ in range(40)}
    assert found <= set(inside)
    assert len(found) > 1


def test_a_full_block_is_not_searched_again(rng):
    places = FreePlaces(np.ones((20, 20, 20), bool))
    mask = np.ones((4, 4, 4), bool)
    for _ in range(3):
        assert places.any_left
        assert places.find(mask, rng) is None
    assert not places.any_left


def test_packing_stops_at_the_wanted_filling(blob):
    scene = empty_scene((48, 64, 64))
    pack(scene, {"a": blob}, {"a": None}, "t", 1, fill=0.1)
    assert scene.filled == np.count_nonzero(scene.labels) == np.count_nonzero(scene.occupied)
    one = scene.filled / len(scene.rows)
    assert 0 <= scene.filled - 0.1 * scene.occupied.size < 1.5 * one
    assert scene.missing == {}
    assert np.array_equal(np.unique(scene.instances), np.arange(len(scene.rows) + 1))


def test_a_map_in_a_larger_box_is_packed_as_tightly(blob):
    """What is beyond the support of a map does not count."""
    found = [
        pack_scene({"a": density}, {"a": 500}, (40, 40, 40)).filled
        for density in (blob, np.pad(blob, 8))
    ]
    assert found[1] == pytest.approx(found[0], rel=0.1)


def test_parts_that_wait_are_those_that_are_added_at_once(rng):
    shape = (10, 6, 7)
    expected, waiting = empty_scene(shape), empty_scene(shape)
    parts = WaitingParts(6 * 7, None, 3 * 6 * 7)  # slabs of three sections
    for label, number in ((1, 1), (2, 2), (1, 3)):
        voxels = np.flatnonzero(rng.random(10 * 6 * 7) < 0.3)
        density, own = rng.random(len(voxels), np.float32), rng.random(len(voxels)) < 0.5
        parts.add(voxels, density, own, label, number)
        expected.density.reshape(-1)[voxels] += density
        expected.labels.reshape(-1)[voxels[own]] = label
        expected.instances.reshape(-1)[voxels[own]] = number
    parts.write(waiting.density, waiting.labels, waiting.instances)
    for name in ("density", "labels", "instances"):
        assert np.array_equal(getattr(waiting, name), getattr(expected, name))

"""Scenes: no overlap, a truth that fits, every place found, surroundings."""

import numpy as np
import pytest

from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.physics.geometry import rotate_volume, rotation_from_relion
from cryoetgan.tomograms.simulation.packing import MASK_LEVEL, empty_scene, find_place, pack
from cryoetgan.tomograms.simulation.vesicles_and_gold import (
    Surroundings,
    add_beads,
    add_vesicles,
    bilayer,
)


@pytest.fixture(scope="module")
def blob():
    z, y, x = np.indices((24, 24, 24)) - 12.0
    return np.exp(-(x**2 / 18 + (y - 2) ** 2 / 8 + (z + 1) ** 2 / 30))


def packed(maps, copies, shape, seed=1):
    scene = empty_scene(shape, list(maps))
    pack(scene, maps, copies, "t", seed)
    return scene


def test_no_two_masks_share_a_voxel_and_the_truth_finds_the_particles(blob):
    maps = {"a": blob, "b": np.roll(blob, 3, 0)}
    scene = packed(maps, {"a": 8, "b": 8}, (40, 64, 64))
    assert len(scene.rows) == 16
    total, masks = np.zeros((2, 40, 64, 64))
    for row in scene.rows:
        centre = np.array([row[c] for c in COORDINATES])
        whole = np.round(centre).astype(int)
        rotation = rotation_from_relion([row[a] for a in ANGLES])
        turned = rotate_volume(maps[row["cryoetganClass"]], rotation, centre - whole)
        for index in np.argwhere(turned > 1e-9):
            place = index - 12 + whole[::-1]
            if (place >= 0).all() and (place < total.shape).all():
                total[tuple(place)] += turned[tuple(index)]
                masks[tuple(place)] += turned[tuple(index)] > MASK_LEVEL * blob.max()
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
    scene = packed({"a": small}, {"a": 400}, (48, 48, 48))
    places = np.array([[row[c] for c in COORDINATES] for row in scene.rows])
    rests = np.mod(places, 1)
    assert np.abs(rests.mean(axis=0) - 0.5).max() < 0.06
    # Haar: the z axis is uniform on the sphere, so its z component is uniform in (-1, 1)
    angles = np.array([[row[a] for a in ANGLES] for row in scene.rows])
    up = rotation_from_relion(angles).apply([0, 0, 1])[:, 2]
    assert abs(up.mean()) < 0.1
    assert up.var() == pytest.approx(1 / 3, abs=0.05)


def test_what_finds_no_place_is_counted(blob):
    scene = packed({"a": blob}, {"a": 500}, (28, 28, 28))
    assert scene.missing["a"] + len(scene.rows) == 500
    assert scene.missing["a"] > 400
    assert "a" not in packed({"a": blob}, {"a": 2}, (40, 40, 40)).missing


def test_no_class_starves_where_not_all_fit(blob):
    maps = {"a": blob, "b": np.roll(blob, 1, 0), "c": blob.transpose(2, 1, 0)}
    scene = packed(maps, {"a": 300, "b": 300, "c": 10}, (48, 48, 48))
    placed = {name: sum(row["cryoetganClass"] == name for row in scene.rows) for name in maps}
    assert abs(placed["a"] - placed["b"]) <= 0.4 * placed["a"]
    assert placed["c"] >= 8
    assert set(scene.missing) >= {"a", "b"}


def test_the_last_free_place_is_found():
    taken = np.ones((30, 40, 50), bool)
    taken[11:16, 20:24, 7:13] = False
    mask = np.zeros((12, 12, 12), bool)
    mask[4:9, 5:9, 3:9] = True
    place = find_place(mask, taken, np.random.default_rng(1))
    assert tuple(place) == (11 - 4 + 6, 20 - 5 + 6, 7 - 3 + 6)
    taken[13, 21, 9] = True
    assert find_place(mask, taken, np.random.default_rng(1)) is None


def test_masks_not_spheres_decide_what_fits():
    """Rods as long as the box lie side by side; balls around them would not."""
    rod = np.zeros((24, 24, 24))
    rod[2:22, 11:14, 11:14] = 1
    scene = packed({"rod": rod}, {"rod": 60}, (40, 40, 40))
    assert len(scene.rows) > 4  # balls of diameter 24: no more than 1 in 40^3


def test_another_class_leaves_numbers_of_the_others_alone(blob):
    one = packed({"a": blob}, {"a": 3}, (60, 60, 60))
    two = packed({"a": blob, "b": blob[::-1] * 0.5}, {"a": 3, "b": 3}, (60, 60, 60))
    first = [row[ANGLES[0]] for row in one.rows]
    assert first == [row[ANGLES[0]] for row in two.rows if row["cryoetganClass"] == "a"]


def test_vesicles_are_closed_shells_of_the_right_size():
    scene = empty_scene((80, 80, 80))
    wanted = Surroundings(resolution=30.0, vesicles=1, vesicle_radii=(250.0, 250.0))
    add_vesicles(scene, wanted, 10.0, "t", 3)
    shell = scene.labels == scene.names["vesicle"]
    at = np.argwhere(shell)
    size = np.ptp(at, axis=0) * 10
    # full axes of 350 to 500 angstrom and half a membrane at either end, or cut by a face
    assert size.max() <= 500 + 2 * 38 + 20
    assert scene.density[shell].mean() > 5 * np.abs(scene.density[~shell]).mean()
    assert scene.density.max() > 0
    depth = np.linspace(-60, 60, 121)
    profile = bilayer(depth, 10.0)
    assert abs(abs(depth[profile.argmax()]) - 20) < 3
    assert profile[60] < 0.2 * profile.max()
    assert np.allclose(profile, profile[::-1])


def test_particles_lie_inside_and_outside_vesicles_but_not_in_the_membrane():
    scene = empty_scene((60, 90, 90), ["a"])
    add_vesicles(
        scene,
        Surroundings(resolution=30.0, vesicles=2, vesicle_radii=(250.0, 300.0)),
        10.0,
        "t",
        1,
    )
    membrane = scene.labels.copy() > 0
    small = np.zeros((8, 8, 8))
    small[3:6, 3:6, 3:6] = 1
    pack(scene, {"a": small}, {"a": 100}, "t", 1)
    assert (scene.labels[membrane] == scene.names["vesicle"]).all()
    assert (scene.labels == 1).any()


def test_gold_is_heavier_than_all_else():
    scene = empty_scene((40, 60, 60))
    add_beads(scene, Surroundings(resolution=30.0, beads=4, bead_diameter=100.0), 10.0, "t", 1)
    assert not scene.density.any()
    count = (scene.labels == scene.names["bead"]).sum() / 4
    assert 4 / 3 * np.pi * 5**3 * 0.7 < count < 4 / 3 * np.pi * 6.5**3
    # the inside of a bead: gold's density, in the units of sum Z exp(-r^2 / w^2)
    width = 30 / np.pi
    assert scene.beads.max() == pytest.approx(4.66 * np.pi**1.5 * width**3, rel=0.05)


@pytest.mark.parametrize(
    "wrong",
    [{"vesicle_radii": (300.0, 200.0)}, {"bead_diameter": 0.0}, {"resolution": -1.0}],
)
def test_wrong_surroundings_are_refused(wrong):
    with pytest.raises(ValueError, match="wanted"):
        Surroundings(**({"resolution": 30.0} | wrong))

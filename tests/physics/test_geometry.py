"""Angles, turns and grids: laws a flipped sign would break."""

import numpy as np
from scipy.spatial.transform import Rotation

from cryoetgan.physics import geometry


def blob(centre_xyz, shape=(21, 24, 27), width=1.5):
    z, y, x = np.indices(shape, float)
    cx, cy, cz = centre_xyz
    r2 = (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2
    return np.exp(-r2 / (2 * width**2))


def centre_of_mass(volume):
    indices = np.indices(volume.shape, float)
    return np.array([(axis * volume).sum() / volume.sum() for axis in indices])[::-1]


def test_relion_angles_are_those_of_the_inverse_matrix():
    # truth files give the intrinsic ZYZ angles of the matrix; RELION's are (-z3, -z2, -z1)
    matrix_angles = np.array([113.8, 83.7, 152.2])
    rotation = Rotation.from_euler("ZYZ", matrix_angles, degrees=True)
    assert np.allclose(
        geometry.rotation_from_relion(-matrix_angles[::-1]).as_matrix(), rotation.as_matrix()
    )


def test_angles_round_trip_also_at_the_poles(rng):
    rotations = Rotation.concatenate(
        [geometry.random_rotations(50, rng), Rotation.from_euler("ZYZ", [[30, 0, 0]], degrees=True)]
    )
    back = geometry.rotation_from_relion(geometry.relion_from_rotation(rotations))
    assert geometry.angle_between(rotations, back).max() < 1e-5


def test_a_turned_blob_lies_where_the_rotation_sends_it(rng):
    shape = (21, 24, 27)
    centre = np.array(shape)[::-1] // 2
    arm, shift = np.array([4.0, -3.0, 2.0]), np.array([1.3, 0.6, -0.8])
    for rotation in geometry.random_rotations(5, rng):
        turned = geometry.rotate_volume(blob(centre + arm, shape), rotation, shift)
        assert np.allclose(centre_of_mass(turned), centre + rotation.apply(arm) + shift, atol=0.05)


def test_turning_keeps_mass_and_a_quarter_turn_is_a_permutation(rng):
    volume = blob((15, 13, 11), (24, 24, 24))
    turned = geometry.rotate_volume(volume, geometry.random_rotations(1, rng)[0])
    assert abs(turned.sum() / volume.sum() - 1) < 0.01
    quarter = geometry.rotate_volume(volume, Rotation.from_euler("z", 90, degrees=True))
    # about voxel 12 of 24: index 0 has no partner, hence the roll
    expected = np.roll(np.rot90(volume, -1, axes=(1, 2)), 1, axis=2)
    assert np.allclose(quarter[:, 1:, 1:], expected[:, 1:, 1:], atol=1e-4)


def test_super_fibonacci_covers_rotation_space_evenly(rng):
    grid = geometry.super_fibonacci(1856)
    assert len(grid) == 1856
    probes = geometry.random_rotations(200, rng)
    quaternions = np.abs(probes.as_quat() @ grid.as_quat().T).max(axis=1)
    nearest = np.degrees(2 * np.arccos(np.clip(quaternions, 0, 1)))
    assert nearest.max() < 20
    assert nearest.mean() < 11
    # uniform on SO(3): every entry of the matrices averages to zero
    assert np.abs(grid.as_matrix().mean(axis=0)).max() < 0.01


def test_random_rotations_follow_the_haar_measure(rng):
    tilt = Rotation.random(20_000, rng=rng).as_euler("ZYZ")[:, 1]
    ours = geometry.random_rotations(20_000, rng).as_euler("ZYZ")[:, 1]
    # cos(tilt) is uniform on [-1, 1]
    counts, _ = np.histogram(np.cos(ours), bins=20, range=(-1, 1))
    assert abs(np.median(np.degrees(ours)) - np.median(np.degrees(tilt))) < 2
    assert ((counts - 1000) ** 2 / 1000).sum() < 50


def test_the_radius_is_measured_from_voxel_n_half():
    radius = geometry.centre_distance(6)
    assert radius[3, 3, 3] == 0
    assert radius[3, 1, 3] == 2
    assert radius[0, 0, 0] == np.sqrt(27)


def test_a_clipped_box_selects_the_same_voxels_of_box_and_volume(rng):
    volume_shape, box_shape = (7, 8, 9), (4, 5, 3)
    z, y, x = np.indices(volume_shape)
    for corner in rng.integers(-8, 12, (200, 3)):
        in_volume, in_box = geometry.clip_box(corner, box_shape, volume_shape)
        box = np.indices(box_shape) + corner[:, None, None, None]
        for axis, grid in enumerate((z, y, x)):
            assert np.array_equal(grid[in_volume], box[axis][in_box])
        limits = np.array(volume_shape)[:, None, None, None]
        inside = ((box >= 0) & (box < limits)).all(axis=0).sum()
        assert z[in_volume].size == inside


def test_tiles_cover_a_volume_once():
    covered = np.zeros((5, 8, 10), int)
    for corner, shape in geometry.tiles(covered.shape, 4):
        covered[geometry.block_slices(corner, shape)] += 1
    assert (covered == 1).all()

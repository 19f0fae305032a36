"""Coordinates of a file and of the tomogram that was imported from it."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryoetgan.io.star import ORIGINS
from cryoetgan.physics.coordinates import (
    ImportTransform,
    centre_offset,
    centre_offsets,
    orient_axes,
)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("tilt_axis", "beam_axis"), [("y", "z"), ("x", "z"), ("y", "y")])
def test_coordinates_follow_the_voxels_of_a_rotated_file(rng, tilt_axis, beam_axis, flip):
    file = rng.standard_normal((5, 6, 7))
    turned = orient_axes(file, tilt_axis, beam_axis, flip)
    transform = ImportTransform(turned.shape, 10.0, 1.0, tilt_axis, beam_axis, flip_hand=flip)
    assert np.linalg.det(transform.matrix) == pytest.approx(-1 if flip else 1)
    assert tuple(transform.file_shape) == (7, 6, 5)
    xyz = rng.integers(0, 5, (20, 3))
    there = np.rint(transform.to_tomogram(xyz)).astype(int)
    for (x, y, z), (u, v, w) in zip(xyz, there, strict=True):
        assert turned[w, v, u] == file[z, y, x]
    assert np.allclose(transform.to_file(transform.to_tomogram(xyz)), xyz)


@pytest.mark.parametrize("flip", [False, True])
def test_poses_take_the_points_of_a_map_to_where_the_tomogram_has_them(rng, flip):
    transform = ImportTransform((9, 9, 9), 10.0, 1.0, "x", "y", flip_hand=flip)
    points, places = rng.standard_normal((6, 3)), rng.uniform(2, 6, (6, 3))
    in_file = Rotation.random(6, random_state=3)
    # a file of the wrong hand shows the mirror image of the map
    shown = points * [1, 1, -1] if flip else points
    expected = transform.to_tomogram(places + in_file.apply(shown))
    poses = transform.to_tomogram_poses(in_file)
    assert np.allclose(transform.to_tomogram(places) + poses.apply(points), expected)
    back = transform.to_file_poses(poses)
    assert (back * in_file.inv()).magnitude() == pytest.approx(np.zeros(6), abs=1e-6)


def test_a_resampled_tomogram_has_smaller_coordinates():
    transform = ImportTransform((10, 10, 10), 5.0, 2.0)
    assert np.allclose(transform.to_tomogram([[4, 6, 8]]), [[2, 3, 4]])


def test_the_offset_has_the_opposite_sign_of_relions_origin():
    import pandas as pd

    table = pd.DataFrame([[10.0, 0.0, -5.0]], columns=ORIGINS)
    assert np.allclose(centre_offsets(table, 5.0), [[-2, 0, 1]])
    assert np.allclose(centre_offset(table.iloc[0].to_dict(), 5.0), [-2, 0, 1])
    assert not centre_offset({}, 5.0).any()

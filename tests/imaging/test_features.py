"""Shape features are invariant to rotation and offset, and distinguish shapes."""

import numpy as np

from cryoetgan.imaging.fit.features import ShapeFeatures
from tests.imaging.conftest import BOX


def test_features_do_not_change_under_rotation(maps):
    features = ShapeFeatures(BOX, 4.0)
    rotated = np.roll(np.rot90(maps["rod"], axes=(0, 2)), 1, axis=0)  # about voxel n // 2
    plain = features.describe(maps["rod"])
    assert np.allclose(features.describe(rotated), plain, rtol=1e-3, atol=1e-3)


def test_features_change_less_under_a_shift_than_between_shapes(maps):
    features = ShapeFeatures(BOX, 4.0)
    plain = features.describe(maps["rod"])
    shifted = features.describe(np.roll(maps["rod"], (1, -2, 1), axis=(0, 1, 2)))
    other = features.describe(maps["ball"])
    assert np.linalg.norm(shifted - plain) < 0.5 * np.linalg.norm(other - plain)

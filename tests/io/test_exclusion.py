"""Padding is found by its one grey value; what data hold is never taken for it."""

import numpy as np
import pytest
from scipy import ndimage

from cryoetgan.io.exclusion import ExclusionMask

SHAPE = (40, 48, 56)


def everywhere(found):
    return found[tuple(slice(0, n) for n in found.data.shape)]


@pytest.fixture
def volume(rng):
    return ndimage.gaussian_filter(rng.normal(100, 30, SHAPE), 1).astype(np.float32)


@pytest.mark.parametrize("level", [0.0, 97.25])
@pytest.mark.parametrize(
    "where", [np.s_[:9], np.s_[:, -8:], np.s_[..., :10], np.s_[30:, :12]], ids=str
)
def test_padding_is_left_out_and_no_more(volume, where, level):
    volume[where] = level
    padded = np.zeros(SHAPE, bool)
    padded[where] = True
    found = ExclusionMask(volume)
    assert found.levels == [level]
    out = everywhere(found)
    assert out[padded].all()
    near = ndimage.distance_transform_cdt(~padded, "chessboard") <= found.margin
    assert not out[~near].any()


def test_blocks_give_what_the_whole_gives(volume):
    volume[:, :11] = 0
    mask = np.zeros(SHAPE, np.int8)
    mask[20:30, 20:30, 20:30] = 1
    found = ExclusionMask(volume, mask)
    whole = everywhere(found)
    assert whole[mask != 0].all()
    block = np.s_[5:17, 3:29, 10:56]
    assert np.array_equal(found[block], whole[block])
    assert found.intersects_box(np.array([25, 40, 25]), 40)
    assert not found.intersects_box(np.array([45, 40, 8]), 12)


@pytest.mark.parametrize("look", ["as it is", "clipped", "whole numbers", "smooth", "flat inside"])
def test_grey_values_that_data_may_have_are_no_padding(volume, look):
    changed = {
        "as it is": volume,
        "clipped": np.clip(volume, 95, 105),
        "whole numbers": np.rint(volume / 4),
        "smooth": ndimage.gaussian_filter(volume, 3),
        # a bright particle whose grey values were cut off
        "flat inside": np.where(np.indices(SHAPE).sum(axis=0) % 23 < 1, 5, volume),
    }[look]
    if look == "flat inside":
        changed[10:22, 10:22, 10:22] = 300
    assert not ExclusionMask(np.asarray(changed, np.float32))

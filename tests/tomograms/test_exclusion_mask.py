"""Exclusion masks: same grid, same orientation, same positions as their tomogram."""

import mrcfile
import numpy as np
import pytest

from cryoetgan.io.mrc import read_volume
from tests.conftest import refused
from tests.tomograms.writing import write_mrc

SHAPE = (24, 40, 32)


@pytest.fixture
def tomogram(tmp_path, rng):
    """A bright block in noise; the mask is the block, and noise of a mask program's 255."""
    data = rng.standard_normal(SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, np.int16)
    block = (slice(4, 14), slice(20, 38), slice(6, 22))
    data[block] += 30
    mask[block] = 255
    write_mrc(tmp_path / "t.mrc", data)
    write_mrc(tmp_path / "m.mrc", mask)
    return mask


@pytest.mark.parametrize(
    "words",
    [(), ("--voxel-size", 20), ("--voxel-size", 7), ("--beam-axis", "y"), ("--tilt-axis", "x")],
)
def test_the_mask_follows_its_tomogram(cryoetgan, tmp_path, tomogram, words):
    cryoetgan(
        "tomograms", "import", "t.mrc", "--contrast", "bright", "--mask", "m.mrc", *words,
        "-o", "o.mrc",
    )  # fmt: skip
    made, mask = read_volume(tmp_path / "o.mrc"), read_volume(tmp_path / "o_mask.mrc")
    # drawn later, it comes to the same place by the tomogram's record
    cryoetgan("tomograms", "mask", "m.mrc", "--tomogram", "o.mrc", "-o", "later.mrc")
    assert (tmp_path / "later.mrc").read_bytes() == (tmp_path / "o_mask.mrc").read_bytes()
    assert mrcfile.validate(tmp_path / "o_mask.mrc")
    assert mask.data.dtype == np.int8
    assert set(np.unique(mask.data)) == {0, 1}
    assert mask.data.shape == made.data.shape
    assert mask.voxel_size == pytest.approx(made.voxel_size)
    bright = made.data > (made.data.max() + np.median(made.data)) / 2
    both = (bright & (mask.data > 0)).sum()
    assert both > 0.75 * max(bright.sum(), (mask.data > 0).sum())
    assert mask.data.mean() == pytest.approx((tomogram > 0).mean(), rel=0.25)


def test_a_mask_that_does_not_fit_is_refused(cryoetgan, tmp_path, tomogram):
    words = ("tomograms", "import", "t.mrc", "-o", "o.mrc", "--mask")
    write_mrc(tmp_path / "less.mrc", tomogram[:, :30])
    write_mrc(tmp_path / "all.mrc", np.ones(SHAPE, np.int8))
    refused(cryoetgan(*words, "less.mrc", code=2), "less.mrc", "32x30x24", "32x40x24")
    refused(cryoetgan(*words, "all.mrc", code=2), "all.mrc", "excludes all")
    refused(cryoetgan(*words, "none.mrc", code=2), "none.mrc", "no such")
    assert not list(tmp_path.glob("o*.mrc*"))
    cryoetgan("tomograms", "import", "t.mrc", "--voxel-size", 20, "-o", "o.mrc")
    words = ("tomograms", "mask", "--tomogram", "o.mrc", "-o", "x.mrc")
    refused(cryoetgan(*words, "less.mrc", code=2), "less.mrc", "32x30x24", "32x40x24")
    refused(cryoetgan(*words, "all.mrc", code=2), "all.mrc", "excludes all")
    assert not list(tmp_path.glob("x*"))


def test_without_a_record_the_mask_is_not_turned(cryoetgan, tmp_path, tomogram):
    cryoetgan("tomograms", "mask", "m.mrc", "--tomogram", "t.mrc", "-o", "x.mrc")
    assert np.array_equal(read_volume(tmp_path / "x.mrc").data, tomogram > 0)

"""MRC files: mrcfile finds ours valid, and broken files end in one message."""

import mrcfile
import numpy as np
import pytest

from cryoetgan.errors import UserError
from cryoetgan.io import mrc


def test_a_volume_round_trips_and_mrcfile_finds_it_valid(tmp_path, rng):
    data = rng.standard_normal((5, 6, 7)).astype(np.float32)
    path = tmp_path / "a.mrc"
    mrc.write_volume(path, data, 13.68, ["contrast: protein bright"])
    assert mrcfile.validate(path)
    with mrcfile.open(path) as file:
        assert np.array_equal(file.data, data)
        assert file.voxel_size.x == pytest.approx(13.68, rel=1e-6)
        assert file.header.nx == 7
        assert file.header.nz == 5
        assert file.header.dmean == pytest.approx(data.mean(), abs=1e-6)
        assert file.header.rms == pytest.approx(data.std(), rel=1e-5)
    back = mrc.read_volume(path)
    assert np.array_equal(back.data, data)
    assert mrc.read_header(path).labels[1] == "contrast: protein bright"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "cannot be read"),
        (b"\xff\xd8\xff" + bytes(2000), "cannot be read"),
        (bytes(300), "cannot be read"),
    ],
)
def test_a_file_that_is_not_mrc_is_refused(tmp_path, content, word):
    path = tmp_path / "bad.mrc"
    path.write_bytes(content)
    with pytest.raises(UserError, match=word) as caught:
        mrc.read_volume(path)
    assert "bad.mrc" in str(caught.value)


def test_a_truncated_volume_is_refused(tmp_path):
    path = tmp_path / "cut.mrc"
    mrc.write_volume(path, np.ones((8, 8, 8), np.float32), 10.0)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"cut\.mrc"):
        mrc.read_volume(path)


def test_a_given_voxel_size_replaces_an_invalid_one(tmp_path):
    path = tmp_path / "zero.mrc"
    with mrcfile.new(path) as file:
        file.set_data(np.ones((4, 4, 4), np.float32))
    with pytest.raises(UserError, match="voxel size is 0"):
        mrc.read_volume(path)
    assert mrc.read_volume(path, 12.0).voxel_size == 12.0


def test_complex_values_are_refused(tmp_path):
    with mrcfile.new(tmp_path / "transform.mrc") as file:
        file.set_data(np.ones((4, 4, 4), np.complex64))
        file.voxel_size = 10.0
    with pytest.raises(UserError, match=r"transform\.mrc: holds complex64.*mode 0, 1, 2"):
        mrc.read_volume(tmp_path / "transform.mrc")

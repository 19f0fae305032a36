"""MRC files: mrcfile finds ours valid, and broken files end in one message."""

import bz2
import gzip
import itertools
import lzma

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
    with pytest.raises(UserError, match=r"transform\.mrc: holds complex numbers.*mode 0, 1, 2"):
        mrc.read_volume(tmp_path / "transform.mrc")


def handed(rng):
    """A map of three unequal edges in which every mirror image and turn differs."""
    return rng.standard_normal((6, 5, 4)).astype(np.float32)


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))), ids=str)
def test_every_axis_order_is_the_same_map(tmp_path, rng, order):
    density = handed(rng)
    path = tmp_path / "turned.mrc"
    with mrcfile.new(path) as file:
        # columns, rows, sections hold the axes `order`; x is axis 1 and the last one of the array
        file.set_data(np.ascontiguousarray(density.transpose([3 - a for a in order[::-1]])))
        header = file.header
        header.mapc, header.mapr, header.maps = order
        header.mx, header.my, header.mz = 4, 5, 6
        header.cella = (40, 50, 60)
    for read in (mrc.read_volume, mrc.read_map):
        assert np.array_equal(read(path).data, density)
        assert read(path).voxel_size == pytest.approx(10)
    assert mrc.read_header(path).shape == density.shape


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_maps_are_unpacked_whatever_their_name(tmp_path, rng, pack):
    density = handed(rng)
    mrc.write_volume(tmp_path / "a.mrc", density, 10.0)
    packed = pack((tmp_path / "a.mrc").read_bytes())
    (tmp_path / "emd_1.map").write_bytes(packed)
    assert np.array_equal(mrc.read_map(tmp_path / "emd_1.map").data, density)
    assert mrc.read_header(tmp_path / "emd_1.map").shape == density.shape
    (tmp_path / "cut.map").write_bytes(packed[:-30])
    with pytest.raises(UserError, match=r"cut\.map.*cut short or damaged"):
        mrc.read_map(tmp_path / "cut.map")


def test_no_more_is_unpacked_than_the_header_states(tmp_path):
    mrc.write_volume(tmp_path / "a.mrc", np.ones((4, 4, 4), np.float32), 10.0)
    raw = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "surplus.map").write_bytes(gzip.compress(raw + bytes(50_000_000)))
    assert mrc.read_volume(tmp_path / "surplus.map").data.sum() == 64
    huge = np.array([60000, 60000, 60000], "<i4").tobytes() + raw[12:]
    (tmp_path / "bomb.map").write_bytes(gzip.compress(huge + bytes(50_000_000)))
    with pytest.raises(UserError, match=r"bomb\.map: its header states 60000x60000x60000.*GB free"):
        mrc.read_volume(tmp_path / "bomb.map")


def test_axes_that_are_no_permutation_are_named(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(np.ones((4, 4, 4), np.float32))
        file.header.mapr = 3
    with pytest.raises(UserError, match=r"\(MAPC, MAPR, MAPS\) are 1, 3, 3, wanted 1, 2"):
        mrc.read_header(tmp_path / "a.mrc")

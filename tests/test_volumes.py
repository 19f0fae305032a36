"""MRC and STAR: other programs read what we write, and broken files end in one message."""

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile

from cryoetgan.errors import UserError
from cryoetgan.io import mrc, star, volume_set


def table(count):
    return pd.DataFrame(
        {
            "rlnTomoName": "007",
            "rlnCoordinateX": np.arange(count) + 0.25,
            "cryoetganClass": ["1e5", "ribosome"] * (count // 2),
            "cryoetganSource": "density",
        }
    )


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
    assert mrc.read_labels(path)[1] == "contrast: protein bright"


def test_a_volume_set_is_read_by_mrcfile_starfile_and_pandas(tmp_path, rng):
    data = rng.standard_normal((4, 8, 8, 8)).astype(np.float32)
    path = tmp_path / "set.star"
    volume_set.write_volume_set(path, data, table(4), 10.0)
    with mrcfile.open(tmp_path / "set.mrcs") as file:
        assert file.is_volume_stack()
        assert file.header.ispg == 401
        assert file.header.mz == 8
        assert np.array_equal(file.data, data)
        assert file.voxel_size.z == pytest.approx(10.0)
    assert mrcfile.validate(tmp_path / "set.mrcs")
    blocks = starfile.read(path)
    assert set(blocks) == {"optics", "particles"}
    assert isinstance(blocks["particles"], pd.DataFrame)
    assert list(blocks["particles"]["rlnImageName"])[-1] == "000004@set.mrcs"
    assert blocks["optics"]["rlnImagePixelSize"][0] == 10.0
    back = volume_set.read_volume_set(path)
    assert np.array_equal(back.volumes, data)
    assert back.box == 8
    # a class or tomogram that looks like a number stays text
    assert back.table["cryoetganClass"][0] == "1e5"
    assert back.table["rlnTomoName"][0] == "007"


def test_the_same_set_twice_is_the_same_bytes(tmp_path, rng):
    data = rng.standard_normal((2, 8, 8, 8)).astype(np.float32)
    for name in ("one", "two"):
        volume_set.write_volume_set(tmp_path / name / "s.star", data, table(2), 10.0)
    for suffix in ("star", "mrcs"):
        one, two = ((tmp_path / n / f"s.{suffix}").read_bytes() for n in ("one", "two"))
        assert one == two


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path, rng):
    data = np.ones((2, 8, 8, 8), np.float32)
    path = tmp_path / "s.star"
    volume_set.write_volume_set(path, data, table(2), 10.0)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def interrupted():
        with volume_set.VolumeSetWriter(path, 5, 8, 10.0) as writer:
            writer.add(data[0] * 2, {"cryoetganClass": "a"})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_set_that_is_cut_short_is_an_error(tmp_path):
    with (
        pytest.raises(RuntimeError, match="1 of 2"),
        volume_set.VolumeSetWriter(tmp_path / "s.star", 2, 8, 10.0) as writer,
    ):
        writer.add(np.zeros((8, 8, 8)), {"cryoetganClass": "a"})
    assert not list(tmp_path.iterdir())


def test_star_and_stack_must_belong_together(tmp_path):
    path = tmp_path / "s.star"
    volume_set.write_volume_set(path, np.zeros((2, 8, 8, 8), np.float32), table(2), 10.0)
    star.write_star(path, table(4))
    with pytest.raises(UserError, match=r"4 rows.* 2 volumes"):
        volume_set.read_volume_set(path)


def test_rows_in_another_order_than_the_stack_keep_their_volumes(tmp_path, rng):
    """Sorted by class, as other programs do; rlnImageName says which volume is whose."""
    rows = pd.DataFrame({"cryoetganClass": ["b", "a", "b", "a", "c"], "rlnAngleRot": range(5)})
    data = rng.standard_normal((5, 4, 4, 4)).astype(np.float32)
    volume_set.write_volume_set(tmp_path / "x.star", data, rows, 10.0)
    before, tables = (
        volume_set.read_volume_set(tmp_path / "x.star"),
        star.read_star(tmp_path / "x.star"),
    )
    shuffled = tables.particles.sort_values("cryoetganClass")
    assert list(shuffled["rlnAngleRot"]) != list(range(5))
    star.write_star(tmp_path / "x.star", shuffled, tables.optics)
    after = volume_set.read_volume_set(tmp_path / "x.star")
    pd.testing.assert_frame_equal(after.table, before.table)
    assert np.array_equal(after.volumes, data)
    # a row twice, and one that is gone
    names = [*shuffled["rlnImageName"][:4], shuffled["rlnImageName"].iloc[0]]
    star.write_star(tmp_path / "x.star", shuffled.assign(rlnImageName=names), tables.optics)
    with pytest.raises(UserError, match=r"x\.star: rlnImageName names volume .* is wanted"):
        volume_set.read_volume_set(tmp_path / "x.star")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "cannot be read"),
        (b"\xff\xd8\xff" + bytes(2000), "cannot be read"),
        (bytes(300), "cannot be read"),
    ],
)
def test_what_is_no_mrc_file_is_named(tmp_path, content, word):
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


def test_no_voxel_size_is_refused_and_a_given_one_wins(tmp_path):
    path = tmp_path / "zero.mrc"
    with mrcfile.new(path) as file:
        file.set_data(np.ones((4, 4, 4), np.float32))
    with pytest.raises(UserError, match="voxel size is 0"):
        mrc.read_volume(path)
    assert mrc.read_volume(path, 12.0).voxel_size == 12.0


@pytest.mark.parametrize("text", ["", "<html>not a star</html>", "\x00\x01"])
def test_what_is_no_star_file_is_named(tmp_path, text):
    path = tmp_path / "bad.star"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.star"):
        star.read_star(path, ["cryoetganClass"])


def test_a_missing_column_is_named(tmp_path):
    star.write_star(tmp_path / "s.star", table(2))
    with pytest.raises(UserError, match="rlnAngleRot"):
        star.read_star(tmp_path / "s.star", ["cryoetganClass", "rlnAngleRot"])


def test_an_empty_table_round_trips(tmp_path):
    star.write_star(tmp_path / "s.star", table(2).iloc[:0])
    back = star.read_star(tmp_path / "s.star", ["cryoetganClass"])
    assert len(back.particles) == 0


def test_a_class_is_a_files_stem():
    assert star.class_name("x/ribosome_4v6x.cif.gz") == "ribosome_4v6x"
    with pytest.raises(UserError, match=r"4v6x\.1"):
        star.class_name("4v6x.1.cif")


def test_an_id_survives_repicking_but_not_moving():
    assert star.particle_id("t", 1.01, 2, 3) == star.particle_id("t", 1.04, 2, 3)
    assert star.particle_id("t", 1, 2, 3) != star.particle_id("t", 2, 1, 3)
    assert star.particle_id("t", 1, 2, 3) != star.particle_id("u", 1, 2, 3)


def test_an_array_that_is_no_picture_is_refused(tmp_path):
    with mrcfile.new(tmp_path / "transform.mrc") as file:
        file.set_data(np.ones((4, 4, 4), np.complex64))
        file.voxel_size = 10.0
    with pytest.raises(UserError, match=r"transform\.mrc: holds complex64.*mode 0, 1, 2"):
        mrc.read_volume(tmp_path / "transform.mrc")


@pytest.mark.parametrize(
    ("column", "value", "wrong"),
    [
        ("rlnCoordinateX", "abc", True),
        ("rlnCoordinateX", "nan", True),
        ("rlnCoordinateX", "inf", True),
        ("rlnAnglePsi", "abc", True),
        ("rlnAnglePsi", "inf", True),
        ("rlnAnglePsi", "nan", False),  # not known: where tables with and without angles are one
        ("cryoetganScore", "high", True),
        ("cryoetganClass", "abc", False),
    ],
)
def test_a_number_that_is_none_is_named_with_its_row(tmp_path, column, value, wrong):
    path = tmp_path / "p.star"
    star.write_star(path, pd.DataFrame({"rlnCoordinateY": ["1", "2"], column: ["3", value]}))
    if not wrong:
        star.read_star(path)
        return
    with pytest.raises(UserError, match=rf"p\.star: {column} of row 2 is '{value}'"):
        star.read_star(path)

"""Volume sets: other programs read them, and table and stack always match."""

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile

from cryoetgan.errors import UserError
from cryoetgan.io import star, volume_set


def table(count):
    return pd.DataFrame(
        {
            "rlnTomoName": "007",
            "rlnCoordinateX": np.arange(count) + 0.25,
            "cryoetganClass": ["1e5", "ribosome"] * (count // 2),
            "cryoetganSource": "density",
        }
    )


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


def test_equal_sets_are_equal_bytes(tmp_path, rng):
    data = rng.standard_normal((2, 8, 8, 8)).astype(np.float32)
    for name in ("one", "two"):
        volume_set.write_volume_set(tmp_path / name / "s.star", data, table(2), 10.0)
    for suffix in ("star", "mrcs"):
        one, two = ((tmp_path / n / f"s.{suffix}").read_bytes() for n in ("one", "two"))
        assert one == two


def test_an_interrupted_set_leaves_the_earlier_files_unchanged(tmp_path, rng):
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


def test_a_set_with_too_few_volumes_is_an_error(tmp_path):
    with (
        pytest.raises(RuntimeError, match="1 of 2"),
        volume_set.VolumeSetWriter(tmp_path / "s.star", 2, 8, 10.0) as writer,
    ):
        writer.add(np.zeros((8, 8, 8)), {"cryoetganClass": "a"})
    assert not list(tmp_path.iterdir())


def test_star_and_stack_must_match(tmp_path):
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
    with pytest.raises(UserError, match=r"x\.star: rlnImageName names volume .* must name each"):
        volume_set.read_volume_set(tmp_path / "x.star")

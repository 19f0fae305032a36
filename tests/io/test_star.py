"""STAR files: columns are checked, names and ids follow the conventions."""

import numpy as np
import pandas as pd
import pytest
import starfile

from cryoetgan.errors import UserError
from cryoetgan.io import star

TABLE = pd.DataFrame({"rlnTomoName": "t", "cryoetganClass": ["1e5", "ribosome"]})


@pytest.mark.parametrize("text", ["", "<html>not a star</html>", "\x00\x01"])
def test_a_file_that_is_not_star_is_refused(tmp_path, text):
    path = tmp_path / "bad.star"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.star"):
        star.read_star(path, ["cryoetganClass"])


def test_a_missing_column_is_named(tmp_path):
    star.write_star(tmp_path / "s.star", TABLE)
    with pytest.raises(UserError, match="rlnAngleRot"):
        star.read_star(tmp_path / "s.star", ["cryoetganClass", "rlnAngleRot"])


def test_an_empty_table_round_trips(tmp_path):
    star.write_star(tmp_path / "s.star", TABLE.iloc[:0])
    back = star.read_star(tmp_path / "s.star", ["cryoetganClass"])
    assert len(back.particles) == 0
    # a file of one block has no optics
    star.write_star(tmp_path / "s.star", TABLE, pd.DataFrame())
    back = star.read_star(tmp_path / "s.star", ["cryoetganClass"])
    assert len(back.particles) == len(TABLE)


def test_the_text_is_that_of_the_library():
    table = pd.DataFrame(
        {
            "i": [1, 2, 3],
            "f": [1 / 3, np.nan, -0.0],
            "g": [1e-9, 1e9, np.inf],
            "b": [True, False, True],
        }
        | {"s": ["a", "", "b c"], "o": [1.5, "100%d", None], "n": pd.array([1, None, 3], "Int64")}
    )
    optics = pd.DataFrame({"rlnOpticsGroup": [1], "rlnVoltage": [300.0]})
    for particles in (table, table[:0], table[["s"]]):
        blocks = {"optics": optics, "particles": particles}
        lines = starfile.to_string(blocks, float_format="%.6f").splitlines()[1:]
        assert star.star_text(particles, optics) == "\n".join(lines).strip("\n") + "\n"
    for text in ("a\tb", "a\nb"):
        with pytest.raises(UserError, match="line break"):
            star.star_text(table.assign(s=text))


def test_a_class_is_a_files_stem():
    assert star.class_name("x/ribosome_4v6x.cif.gz") == "ribosome_4v6x"
    with pytest.raises(UserError, match=r"4v6x\.1"):
        star.class_name("4v6x.1.cif")


def test_an_id_survives_repicking_but_not_moving():
    assert star.particle_id("t", 1.01, 2, 3) == star.particle_id("t", 1.04, 2, 3)
    assert star.particle_id("t", 1, 2, 3) != star.particle_id("t", 2, 1, 3)
    assert star.particle_id("t", 1, 2, 3) != star.particle_id("u", 1, 2, 3)


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
def test_text_in_a_numeric_column_is_named_with_its_row(tmp_path, column, value, wrong):
    path = tmp_path / "p.star"
    star.write_star(path, pd.DataFrame({"rlnCoordinateY": ["1", "2"], column: ["3", value]}))
    if not wrong:
        star.read_star(path)
        return
    with pytest.raises(UserError, match=rf"p\.star: {column} of row 2 is '{value}'"):
        star.read_star(path)


BAD_PARTS = [
    "../x",
    "/tmp/x",
    "a/b",
    "a\\b",
    "..",
    ".hidden",
    "a\x00b",
    "a\x1b[2J",
    "x" * 101,
    "=1+1",
]


@pytest.mark.parametrize(
    ("column", "name", "legal"),
    [
        *(("rlnTomoName", name, False) for name in BAD_PARTS),
        *(("cryoetganClass", name, False) for name in (*BAD_PARTS, "a b", "ribosom\u0435", "a.b")),
        ("rlnTomoName", "TS_01 (2).mrc_10.00Apx", True),
        ("rlnTomoName", "Zelle_\u00fc", True),
        ("cryoetganClass", "CON", True),
        ("cryoetganClass", "-rf", True),
        ("cryoetganClass", "x" * 100, True),
    ],
)
def test_names_of_files_cannot_leave_a_folder(tmp_path, column, name, legal):
    table = pd.DataFrame({"rlnTomoName": ["t"], "cryoetganClass": ["a"]})
    table[column] = name
    path = tmp_path / "s.star"
    star.write_star(path, table)
    if legal:
        assert star.read_star(path).particles[column].iloc[0] == name
    else:
        with pytest.raises(UserError, match=column) as caught:
            star.read_star(path)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400
    assert star.read_star(path, any_names=True).particles[column].iloc[0] == name


@pytest.mark.parametrize(
    ("block", "column", "value", "legal"),
    [
        ("particles", "rlnOpticsGroup", "../../x", False),
        ("particles", "rlnOpticsGroup", 1.5, False),
        ("optics", "rlnOpticsGroup", "one", False),
        ("optics", "cryoetganTiltLow", "-sixty", False),
        ("optics", "rlnImagePixelSize", "inf", False),
        ("optics", "rlnVoltage", "<NA>", True),
        ("optics", "rlnOpticsGroupName", "any text", True),
    ],
)
def test_numbers_of_the_acquisition_are_numbers(tmp_path, block, column, value, legal):
    tables = {"optics": pd.DataFrame({"rlnOpticsGroup": [1]}), "particles": TABLE.iloc[:1].copy()}
    tables[block][column] = value
    star.write_star(tmp_path / "s.star", tables["particles"], tables["optics"])
    if legal:
        star.read_star(tmp_path / "s.star")
    else:
        with pytest.raises(UserError, match=column):
            star.read_star(tmp_path / "s.star")

"""Coordinates read by columns are those that reading number by number gives."""

from pathlib import Path

import numpy as np
import pytest

from cryoetgan.errors import UserError
from cryoetgan.structures.pdb_records import read_records

LINE = "{:<6}{:>5} {:<4} ALA A   1    {:>8}{:>8}{:>8}  1.00  0.00           C"


def lines(*atoms, end="\n"):
    text = end.join(LINE.format(kind, n, " CA ", *xyz) for n, (kind, xyz) in enumerate(atoms))
    return text.encode()


def test_every_decimal_equals_pythons_float(rng):
    values = np.concatenate([rng.uniform(-999, 9999, 900), rng.uniform(-1, 1, 300)])
    texts = [f"{value:.3f}" for value in values]
    atoms = [("ATOM", texts[i : i + 3]) for i in range(0, 1200, 3)]
    found = read_records(lines(*atoms), Path("a.pdb"))
    assert found.positions.ravel().tolist() == [float(text) for text in texts]


@pytest.mark.parametrize("text", ["1", "-.500", "+12.25", ".5", "-1.", "12345678", "1.23456"])
def test_other_number_formats_are_read_too(text):
    found = read_records(lines(("HETATM", (text, "0.000", "-0.125"))), Path("a.pdb"))
    assert found.positions.tolist() == [[float(text), 0, -0.125]]
    assert found.is_het.tolist() == [True]


@pytest.mark.parametrize(
    "text",
    ["nan", "1e10", "********", "", "1 2.000", "--1.000", "1.2.300", "1-2.000", "0x10", "1_0"],
)
def test_an_invalid_number_is_refused_by_line(text):
    text_ = b"REMARK\n" + lines(("ATOM", ("1.000",) * 3), ("ATOM", ("0.000", text, "2.000")))
    with pytest.raises(UserError, match=r"a\.pdb, line 3: has a coordinate that is not a number"):
        read_records(text_, Path("a.pdb"))


def test_line_ends_of_windows_and_a_missing_last_one_make_no_difference():
    atoms = [("ATOM", ("1.000", "2.000", "3.000")), ("HETATM", ("4.000", "5.000", "6.000"))]
    for end in ("\n", "\r\n"):
        found = read_records(lines(*atoms, end=end), Path("a.pdb"))
        assert found.positions.tolist() == [[1, 2, 3], [4, 5, 6]]
        assert found.names.tobytes() == b" CA  CA "
    assert len(read_records(b"HEADER\nEND", Path("a.pdb")).positions) == 0
    with pytest.raises(UserError, match="line 2: is cut short"):
        read_records(lines(*atoms)[:-40], Path("a.pdb"))


def test_only_atoms_have_to_be_ascii():
    atom = lines(("ATOM", ("1.000", "2.000", "3.000")))
    assert len(read_records("REMARK Müller\n".encode() + atom, Path("a.pdb")).positions) == 1
    damaged = atom.replace(b"ALA", b"AL\xc2")
    assert damaged != atom
    with pytest.raises(UserError, match="line 2: column 20 is not ASCII"):
        read_records(b"HEADER\n" + damaged, Path("a.pdb"))

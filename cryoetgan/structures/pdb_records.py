"""ATOM and HETATM records of a PDB file, read by columns with NumPy (no loop over atoms)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError

Bytes = NDArray[np.uint8]
NAME_COLUMN, COORDINATE_COLUMN, END_COLUMN = 12, 30, 54
"""0-based column of the atom's name and of its coordinates, and the end of the coordinates."""
DIGIT_WEIGHTS = np.array([1e6, 1e5, 1e4, 1e3, 0, 100, 10, 1], np.float32)
"""Weight of each digit of a coordinate `%8.3f`, in thousandths of an angstrom."""
SPACE, MINUS, DIGIT, OTHER = range(4)
BYTE_KINDS = np.full(256, OTHER, np.uint8)
BYTE_KINDS[ord(" ")], BYTE_KINDS[ord("-")] = SPACE, MINUS
BYTE_KINDS[ord("0") : ord("9") + 1] = DIGIT


@dataclass(frozen=True)
class PdbRecords:
    """Atoms in the order of the file."""

    names: Bytes
    """`(N, 4)` bytes of columns 13 to 16."""
    positions: NDArray[np.float64]
    """`(N, 3)` xyz in angstrom."""
    is_het: NDArray[np.bool_]
    """`(N,)` bool, True if the record is a HETATM."""


def read_records(text: bytes, path: Path) -> PdbRecords:
    """Return the atoms of a PDB file, all models; the message of a fault names the line."""
    data = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    starts = np.concatenate([[0], ends + 1])
    ends = np.append(ends, len(data))
    is_atom, is_het = (_starts_with(data, starts, word) for word in (b"ATOM", b"HETATM"))
    lines = np.flatnonzero(is_atom | is_het)
    starts, lengths = starts[lines], (ends - starts)[lines]
    if (lengths < END_COLUMN).any():
        line = int(lines[np.argmax(lengths < END_COLUMN)]) + 1
        raise UserError(
            f"{path}, line {line}: is cut short: an atom has at least {END_COLUMN} columns"
        )
    columns = data[starts[:, None] + np.arange(COORDINATE_COLUMN, END_COLUMN)]
    positions, valid = _parse_fields(columns.reshape(-1, 8))
    if not valid.all():
        wrong = int(np.argmin(valid)) // 3
        raise UserError(
            f"{path}, line {lines[wrong] + 1}: has a coordinate that is not a number "
            f"({columns[wrong].tobytes().decode('latin-1').strip()!r})"
        )
    names = data[starts[:, None] + np.arange(NAME_COLUMN, NAME_COLUMN + 4)]
    return PdbRecords(names, positions.reshape(-1, 3), is_het[lines])


def _starts_with(data: Bytes, starts: NDArray[np.int_], word: bytes) -> NDArray[np.bool_]:
    """Return which lines begin with a word."""
    found = starts + len(word) <= len(data)
    for index, letter in enumerate(word):
        found[found] = data[starts[found] + index] == letter
    return found


def _parse_fields(fields: Bytes) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the values of fields `(N, 8)` of eight columns, and which of them are numbers."""
    kinds = BYTE_KINDS[fields]
    before, after = kinds[:, :3], kinds[:, 1:4]
    usual = (fields[:, 4] == ord(".")) & (kinds[:, [3, 5, 6, 7]] == DIGIT).all(axis=1)
    # blanks, then at most one sign, then digits
    usual &= ((before <= after) & ~((before == MINUS) & (after == MINUS))).all(axis=1)
    digits = np.where(kinds == DIGIT, fields - ord("0"), 0).astype(np.float32)
    # whole thousandths are exact; one division rounds as reading the decimals does
    values = (digits @ DIGIT_WEIGHTS).astype(np.float64) / 1000
    values[(kinds[:, :3] == MINUS).any(axis=1)] *= -1
    valid = np.ones(len(fields), bool)
    for index in np.flatnonzero(~usual):
        number = _parse_decimal(fields[index].tobytes())
        valid[index] = number is not None
        values[index] = number or 0.0
    return values, valid


def _parse_decimal(field: bytes) -> float | None:
    """Return a decimal number in another format than `%8.3f`, or None."""
    if not set(field) <= set(b"0123456789+-. "):
        return None
    try:
        return float(field)
    except ValueError:
        return None

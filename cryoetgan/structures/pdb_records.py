"""ATOM and HETATM records of a PDB file, read by columns with NumPy (no loop over atoms)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError

Bytes = NDArray[np.uint8]
NAME_COLUMN, COORDINATE_COLUMN, END_COLUMN = 12, 30, 54
"""0-based column of the atom's name and of its coordinates, and the end of the coordinates."""
MAX_ASCII = 127
DECIMAL = b"0123456789+-. "
"""The bytes of a decimal number; Python also reads `1e5`, `nan` and `1_0`."""


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
    foreign = np.searchsorted(starts, np.flatnonzero(data > MAX_ASCII), side="right") - 1
    if len(foreign := foreign[np.isin(foreign, lines)]):
        column = int(np.argmax(data[starts[foreign[0]] :] > MAX_ASCII)) + 1
        raise UserError(
            f"{path}, line {foreign[0] + 1}: column {column} is not ASCII; correct the character"
        )
    starts, lengths = starts[lines], (ends - starts)[lines]
    if (lengths < END_COLUMN).any():
        line = int(lines[np.argmax(lengths < END_COLUMN)]) + 1
        raise UserError(
            f"{path}, line {line}: is cut short: an atom has at least {END_COLUMN} columns"
        )
    columns = data[starts[:, None] + np.arange(COORDINATE_COLUMN, END_COLUMN)]
    fields = columns.reshape(-1, 8)
    try:
        positions = fields.view("S8").astype(np.float64)
        valid = bool(np.isin(fields, list(DECIMAL)).all())
    except ValueError:
        valid = False
    if not valid:
        wrong = next(n for n, field in enumerate(fields) if not _is_decimal(field.tobytes()))
        raise UserError(
            f"{path}, line {lines[wrong // 3] + 1}: has a coordinate that is not a number "
            f"({fields[wrong].tobytes().decode('latin-1').strip()!r})"
        )
    names = data[starts[:, None] + np.arange(NAME_COLUMN, NAME_COLUMN + 4)]
    return PdbRecords(names, positions.reshape(-1, 3), is_het[lines])


def _starts_with(data: Bytes, starts: NDArray[np.int_], word: bytes) -> NDArray[np.bool_]:
    """Return which lines begin with a word."""
    found = starts + len(word) <= len(data)
    for index, letter in enumerate(word):
        found[found] = data[starts[found] + index] == letter
    return found


def _is_decimal(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return set(text) <= set(DECIMAL)

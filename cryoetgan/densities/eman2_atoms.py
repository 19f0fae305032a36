"""Atoms as EMAN2's e2pdb2mrc.py reads them.

Read in its source and met on its maps: ATOM records of all MODELs, every alternate
location in full, no HETATM, no assembly; Z from the atom's name.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoetgan.densities.atoms import Atoms
from cryoetgan.errors import UserError
from cryoetgan.structures.checks import is_mmcif, read_structure, read_text

Z_OF_LETTER = {"H": 1, "C": 6, "A": 7, "N": 7, "O": 8, "P": 15, "S": 16, "W": 18, "K": 19}
"""A stands for ambiguous nitrogen or oxygen, W for a water as one atom."""
GOLD = 79
COORDINATES_END = 54
"""x, y and z are columns 31 to 54 of a PDB record."""


def read_atoms_as_eman2(path: Path) -> Atoms:
    """Read the atoms that e2pdb2mrc.py would use; from mmCIF, those of the same PDB file.

    Raises
    ------
    UserError
        Where the file cannot be read, or EMAN2 would find no atom in it.
    """
    structure = read_structure(path)
    text = read_text(path)
    if is_mmcif(text, path):
        sites = [s for m in structure for s in m.all() if s.residue.het_flag != "H"]
        positions = np.array([s.atom.pos.tolist() for s in sites], float)
        numbers = np.array([atomic_number(s.atom.padded_name()) for s in sites], int)
    else:
        positions, numbers = _records(text)
    known = numbers > 0
    if not known.any():
        raise UserError(f"{path}: EMAN2 would find no atom in it (HETATM records are skipped)")
    return Atoms(positions[known], numbers[known])


def _records(text: bytes) -> tuple[NDArray[np.float64], NDArray[np.int_]]:
    """Return coordinates and Z of all ATOM records; the columns are checked already."""
    lines = [line[:COORDINATES_END] for line in text.splitlines() if line.startswith(b"ATOM")]
    if not lines:
        return np.empty((0, 3)), np.empty(0, int)
    columns = np.array(lines, f"S{COORDINATES_END}").view("S1").reshape(len(lines), -1)
    positions = np.ascontiguousarray(columns[:, 30:]).view("S8").astype(float)
    names, which = np.unique(
        np.ascontiguousarray(columns[:, 12:16]).view("S4"), return_inverse=True
    )
    numbers = np.array([atomic_number(name.decode("latin-1")) for name in names], int)
    return positions, numbers[which.ravel()]


def atomic_number(name: str) -> int:
    """Return Z of an atom name, columns 13-16 of a PDB file; 0 where EMAN2 drops the atom.

    The letter is that of column 13 or, where that is blank, the next one, so that
    calcium is carbon and selenium sulphur; names that start with a digit are dropped.
    """
    name = f"{name:<4}"[:4]
    rest = name[1:].strip()
    if not rest:
        return 0
    first, second = (rest[0], name[2]) if name[0] == " " else (name[0], rest[0])
    if (first, second) == ("A", "U"):
        return GOLD
    return Z_OF_LETTER.get(first, 0)

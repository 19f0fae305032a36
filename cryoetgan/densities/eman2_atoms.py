"""Atoms as EMAN2's e2pdb2mrc.py reads them.

Read in its source and met on its maps: ATOM records of all MODELs, every alternate
location in full, no HETATM, no assembly; Z from the atom's name.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoetgan.densities.atoms import Atoms, check_extent
from cryoetgan.errors import UserError
from cryoetgan.structures.pdb_records import PdbRecords, read_records
from cryoetgan.structures.read_structure import is_mmcif, read_structure, read_text

Z_OF_LETTER = {"H": 1, "C": 6, "A": 7, "N": 7, "O": 8, "P": 15, "S": 16, "W": 18, "K": 19}
"""A stands for ambiguous nitrogen or oxygen, W for a water as one atom."""
GOLD = 79


def read_atoms_as_eman2(path: Path) -> Atoms:
    """Read the atoms that e2pdb2mrc.py would use; from mmCIF, those of the same PDB file.

    Raises
    ------
    UserError
        Where the file cannot be read, or EMAN2 would find no atom in it.
    """
    text = read_text(path)
    if is_mmcif(text, path):
        structure = read_structure(path)
        sites = [s for m in structure for s in m.all() if s.residue.het_flag != "H"]
        positions = np.array([s.atom.pos.tolist() for s in sites], float)
        numbers = np.array([atomic_number(s.atom.padded_name()) for s in sites], int)
    else:
        positions, numbers = _records(read_records(text, path))
    known = numbers > 0
    if not known.any():
        raise UserError(
            f"{path}: EMAN2 would find no atoms in it: it reads the ATOM records of PDB files, "
            "HETATM records are skipped"
        )
    check_extent(positions, path)
    return Atoms(positions[known], numbers[known])


def _records(records: PdbRecords) -> tuple[NDArray[np.float64], NDArray[np.int_]]:
    """Return coordinates and Z of the ATOM records."""
    kept = ~records.is_het
    names, which = np.unique(records.names[kept].view("S4"), return_inverse=True)
    numbers = np.array([atomic_number(name.decode("latin-1")) for name in names], int)
    return records.positions[kept], numbers[which.ravel()]


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

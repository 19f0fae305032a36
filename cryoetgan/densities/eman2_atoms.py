"""Atoms as EMAN2's e2pdb2mrc.py reads them.

The rules come from its source and were confirmed on its maps. It reads the ATOM records of all
MODELs and every alternate location, no HETATM and no assembly; Z follows from the atom's name.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoetgan.densities.atoms import Atoms, check_extent
from cryoetgan.errors import UserError
from cryoetgan.structures.pdb_records import PdbRecords, read_records
from cryoetgan.structures.read_structure import is_mmcif, read_structure, read_text

Z_OF_LETTER = {"H": 1, "C": 6, "A": 7, "N": 7, "O": 8, "P": 15, "S": 16, "W": 18, "K": 19}
"""A is an ambiguous nitrogen or oxygen, W a water as one atom."""
Z_GOLD = 79


def read_atoms_as_eman2(path: Path) -> Atoms:
    """Read the atoms that e2pdb2mrc.py would use; mmCIF is read as the same PDB file."""
    text = read_text(path)
    if is_mmcif(text, path):
        structure = read_structure(path)
        sites = [s for m in structure for s in m.all() if s.residue.het_flag != "H"]
        positions = np.array([s.atom.pos.tolist() for s in sites], float)
        numbers = np.array([eman2_atomic_number(s.atom.padded_name()) for s in sites], int)
    else:
        positions, numbers = _read_atom_records(read_records(text, path))
    known = numbers > 0
    if not known.any():
        raise UserError(
            f"{path}: EMAN2 finds no atoms in it: it reads the ATOM records of PDB files and "
            "skips HETATM records"
        )
    check_extent(positions, path)
    return Atoms(positions[known], numbers[known])


def _read_atom_records(records: PdbRecords) -> tuple[NDArray[np.float64], NDArray[np.int_]]:
    """Return coordinates `(N, 3)` and Z `(N,)` of the ATOM records."""
    keep = ~records.is_het
    names, which = np.unique(records.names[keep].view("S4"), return_inverse=True)
    numbers = np.array([eman2_atomic_number(name.decode("latin-1")) for name in names], int)
    return records.positions[keep], numbers[which.ravel()]


def eman2_atomic_number(name: str) -> int:
    """Return Z of an atom name, columns 13-16 of a PDB file; 0 if EMAN2 drops the atom.

    The first letter counts: column 13, or the next one if that is blank. Calcium is therefore
    carbon, and selenium sulphur. Names that start with a digit are dropped.

    Examples
    --------
    >>> eman2_atomic_number(" CA "), eman2_atomic_number("SE  "), eman2_atomic_number("1HB ")
    (6, 16, 0)
    """
    name = f"{name:<4}"[:4]
    rest = name[1:].strip()
    if not rest:
        return 0
    first, second = (rest[0], name[2]) if name[0] == " " else (name[0], rest[0])
    if (first, second) == ("A", "U"):
        return Z_GOLD
    return Z_OF_LETTER.get(first, 0)

"""Atoms as EMAN2's e2pdb2mrc.py reads them.

Read in its source and met on its maps: ATOM records of all MODELs, every alternate
location in full, no HETATM, no assembly; Z from the atom's name.
"""

from pathlib import Path

import numpy as np

from cryoetgan.densities.atoms import Atoms
from cryoetgan.errors import UserError
from cryoetgan.structures.checks import is_mmcif, read_structure, read_text

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
    structure = read_structure(path)
    text = read_text(path)
    positions, numbers = [], []
    if is_mmcif(text, path):
        for model in structure:
            for site in model.all():
                if site.residue.het_flag != "H":
                    positions.append(site.atom.pos.tolist())
                    numbers.append(atomic_number(site.atom.padded_name()))
    else:
        for line in text.decode("latin-1").splitlines():
            if line.startswith("ATOM"):
                positions.append([float(line[at : at + 8]) for at in (30, 38, 46)])
                numbers.append(atomic_number(line[12:16]))
    known = np.array(numbers, int) > 0
    if not known.any():
        raise UserError(f"{path}: EMAN2 would find no atom in it (HETATM records are skipped)")
    return Atoms(np.array(positions, float)[known], np.array(numbers, int)[known])


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

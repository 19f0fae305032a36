"""The EMAN2 engine: e2pdb2mrc.py in a process of its own, and the atoms that it reads."""

import logging
import os
import re
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import mrcfile
import numpy as np
from numpy.typing import NDArray

from cryoetgan.densities.atoms import Atoms, check_extent
from cryoetgan.densities.density_from_atoms import simulate
from cryoetgan.errors import UserError
from cryoetgan.structures.pdb_records import read_records
from cryoetgan.structures.read_structure import is_mmcif, read_structure, read_text

log = logging.getLogger("cryoetgan")
PROGRAM = "e2pdb2mrc.py"
MIN_COORDINATE_A, MAX_COORDINATE_A = -999.0, 9999.0
"""Angstrom; range of eight columns with three decimals."""
MAX_DIFFERENCE = 0.02
"""Largest difference from the built-in engine's map, as a fraction of the map's maximum."""
MAX_SERIAL, MAX_RESIDUE = 99_999, 9999
ATOM_NAMES = {
    1: " H  ",
    6: " C  ",
    7: " N  ",
    8: " O  ",
    15: " P  ",
    16: " S  ",
    19: " K  ",
    34: "SE  ",
}
"""Z to columns 13-16, for the elements that EMAN2 knows; it reads selenium as sulphur."""


def drop_unknown_elements(atoms: Atoms, path: Path) -> Atoms:
    """Return the atoms without the elements that EMAN2 drops (mostly ions); log their number."""
    known = np.isin(atoms.atomic_numbers, list(ATOM_NAMES))
    if not known.any():
        raise UserError(f"{path}: EMAN2 knows none of its elements; use engine builtin")
    if not known.all():
        dropped = ", ".join(map(str, np.unique(atoms.atomic_numbers[~known])))
        log.warning(
            f"{path}: EMAN2 drops {(~known).sum()} atoms of elements it does not know "
            f"(Z = {dropped}); engine builtin counts them"
        )
    return atoms[known]


def run_e2pdb2mrc(
    atoms: Atoms, voxel_size: float, resolution: float, box: int, center: bool = True
) -> NDArray[np.float32]:
    """Return the density map `(z, y, x)` float32 of these atoms by e2pdb2mrc.py.

    The atoms (see `drop_unknown_elements`) are passed as plain ATOM records of a PDB file in a
    temporary folder: the program reads no mmCIF, builds no assembly, skips HETATM, and writes a
    log. The box is always passed, because the default of EMAN2 2.99.72 is wrong. `center` puts the
    centre of mass at voxel n // 2. Voxel size and resolution in angstrom, box in voxels.

    Raises `UserError` if the program is not installed or fails, or if it used another number of
    atoms or wrote another box.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise UserError(
            f"densities.engine is eman2, but {PROGRAM} is not on PATH; run the workflow with "
            "--use-conda (conda package eman-dev, channels conda-forge and cryoem). Or set "
            "densities.engine to builtin, which equals it to 0.4 %: EMAN2's window is one voxel "
            "short (with --eman2-compatible, 0.005 %)"
        )
    if center:
        # shifted by whole angstroms: it fits the columns, and the decimals do not change
        moved = atoms.positions - np.rint(atoms.positions.mean(axis=0))
        atoms = Atoms(moved, atoms.atomic_numbers, atoms.phantom)
    with tempfile.TemporaryDirectory(prefix="cryoetgan-eman2-") as folder:
        source, target = Path(folder, "particle.pdb"), Path(folder, "particle.mrc")
        source.write_text(format_pdb(atoms))
        words = [program, source.name, target.name, f"--apix={voxel_size!r}"]
        words += [f"--res={resolution!r}", f"--box={box}", *(["--center"] if center else [])]
        # HOME: the program writes a log and a cache there
        done = subprocess.run(
            words,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HOME": folder},
        )
        if done.returncode != 0 or not target.exists():
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            raise UserError(f"{PROGRAM} failed (exit {done.returncode}): {lines[-1]}")
        used = re.search(r"(\d+) atoms used", done.stdout)
        if used and int(used[1]) != len(atoms):
            raise UserError(f"{PROGRAM} used {used[1]} atoms of {len(atoms)}; use engine builtin")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its headers have nversion 0 and ispg 0
            with mrcfile.open(target, permissive=True) as file:
                data = np.array(file.data, np.float32)
    if data.shape != (box, box, box):
        raise UserError(f"{PROGRAM} wrote a map of {data.shape}, not {box}^3; is it EMAN2 2.99?")
    _check_map(data, atoms, voxel_size, resolution, box, center)
    return data


def _check_map(
    data: NDArray[np.float32],
    atoms: Atoms,
    voxel_size: float,
    resolution: float,
    box: int,
    center: bool,
) -> None:
    """Compare with the built-in engine, in case another release treats atoms differently."""
    numbers = np.where(atoms.atomic_numbers == 34, 16, atoms.atomic_numbers)
    written = Atoms(atoms.positions.round(3), numbers)
    written = written.centre() if center else written
    wanted = simulate(
        written.positions, numbers, voxel_size, resolution, box, eman2_compatible=True
    )
    error = float(np.abs(data - wanted).max() / wanted.max()) if wanted.any() else 0.0
    if not error < MAX_DIFFERENCE:
        raise UserError(
            f"the map of {PROGRAM} differs from the built-in engine's by {100 * error:.2g} % of its "
            "maximum (0.005 % for EMAN2 2.99.72). Is it another release? Use engine builtin"
        )


def format_pdb(atoms: Atoms) -> str:
    """Return ATOM records; serials and residue numbers start again if their columns are full."""
    if atoms.positions.max() > MAX_COORDINATE_A or atoms.positions.min() < MIN_COORDINATE_A:
        raise UserError(
            "the particle's coordinates do not fit the columns of the PDB format that EMAN2 "
            "reads; omit --no-center, or use engine builtin"
        )
    lines = [
        f"ATOM  {index % MAX_SERIAL + 1:5d} {ATOM_NAMES[int(number)]} UNK A"
        f"{index % MAX_RESIDUE + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00"
        f"          {ATOM_NAMES[int(number)].strip():>2}"
        for index, ((x, y, z), number) in enumerate(
            zip(atoms.positions, atoms.atomic_numbers, strict=True)
        )
    ]
    return "\n".join([*lines, "END", ""])


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
        records = read_records(text, path)
        names, which = np.unique(records.names.view("S4"), return_inverse=True)
        every = np.array([eman2_atomic_number(name.decode("latin-1")) for name in names], int)
        numbers = np.where(records.is_het, 0, every[which.ravel()])
        positions = records.positions
    known = numbers > 0
    if not known.any():
        raise UserError(
            f"{path}: EMAN2 finds no atoms in it: it reads the ATOM records of PDB files and "
            "skips HETATM records"
        )
    check_extent(positions[known], path)
    return Atoms(positions[known], numbers[known])


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

"""The EMAN2 engine: e2pdb2mrc.py, called so that it gives what was asked for."""

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

from cryoetgan.densities.atoms import Atoms
from cryoetgan.densities.density_from_atoms import simulate
from cryoetgan.errors import UserError

log = logging.getLogger("cryoetgan")
PROGRAM = "e2pdb2mrc.py"
HIGHEST, LOWEST = 9999.0, -999.0
"""Angstrom; what eight columns with three decimals hold."""
LARGEST_DIFFERENCE = 0.02
"""Of a map's maximum, from the built-in engine's."""
LAST_SERIAL, LAST_RESIDUE = 99_999, 9999
NAMES = {1: " H  ", 6: " C  ", 7: " N  ", 8: " O  ", 15: " P  ", 16: " S  ", 19: " K  ", 34: "SE  "}
"""Z to columns 13-16 for the elements that EMAN2 knows; selenium counts as sulphur there."""


def known_to_eman2(atoms: Atoms, path: Path) -> Atoms:
    """Return the atoms without the elements that EMAN2 drops (ions mostly); says how many."""
    known = np.isin(atoms.atomic_numbers, list(NAMES))
    if not known.any():
        raise UserError(f"{path}: EMAN2 knows none of its elements; use engine builtin")
    if not known.all():
        dropped = np.unique(atoms.atomic_numbers[~known])
        log.warning(
            "%s: EMAN2 drops %d atoms of elements it does not know (Z = %s); engine builtin "
            "counts them",
            path,
            int((~known).sum()),
            ", ".join(map(str, dropped)),
        )
    return atoms[known]


def e2pdb2mrc(
    atoms: Atoms, voxel_size: float, resolution: float, box: int, center: bool = True
) -> NDArray[np.float32]:
    """Return the map that e2pdb2mrc.py makes of these atoms.

    The atoms go through a PDB file of plain ATOM records in a directory of its own: the
    program reads no mmCIF, builds no assembly, skips HETATM, and leaves a log.

    Parameters
    ----------
    atoms : Atoms
        All of elements that EMAN2 knows.
    voxel_size, resolution : float
        Angstrom.
    box : int
        Edge in voxels, always passed: 2.99.72 computes a wrong one of its own.
    center : bool
        Put the centre of mass at voxel n // 2 (its --center).

    Returns
    -------
    ndarray
        `(z, y, x)` float32.

    Raises
    ------
    UserError
        Where the program is not installed, fails, used another number of atoms, or wrote
        another box.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise UserError(
            f"densities.engine is eman2, but {PROGRAM} is not on PATH; run the workflow with "
            "--use-conda (envs/eman2.yaml has EMAN2: conda package eman-dev, channels conda-forge "
            "and cryoem), or set densities.engine to builtin, which equals it to 0.4 % "
            "(EMAN2's window is a voxel short; with that too, to 0.005 %)"
        )
    if center:
        # whole angstroms: the columns hold a particle far from the origin, its decimals stay
        moved = atoms.positions - np.rint(atoms.positions.mean(axis=0))
        atoms = Atoms(moved, atoms.atomic_numbers, atoms.phantom)
    with tempfile.TemporaryDirectory(prefix="cryoetgan-eman2-") as folder:
        source, target = Path(folder, "particle.pdb"), Path(folder, "particle.mrc")
        source.write_text(pdb_text(atoms))
        words = [program, source.name, target.name, f"--apix={voxel_size!r}"]
        words += [f"--res={resolution!r}", f"--box={box}", *(["--center"] if center else [])]
        # HOME: the program leaves a log and a cache there as well
        done = subprocess.run(
            words,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HOME": folder},
        )
        if done.returncode != 0 or not target.exists():
            said = (done.stderr or done.stdout).strip().splitlines()
            raise UserError(
                f"{PROGRAM} failed (exit {done.returncode}): {said[-1] if said else 'no message'}"
            )
        _check_count(done.stdout, len(atoms))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its headers have nversion 0 and ispg 0
            with mrcfile.open(target, permissive=True) as file:
                data = np.array(file.data, np.float32)
    if data.shape != (box, box, box):
        raise UserError(f"{PROGRAM} wrote a map of {data.shape}, not {box}^3; is it EMAN2 2.99?")
    _check_map(data, atoms, voxel_size, resolution, box, center)
    return data


def _check_count(said: str, wanted: int) -> None:
    found = re.search(r"(\d+) atoms used", said)
    if found and int(found.group(1)) != wanted:
        raise UserError(f"{PROGRAM} used {found.group(1)} atoms of {wanted}; use engine builtin")


def _check_map(
    data: NDArray[np.float32],
    atoms: Atoms,
    voxel_size: float,
    resolution: float,
    box: int,
    center: bool,
) -> None:
    """Compare with the built-in engine: a release that reads or weighs atoms otherwise is said."""
    numbers = np.where(atoms.atomic_numbers == 34, 16, atoms.atomic_numbers)
    seen = Atoms(atoms.positions.round(3), numbers)
    seen = seen.centred() if center else seen
    wanted = simulate(seen.positions, numbers, voxel_size, resolution, box, eman2_compatible=True)
    error = float(np.abs(data - wanted).max() / wanted.max()) if wanted.any() else 0.0
    if not error < LARGEST_DIFFERENCE:
        raise UserError(
            f"{PROGRAM} made a map that differs from the built-in engine's by {100 * error:.2g} % of "
            "its maximum, which equals EMAN2 2.99.72 to 0.005 %: are atoms missing, or is it "
            "another release? Use engine builtin"
        )


def pdb_text(atoms: Atoms) -> str:
    """Return ATOM records; serials and residues start again when the columns are full."""
    if atoms.positions.max() > HIGHEST or atoms.positions.min() < LOWEST:
        raise UserError(
            "the particle's coordinates do not fit the columns of the PDB format that EMAN2 "
            "reads; leave out --no-center, or use engine builtin"
        )
    lines = [
        f"ATOM  {index % LAST_SERIAL + 1:5d} {NAMES[int(number)]} UNK A"
        f"{index % LAST_RESIDUE + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00"
        f"          {NAMES[int(number)].strip():>2}"
        for index, ((x, y, z), number) in enumerate(
            zip(atoms.positions, atoms.atomic_numbers, strict=True)
        )
    ]
    return "\n".join([*lines, "END", ""])

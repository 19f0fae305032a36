"""The EMAN2 engine: e2pdb2mrc.py, called so that it gives what was asked for."""

import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import mrcfile
import numpy as np
from numpy.typing import NDArray

from cryoetgan.densities.atoms import Atoms
from cryoetgan.errors import UserError

PROGRAM = "e2pdb2mrc.py"
LARGEST_COORDINATE = 9999.0
LAST_SERIAL = 99_999
NAMES = {1: "H", 6: "C", 7: "N", 8: "O", 15: "P", 16: "S", 19: "K", 34: "S"}
"""Z to an atom name that EMAN2 knows; selenium counts as sulphur there."""


def e2pdb2mrc(atoms: Atoms, voxel_size: float, resolution: float, box: int) -> NDArray[np.float32]:
    """Return the map that e2pdb2mrc.py makes of these atoms, `(z, y, x)` float32.

    The atoms go through a PDB file of plain ATOM records in a directory of its own:
    the program reads no mmCIF, builds no assembly, skips HETATM and leaves a log.

    Raises
    ------
    UserError
        Where the program is not installed, fails, or used another number of atoms.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise UserError(
            f"densities.engine is eman2, but {PROGRAM} is not on PATH; run with --use-conda "
            "(envs/eman2.yaml has EMAN2), or set densities.engine to builtin, which equals it"
        )
    with tempfile.TemporaryDirectory(prefix="cryoetgan-eman2-") as folder:
        source, target = Path(folder, "particle.pdb"), Path(folder, "particle.mrc")
        source.write_text(pdb_text(atoms))
        words = [program, source.name, target.name, f"--apix={voxel_size}", f"--res={resolution}"]
        done = subprocess.run(
            [*words, f"--box={box}"], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0 or not target.exists():
            said = (done.stderr or done.stdout).strip().splitlines()
            raise UserError(f"{PROGRAM} failed: {said[-1] if said else 'it said nothing'}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its headers have nversion 0 and ispg 0
            with mrcfile.open(target, permissive=True) as file:
                data = np.array(file.data, np.float32)
    if data.shape != (box, box, box):
        raise UserError(f"{PROGRAM} wrote a map of {data.shape}, not {box}^3")
    return data


def pdb_text(atoms: Atoms) -> str:
    """Return ATOM records; serials and residues start again when the columns are full."""
    if np.abs(atoms.positions).max() > LARGEST_COORDINATE - 1:
        raise UserError("the particle does not fit the PDB format's columns; use engine builtin")
    lines = []
    for index, (position, number) in enumerate(
        zip(atoms.positions, atoms.atomic_numbers, strict=True)
    ):
        name = NAMES.get(int(number))
        if name is None:
            continue  # EMAN2 would drop it as well
        x, y, z = position
        serial = index % LAST_SERIAL + 1
        lines.append(
            f"ATOM  {serial:5d}  {name:<3} UNK A{index % 9999 + 1:4d}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {name:>2}"
        )
    return "\n".join([*lines, "END", ""])

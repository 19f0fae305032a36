"""Lists of motifs of PolNet 1.0 and 1.1: class, position and orientation of each monomer."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.io.csv_text import check_numbers
from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.physics.geometry import relion_from_rotation

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {"type", "code", "x", "y", "z"}
"""Columns of a list of motifs in lower case; the file separates them by tabs."""
QUATERNION = ["q2", "q3", "q4", "q1"]
"""Columns x, y, z, w of the rotation from the template to the monomer."""
MEMBRANE, FILAMENTS = "membrane", {"filament", "helix"}
"""Types: rows of a membrane are points of its surface; rotations of filaments lack the twist."""


def read_motifs(
    table: "pd.DataFrame", voxel_size: float, path: Path, even_templates: bool = True
) -> "pd.DataFrame":
    """Return a row for each monomer: coordinate, angles, class; its `label` if the list has it.

    PolNet adds a template of n voxels to voxel round(X / v) - n // 2 and rotates it about
    (n - 1) / 2, so voxel n // 2 of the template lies at

        round(X / v) - 0.5 + R (0.5, 0.5, 0.5) for an even n, round(X / v) for an odd n

    Parameters
    ----------
    table : DataFrame
        The list; x, y, z in angstrom, columns in lower case.
    voxel_size : float
        v, angstrom, of PolNet's volumes.
    path : Path
        File of the list, for messages.
    even_templates : bool
        Whether n is even, as of all templates of PolNet.

    Returns
    -------
    DataFrame
        Coordinates in voxels, angles in degrees (NaN for filaments), without membranes.
    """
    import pandas as pd

    posed = set(QUATERNION) <= set(table)
    check_numbers(
        table, ["x", "y", "z", *QUATERNION * posed, *["label"] * ("label" in table)], path
    )
    kind = table["type"].astype(str).str.lower()
    table, kind = table[kind != MEMBRANE].reset_index(drop=True), kind[kind != MEMBRANE]
    places = np.rint(table[["x", "y", "z"]].to_numpy(float) / voxel_size)
    angles = np.full((len(table), 3), np.nan)
    if posed and len(table):
        quaternions = table[QUATERNION].to_numpy(float)
        if not (quaternions**2).sum(axis=1).all():
            raise UserError(f"{path}: a rotation (q1 to q4) is zero, wanted a unit quaternion")
        rotations = Rotation.from_quat(quaternions)
        known = ~kind.isin(FILAMENTS).to_numpy()
        angles[known] = relion_from_rotation(rotations[known])
        if even_templates:
            places[known] += rotations[known].apply([0.5] * 3)
            places -= 0.5
    out = pd.DataFrame(places, columns=COORDINATES)
    out[ANGLES] = angles
    out["cryoetganClass"] = [valid_name(name) for name in table["code"]]
    return out.assign(label=table["label"].astype(float).astype(int)) if "label" in table else out


def valid_name(name: object) -> str:
    """Return a class name: other characters than letters, digits, _ and - become _."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", str(name).strip())

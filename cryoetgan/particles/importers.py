"""Other programs' picks, and truth tables: RELION STAR, copick JSON, CSV, PolNet's lists."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError, nearest
from cryoetgan.files import existing
from cryoetgan.geometry import relion_from_rotation
from cryoetgan.star import ANGLES, COORDINATES, particle_id, read_star

CSV_COORDINATES = (("x_vox", "y_vox", "z_vox"), ("x", "y", "z"), tuple(COORDINATES))
MATRIX = [f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]
POLNET = {"type", "code", "x", "y", "z"}
"""Columns of PolNet's list of motifs, capital or not, parted by tabs."""
CENTRED = [
    "rlnCenteredCoordinateXAngst",
    "rlnCenteredCoordinateYAngst",
    "rlnCenteredCoordinateZAngst",
]


def read_picks(path: Path, tomogram: str, shape: tuple[int, ...], voxel_size: float) -> Any:
    """Return particles of one tomogram in our columns.

    Parameters
    ----------
    path : Path
        `.star` (ours, RELION 3 or 5), `.json` (copick picks), `.csv` (columns x, y, z or
        x_vox, y_vox, z_vox in voxels; class; a rotation matrix r11 ... r33, if any), or
        PolNet's `.csv` of motifs (in angstrom; places and classes alone).
    tomogram : str
        Its name; rows that name another tomogram are left out.
    shape : tuple of int
        zyx.
    voxel_size : float
        Angstrom, of the tomogram.

    Raises
    ------
    UserError
        Where the format is not known, coordinates are missing, or none lies inside.
    """
    readers = {".star": _star, ".json": _copick, ".csv": _csv}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: wanted .star, .csv or .json (copick picks)")
    table = readers[path.suffix.lower()](existing(path, "picks"), tomogram, shape, voxel_size)
    where = table[COORDINATES].to_numpy(float)
    if not np.isfinite(where).all():
        raise UserError(f"{path}: holds coordinates that are not numbers")
    inside = ((where >= 0) & (where <= np.array(shape)[::-1] - 1)).all(axis=1)
    if not inside.any():
        raise UserError(
            f"{path}: none of its {len(table)} particles lies inside {tomogram} "
            f"({'x'.join(map(str, shape[::-1]))} voxels); are the coordinates in voxels of "
            f"{voxel_size:g} A?"
        )
    table = table[inside].reset_index(drop=True)
    table["rlnTomoName"] = tomogram
    for column, default in (("cryoetganClass", "particle"), ("cryoetganScore", 1.0)):
        if column not in table:
            table[column] = default
    if "cryoetganId" not in table:
        table["cryoetganId"] = [
            particle_id(tomogram, *place) for place in table[COORDINATES].to_numpy(float)
        ]
    table["cryoetganSource"] = "real"
    return table


def check_classes(table: Any, classes: list[str], path: Path) -> Any:
    """Keep rows of known classes.

    Raises
    ------
    UserError
        Where none of them is known.
    """
    if not classes:
        return table
    known = table["cryoetganClass"].isin(classes)
    if not known.any():
        found = sorted(table["cryoetganClass"].unique())
        raise UserError(
            f"{path}: its classes are {', '.join(found[:8])}, none of {', '.join(classes)}"
            f"{nearest(found[0], classes)}"
        )
    return table[known].reset_index(drop=True)


def _star(path: Path, tomogram: str, shape: tuple[int, ...], voxel_size: float) -> Any:
    table = read_star(path).particles.copy()
    if "rlnTomoName" in table:
        mine = table["rlnTomoName"] == tomogram
        if not mine.any():
            named = ", ".join(sorted(table["rlnTomoName"].astype(str).unique())[:5])
            raise UserError(f"{path}: has no row of tomogram {tomogram}; it names {named}")
        table = table[mine].reset_index(drop=True)
    if set(CENTRED) <= set(table.columns):
        # RELION 5: angstrom from the volume's centre
        centre = np.array(shape)[::-1] / 2
        table[COORDINATES] = table[CENTRED].to_numpy(float) / voxel_size + centre
    if not set(COORDINATES) <= set(table.columns):
        raise UserError(f"{path}: lacks {', '.join(COORDINATES)}; it has {', '.join(table)}")
    return table


def _copick(path: Path, tomogram: str, shape: tuple[int, ...], voxel_size: float) -> Any:
    import pandas as pd

    try:
        content = json.loads(path.read_text())
        rows = [
            {
                **{
                    name: float(point["location"][axis]) / voxel_size
                    for name, axis in zip(COORDINATES, "xyz", strict=True)
                },
                "matrix": point.get("transformation_"),
            }
            for point in content["points"]
        ]
        name = str(content["pickable_object_name"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is not a copick picks file ({error!r})") from error
    if not rows:
        raise UserError(f"{path}: holds no point")
    table = pd.DataFrame(rows)
    table["cryoetganClass"] = name
    matrices = table.pop("matrix")
    if all(matrix is not None for matrix in matrices):
        turns = np.array([np.array(matrix)[:3, :3] for matrix in matrices])
        table[ANGLES] = relion_from_rotation(Rotation.from_matrix(turns))
    return table


def _csv(path: Path, tomogram: str, shape: tuple[int, ...], voxel_size: float) -> Any:
    import pandas as pd

    try:
        with open(path, encoding="utf-8") as file:
            heading = file.readline().rstrip("\r\n").lower().split("\t")
        if set(heading) >= POLNET:
            return _polnet(path, heading, tomogram, voxel_size)
        table = pd.read_csv(path, dtype={"class": str, "tomo": str})
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not a CSV table ({error})") from error
    for names in CSV_COORDINATES:
        if set(names) <= set(table.columns):
            out = pd.DataFrame(
                table[list(names)].to_numpy(float), columns=COORDINATES, index=table.index
            )
            break
    else:
        raise UserError(f"{path}: lacks columns x, y, z (voxels); it has {', '.join(table)}")
    for column in ("class", "cryoetganClass"):
        if column in table:
            out["cryoetganClass"] = table[column].astype(str)
    if set(MATRIX) <= set(table.columns):
        turns = table[MATRIX].to_numpy(float).reshape(-1, 3, 3)
        out[ANGLES] = relion_from_rotation(Rotation.from_matrix(turns))
    elif set(ANGLES) <= set(table.columns):
        out[ANGLES] = table[ANGLES]
    return out


def _polnet(path: Path, heading: list[str], tomogram: str, voxel_size: float) -> Any:
    """Return PolNet's motifs but its membranes', whose rows are points of a surface."""
    import pandas as pd

    table = pd.read_csv(path, sep="\t", header=0, names=heading, dtype={"code": str, "type": str})
    if "density" in table:  # one list of all tomograms, as its first versions wrote
        mine = [Path(str(name)).stem == tomogram for name in table["density"]]
        if not any(mine):
            named = ", ".join(sorted({Path(str(name)).stem for name in table["density"]})[:5])
            raise UserError(f"{path}: has no row of density {tomogram}; it names {named}")
        table = table[mine]
    table = table[table["type"].str.lower() != "membrane"].reset_index(drop=True)
    out = pd.DataFrame(table[["x", "y", "z"]].to_numpy(float) / voxel_size, columns=COORDINATES)
    out["cryoetganClass"] = [re.sub(r"[^A-Za-z0-9_-]", "_", name) for name in table["code"]]
    return out

"""Other programs' picks, and truth tables: RELION STAR, copick JSON, CSV, PolNet's lists."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError, suggest
from cryoetgan.io.files import check_exists
from cryoetgan.io.star import ANGLES, COORDINATES, ORIGINS, particle_id, read_star
from cryoetgan.physics.coordinates import ImportTransform
from cryoetgan.physics.geometry import relion_from_rotation, rotation_from_relion
from cryoetgan.progress import log

Floats = NDArray[np.floating]
CSV_COORDINATES = (("x_vox", "y_vox", "z_vox"), ("x", "y", "z"), tuple(COORDINATES))
MATRIX = [f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]
POLNET = {"type", "code", "x", "y", "z"}
"""Columns of PolNet's list of motifs, capital or not, parted by tabs."""
CENTRED = [
    "rlnCenteredCoordinateXAngst",
    "rlnCenteredCoordinateYAngst",
    "rlnCenteredCoordinateZAngst",
]
OLD_ORIGINS = [f"rlnOrigin{axis}" for axis in "XYZ"]
"""RELION 3.0: in voxels."""
FRAMES = [f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi")]
"""RELION 4: a turn of the box, apart from the particle's own."""
UNBINNED = "rlnTomoTiltSeriesPixelSize"
NAMING = ("rlnTomoName", "rlnMicrographName", "tomo", "tomogram")
"""Columns that name a row's tomogram, the first that is there."""
SUFFIX = r"\.(mrc|rec|map|tomostar|st)$"


def read_picks(
    path: Path,
    tomogram: str,
    shape: tuple[int, ...],
    voxel_size: float,
    imported: ImportTransform | None = None,
    unit: float | None = None,
) -> Any:
    """Return particles of one tomogram in our columns.

    Parameters
    ----------
    path : Path
        `.star` (ours, RELION 3 to 5), `.json` (copick picks), `.csv` (columns x, y, z or
        x_vox, y_vox, z_vox; class; a rotation matrix r11 ... r33, if any), or PolNet's `.csv`
        of motifs (in angstrom; places and classes alone). Or a folder of such files, where one
        that names no class is of the class it is named by.
    tomogram : str
        Its name; rows that name another tomogram are left out.
    shape : tuple of int
        zyx, of the imported tomogram.
    voxel_size : float
        Angstrom, of the imported tomogram.
    imported : Imported, optional
        How it was brought in: places in its file are moved and turned as it was. STAR files
        that we wrote (cryoetganId) hold places in the imported one.
    unit : float, optional
        Angstrom: of the coordinates, where they are not in voxels of the file.

    Raises
    ------
    UserError
        Where the format is not known, coordinates are missing, or none lies inside.
    """
    imported = imported or ImportTransform(shape, voxel_size, 1.0)
    table = _all(path, tomogram, imported, unit)
    where = table[COORDINATES].to_numpy(float)
    inside = ((where >= 0) & (where <= np.array(shape)[::-1] - 1)).all(axis=1)
    if not inside.any():
        if not len(table):
            raise UserError(f"{path}: holds no particle")
        raise UserError(
            f"{path}: none of its {len(table)} particles lies inside {tomogram} "
            f"({'x'.join(map(str, shape[::-1]))} voxels); are the coordinates in voxels of "
            f"{unit or imported.voxel_size:g} A? Else give --voxel-size (column annotations_voxel_size), "
            "1 for angstrom"
        )
    if not inside.all():
        log.warning("%s: %d particles lie outside %s", path, np.sum(~inside), tomogram)
    return table[inside].reset_index(drop=True)


def files_of(path: Path) -> list[Path]:
    """Return the files of picks that a path stands for: itself, or those in the folder."""
    path = check_exists(path, "picks")
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in READERS)
    if not found:
        raise UserError(f"{path}: holds no picks; wanted .star, .csv or .json files (copick)")
    return found


class ElsewhereError(UserError):
    """A file names other tomograms only."""


def _all(path: Path, tomogram: str, imported: ImportTransform, unit: float | None) -> Any:
    """Return the rows of all files, in our columns, placed in the imported tomogram."""
    import pandas as pd

    files, tables, elsewhere = files_of(path), [], None
    for file in files:
        if file.suffix.lower() not in READERS:
            raise UserError(f"{file}: wanted .star, .csv or .json (copick picks)")
        try:
            table = READERS[file.suffix.lower()](file, tomogram, imported, unit)
        except ElsewhereError as error:
            elsewhere = error
            continue
        if not np.isfinite(table[COORDINATES].to_numpy(float)).all():
            raise UserError(f"{file}: holds coordinates that are not numbers")
        name = file.stem if path.is_dir() else "particle"
        tables.append(_completed(table, name, tomogram, imported))
    if elsewhere is not None and not tables:
        raise elsewhere
    return pd.concat(tables, ignore_index=True, join="inner")


def _completed(table: Any, name: str, tomogram: str, imported: ImportTransform) -> Any:
    """Return rows with class, score and id; what is not ours is moved as the tomogram was."""
    table = table.copy()
    for column, default in (("cryoetganClass", name), ("cryoetganScore", 1.0)):
        if column not in table:
            table[column] = default
    if "cryoetganId" not in table:
        places = imported.to_tomogram(table[COORDINATES].to_numpy(float))
        table[COORDINATES] = places
        if set(ANGLES) <= set(table.columns):
            turned = imported.rotation * rotation_from_relion(table[ANGLES].to_numpy(float))
            table[ANGLES] = relion_from_rotation(turned)
        table["cryoetganId"] = [particle_id(tomogram, *place) for place in places]
    return table.assign(rlnTomoName=tomogram, cryoetganSource="real")


def _in_file(places: Any, imported: ImportTransform, unit: float | None) -> Floats:
    """Return places in voxels of the tomogram's file; `unit` is that of `places`, angstrom."""
    places = np.asarray(places, float)
    return places if unit is None else places * (unit / imported.voxel_size)


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
            f"{suggest(found[0], classes)}"
        )
    return table[known].reset_index(drop=True)


def _star(path: Path, tomogram: str, imported: ImportTransform, unit: float | None) -> Any:
    opened = read_star(path)
    table = _of(opened.particles.copy(), tomogram, path)
    if set(CENTRED) <= set(table.columns):
        # RELION 5: angstrom from the volume's centre
        places = table[CENTRED].to_numpy(float) / imported.voxel_size
        table[COORDINATES] = places + imported.file_shape / 2
        table = table.drop(columns="cryoetganId", errors="ignore")  # our export's, too
    elif not set(COORDINATES) <= set(table.columns):
        raise UserError(f"{path}: lacks {', '.join(COORDINATES)}; it has {', '.join(table)}")
    elif "cryoetganId" not in table:
        if unit is None and UNBINNED in opened.optics:
            unit = float(opened.optics[UNBINNED].iloc[0])  # RELION 4: voxels of the tilt series
        table[COORDINATES] = _in_file(table[COORDINATES], imported, unit)
    return _centred(table, imported, unit, path)


def _centred(table: Any, imported: ImportTransform, unit: float | None, path: Path) -> Any:
    """Move coordinates to where particles were refined to: RELION keeps the rest as an origin."""
    ours = "cryoetganId" in table
    voxel_size = imported.voxel_size * (imported.step if ours else 1.0)
    for columns, size in ((ORIGINS, 1.0), (OLD_ORIGINS, unit or voxel_size)):
        if set(columns) <= set(table.columns):
            table[COORDINATES] -= table[columns].to_numpy(float) * (size / voxel_size)
            table = table.drop(columns=columns)
    turned = [name for name in FRAMES if name in table and np.any(table[name].to_numpy(float))]
    if turned:
        log.warning("%s: %s are not applied: angles are taken as they are", path, ", ".join(turned))
    return table


def _of(table: Any, tomogram: str, path: Path) -> Any:
    """Return the rows of one tomogram, by whatever column names it."""
    for column in NAMING:
        if column not in table:
            continue
        names = [re.sub(SUFFIX, "", str(name).rpartition("/")[2]) for name in table[column]]
        mine = [name == tomogram for name in names]
        if not any(mine) and len(set(names)) == 1 and column != NAMING[0]:
            log.warning("%s: %s says %s; taken for %s", path, column, names[0], tomogram)
            return table
        if not any(mine):
            named = ", ".join(sorted(set(names))[:5])
            raise ElsewhereError(
                f"{path}: has no row of tomogram {tomogram}; its column {column} names {named}; "
                "give the tomogram that name"
            )
        return table[mine].reset_index(drop=True)
    return table


def _copick(path: Path, tomogram: str, imported: ImportTransform, unit: float | None) -> Any:
    import pandas as pd

    try:
        content = json.loads(path.read_text())
        rows = [
            {
                **{
                    name: float(point["location"][axis]) / imported.voxel_size
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


def _csv(path: Path, tomogram: str, imported: ImportTransform, unit: float | None) -> Any:
    import pandas as pd

    try:
        with open(path, encoding="utf-8") as file:
            heading = file.readline().rstrip("\r\n").lower().split("\t")
        if set(heading) >= POLNET:
            return _polnet(path, heading, tomogram, imported.voxel_size)
        table = pd.read_csv(path, dtype=dict.fromkeys(("class", *NAMING), str))
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not a CSV table ({error})") from error
    for names in CSV_COORDINATES:
        if set(names) <= set(table.columns):
            break
    else:
        raise UserError(f"{path}: lacks columns x, y, z (voxels); it has {', '.join(table)}")
    table = _of(table, tomogram, path)
    try:
        places = _in_file(table[list(names)], imported, unit)
    except ValueError as error:
        raise UserError(f"{path}: holds coordinates that are not numbers ({error})") from error
    out = pd.DataFrame(places, columns=COORDINATES, index=table.index)
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
            raise ElsewhereError(f"{path}: has no row of density {tomogram}; it names {named}")
        table = table[mine]
    table = table[table["type"].str.lower() != "membrane"].reset_index(drop=True)
    out = pd.DataFrame(table[["x", "y", "z"]].to_numpy(float) / voxel_size, columns=COORDINATES)
    out["cryoetganClass"] = [re.sub(r"[^A-Za-z0-9_-]", "_", name) for name in table["code"]]
    return out


READERS = {".star": _star, ".json": _copick, ".csv": _csv}

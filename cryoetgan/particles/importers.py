"""Read picks of other programs: RELION and Warp STAR, copick JSON, CSV and PolNet lists."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError, suggest
from cryoetgan.io.files import check_exists
from cryoetgan.io.star import ANGLES, COORDINATES, ORIGINS, particle_id, read_star
from cryoetgan.physics.coordinates import ImportTransform
from cryoetgan.physics.geometry import relion_from_rotation, rotation_from_relion
from cryoetgan.progress import log

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
CSV_COORDINATES = (("x_vox", "y_vox", "z_vox"), ("x", "y", "z"), tuple(COORDINATES))
CSV_MATRIX = [f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]
POLNET_COLUMNS = {"type", "code", "x", "y", "z"}
"""Columns of PolNet's list of motifs in lower case; the file separates them by tabs."""
RELION5_COORDINATES = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
"""Angstrom from the centre of the tomogram."""
RELION3_ORIGINS_VOXELS = [f"rlnOrigin{axis}" for axis in "XYZ"]
RELION4_BOX_ANGLES = [f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi")]
"""Rotation of the box, separate from the particle's own."""
RELION4_PIXEL_SIZE = "rlnTomoTiltSeriesPixelSize"
"""Angstrom; the unit of coordinates."""
TOMOGRAM_COLUMNS = ("rlnTomoName", "rlnMicrographName", "tomo", "tomogram")
"""Columns that name the tomogram of a row; the first one present is used."""
TOMOGRAM_SUFFIX = r"\.(mrc|rec|map|tomostar|st)$"


@dataclass(frozen=True)
class PicksFrame:
    """Frame of the coordinates in a file of picks; `unit` as in `read_picks`."""

    tomogram: str
    transform: ImportTransform
    unit: float | None = None

    def to_file_voxels(self, places: Any) -> Floats:
        """Return coordinates in voxels of the tomogram's original file."""
        places = np.asarray(places, float)
        return places if self.unit is None else places * (self.unit / self.transform.voxel_size)


class OtherTomogramError(UserError):
    """A file has rows of other tomograms only."""


def read_picks(
    path: Path,
    tomogram: str,
    shape: tuple[int, ...],
    transform: ImportTransform,
    unit: float | None = None,
) -> "pd.DataFrame":
    """Return the particles of one tomogram, with the columns of our STAR files.

    Parameters
    ----------
    path : Path
        `.star` (ours, RELION 3 to 5, Warp), `.json` (copick picks), `.csv` (columns x, y, z or
        x_vox, y_vox, z_vox; optionally class and a rotation matrix r11 ... r33), or PolNet's
        `.csv` of motifs (angstrom; only positions and classes are used). Or a folder of such
        files; a file without classes is then named by its class.
    tomogram : str
        Name of the tomogram; rows of other tomograms are excluded.
    shape : tuple of int
        Of the imported tomogram, zyx.
    transform : ImportTransform
        How the tomogram was imported; particles are resampled and rotated in the same way. STAR
        files written by cryoetgan (cryoetganId) already refer to the imported tomogram.
    unit : float, optional
        Angstrom per unit of the coordinates; default: voxels of the tomogram's original file.
    """
    table = _read_files(path, PicksFrame(tomogram, transform, unit))
    where = table[COORDINATES].to_numpy(float)
    inside = ((where >= 0) & (where <= np.array(shape)[::-1] - 1)).all(axis=1)
    if not len(table):
        raise UserError(f"{path}: holds no particle")
    if not inside.any():
        raise UserError(
            f"{path}: none of its {len(table)} particles lies inside {tomogram} "
            f"({'x'.join(map(str, shape[::-1]))} voxels). Coordinates were read in voxels of "
            f"{unit or transform.voxel_size:g} A; else give --voxel-size (column "
            "annotations_voxel_size), 1 for angstrom"
        )
    if not inside.all():
        log.warning("%s: %d particles lie outside %s", path, np.sum(~inside), tomogram)
    return table[inside].reset_index(drop=True)


def list_pick_files(path: Path) -> list[Path]:
    """Return the path itself, or the files of picks in a folder."""
    path = check_exists(path, "picks")
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in READERS)
    if not found:
        raise UserError(f"{path}: has no file of picks (.star, .csv, or .json of copick)")
    return found


def _read_files(path: Path, frame: PicksFrame) -> "pd.DataFrame":
    """Return the rows of all files, in voxels of the imported tomogram."""
    import pandas as pd

    tables, elsewhere = [], None
    for file in list_pick_files(path):
        if file.suffix.lower() not in READERS:
            raise UserError(f"{file}: unknown format; give .star, .csv or .json (copick picks)")
        try:
            table = READERS[file.suffix.lower()](file, frame)
        except OtherTomogramError as error:
            elsewhere = error
            continue
        if not np.isfinite(table[COORDINATES].to_numpy(float)).all():
            raise UserError(f"{file}: holds coordinates that are not numbers")
        name = file.stem if path.is_dir() else "particle"
        tables.append(_to_our_columns(table, name, frame))
    if elsewhere is not None and not tables:
        raise elsewhere
    return pd.concat(tables, ignore_index=True, join="inner")


def _to_our_columns(table: "pd.DataFrame", class_name: str, frame: PicksFrame) -> "pd.DataFrame":
    """Add class, score and id; rows without an id are transformed as the tomogram was."""
    table = table.copy()
    for column, default in (("cryoetganClass", class_name), ("cryoetganScore", 1.0)):
        if column not in table:
            table[column] = default
    if "cryoetganId" not in table:
        places = frame.transform.to_tomogram(table[COORDINATES].to_numpy(float))
        table[COORDINATES] = places
        if set(ANGLES) <= set(table.columns):
            rotations = rotation_from_relion(table[ANGLES].to_numpy(float))
            table[ANGLES] = relion_from_rotation(frame.transform.rotation * rotations)
        table["cryoetganId"] = [particle_id(frame.tomogram, *place) for place in places]
    return table.assign(rlnTomoName=frame.tomogram, cryoetganSource="real")


def keep_classes(table: "pd.DataFrame", classes: list[str], path: Path) -> "pd.DataFrame":
    """Return the rows of some classes, all if `classes` is empty; `UserError` if none is left."""
    if not classes:
        return table
    known = table["cryoetganClass"].isin(classes)
    if not known.any():
        found = sorted(table["cryoetganClass"].unique())
        raise UserError(
            f"{path}: has the classes {', '.join(found[:8])}, but none of {', '.join(classes)}"
            f"{suggest(found[0], classes)}"
        )
    return table[known].reset_index(drop=True)


def _rows_of_tomogram(table: "pd.DataFrame", tomogram: str, path: Path) -> "pd.DataFrame":
    """Return the rows of one tomogram, named by any of `TOMOGRAM_COLUMNS`."""
    column = next((name for name in TOMOGRAM_COLUMNS if name in table), None)
    if column is None:
        return table
    names = [re.sub(TOMOGRAM_SUFFIX, "", str(name).rpartition("/")[2]) for name in table[column]]
    mine = [name == tomogram for name in names]
    if any(mine):
        return table[mine].reset_index(drop=True)
    if len(set(names)) == 1 and column != TOMOGRAM_COLUMNS[0]:
        log.warning("%s: %s is %s; taken for %s", path, column, names[0], tomogram)
        return table
    raise OtherTomogramError(
        f"{path}: has no row of tomogram {tomogram}; its column {column} names "
        f"{', '.join(sorted(set(names))[:5])}; rename the tomogram or the rows"
    )


def _read_star(path: Path, frame: PicksFrame) -> "pd.DataFrame":
    opened = read_star(path, any_names=True)  # names of other programs may be paths
    table = _rows_of_tomogram(opened.particles.copy(), frame.tomogram, path)
    if set(RELION5_COORDINATES) <= set(table.columns):
        places = table[RELION5_COORDINATES].to_numpy(float) / frame.transform.voxel_size
        table[COORDINATES] = places + frame.transform.file_shape / 2
        table = table.drop(columns="cryoetganId", errors="ignore")  # our export writes it
    elif not set(COORDINATES) <= set(table.columns):
        raise UserError(f"{path}: lacks {', '.join(COORDINATES)}; it has {', '.join(table)}")
    elif "cryoetganId" not in table:
        if frame.unit is None and RELION4_PIXEL_SIZE in opened.optics:
            frame = replace(frame, unit=float(opened.optics[RELION4_PIXEL_SIZE].iloc[0]))
        table[COORDINATES] = frame.to_file_voxels(table[COORDINATES])
    return _apply_origins(table, frame, path)


def _apply_origins(table: "pd.DataFrame", frame: PicksFrame, path: Path) -> "pd.DataFrame":
    """Subtract the origins, RELION's refined shifts, from the coordinates."""
    step = frame.transform.step if "cryoetganId" in table else 1.0
    voxel_size = frame.transform.voxel_size * step
    for columns, size in ((ORIGINS, 1.0), (RELION3_ORIGINS_VOXELS, frame.unit or voxel_size)):
        if set(columns) <= set(table.columns):
            table[COORDINATES] -= table[columns].to_numpy(float) * (size / voxel_size)
            table = table.drop(columns=columns)
    ignored = [c for c in RELION4_BOX_ANGLES if c in table and np.any(table[c].to_numpy(float))]
    if ignored:
        log.warning("%s: %s are ignored; the angles may be wrong", path, ", ".join(ignored))
    return table


def _read_copick(path: Path, frame: PicksFrame) -> "pd.DataFrame":
    import pandas as pd

    try:
        content = json.loads(path.read_text())
        points, name = content["points"], str(content["pickable_object_name"])
        places = [[float(point["location"][axis]) for axis in "xyz"] for point in points]
        matrices = [point.get("transformation_") for point in points]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is not a copick picks file ({error!r})") from error
    if not places:
        raise UserError(f"{path}: holds no point")
    table = pd.DataFrame(np.array(places) / frame.transform.voxel_size, columns=COORDINATES)
    table["cryoetganClass"] = name
    if all(matrix is not None for matrix in matrices):
        rotations = np.array([np.array(matrix)[:3, :3] for matrix in matrices])
        table[ANGLES] = relion_from_rotation(Rotation.from_matrix(rotations))
    return table


def _read_csv(path: Path, frame: PicksFrame) -> "pd.DataFrame":
    import pandas as pd

    try:
        with open(path, encoding="utf-8") as file:
            heading = file.readline().rstrip("\r\n").lower().split("\t")
        if set(heading) >= POLNET_COLUMNS:
            return _read_polnet(path, heading, frame)
        table = pd.read_csv(path, dtype=dict.fromkeys(("class", *TOMOGRAM_COLUMNS), str))
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not a CSV table ({error})") from error
    names = next((c for c in CSV_COORDINATES if set(c) <= set(table.columns)), None)
    if names is None:
        raise UserError(f"{path}: lacks columns x, y, z (voxels); it has {', '.join(table)}")
    table = _rows_of_tomogram(table, frame.tomogram, path)
    try:
        places = frame.to_file_voxels(table[list(names)])
    except ValueError as error:
        raise UserError(f"{path}: holds coordinates that are not numbers ({error})") from error
    out = pd.DataFrame(places, columns=COORDINATES, index=table.index)
    for column in ("class", "cryoetganClass"):
        if column in table:
            out["cryoetganClass"] = table[column].astype(str)
    if set(CSV_MATRIX) <= set(table.columns):
        rotations = table[CSV_MATRIX].to_numpy(float).reshape(-1, 3, 3)
        out[ANGLES] = relion_from_rotation(Rotation.from_matrix(rotations))
    elif set(ANGLES) <= set(table.columns):
        out[ANGLES] = table[ANGLES]
    return out


def _read_polnet(path: Path, heading: list[str], frame: PicksFrame) -> "pd.DataFrame":
    """Return PolNet's motifs except membranes, whose rows are points of a surface."""
    import pandas as pd

    table = pd.read_csv(path, sep="\t", header=0, names=heading, dtype={"code": str, "type": str})
    if "density" in table:  # the first versions wrote one list for all tomograms
        names = [Path(str(name)).stem for name in table["density"]]
        mine = [name == frame.tomogram for name in names]
        if not any(mine):
            raise OtherTomogramError(
                f"{path}: has no row of density {frame.tomogram}; it names "
                f"{', '.join(sorted(set(names))[:5])}; rename the tomogram or the rows"
            )
        table = table[mine]
    table = table[table["type"].str.lower() != "membrane"].reset_index(drop=True)
    places = table[["x", "y", "z"]].to_numpy(float) / frame.transform.voxel_size
    out = pd.DataFrame(places, columns=COORDINATES)
    out["cryoetganClass"] = [re.sub(r"[^A-Za-z0-9_-]", "_", name) for name in table["code"]]
    return out


READERS = {".star": _read_star, ".json": _read_copick, ".csv": _read_csv}

"""Read picks of other programs: STAR of RELION and Warp, copick JSON, CSV, and other lists."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError, format_shape
from cryoetgan.io.csv_text import check_numbers, read_csv_text
from cryoetgan.io.files import check_exists, read_json
from cryoetgan.io.point_files import read_copick_points, read_portal_points, to_rotations
from cryoetgan.io.star import (
    ANGLES,
    COORDINATES,
    ORIGINS,
    VOXEL_ORIGINS,
    particle_id,
    read_star,
)
from cryoetgan.particles.list_formats import (
    STOPGAP_COORDINATES,
    copick_class,
    is_own_copick,
    is_own_export,
    read_cbox,
    read_coordinates,
    read_deepfinder,
    read_dynamo,
    read_markers,
    read_motive_list,
    read_stopgap,
    tom_angles,
)
from cryoetgan.particles.naming_columns import (
    OtherTomogramError,
    check_run,
    classes_of_numbers,
    find_classes,
    find_columns,
    find_group,
    find_tomogram,
    legalise_classes,
    rows_of_tomogram,
    tomogram_columns,
)
from cryoetgan.physics.coordinates import ImportTransform, compose_poses
from cryoetgan.physics.geometry import relion_from_rotation, rotation_from_relion
from cryoetgan.progress import log
from cryoetgan.tomograms.sources.motif_list import COLUMNS as MOTIF_COLUMNS
from cryoetgan.tomograms.sources.motif_list import read_motifs
from cryoetgan.tomograms.sources.portal_scene import portal_object

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
CSV_COORDINATES = (
    ("x_vox", "y_vox", "z_vox"),
    ("x", "y", "z"),
    tuple(COORDINATES),
    ("pos_x", "pos_y", "pos_z"),  # ArtiaX
    ("axis-2", "axis-1", "axis-0"),  # napari: z first
)
NAPARI_SHAPES = ("shape-type", "vertex-index")
CSV_SHIFTS, CSV_TOM_ANGLES = ("shift_x", "shift_y", "shift_z"), ("phi", "the", "psi")
"""Further columns of ArtiaX; the angles are TOM's."""
CSV_ANGLES = (tuple(ANGLES), ("rot", "tilt", "psi"))
OWN_ID = r"p[0-9a-f]{12}"
"""Identifiers in our exports, which refer to the imported tomogram."""
CSV_MATRIX = [f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]
RELION5_COORDINATES = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
"""Angstrom from the centre of the tomogram."""
RELION4_PIXEL_SIZE = "rlnTomoTiltSeriesPixelSize"
"""Angstrom; the unit of coordinates."""
MIN_INSIDE = 0.5
"""Fraction of the particles inside the tomogram below which the coordinates have another unit."""
SAME_ROTATION = 1e-6
"""Angle below which a rotation is the identity, radians."""
MIN_PARTICLES, CORNER = 20, 0.5
"""The unit may be too large if this number of particles fills less than this part of each axis."""


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
        `.star` (ours, RELION 3 to 5, Warp, STOPGAP), `.json` (copick picks), `.ndjson` (points of the
        CryoET Data Portal), `.csv` and `.tsv`
        (columns x, y, z or x_vox, y_vox, z_vox; napari's and ArtiaX's; optionally class, a rotation
        matrix r11 ... r33, or rot, tilt, psi), PolNet's `.csv` of motifs, and the formats of
        `list_formats`. Or a folder of such files; a file without classes is then named by its class.
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
    if not len(table):
        raise UserError(f"{path}: holds no particle")
    places = table[COORDINATES].to_numpy(float)
    inside = _find_inside(places, shape, path, tomogram, unit or transform.voxel_size)
    table = table[inside].reset_index(drop=True)
    repeated = table.duplicated(["cryoetganId", "cryoetganClass"])
    if repeated.any():
        log.warning("%s: %d particles occur twice and count once", path, int(repeated.sum()))
    return table[~repeated].reset_index(drop=True)


def _find_inside(
    places: Floats, shape: tuple[int, ...], path: Path, tomogram: str, unit: float
) -> NDArray[np.bool_]:
    """Return which coordinates `(N, 3)` xyz lie inside a tomogram; refuse a wrong unit (angstrom)."""
    size = np.array(shape)[::-1]
    inside = ((places >= 0) & (places <= size - 1)).all(axis=1)
    advice = (
        f"Coordinates were read in voxels of {unit:g} A; else give --voxel-size (column "
        "annotations_voxel_size): the voxel size of the unbinned images, or 1 for angstrom"
    )
    if inside.mean() < MIN_INSIDE:
        count = f"only {inside.sum()}" if inside.any() else "none"
        raise UserError(
            f"{path}: {count} of its {len(places)} particles lies inside {tomogram} "
            f"({format_shape(shape)} voxels). {advice}"
        )
    if not inside.all():
        log.warning(
            "%s: %d of %d particles lie outside %s and are dropped",
            path, np.sum(~inside), len(places), tomogram,
        )  # fmt: skip
    reach = places[inside].max(axis=0)
    if len(places) >= MIN_PARTICLES and (reach < CORNER * size).all():
        log.warning(
            "%s: all %d particles lie in one corner of %s, at most %.0f, %.0f, %.0f of "
            "%s voxels. %s",
            path, len(places), tomogram, *reach, format_shape(shape), advice,
        )  # fmt: skip
    return np.asarray(inside)


def names_tomograms(path: Path) -> bool:
    """Return whether every file of picks names the tomogram of its particles."""
    return all(map(_names_tomograms, list_pick_files(path)))


def _names_tomograms(path: Path) -> bool:
    kind = path.suffix.lower()
    if kind == ".star":
        table = read_star(path, any_names=True).particles
        return bool(tomogram_columns(table) or find_columns(table, ["tomo_num"]))  # of STOPGAP
    if kind in (".csv", ".tsv"):
        return bool(tomogram_columns(read_csv_text(path)))
    if kind == ".json":
        content = read_json(path)
        return isinstance(content, dict) and bool(content.get("run_name"))
    return kind in (".tbl", ".em", ".xml")  # these number their tomograms


def list_pick_files(path: Path) -> list[Path]:
    """Return the path itself, or the files of picks in a folder."""
    path = check_exists(path, "picks")
    if not path.is_dir():
        return [path]
    if is_own_export(path / "particles.csv"):
        return [path / "particles.csv"]
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in READERS)
    # beside tables, these are volumes and settings
    tables = [file for file in found if file.suffix.lower() not in (".em", ".xml")]
    found = tables or found
    if not found:
        raise UserError(f"{path}: has no file of picks ({', '.join(READERS)})")
    return found


def _read_files(path: Path, frame: PicksFrame) -> "pd.DataFrame":
    """Return the rows of all files, in voxels of the imported tomogram."""
    import pandas as pd

    tables, elsewhere = [], None
    files = list_pick_files(path)
    _warn_of_repeated_objects(path, files)
    for file in files:
        if file.suffix.lower() not in READERS:
            raise UserError(
                f"{file}: unknown format; wanted a name that ends in {', '.join(READERS)}"
            )
        try:
            table = READERS[file.suffix.lower()](file, frame)
        except OtherTomogramError as error:
            elsewhere = error
            continue
        if not np.isfinite(table[COORDINATES].to_numpy(float)).all():
            raise UserError(f"{file}: holds coordinates that are not numbers")
        if is_own_export(file) and "cryoetganId" not in table:
            # its lists refer to the imported tomogram
            places = table[COORDINATES].to_numpy(float)
            table = table.assign(
                cryoetganId=[particle_id(frame.tomogram, *place) for place in places]
            )
        table = drop_identity(table)
        name = file.stem if path.is_dir() else "particle"
        tables.append(legalise_classes(_to_our_columns(table, name, frame), file))
    if elsewhere is not None and not tables:
        raise elsewhere
    # an empty file has no angles, for example, and takes none from the others
    filled = [table for table in tables if len(table)]
    posed = [set(ANGLES) <= set(table) for table in filled]
    if any(posed) and not all(posed):
        count = sum(len(table) for table, known in zip(filled, posed, strict=True) if not known)
        log.warning(
            "%s: %d of %d particles have no angles (%d of %d files)",
            path, count, sum(map(len, filled)), posed.count(False), len(filled),
        )  # fmt: skip
        filled = [
            table if known else table.assign(**dict.fromkeys(ANGLES, np.nan))
            for table, known in zip(filled, posed, strict=True)
        ]
    return pd.concat(filled or tables, ignore_index=True, join="inner")


def _warn_of_repeated_objects(path: Path, files: Sequence[Path]) -> None:
    """Warn if copick's files `USER_SESSION_OBJECT.json` have an object of several users or sessions."""
    origins: dict[str, list[str]] = {}
    for file in files:
        origin, _, name = file.stem.rpartition("_")
        if file.suffix.lower() == ".json":
            origins.setdefault(name, []).append(origin)
    several = sorted({one for found in origins.values() if len(found) > 1 for one in found})
    if several:
        log.warning(
            "%s: picks of %s are of the same objects, and all are read; to read one, move the files of "
            "the others out of the folder",
            path, " and ".join(several),
        )  # fmt: skip


def drop_identity(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table without angles if all rotations are the identity: no orientation is known."""
    if not set(ANGLES) <= set(table) or not len(table):
        return table
    angles = table[ANGLES].to_numpy(float)
    angles = angles[np.isfinite(angles).all(axis=1)]
    if (rotation_from_relion(angles).magnitude() > SAME_ROTATION).any():
        return table
    return table.drop(columns=ANGLES)


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
            known = table.index[np.isfinite(table[ANGLES].to_numpy(float)).all(axis=1)]
            rotations = rotation_from_relion(table.loc[known, ANGLES].to_numpy(float))
            turned = relion_from_rotation(frame.transform.to_tomogram_poses(rotations))
            table.loc[known, ANGLES] = turned
        table["cryoetganId"] = [particle_id(frame.tomogram, *place) for place in places]
    return table.assign(rlnTomoName=frame.tomogram, cryoetganSource="real")


def _read_star(path: Path, frame: PicksFrame) -> "pd.DataFrame":
    opened = read_star(path, any_names=True)  # names of other programs may be paths
    if set(STOPGAP_COORDINATES) <= set(opened.particles):
        return _in_file_voxels(read_stopgap(opened.particles, frame.tomogram, path), frame)
    table = opened.particles.copy()
    if "cryoetganClass" not in table and "rlnClassNumber" in table:
        table = table.assign(**classes_of_numbers(table["rlnClassNumber"]))
    table = compose_poses(rows_of_tomogram(table, frame.tomogram, path), path)
    if set(RELION5_COORDINATES) <= set(table.columns):
        places = table[RELION5_COORDINATES].to_numpy(float) / frame.transform.voxel_size
        table[COORDINATES] = places + frame.transform.file_shape / 2
        table = table.drop(columns="cryoetganId", errors="ignore")  # our export writes it
    elif not set(COORDINATES) <= set(table.columns):
        raise UserError(f"{path}: lacks {', '.join(COORDINATES)}; it has {', '.join(table)}")
    elif "cryoetganId" not in table:
        if frame.unit is None:
            frame = replace(frame, unit=_relion4_unit(table, opened.optics, path))
        table[COORDINATES] = frame.to_file_voxels(table[COORDINATES])
    return _apply_origins(table, frame, path)


def _relion4_unit(table: "pd.DataFrame", optics: "pd.DataFrame", path: Path) -> float | None:
    """Return the pixel size of the tilt series, angstrom, of the optics groups of a tomogram's rows."""
    if RELION4_PIXEL_SIZE not in optics:
        return None
    if {"rlnOpticsGroup"} <= set(table) & set(optics) and len(table):
        optics = optics[optics["rlnOpticsGroup"].isin(table["rlnOpticsGroup"])]
    sizes = optics[RELION4_PIXEL_SIZE].astype(float)
    if not len(sizes) or sizes.max() > 1.001 * sizes.min():
        found = ", ".join(f"{size:g}" for size in sizes) or "none"
        raise UserError(
            f"{path}: the optics groups of these particles have different {RELION4_PIXEL_SIZE} "
            f"({found}), wanted one for a tomogram; give --voxel-size (column annotations_voxel_size)"
        )
    return float(sizes.iloc[0])


def _apply_origins(table: "pd.DataFrame", frame: PicksFrame, path: Path) -> "pd.DataFrame":
    """Subtract the origins, RELION's refined shifts, from the coordinates."""
    step = frame.transform.step if "cryoetganId" in table else 1.0
    voxel_size = frame.transform.voxel_size * step
    for columns, size in ((ORIGINS, 1.0), (VOXEL_ORIGINS, frame.unit or voxel_size)):
        if set(columns) <= set(table.columns):
            table[COORDINATES] -= table[columns].to_numpy(float) * (size / voxel_size)
            table = table.drop(columns=columns)
    return table


def _read_copick(path: Path, frame: PicksFrame) -> "pd.DataFrame":
    import pandas as pd

    points = read_copick_points(path)
    check_run(points.about.get("run_name"), frame.tomogram, path)
    table = pd.DataFrame(points.places, columns=COORDINATES, dtype=float)
    table["cryoetganClass"] = copick_class(path, points.about["pickable_object_name"])
    if points.rotations is not None:
        table[ANGLES] = relion_from_rotation(points.rotations)
    if not is_own_copick(path, points.about.get("user_id")):
        table[COORDINATES] /= frame.transform.voxel_size
        return table
    # the exported volume is the imported tomogram
    table[COORDINATES] /= frame.transform.tomogram_voxel_size
    places = table[COORDINATES].to_numpy(float)
    return table.assign(cryoetganId=[particle_id(frame.tomogram, *place) for place in places])


def _read_portal(path: Path, frame: PicksFrame) -> "pd.DataFrame":
    """Return the points of an annotation of the CryoET Data Portal; their file names the class."""
    import pandas as pd

    points = read_portal_points(path)
    table = pd.DataFrame(frame.to_file_voxels(points.places), columns=COORDINATES)
    if points.rotations is not None:
        table[ANGLES] = relion_from_rotation(points.rotations)
    return table.assign(cryoetganClass=portal_object(path))


def _read_csv(path: Path, frame: PicksFrame) -> "pd.DataFrame":
    import pandas as pd

    table = read_csv_text(path)
    if {name.lower() for name in table.columns} >= MOTIF_COLUMNS:
        # the first versions wrote one list for all tomograms, with a column `density`
        rows = rows_of_tomogram(table.rename(columns=str.lower), frame.tomogram, path)
        found = read_motifs(rows, frame.transform.voxel_size, path).drop(
            columns="label", errors="ignore"
        )
        known = found[ANGLES].notna().all(axis=1).all()
        return found if known else found.drop(columns=ANGLES)
    if find_group(table, [NAPARI_SHAPES]):
        raise UserError(f"{path}: holds shapes of napari, not points; save a layer of points")
    names = find_group(table, CSV_COORDINATES)
    if not names:
        hint = "; add a heading" if re.match(r"[-+.\d]", str(table.columns[0])) else ""
        raise UserError(f"{path}: lacks columns x, y, z (voxels); it has {', '.join(table)}{hint}")
    is_own = "id" in table and len(table) and table["id"].str.fullmatch(OWN_ID).all()
    classes = {"cryoetganClass": table["class"]} if is_own and "class" in table else {}
    table = table.assign(
        **(classes or find_classes(table, find_tomogram(table, frame.tomogram)[0]))
    )
    table = rows_of_tomogram(table, frame.tomogram, path)
    check_numbers(table, names, path)
    try:
        places = frame.to_file_voxels(table[names])
        out = pd.DataFrame(places, columns=COORDINATES, index=table.index)
        matrix, angles, tom = (
            find_group(table, groups) for groups in ([CSV_MATRIX], CSV_ANGLES, [CSV_TOM_ANGLES])
        )
        if matrix and len(table):
            values = table[matrix].to_numpy(float).reshape(-1, 3, 3)
            out[ANGLES] = relion_from_rotation(to_rotations(values, path))
        elif angles := angles or tom:
            values = table[angles].replace("", "nan").to_numpy(float)
            known = np.isfinite(values).all(axis=1)
            if known.all():
                out[ANGLES] = tom_angles(values) if angles == tom else values
            elif known.any():
                log.warning("%s: %d rows have no angles, so none are read", path, (~known).sum())
        if shifts := find_group(table, [CSV_SHIFTS]):
            out[COORDINATES] += frame.to_file_voxels(table[shifts])
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: holds angles or shifts that are not numbers ({error})") from error
    if "cryoetganClass" in table:
        out["cryoetganClass"] = table["cryoetganClass"]
    if is_own:
        out["cryoetganId"] = table["id"]
    return out


def _read_list(path: Path, frame: PicksFrame) -> "pd.DataFrame":
    """Return a list of Dynamo, DeepFinder, TomoTwin or crYOLO, or a motive list."""
    import pandas as pd

    kind = path.suffix.lower()
    if kind == ".cmm":
        return read_markers(path, frame.transform.voxel_size, frame.transform.file_origin)
    if kind == ".coords":
        table = pd.DataFrame(read_coordinates(path), columns=COORDINATES)
    elif kind == ".cbox":
        table = read_cbox(path)
    else:
        read = {".tbl": read_dynamo, ".em": read_motive_list, ".xml": read_deepfinder}[kind]
        table = read(path, frame.tomogram)
    return _in_file_voxels(table, frame)


def _in_file_voxels(table: "pd.DataFrame", frame: PicksFrame) -> "pd.DataFrame":
    return table.assign(
        **dict(zip(COORDINATES, frame.to_file_voxels(table[COORDINATES]).T, strict=True))
    )


READERS = {
    ".star": _read_star,
    ".json": _read_copick,
    ".ndjson": _read_portal,
    **dict.fromkeys((".csv", ".tsv"), _read_csv),
    **dict.fromkeys((".tbl", ".em", ".xml", ".coords", ".cbox", ".cmm"), _read_list),
}

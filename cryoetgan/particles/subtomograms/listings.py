"""List the boxes of a file or folder, with the poses and classes that tables give them.

A listing has one row a box: `file` (Path), `number` (from 1, of its stack), and, if known,
cryoetganClass, RELION's angles (degrees), origins (angstrom), and rlnMicrographName, the tomogram.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.io.csv_text import read_csv_text
from cryoetgan.io.files import check_exists, read_text
from cryoetgan.io.star import (
    ANGLES,
    BOX_ANGLES,
    CLASS_NAME,
    ORIGINS,
    VOXEL_ORIGINS,
    read_star,
)
from cryoetgan.particles.importers import CSV_ANGLES
from cryoetgan.particles.list_formats import (
    ParticleRows,
    dynamo_rows,
    is_motive_list,
    motive_rows,
)
from cryoetgan.particles.naming_columns import (
    EMPTY,
    classes_of_numbers,
    find_classes,
    find_columns,
    find_group,
    tomogram_columns,
)
from cryoetgan.particles.subtomograms.box_files import RELION_2D, is_box_file, open_box_file
from cryoetgan.physics.geometry import relion_from_rotation
from cryoetgan.progress import log
from cryoetgan.tomograms.specimens import plain_name

if TYPE_CHECKING:
    import pandas as pd

FILE = "file"
NUMBER = "number"
TOMOGRAM = "rlnMicrographName"
PIXEL_SIZES = ("rlnImagePixelSize", "rlnPixelSize")
"""Columns of the voxel size of the boxes, angstrom."""
FILE_COLUMNS = ("file", "filename", "path", "image_name", "rlnImageName")
"""Columns of a CSV table that name the file of a box; the first one present is used."""
LEAST_DEFOCUS = 100.0
"""Angstrom; a smaller value has another unit, or stands for no CTF."""
TEXT_TABLES = (".csv", ".tsv")
TABLES = (".star", ".tbl", *TEXT_TABLES)
"""Suffixes of tables; motive lists end in .em, as volumes do."""
Header = Mapping[str, float]


@dataclass(frozen=True)
class Listing:
    """Boxes, and what their table says of all of them."""

    table: "pd.DataFrame"
    voxel_size: float | None = None
    """Angstrom, of the files; None if the table does not say."""
    optics: Header = field(default_factory=dict)
    """Values of the microscope that the table states, by attribute of `Acquisition`."""
    tables: tuple[Path, ...] = ()
    """Tables that were read."""
    ctf_volumes: tuple[Path, ...] = ()
    """Files of rlnCtfImage, each once."""


def list_boxes(path: Path) -> Listing:
    """Return the boxes of a STAR file, Dynamo table, motive list, CSV, stack, or folder of these."""
    path = check_exists(path, "file or folder of subtomograms")
    if path.is_dir():
        return _list_folder(path)
    name = path.name.lower()
    if name.endswith(".star"):
        return _list_star(path)
    if name.endswith(TEXT_TABLES):
        return _list_csv(path)
    if name.endswith(".tbl"):
        return _list_rows(dynamo_rows(path), path)
    if is_motive_list(path):
        return _list_rows(motive_rows(path), path)
    if name.endswith((".hdf", ".h5")):
        raise UserError(f"{path}: HDF is not read; convert it (EMAN2: e2proc3d.py IN OUT.mrcs)")
    return Listing(_all_boxes([path]))


def describe_files(path: Path) -> str:
    """Return number, size (bytes) and newest time of a set's files, the boxes of its table included.

    They change if boxes are extracted again, even if their table stays.
    """
    given = [p for p in (path.iterdir() if path.is_dir() else [path]) if p.is_file()]
    files = {p.resolve() for p in given}
    for table in given:
        try:
            if table.suffix.lower() in TABLES or is_motive_list(table):
                files |= {p.resolve() for p in list_boxes(table).table[FILE].unique()}
        except UserError as error:  # the import says so
            log.debug("%s", error)
    states = [file.stat() for file in files if file.is_file()]
    newest = max((state.st_mtime_ns for state in states), default=0)
    return f"{len(states)} files, {sum(s.st_size for s in states)} bytes, newest {newest}"


def _frame(columns: Mapping[str, Any]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(dict(columns))


def _all_boxes(paths: list[Path]) -> "pd.DataFrame":
    """Return a row for each box of each file."""
    counts = [len(open_box_file(path).boxes) for path in paths]
    numbers = [number for count in counts for number in range(1, count + 1)]
    files = [path for path, count in zip(paths, counts, strict=True) for _ in range(count)]
    return _frame({FILE: files, NUMBER: numbers})


def _list_folder(folder: Path) -> Listing:
    """Return the boxes of a folder: the rows of its one table, or else its numbered volumes."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    tables = [p for p in files if p.suffix.lower() in TABLES or is_motive_list(p)]
    if len(tables) > 1:
        names = ", ".join(p.name for p in tables[:6])
        raise UserError(f"{folder}: holds several tables ({names}); name the one to import")
    volumes = sorted(
        (p for p in files if is_box_file(p) and p not in tables), key=lambda p: _natural(p.name)
    )
    if tables:
        log.info("%s: boxes, poses and classes are read from %s", folder, tables[0].name)
        found = list_boxes(tables[0])
        left = len({p.resolve() for p in volumes} - {p.resolve() for p in found.table[FILE]})
        if left:
            log.warning("%s: %d files that %s does not name are left out",
                        folder, left, tables[0].name)  # fmt: skip
        return found
    if not volumes:
        raise UserError(f"{folder}: holds no MRC or EM file; name a folder of subtomograms")
    # an average or a mask beside the boxes is none of them
    series = [re.sub(r"\d+", "#", p.name) for p in volumes]
    largest = max(set(series), key=lambda name: (series.count(name), name))
    if series.count(largest) == 1:  # names without numbers
        return Listing(_all_boxes(volumes))
    others = [p.name for p, name in zip(volumes, series, strict=True) if name != largest]
    if others:
        shown = ", ".join(others[:5]) + ", ..." * (len(others) > 5)
        log.warning("%s: not numbered like %s, so left out: %s", folder, largest, shown)
    return Listing(
        _all_boxes([p for p, name in zip(volumes, series, strict=True) if name == largest])
    )


def _natural(name: str) -> list[Any]:
    """Return a sort key: 2 before 10."""
    return [
        (1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name)
    ]


def _list_star(path: Path) -> Listing:
    text = read_text(path)
    if re.search(r"rlnTomoSubTomosAre2DStacks\s+1\b", text):
        raise UserError(f"{path}: its subtomograms are 2D stacks, wanted volumes. {RELION_2D}")
    star = read_star(path)
    rows, optics = star.particles, star.optics
    if not len(rows):
        raise UserError(f"{path}: holds no particle")
    if "rlnImageName" not in rows:
        raise UserError(
            f"{path}: lacks column rlnImageName, so it names no boxes; positions in tomograms are "
            "read by `particles import`"
        )
    _check_box_frame(rows, path)
    # the groups' values, a column for each row
    if {"rlnOpticsGroup"} <= set(rows) & set(optics):
        extra = optics.drop(columns=[c for c in optics if c in rows and c != "rlnOpticsGroup"])
        rows = rows.merge(extra, on="rlnOpticsGroup", how="left", validate="many_to_one")
    voxel_size = _one_value(rows, PIXEL_SIZES, path)
    if voxel_size is None and {"rlnDetectorPixelSize", "rlnMagnification"} <= set(rows):
        sizes = 1e4 * rows["rlnDetectorPixelSize"].astype(float) / rows["rlnMagnification"]
        voxel_size = float(sizes.iloc[0])
    folders = [path.parent.resolve(), *path.parent.resolve().parents, Path.cwd()]
    found = [_find_image(str(name), folders, path) for name in rows["rlnImageName"]]
    table = _frame(dict(zip((FILE, NUMBER), zip(*found, strict=True), strict=True)))
    table[TOMOGRAM] = _tomograms(rows)
    if set(ANGLES) <= set(rows):
        table[ANGLES] = rows[ANGLES].to_numpy(float)
    if set(ORIGINS) <= set(rows):
        table[ORIGINS] = rows[ORIGINS].to_numpy(float)
    elif set(VOXEL_ORIGINS) <= set(rows):
        table[VOXEL_ORIGINS] = rows[VOXEL_ORIGINS].to_numpy(float)
    if "cryoetganClass" in rows:
        table["cryoetganClass"] = rows["cryoetganClass"].astype(str)
    elif "rlnClassNumber" in rows:
        table = table.assign(**classes_of_numbers(rows["rlnClassNumber"]))
    weights = _find_ctf_volumes(rows, folders, path)
    return Listing(table, voxel_size, _read_optics(rows, path), (path,), weights)


def _find_ctf_volumes(rows: "pd.DataFrame", folders: list[Path], path: Path) -> tuple[Path, ...]:
    """Return the files of rlnCtfImage, each once; a warning, and none, if one is absent."""
    named = rows["rlnCtfImage"].astype(str).unique() if "rlnCtfImage" in rows else ()
    try:
        return tuple(_find_image(n, folders, path)[0] for n in named if n.lower() not in EMPTY)
    except UserError as error:
        log.warning("%s; it is a CTF volume, so the boxes are imported without", error)
        return ()


def _check_box_frame(rows: "pd.DataFrame", path: Path) -> None:
    """Raise `UserError` if the boxes were extracted rotated: their wedge then differs."""
    if not set(BOX_ANGLES) <= set(rows):
        return
    angles = rows[BOX_ANGLES].to_numpy(float)
    rotated = (Rotation.from_euler("ZYZ", angles, degrees=True).magnitude() > 1e-3).sum()
    if rotated:
        raise UserError(
            f"{path}: {rotated} of {len(rows)} boxes were extracted rotated (rlnTomoSubtomogramRot, "
            "-Tilt, -Psi), so that each has another missing wedge. Set these columns to 0, with the "
            "whole orientation in rlnAngleRot, -Tilt, -Psi, and extract again"
        )


def _tomogram_column(rows: "pd.DataFrame") -> str:
    """Return the column that names the tomograms of the boxes, not their files; empty without one."""
    files = find_columns(rows, FILE_COLUMNS)
    return next((name for name in tomogram_columns(rows) if name not in files), "")


def _tomograms(rows: "pd.DataFrame") -> list[str]:
    """Return the tomogram of each row, without folder and suffix; empty if no column names it."""
    name = _tomogram_column(rows)
    return [plain_name(value) for value in rows[name]] if name else [""] * len(rows)


def _one_value(rows: "pd.DataFrame", columns: tuple[str, ...], path: Path) -> float | None:
    """Return the value of the first of some columns that is present; `UserError` if it varies."""
    for name in columns:
        if name in rows:
            values = rows[name].astype(float)
            if values.max() > 1.01 * values.min():
                raise UserError(
                    f"{path}: {name} varies from {values.min():g} to {values.max():g}; import each "
                    "optics group as a set of its own"
                )
            return float(values.iloc[0])
    return None


def _read_optics(rows: "pd.DataFrame", path: Path) -> dict[str, float]:
    """Return the optics of the rows; medians if a value varies."""
    columns = {
        "voltage": ["rlnVoltage"],
        "cs": ["rlnSphericalAberration"],
        "amplitude_contrast": ["rlnAmplitudeContrast"],
        "defocus": ["rlnDefocusU", "rlnDefocusV"],
    }
    found = {}
    for key, names in columns.items():
        if set(names) <= set(rows):
            value = float(np.nanmedian(rows[names].to_numpy(float)))
            if key == "defocus" and abs(value) < LEAST_DEFOCUS:
                log.warning(
                    "%s: its median defocus is %g, not angstrom (or none): it is not read; give "
                    "--defocus in micrometres",
                    path, value,
                )  # fmt: skip
            elif np.isfinite(value):
                found[key] = value / 1e4 if key == "defocus" else value
    premultiplied = "rlnCtfDataAreCtfPremultiplied"
    if premultiplied in rows and rows[premultiplied].astype(float).any():
        log.warning(
            "%s: the boxes are multiplied by their CTF (%s); give --ctf phase-flipped, unless you "
            "divided by it",
            path, premultiplied,
        )  # fmt: skip
    return found


def _find_image(name: str, folders: list[Path], path: Path) -> tuple[Path, int]:
    """Return file and number of `000012@stack.mrcs`, or of a file; paths are relative to a project."""
    number, _, file = name.replace("\\", "/").rpartition("@")  # Windows writes backslashes
    if file.lower().endswith("_stack2d.mrcs"):
        raise UserError(f"{path}: {name} is a 2D stack, wanted a volume. {RELION_2D}")
    for folder in folders:
        if (folder / file).is_file():
            return folder / file, int(number or 1)
    raise UserError(
        f"{path}: names {file}, which is neither beside it nor in a folder above; copy the boxes with "
        "the table, keeping their folders, or run the command in the project's folder"
    )


def _list_csv(path: Path) -> Listing:
    rows = read_csv_text(path)
    files = find_columns(rows, FILE_COLUMNS)
    if not files or not len(rows):
        raise UserError(f"{path}: lacks a column 'file' or rows; it has {', '.join(rows)}")
    folders = [path.parent.resolve(), *path.parent.resolve().parents]
    found = [_find_image(name.strip(), folders, path) for name in rows[files[0]]]
    table = _frame(dict(zip((FILE, NUMBER), zip(*found, strict=True), strict=True)))
    table[TOMOGRAM] = _tomograms(rows)
    table = table.assign(**find_classes(rows, _tomogram_column(rows)))
    if angles := find_group(rows, CSV_ANGLES):
        try:
            table[ANGLES] = rows[angles].replace("", "nan").to_numpy(float)
        except ValueError as error:
            raise UserError(f"{path}: holds angles that are not numbers ({error})") from error
    return Listing(table, tables=(path,))


def _list_rows(rows: ParticleRows, path: Path) -> Listing:
    """Return the boxes of a Dynamo table or motive list: the numbered volumes in its folder.

    They are `particle_<tag>.em` or `.mrc` of Dynamo, `<name>_<number>.em` of TOM. Shifts are voxels
    from the centre of the box.
    """
    if not len(rows.numbers):
        raise UserError(f"{path}: holds no particle")
    files = _numbered_files(path.parent, [int(number) for number in rows.numbers], path)
    sources = [
        plain_name(rows.names.get(int(n), f"{int(n)}")) for n in np.nan_to_num(rows.tomograms)
    ]
    table = _frame({FILE: files, NUMBER: 1, TOMOGRAM: sources})
    if np.ptp(rows.rotations.as_quat(canonical=True), axis=0).max() > 1e-6:
        table[ANGLES] = relion_from_rotation(rows.rotations)
    table[VOXEL_ORIGINS] = -rows.shifts
    return Listing(table.assign(**classes_of_numbers(rows.classes)), tables=(path,))


def _numbered_files(folder: Path, numbers: list[int], table: Path) -> list[Path]:
    """Return the volume of each number: the last digits of its file's name."""
    found: dict[int, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        digits = re.search(r"(\d+)\D*$", path.stem)
        if digits and path != table and is_box_file(path) and not is_motive_list(path):
            found.setdefault(int(digits[1]), []).append(path)
    missing = [number for number in numbers if number not in found]
    if missing:
        raise UserError(
            f"{table}: particle {missing[0]} ({len(missing)} of {len(numbers)}) has no volume beside "
            f"it, such as particle_{missing[0]:06d}.em; put the table into the folder of its boxes"
        )
    for number in numbers:
        if len(found[number]) > 1:
            names = ", ".join(path.name for path in found[number])
            raise UserError(f"{folder}: {names} have one number; leave one of them in the folder")
    return [found[number][0] for number in numbers]


def name_classes(table: "pd.DataFrame", given: list[str]) -> "pd.DataFrame":
    """Return the table with its classes named: `NAME` for all boxes, or `OLD=NAME` for some."""
    pairs = dict(item.split("=", 1) for item in given if "=" in item)
    plain = [item for item in given if "=" not in item]
    if len(plain) > 1 or (plain and pairs):
        raise UserError(
            f"--class: got {', '.join(given)}; give one NAME, or OLD=NAME for each class"
        )
    if plain:
        table = table.assign(cryoetganClass=plain[0])
    if pairs:
        known = sorted(set(table.get("cryoetganClass", ())))
        pairs = {f"class_{k}" if k.isdigit() and k not in known else k: v for k, v in pairs.items()}
        unknown = sorted(set(pairs) - set(known))
        if unknown:
            raise UserError(
                f"--class: no box has class {', '.join(unknown)} (known: {', '.join(known) or 'none'})"
            )
        table = table.assign(cryoetganClass=table["cryoetganClass"].replace(pairs))
    for name in sorted(set(table.get("cryoetganClass", ()))):
        if not CLASS_NAME.fullmatch(name):
            raise UserError(
                f"class '{name}': letters, digits, _ and - only; rename it with --class OLD=NAME"
            )
    return table

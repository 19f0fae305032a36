"""Lists of particles of other programs: Dynamo, motive lists, DeepFinder, STOPGAP, crYOLO, ChimeraX.

Each reader returns a table in voxels of the tomogram's file, counted from 0, with the columns of our
STAR files. Rows of other tomograms are excluded.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.io.files import read_json, read_text
from cryoetgan.io.star import ANGLES, CLASS_NAME, COORDINATES, check_lines
from cryoetgan.particles.naming_columns import (
    OtherTomogramError,
    classes_of_numbers,
    list_names,
    rows_of_tomogram,
)
from cryoetgan.particles.subtomograms.box_files import read_em
from cryoetgan.physics.geometry import relion_from_rotation
from cryoetgan.progress import log
from cryoetgan.tomograms.specimens import tomogram_number

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
DYNAMO_COLUMNS, DYNAMO_PLACES = 22, 26
"""Fewest columns of a Dynamo table, and of one with coordinates: tag 1, shifts 4 to 6, angles 7 to 9,
score 10, tomogram 20, class 22, coordinates 24 to 26, counted from 1."""
MOTIVE_ROWS = 20
"""Numbers of a particle in a motive list: score 1, number 4, tomogram 5, coordinates 8 to 10, shifts 11
to 13, phi, psi, theta 17 to 19, class 20, counted from 1."""
STOPGAP_COORDINATES = ["orig_x", "orig_y", "orig_z"]
CBOX_CORNER = ["CoordinateX", "CoordinateY", "CoordinateZ"]
COPICK_USER = "cryoetgan"
"""User of the picks that `export copick` writes."""
COPICK_DEPTH = 5
"""Folders from picks to their project: Picks, the run, ExperimentRuns, data, project."""
NUMBER = "tomo_id"
"""Column of the number of a tomogram."""


@dataclass(frozen=True, kw_only=True)
class ParticleRows:
    """What a Dynamo table or motive list says of its particles."""

    numbers: Floats
    """Tags: the numbers in the names of the boxes' files."""
    places: Floats | None
    """`(N, 3)` xyz in the tomogram, voxels from 1; None: not listed."""
    shifts: Floats
    """`(N, 3)` xyz, voxels, to be added to `places` or to the centre of a box."""
    rotations: Rotation
    """Of the reference to the particle."""
    scores: Floats
    tomograms: Floats
    """Numbers of the tomograms."""
    names: Mapping[int, str]
    """The tomogram of each number, if a file beside the list says so."""
    classes: Floats


def dynamo_rows(path: Path) -> ParticleRows:
    """Return the rows of a Dynamo table, with the names of its table map (`*.doc` beside it).

    The angles (tdrot, tilt, narot) are zxz about fixed axes; their matrix rotates the particle into
    the reference.
    """
    rows = read_numbers(path, "Dynamo table")
    if rows.shape[1] < DYNAMO_COLUMNS:
        raise UserError(
            f"{path}: has {rows.shape[1]} columns, a Dynamo table has {DYNAMO_COLUMNS} to 42"
        )
    return ParticleRows(
        numbers=rows[:, 0],
        places=rows[:, 23:26] if rows.shape[1] >= DYNAMO_PLACES else None,
        shifts=np.nan_to_num(rows[:, 3:6]),
        rotations=Rotation.from_euler("zxz", np.nan_to_num(rows[:, 6:9]), degrees=True).inv(),
        scores=rows[:, 9],
        tomograms=rows[:, 19],
        names=_table_map(path) or _names_beside(path, "tomograms.csv", "dynamo", "tomogram"),
        classes=rows[:, 21],
    )


def is_motive_list(path: Path) -> bool:
    """Return whether a file is an EM file with the numbers of a motive list."""
    if path.suffix.lower() != ".em":
        return False
    shape = read_em(path).shape
    return shape[0] == 1 and shape[2] == MOTIVE_ROWS


def motive_rows(path: Path) -> ParticleRows:
    """Return the rows of an EM motive list (TOM, AV3, PyTom, Artiatomi, cryoCAT).

    The rotation of the reference is Z by phi, then X by theta, then Z by psi, about fixed axes
    (Foerster 2005, doi 10.1073/pnas.0409178102).
    """
    data = np.asarray(read_em(path), float)
    if data.shape[0] != 1 or data.shape[2] != MOTIVE_ROWS:
        raise UserError(
            f"{path}: has {data.shape[2]}x{data.shape[1]}x{data.shape[0]} numbers, wanted a motive "
            f"list: {MOTIVE_ROWS} numbers a particle"
        )
    rows = data[0]
    return ParticleRows(
        numbers=rows[:, 3],
        places=rows[:, 7:10],
        shifts=rows[:, 10:13],
        rotations=_tom(rows[:, [16, 18, 17]]),
        scores=rows[:, 0],
        tomograms=rows[:, 4],
        names={},
        classes=rows[:, 19],
    )


def read_dynamo(path: Path, tomogram: str) -> "pd.DataFrame":
    """Read a Dynamo table with coordinates (`dynamo_rows`); they count from 1, shifts are added."""
    return _in_tomogram(dynamo_rows(path), tomogram, path)


def read_motive_list(path: Path, tomogram: str) -> "pd.DataFrame":
    """Read an EM motive list (`motive_rows`); coordinates count from 1."""
    return _in_tomogram(motive_rows(path), tomogram, path)


def _in_tomogram(rows: ParticleRows, tomogram: str, path: Path) -> "pd.DataFrame":
    """Return the particles of one tomogram."""
    if rows.places is None:
        raise UserError(
            f"{path}: has fewer than {DYNAMO_PLACES} columns, and no coordinates in tomograms; boxes "
            "are imported by `particles import-subtomograms`"
        )
    table = _posed(rows.places - 1 + rows.shifts, rows.rotations, rows.scores)
    table = _with_classes(table, rows.classes, path)
    return select_numbered(table, rows.tomograms, rows.names, tomogram, path)


def read_stopgap(table: "pd.DataFrame", tomogram: str, path: Path) -> "pd.DataFrame":
    """Read the rows of a STOPGAP motive list (STAR); coordinates count from 1."""

    def numbers(*names: str) -> Floats:
        try:
            return np.asarray(table.reindex(columns=list(names), fill_value=0.0).to_numpy(float))
        except ValueError as error:
            raise UserError(f"{path}: {', '.join(names)} must be numbers ({error})") from error

    places = numbers(*STOPGAP_COORDINATES) - 1 + numbers("x_shift", "y_shift", "z_shift")
    out = _posed(places, _tom(numbers("phi", "the", "psi")), numbers("score")[:, 0])
    out = _with_classes(out, numbers("class")[:, 0], path)
    return select_numbered(out, numbers("tomo_num")[:, 0], {}, tomogram, path)


def read_deepfinder(path: Path, tomogram: str) -> "pd.DataFrame":
    """Read an object list of DeepFinder (XML); phi, psi and the are TOM's angles."""
    root = _read_xml(path)
    rows = list(root.iter("object"))
    if root.tag != "objlist":
        raise UserError(f"{path}: is not an object list of DeepFinder; its root is '{root.tag}'")
    if not rows:
        raise UserError(f"{path}: holds no object; DeepFinder found no particle of this tomogram")
    places = _attributes(rows, ("x", "y", "z"), path)
    rotations = None
    if all({"phi", "the", "psi"} <= set(row.attrib) for row in rows):
        rotations = _tom(_attributes(rows, ("phi", "the", "psi"), path))
    table = _posed(places, rotations, None)
    labels = _attributes(rows, ("class_label",), path)[:, 0]
    table = _with_classes(table, labels, path)
    if any("tomo_name" in row.attrib for row in rows):
        named = table.assign(tomo_name=[row.get("tomo_name", "") for row in rows])
        return rows_of_tomogram(named, tomogram, path).drop(columns="tomo_name")
    names = _names_beside(path, "tomograms.csv", "tomo_idx", "tomogram")
    indices = np.array([float(row.get("tomo_idx", "0")) for row in rows])
    if not names and len(set(indices)) == 1:
        return table  # an index into a list of tomograms is not a name
    return select_numbered(table, indices, names, tomogram, path)


def read_markers(
    path: Path, voxel_size: float, origin: Sequence[float] = (0.0, 0.0, 0.0)
) -> "pd.DataFrame":
    """Read markers of ChimeraX (.cmm), in angstrom; several sets are classes by name.

    ChimeraX adds the origin (x, y, z) in the header of the tomogram's file, which is subtracted.
    """
    import pandas as pd

    if any(origin):
        x, y, z = origin
        log.info("%s: the origin of the tomogram's file is subtracted: %g, %g, %g A", path, x, y, z)
    root = _read_xml(path)
    sets = [root] if root.tag == "marker_set" else list(root.iter("marker_set"))
    parts = []
    for number, group in enumerate(sets, start=1):
        markers = list(group.iter("marker"))
        if markers:
            places = (_attributes(markers, ("x", "y", "z"), path) - origin) / voxel_size
            parts.append((group.get("name") or f"set_{number}", places))
    if not parts:
        raise UserError(f"{path}: holds no marker; save markers of ChimeraX as .cmm")
    table = pd.DataFrame(np.concatenate([places for _, places in parts]), columns=COORDINATES)
    if len(parts) > 1:
        names = [name for name, places in parts for _ in places]
        table["cryoetganClass"] = [re.sub(r"[^A-Za-z0-9_-]", "_", name) for name in names]
    return table


def read_coordinates(path: Path) -> Floats:
    """Return the places in a list of numbers `x y z` (`.coords`: TomoTwin, crYOLO, ArtiaX)."""
    rows = read_numbers(path, "list of coordinates")
    if rows.shape[1] != 3:
        raise UserError(f"{path}: has {rows.shape[1]} columns of numbers, wanted x, y, z")
    return rows


def read_cbox(path: Path) -> "pd.DataFrame":
    """Read boxes of crYOLO or TomoTwin (.cbox): x, y of the corner, z of the centre, voxels."""
    import pandas as pd
    import starfile

    check_lines(read_text(path), path)
    try:
        blocks = starfile.read(path, always_dict=True)
        found = blocks["cryolo"]
        found = pd.DataFrame([found]) if isinstance(found, dict) else found
        boxes = found.rename(columns=lambda name: str(name).lstrip("_"))
        places = boxes[CBOX_CORNER].to_numpy(float)
        places[:, :2] += boxes[["Width", "Height"]].to_numpy(float) / 2
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise UserError(f"{path}: is not a .cbox file of crYOLO ({error!r})") from error
    table = pd.DataFrame(places, columns=COORDINATES)
    if "Confidence" in boxes:
        score = pd.to_numeric(boxes["Confidence"], errors="coerce").to_numpy(float)
        if np.isfinite(score).all():
            table["cryoetganScore"] = score
    return table


def tom_angles(angles: Floats) -> Floats:
    """Return RELION's angles for phi, theta, psi of TOM, `(N, 3)` degrees."""
    return relion_from_rotation(_tom(angles))


def is_own_export(path: Path) -> bool:
    """Return whether a list is part of `export plain`: it then refers to the imported tomogram."""
    return _exported_by(path.parent) == "export plain"


def is_own_copick(path: Path, user: object) -> bool:
    """Return whether copick picks refer to the imported tomogram: we exported them, or the project.

    Picks of other programs in such a project were found in the exported volumes.
    """
    return user == COPICK_USER or copick_export(path) is not None


def copick_export(path: Path) -> Path | None:
    """Return the folder of `export copick` that has a file of picks; None if none has."""
    folders = list(path.absolute().parents)[:COPICK_DEPTH]
    return next((folder for folder in folders if _exported_by(folder) == "export copick"), None)


def copick_class(path: Path, name: str) -> str:
    """Return the class of a copick object: as it was before `export copick` changed its name."""
    folder = copick_export(path)
    config = folder / "config.json" if folder else None
    content = read_json(config) if config and config.is_file() else {}
    for item in content.get("pickable_objects", []):
        if item.get("name") == name:
            return str((item.get("metadata") or {}).get("cryoetgan_class", name))
    return name


def _exported_by(folder: Path) -> str | None:
    """Return the command that made the export in a folder; None if it is not ours."""
    record = folder / "provenance.json"
    content = read_json(record) if record.is_file() else None
    made = content.get("provenance") if isinstance(content, dict) else None
    return str(made.get("command")) if isinstance(made, dict) else None


def read_numbers(path: Path, what: str) -> Floats:
    """Return a text file of numbers, `(row, column)`; `what` names it in messages."""
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    if not lines:
        return np.zeros((0, DYNAMO_PLACES if path.suffix.lower() == ".tbl" else 3))
    try:
        return np.loadtxt([line.replace(",", " ") for line in lines], ndmin=2)
    except ValueError as error:
        raise UserError(f"{path}: is not a {what} ({error})") from error


def select_numbered(
    table: "pd.DataFrame",
    numbers: Floats,
    names: Mapping[int, str],
    tomogram: str,
    path: Path,
) -> "pd.DataFrame":
    """Return the rows of one tomogram, which the list gives by number.

    `names` maps numbers to tomograms, if a file beside the list does. Otherwise a number stands for
    the tomogram that ends in it (3 for TS_03_bin4); a single number also for a tomogram without a number.
    """
    if not len(table):
        return table
    values = [int(n) for n in np.nan_to_num(numbers)]
    if names:
        named = table.assign(**{NUMBER: [names.get(n, f"{n}") for n in values]})
        return rows_of_tomogram(named, tomogram, path).drop(columns=NUMBER)
    present = set(values)
    number = tomogram_number(tomogram)
    if present == {0} or (len(present) == 1 and number is None):
        return table
    if number in present:
        mine = np.array(values) == number
        if not mine.all():
            log.warning(
                "%s: %d of %d rows have tomogram number %d, taken for %s. If the numbers are places "
                "in a list, name the tomograms in a table map (lines 'NUMBER FILE', .doc) beside it",
                path, mine.sum(), len(mine), number, tomogram,
            )  # fmt: skip
        return table[mine].reset_index(drop=True)
    raise OtherTomogramError(
        f"{path}: gives tomograms as numbers ({list_names(sorted(present))}), and none is the number "
        f"at the end of {tomogram}; write a table map beside it, {path.stem}.doc, with lines "
        "'NUMBER FILE', or set the numbers to 0 if all rows belong to this tomogram"
    )


def _tom(angles: Floats) -> Rotation:
    """Return rotations of the reference from phi, theta, psi `(N, 3)`: z, then x, then z, fixed axes."""
    return Rotation.from_euler("zxz", np.nan_to_num(angles), degrees=True)


def _posed(places: Floats, rotations: Rotation | None, scores: Floats | None) -> "pd.DataFrame":
    """Return a table of places, angles and scores."""
    import pandas as pd

    table = pd.DataFrame(places, columns=COORDINATES)
    if rotations is not None and len(table):
        table[ANGLES] = relion_from_rotation(rotations)
    if scores is not None and np.isfinite(scores).all() and np.any(scores):
        table["cryoetganScore"] = scores
    return table


def _with_classes(table: "pd.DataFrame", numbers: Floats, path: Path) -> "pd.DataFrame":
    """Add classes: by the names beside one of our lists, else `class_N` if there are several."""
    names = _names_beside(path, "classes.csv", "label", "class")
    values = [int(n) for n in np.nan_to_num(numbers)]
    if names and set(values) <= set(names):
        return table.assign(cryoetganClass=[names[n] for n in values])
    return table.assign(**classes_of_numbers(values))


def _names_beside(path: Path, file: str, number: str, name: str) -> dict[int, str]:
    """Return the names of numbers from a table of our export beside a list; empty without it."""
    import pandas as pd

    beside = path.with_name(file)
    if not beside.is_file():
        return {}
    try:
        table = pd.read_csv(beside, dtype=str, keep_default_na=False)
        found = dict(zip(table[number].astype(int), table[name], strict=True))
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{beside}: has no columns {number} and {name} with numbers and names ({error!r}); "
            "correct or remove it"
        ) from error
    wrong = [value for value in found.values() if not CLASS_NAME.fullmatch(value)]
    if name == "class" and wrong:
        raise UserError(f"{beside}: class '{wrong[0]}': letters, digits, _ and - only; rename it")
    return found


def _table_map(path: Path) -> dict[int, str]:
    """Return Dynamo's table map beside a table: the tomogram of each number."""
    own = path.with_suffix(".doc")
    maps = [own] if own.is_file() else sorted(path.parent.glob("*.doc"))
    if len(maps) != 1:
        return {}
    lines = [line.split(None, 1) for line in read_text(maps[0]).splitlines() if line.strip()]
    if not all(len(parts) == 2 and parts[0].isdecimal() for parts in lines):
        raise UserError(f"{maps[0]}: is not a table map; wanted lines 'NUMBER FILE'")
    return {int(number): file.strip() for number, file in lines}


def _read_xml(path: Path) -> ElementTree.Element:
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError(f"{path}: declares entities, which are not read; remove the declaration")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path}: is not an XML file ({error})") from error


def _attributes(rows: list[Any], names: tuple[str, ...], path: Path) -> Floats:
    """Return attributes of XML elements as numbers `(row, name)`."""
    try:
        return np.array([[float(row.attrib[name]) for name in names] for row in rows])
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{path}: an entry has no number {', '.join(names)} ({error}); correct it"
        ) from error

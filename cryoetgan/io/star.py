"""STAR files: picks, scores, truth and volume sets, with blocks `optics` and `particles`."""

import codecs
import contextlib
import hashlib
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoetgan.errors import UserError, shown, suggest
from cryoetgan.io.files import check_exists, read_text, sidecar, strip_compression, write_text

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("cryoetgan")
COORDINATES = ["rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"]
"""0-based array indices of `data[z, y, x]`, in voxels, with fractions."""
ANGLES = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
"""Degrees, RELION's convention (see `cryoetgan.physics.geometry`)."""
ORIGINS = ["rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst"]
"""Angstrom, in RELION's sense: the particle's centre is at n // 2 - origin / voxel size."""
DETECTION_SCORE = "cryoetganDetectionScore"
"""Probability of being any particle, 0 to 1, of picks of a detector."""
VOXEL_ORIGINS = [f"rlnOrigin{axis}" for axis in "XYZ"]
"""RELION 3.0: origins in voxels."""
BOX_ANGLES = [f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi")]
"""RELION 4 and 5: rotation of a particle's box, degrees; the particle's own is relative to it."""
POSES = (ANGLES, ORIGINS, VOXEL_ORIGINS, BOX_ANGLES)
OTHER = "other"
"""Class of background and unnamed picks; no row of the table of classes has this name."""
SPLITS = ("train", "validation", "test")
SOURCES = ("density", "real", "simulated", "generated")
BREAKS = re.compile("[\\t\\r\\n]")
"""Characters that separate the values of a STAR file."""
TEXT = [
    "rlnTomoName",
    "rlnMicrographName",
    "wrpSourceName",
    "rlnImageName",
    "rlnOpticsGroupName",
    "cryoetganClass",
    "cryoetganSplit",
    "cryoetganSource",
    "cryoetganId",
    "cryoetganCtfState",
    "cryoetganGroup",
    "cryoetganContrast",
    "cryoetganDecoys",
    "cryoetganFile",
    "cryoetganGivenClass",
    "cryoetganPhases",
]
"""Columns that are read as text, even if a value resembles a number (a class named 1e5)."""
NUMBERS = (
    "rlnCoordinate",
    "rlnAngle",
    "rlnOrigin",
    "rlnTomoSubtomogram",
    "cryoetganScore",
    "cryoetganDetectionScore",
    "cryoetganDecoyScore",
    "cryoetganQValue",
    "cryoetganTilt",
    "cryoetganDefocus",
    "rlnImagePixelSize",
    "rlnVoltage",
    "rlnSphericalAberration",
    "rlnAmplitudeContrast",
)
"""Prefixes of the columns that hold numbers; rlnOpticsGroup does, too, but not its name."""
MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MAX_LINE = 100_000
"""Characters of a line."""
MAX_BLOCKS = 300
"""Blocks of a STAR file; RELION 4 writes one for each tomogram."""
LONGEST_NAME = 100
"""Bytes of a class or tomogram: names of files are made of both, and hold at most 255."""
CLASS_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST_NAME}}}")


@dataclass(frozen=True)
class Star:
    """The two tables of a STAR file."""

    particles: "pd.DataFrame"
    optics: "pd.DataFrame"


def class_name(path: Path) -> str:
    """Return the class of a file: its stem, without the suffix of its compression and one more.

    Raises `UserError` if it holds other characters than letters, digits, `_` and `-`.
    """
    stem = Path(strip_compression(Path(path).name)).stem
    if not CLASS_NAME.fullmatch(stem):
        raise UserError(
            f"{path}: the file's stem {shown(stem)} names its class or tomogram; rename the file: at "
            f"most {LONGEST_NAME} letters, digits, '_' and '-'"
        )
    return stem


def check_names(table: "pd.DataFrame", path: Path) -> None:
    """Raise `UserError` if a class or tomogram of a table cannot be part of a file's name.

    A class has letters, digits, `_` and `-` only. Other programs name tomograms more freely, but
    no name may lead out of a folder (`../x`), hide a file, be a formula of a spreadsheet or hold
    control characters.
    """
    for column in ("cryoetganClass", "rlnTomoName"):
        for name in table[column].astype(str).unique() if column in table else ():
            if column == "cryoetganClass":
                legal = bool(CLASS_NAME.fullmatch(name))
                wanted = "of letters, digits, '_' and '-' only"
            else:
                legal = name.isprintable() and not re.search(r"^[.=+@\s]|[/\\]|\s$|^$", name)
                wanted = "with no '/', '\\' or control characters, not starting with . = + @"
            if not legal or len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
                raise UserError(
                    f"{path}: {column} is {shown(name)}; wanted a name of at most {LONGEST_NAME} "
                    f"bytes {wanted}; rename it"
                )


def paths_by_class(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the files by class; raise `UserError` if two files have the same class."""
    named = {class_name(path): Path(path) for path in paths}
    if len(named) < len(paths):
        names = ", ".join(Path(path).name for path in paths)
        raise UserError(
            f"two files have the same name, and therefore the same class: {names}; rename one"
        )
    return named


def select_tomogram(table: "pd.DataFrame", tomogram: Path, path: Path) -> "pd.DataFrame":
    """Return the rows of one tomogram, which is named by its file's stem.

    All rows are returned if the table lacks rlnTomoName. Raises `UserError` if no particle lies in
    the tomogram; `path` is the file of the particles, for messages.
    """
    if "rlnTomoName" not in table or not len(table):
        return table
    named, wanted = table["rlnTomoName"].astype(str), class_name(tomogram)
    if not (named == wanted).any():
        names = sorted(set(named))
        shown = ", ".join(names[:5]) + ", ..." * (len(names) > 5)
        raise UserError(
            f"{path}: its particles lie in {shown}, none in tomogram '{wanted}'"
            f"{suggest(wanted, names)}; give the tomogram that they were picked in, or correct "
            "rlnTomoName"
        )
    others = int((named != wanted).sum())
    if others:
        log.warning(
            "%s: %d of %d particles lie in other tomograms than %s and are ignored",
            path, others, len(table), wanted,
        )  # fmt: skip
    return table[named == wanted].reset_index(drop=True)


def particle_id(tomogram: str, x: float, y: float, z: float) -> str:
    """Return the id of a particle: a hash of tomogram and coordinate to a tenth of a voxel.

    If a tomogram is picked again, a particle at the same coordinate keeps its id and therefore
    its manual decisions.
    """
    key = f"{tomogram}:{x:.1f}:{y:.1f}:{z:.1f}"
    return "p" + hashlib.sha256(key.encode()).hexdigest()[:12]


def picks_table(tomogram: str, coordinates: Any, columns: Mapping[str, Any]) -> "pd.DataFrame":
    """Return picks `(N, 3)` x, y, z of a tomogram as a table, with ids and further columns."""
    import pandas as pd

    table = pd.DataFrame(coordinates, columns=COORDINATES)
    table.insert(0, "rlnTomoName", tomogram)
    table = table.assign(**columns)
    table["cryoetganId"] = [particle_id(tomogram, *place) for place in coordinates]
    table["cryoetganSource"] = "real"
    return table


def check_ids(table: "pd.DataFrame", path: Path) -> None:
    """Raise `UserError` if two boxes have one cryoetganId: a decision would count for both."""
    if "cryoetganId" not in table:
        return
    repeated = table["cryoetganId"].duplicated()
    if repeated.any():
        name = table["cryoetganId"][repeated].iloc[0]
        raise UserError(
            f"{path}: {int(repeated.sum())} boxes have the cryoetganId of another, such as {name}; "
            "keep one row of each, or import the boxes again (particles import-subtomograms)"
        )


def item_names(classes: Iterable[str]) -> list[str]:
    """Return `class/number` for each item; an added item renames no other item."""
    seen: dict[str, int] = {}
    names = []
    for name in classes:
        seen[name] = seen.get(name, -1) + 1
        names.append(f"{name}/{seen[name]}")
    return names


def read_star(path: Path, columns: Sequence[str] = (), *, any_names: bool = False) -> Star:
    """Read a STAR file with a block `particles`, or a single block of any name.

    A block `optics` is optional. Raises `UserError` if the file is broken or cut short, or lacks
    one of the `columns`, or has an illegal name (`check_names`) unless `any_names` is set.
    """
    import pandas as pd
    import starfile

    path = check_exists(path, "STAR file")
    try:
        text = read_text(path)
    except UserError as error:
        raise UserError(f"{error}; a STAR file is wanted") from error
    check_lines(text, path)
    _check_blocks(re.findall(r"^\s*data_(\S*)", text, re.MULTILINE), path)
    if not text.endswith("\n") and sidecar(path).exists():  # files of this program end in a newline
        raise UserError(
            f"{path}: is cut short: its last line is incomplete, but its record "
            f"{sidecar(path).name} is complete; create it again"
        )
    try:
        with _as_utf8(path, text) as readable:
            blocks = starfile.read(readable, always_dict=True, parse_as_string=TEXT)
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        # the library's parser raises any of these if a file is broken
        raise UserError(f"{path}: is a broken STAR file ({str(error).strip()})") from error
    if "particles" not in blocks and len(blocks) != 1:
        names = shown(", ".join(sorted(blocks)))
        raise UserError(f"{path}: has the blocks {names}, but none named 'particles'")
    tables = {  # starfile returns a block without a loop as a mapping
        key: pd.DataFrame([block]) if isinstance(block, dict) else block.reset_index(drop=True)
        for key, block in blocks.items()
    }
    particles = tables.get("particles", next(iter(tables.values())))
    optics = tables.get("optics", pd.DataFrame())
    for table in (particles, optics):
        twice = table.columns[table.columns.duplicated()]
        if len(twice):
            raise UserError(f"{path}: column {shown(twice[0])} stands twice; remove one")
        _check_numbers(path, table)
    particles = complete_poses(particles)
    if not any_names:
        check_names(particles, path)
    missing = [name for name in columns if name not in particles.columns]
    if missing and len(particles):
        raise UserError(
            f"{path}: lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            f"it has {', '.join(particles.columns)}"
        )
    if missing:  # an empty table may have been written without columns
        particles = particles.reindex(columns=[*particles.columns, *missing])
    return Star(particles, optics)


def check_lines(text: str, path: Path) -> None:
    """Raise `UserError` if a line is so long that it has more columns than a parser can bear."""
    longest = max(map(len, text.split("\n")))
    if longest > MAX_LINE:
        raise UserError(
            f"{path}: has a line of {longest} characters, wanted at most {MAX_LINE}; is it a STAR file?"
        )


def _check_blocks(names: Sequence[str], path: Path) -> None:
    """Raise `UserError` if a file has no block, too many, or two of one name: one would be lost."""
    if not names:
        raise UserError(f"{path}: is not a STAR file: no line starts with 'data_'")
    if len(names) > MAX_BLOCKS:
        raise UserError(f"{path}: has {len(names)} blocks, wanted optics and particles")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(
            f"{path}: has {names.count(twice[0])} blocks named {shown('data_' + twice[0])}; write "
            "their rows into one block, or into a file each"
        )


def complete_poses(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table whose angles and origins have three columns each, as decimal numbers.

    RELION reads an absent column as zero. If all three are absent, they stay absent.
    """
    for columns in POSES:
        present = [name for name in columns if name in table]
        if present and len(table):
            table = table.assign(**{name: table.get(name, 0.0) for name in columns})
            whole = [name for name in columns if table[name].dtype.kind in "iu"]
            table = table.astype(dict.fromkeys(whole, float))
    return table


@contextlib.contextmanager
def _as_utf8(path: Path, text: str) -> Iterator[Path]:
    """Yield a file that the library can read: the file itself, or a copy without its byte order mark."""
    with open(path, "rb") as file:
        marked = file.read(3).startswith(MARKS)
    if not marked:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy.star")
        copy.write_text(text, encoding="utf-8")
        yield copy


def _check_numbers(path: Path, table: "pd.DataFrame") -> None:
    """Raise `UserError` if a numeric column holds text or a coordinate is not finite."""
    import numpy as np
    import pandas as pd

    for name in table.columns:
        if not (name.startswith(NUMBERS) or name == "rlnOpticsGroup") or not len(table):
            continue
        # the common cases, ten times as fast
        plain = table[name].to_numpy()
        if plain.dtype == np.int64:
            continue
        if (
            plain.dtype == np.float64
            and name != "rlnOpticsGroup"
            and not (np.isinf(plain) | (np.isnan(plain) & (name in COORDINATES))).any()
        ):
            continue
        values = pd.to_numeric(table[name], errors="coerce")
        wrong = values.isna() if name in COORDINATES else values.isna() & table[name].notna()
        wrong |= values.abs() == float("inf")
        if name not in COORDINATES:
            wrong &= table[name].astype(str) != "<NA>"
        if name == "rlnOpticsGroup":
            wrong |= (values % 1 != 0) & values.notna()
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise UserError(
                f"{path}: {name} of row {row + 1} is {shown(str(table[name].iloc[row]))}; it must be a number"
            )


def check_star_name(path: Path) -> Path:
    """Return the path of an output STAR file; raise `UserError` if it does not end in .star."""
    if Path(path).suffix != ".star":
        raise UserError(
            f"{path}: particles are written in STAR format; give another name, ending in .star"
        )
    return path


def write_star(
    path: Path,
    particles: "pd.DataFrame",
    optics: "pd.DataFrame | None" = None,
    voxel_size: float | None = None,
) -> None:
    """Write a STAR file atomically; equal tables give equal bytes.

    `voxel_size` (angstrom) is added to the optics.
    """
    import pandas as pd

    if voxel_size is not None:
        optics = pd.DataFrame({"rlnOpticsGroup": [1]}) if optics is None else optics
        optics = optics.assign(rlnImagePixelSize=voxel_size)
    write_text(path, star_text(particles, optics))


def star_text(particles: "pd.DataFrame", optics: "pd.DataFrame | None" = None) -> str:
    """Return the text of a STAR file, equal to the library's but for its time stamp.

    A line is formatted at once: 160,000 rows take a tenth of the library's time.
    """
    import pandas as pd

    if optics is None:
        optics = pd.DataFrame({"rlnOpticsGroup": [1]})
    blocks = {"optics": optics, "particles": particles}
    return "\n\n\n".join(_loop(name, table) for name, table in blocks.items()) + "\n"


def _loop(name: str, table: "pd.DataFrame") -> str:
    """Return a table as a loop block."""
    head = [f"data_{name}", "", "loop_"]
    head += [f"_{column} #{number}" for number, column in enumerate(table.columns, 1)]
    if not len(table.columns):
        return "\n".join(head)
    formats, columns = zip(*(_cells(table[column]) for column in table.columns), strict=True)
    return "\n".join([*head, *map("\t".join(formats).__mod__, zip(*columns, strict=True))])


def _cells(column: "pd.Series[Any]") -> tuple[str, list[Any]]:
    """Return the format of a column's values, and the values."""
    missing, values = column.isna(), column.tolist()
    if column.dtype.kind == "f":
        if not missing.any():
            return "%.6f", values
        values = [f"{value:.6f}" for value in values]
    else:
        values = [_quote(value) for value in values]
    return "%s", ["<NA>" if empty else value for value, empty in zip(values, missing, strict=True)]


def _quote(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if BREAKS.search(value):
        raise UserError(f"{shown(value)} has a tab or a line break, which no STAR file can hold")
    return f'"{value}"' if " " in value or not value else value

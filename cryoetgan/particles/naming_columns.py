"""Columns that name the tomogram and the class of a particle, in lists of other programs."""

import logging
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoetgan.errors import UserError, shown, suggest
from cryoetgan.tomograms.specimens import match_tomogram, plain_name

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("cryoetgan")
TOMOGRAM_COLUMNS = (
    "rlnTomoName",
    "rlnMicrographName",
    "wrpSourceName",
    "tomo_name",
    "tomogram_name",
    "tomogram",
    "tomo",
    "tomo_id",
    "tomogram_id",
    "run_name",
    "run",
    "run_id",
    "experiment",
    "tilt_series",
    "tilt_series_name",
    "ts_name",
    "ts",
    "tomo_file",
    "tomogram_file",
    "micrograph",
    "micrograph_name",
    "image_name",
    "file_name",
    "filename",
    "file",
    "density",
)
"""Columns that name the tomogram of a row; the first that names the wanted one is used. Another
column of text counts, too, if some of its rows hold the very name of the tomogram."""
CLASS_COLUMNS = (
    "cryoetganClass",
    "class",
    "class_name",
    "particle_type",
    "particle_class",
    "particle_name",
    "particle",
    "object",
    "object_name",
    "object_type",
    "pickable_object_name",
    "class_label",
    "label",
    "label_name",
    "species",
    "protein",
    "type",
    "class_id",
)
"""Columns that name the class of a row; the first one present is used."""
EMPTY = ("", "nan", "none", "null", "<na>")
"""Words for an empty cell in lower case. `NA` is a name."""
NUMBER = r"[-+]?[\d.]+(e[-+]?\d+)?"
SHOWN = 5


class OtherTomogramError(UserError):
    """A file has rows of other tomograms only."""


def find_columns(table: "pd.DataFrame", known: Sequence[str]) -> list[str]:
    """Return the columns of a table that are known, in the order of `known`.

    Case, blanks, `-` and `_` of a heading do not count.
    """
    headings = {re.sub(r"[\s_-]", "", str(name)).lower(): str(name) for name in table.columns}
    wanted = (re.sub(r"[\s_-]", "", name).lower() for name in known)
    return [headings[name] for name in dict.fromkeys(wanted) if name in headings]


def find_group(table: "pd.DataFrame", groups: Iterable[Sequence[str]]) -> list[str]:
    """Return the columns of the first group that a table has as a whole (`find_columns`), or none."""
    for names in groups:
        found = find_columns(table, names)
        if len(found) == len(names):
            return found
    return []


def list_names(names: Sequence[object]) -> str:
    """Return the first tomograms or classes of a list, for a message."""
    found = sorted({plain_name(name) for name in names})
    return ", ".join(found[:SHOWN]) + ", ..." * (len(found) > SHOWN)


def tomogram_columns(table: "pd.DataFrame") -> list[str]:
    """Return the columns that may name tomograms; not columns of decimal numbers (a density)."""
    found = {name: table[name].astype(str) for name in find_columns(table, TOMOGRAM_COLUMNS)}
    return [
        name
        for name, cells in found.items()
        if not (cells.str.fullmatch(NUMBER).all() and cells.str.contains(".", regex=False).any())
    ]


def find_tomogram(table: "pd.DataFrame", tomogram: str) -> tuple[str, set[object]]:
    """Return the column that names a tomogram, and its names in it; empty if no column does."""
    columns = find_columns(table, TOMOGRAM_COLUMNS)
    for column in columns if len(table) else ():
        found = match_tomogram(table[column].astype(str).str.strip(), tomogram)
        if found:
            return column, found
    others = [str(name) for name in table.columns if str(name) not in columns]
    for column in others if len(table) else ():
        names = table[column].astype(str).str.strip()
        found = {name for name in names.unique() if plain_name(name) == tomogram}
        if found and not names.str.fullmatch(NUMBER).all():
            return column, found
    return "", set()


def find_classes(table: "pd.DataFrame", naming: str) -> dict[str, Any]:
    """Return the column of classes of a whole table of text; empty if no column names classes.

    `naming` is the column that names tomograms, or empty. A column of other numbers in each row of a
    tomogram counts the particles. Numbers that all are equal do not name classes.
    """
    for column in find_columns(table, CLASS_COLUMNS):
        values = table[column].str.strip()
        numbers = len(values) > 0 and values.str.fullmatch(r"\d+(\.0*)?").all()
        rows = table.assign(**{column: values})
        if len(values) > 1 and numbers and not rows.duplicated([naming or column, column]).any():
            continue
        return classes_of_numbers(values) if numbers else {"cryoetganClass": values.to_list()}
    return {}


def rows_of_tomogram(table: "pd.DataFrame", tomogram: str, path: Path) -> "pd.DataFrame":
    """Return the rows of one tomogram; all rows if no column names tomograms.

    Names match as in `specimens.match_tomogram`. Raises `OtherTomogramError` if no row matches,
    `UserError` if the tomogram of a row cannot be told.
    """
    column, found = find_tomogram(table, tomogram)
    if column:
        names = table[column].astype(str).str.strip()
        if len(found) > 1:
            raise UserError(
                f"{path}: column {column} has {list_names(list(found))}, and each may be tomogram "
                f"{tomogram}; name it '{tomogram}' in the rows that belong to it"
            )
        empty = names.str.lower().isin(EMPTY)
        if empty.any():
            raise UserError(
                f"{path}: {int(empty.sum())} rows have no name in column {column} (row "
                f"{int(empty.to_numpy().argmax()) + 1}), so their tomogram is unknown; fill it in"
            )
        (name,) = found
        mine = (names == name).to_numpy()
        if name != tomogram:
            log.info("%s: column %s: '%s' is tomogram %s", path, column, name, tomogram)
        if not mine.all():
            elsewhere = list_names(list(names[~mine]))
            log.info("%s: %d of %d rows lie in %s", path, sum(~mine), len(mine), elsewhere)
        return table[mine].reset_index(drop=True)
    columns = tomogram_columns(table)
    if not columns or not len(table):
        return table
    names = table[columns[0]].astype(str)
    raise OtherTomogramError(
        f"{path}: has no row of tomogram {tomogram}; its column {columns[0]} names "
        f"{list_names(list(names))}{suggest(tomogram, set(names))}; rename the tomogram or the rows"
    )


def classes_of_numbers(numbers: Iterable[Any]) -> dict[str, list[str]]:
    """Return the column of classes for class numbers: `class_1`; empty if all numbers are equal.

    Missing numbers are 0.
    """
    values = [0 if math.isnan(float(n)) else int(float(n)) for n in numbers]
    return {"cryoetganClass": [f"class_{n}" for n in values]} if len(set(values)) > 1 else {}


def check_run(name: str | None, tomogram: str, path: Path) -> None:
    """Raise `OtherTomogramError` if a file states the name of another tomogram."""
    if name and not match_tomogram([name], tomogram):
        raise OtherTomogramError(
            f"{path}: belongs to run {name}, not to tomogram {tomogram}; name the file of this "
            f"tomogram, or call the tomogram {name}"
        )


def keep_classes(table: "pd.DataFrame", classes: Sequence[str], path: Path) -> "pd.DataFrame":
    """Return the rows of some classes, all if `classes` is empty; `UserError` if none is left.

    A class that differs in case, `-`, `_`, dots or blanks is the same, and is renamed. The number
    of rows of each dropped class is logged.
    """
    if not classes:
        return table
    spellings = {_spelling(name): name for name in classes}
    if len(spellings) < len(classes):
        spellings = {}
    named = table["cryoetganClass"].astype(str)
    known = named.map(
        lambda name: name if name in classes else spellings.get(_spelling(name), name)
    )
    renamed = sorted({f"'{a}' is class {b}" for a, b in zip(named, known, strict=True) if a != b})
    if renamed:
        log.info("%s: %s", path, ", ".join(renamed))
    kept = known.isin(classes)
    dropped = known[~kept].value_counts()
    if not kept.any():
        raise UserError(
            f"{path}: has the classes {list_names(list(dropped.index))}, but none of "
            f"{', '.join(classes)}{suggest(str(dropped.index[0]), classes)}"
        )
    if len(dropped):
        lost = ", ".join(f"{count} '{name}'" for name, count in list(dropped.items())[:SHOWN])
        hints = "".join(suggest(str(name), classes) for name in dropped.index[:SHOWN])
        log.warning(
            "%s: dropped %d of %d rows, whose class is none of %s: %s%s",
            path, int(dropped.sum()), len(table), ", ".join(classes), lost, hints,
        )  # fmt: skip
    return table.assign(cryoetganClass=known)[kept].reset_index(drop=True)


def legalise_classes(table: "pd.DataFrame", path: Path) -> "pd.DataFrame":
    """Return a table whose classes hold letters, digits, `_` and `-` only, as names of files do.

    Blanks, dots and other signs become `_`. Raises `UserError` for an empty name and a name that is a
    path.
    """
    named = table["cryoetganClass"].astype(str).str.strip()
    for name in named.unique():
        if not name.isprintable() or not name or re.search(r"[/\\]", name):
            count = int((named == name).sum())
            raise UserError(
                f"{path}: the class of {count} particles is {shown(name)}; wanted a name of letters, "
                "digits, _ and -"
            )
    legal = named.str.replace(r"[^A-Za-z0-9_-]+", "_", regex=True)
    pairs = {(a, b) for a, b in zip(named, legal, strict=True)}
    changed = sorted(f"'{a}' is class {b}" for a, b in pairs if a != b)
    if changed:
        # two names may become one
        level = logging.INFO if len({b for _, b in pairs}) == len(pairs) else logging.WARNING
        log.log(level, "%s: %s", path, ", ".join(changed[:SHOWN]))
    return table.assign(cryoetganClass=legal)


def _spelling(name: str) -> str:
    return re.sub(r"[\s._-]", "", name).lower()

"""Tables of text: comma-separated, or by semicolons, tabs or spaces."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cryoetgan.errors import UserError, shown
from cryoetgan.io.files import read_text

if TYPE_CHECKING:
    import pandas as pd


def read_csv_text(path: Path) -> "pd.DataFrame":
    """Return a table of text: comma, semicolon or tab; lines that start with `#` are comments.

    Cells stay text, so that `007` and `NA` are names. After semicolons a decimal comma is a point.
    """
    import pandas as pd

    lines = [line for line in read_text(path).splitlines() if line.strip()]
    body = [line.rstrip() for line in lines if not line.startswith("#")]
    first = body[0] if body else ""
    separator = max(",;\t", key=first.count)
    if separator not in first and len(first.split()) > 1:
        separator = " "
    if not first:
        raise UserError(
            f"{path}: is empty; wanted a heading, such as x,y,z, and one row per particle"
        )
    try:
        blanks = separator == " "
        rows = (
            [line.split() for line in body]
            if blanks
            else list(csv.reader(body, delimiter=separator))
        )
    except csv.Error as error:
        raise UserError(f"{path}: is not a CSV table ({error})") from error
    heading, *cells = [_trim(row) for row in rows]
    names = [name.strip() or f"column_{number}" for number, name in enumerate(heading, start=1)]
    _check_cells(names, cells, path)
    padded = [row + [""] * (len(names) - len(row)) for row in cells]
    table = pd.DataFrame(padded, columns=names, dtype=str)
    if separator == ";":
        table = table.replace(r"^\s*([+-]?\d+),(\d+)\s*$", r"\1.\2", regex=True)
    return table


def _trim(row: list[str]) -> list[str]:
    """Return the cells of a row without empty ones at its end."""
    while row and not row[-1].strip():
        row = row[:-1]
    return row


def _check_cells(names: list[str], cells: list[list[str]], path: Path) -> None:
    """Raise `UserError` if a heading stands twice, in any case, or a row is longer than it."""
    plain = [name.lower() for name in names if not re.match(r"[-+.\d]", name)]
    twice = [name for name in plain if plain.count(name) > 1]
    if twice:
        raise UserError(f"{path}: column {shown(twice[0])} stands twice in the heading; remove one")
    long = [number for number, row in enumerate(cells, start=1) if len(row) > len(names)]
    if long:
        raise UserError(
            f"{path}: row {long[0]} has {len(cells[long[0] - 1])} cells, the heading {len(names)} "
            f"({len(long)} such rows), so their columns are unknown; complete the heading"
        )


def check_numbers(table: "pd.DataFrame", columns: Sequence[str], path: Path) -> None:
    """Raise `UserError` that names the first cell of some columns that is not a finite number."""
    import numpy as np
    import pandas as pd

    for column in columns:
        wrong = ~np.isfinite(pd.to_numeric(table[column], errors="coerce").to_numpy(float))
        if wrong.any():
            row = int(wrong.argmax())
            raise UserError(
                f"{path}: {column} of row {row + 1} is {shown(table[column].iloc[row])}, one of "
                f"{wrong.sum()} coordinates that are not numbers"
            )

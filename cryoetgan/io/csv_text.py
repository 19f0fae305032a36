"""Tables of text: comma-separated, or by semicolons, tabs or spaces."""

import io
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
    body = [line for line in lines if not line.startswith("#")]
    heading = body[0] if body else ""
    separator = max(",;\t", key=heading.count)
    if separator not in heading and len(heading.split()) > 1:
        separator = r"\s+"
    if not heading:
        raise UserError(
            f"{path}: is empty; wanted a heading, such as x,y,z, and one row per particle"
        )
    try:
        table = pd.read_csv(
            io.StringIO("\n".join(body)), sep=separator, dtype=str, keep_default_na=False
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path}: is not a CSV table ({error})") from error
    table.columns = [str(name).strip() for name in table.columns]
    if separator == ";":
        table = table.replace(r"^\s*([+-]?\d+),(\d+)\s*$", r"\1.\2", regex=True)
    return table


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

"""Tilt angles from the files of IMOD, SerialEM, AreTomo and Warp beside a tomogram."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.files import read_text
from cryoetgan.io.star import read_star

NUMBER = r"[-+\u2212]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eEdD][-+]?\d+)?"
"""A number with a sign of any kind, an exponent, or a decimal comma."""
STEEPEST = 90.0
"""Degrees; a larger angle is another quantity, such as a dose."""
MIN_ANGLES = 2
RADIANS = 1.6
"""Degrees; if no angle of a series is larger, they are radians, or no angles."""


@dataclass(frozen=True)
class TiltFile:
    """Content of a tilt file."""

    path: Path
    angles: NDArray[np.float64]
    """`(N,)` degrees, sorted."""
    voltage: float | None = None
    """Kilovolts, if the file states it."""
    defocus: float | None = None
    """Micrometres, the target; underfocus positive."""

    @property
    def step(self) -> float:
        """Typical increment, degrees; repeated and missing views do not change it."""
        steps = np.diff(self.angles)
        return float(np.median(steps[steps > 0.01])) if (steps > 0.01).any() else 0.0


def read_tilt_file(path: Path) -> TiltFile:
    """Read the angles of a tilt series; raise `UserError` if the file gives none.

    `.mdoc` (SerialEM: also voltage and target defocus), `.aln` (AreTomo), `.tomostar` (Warp), and
    tables of numbers such as `.tlt` and `.rawtlt`, with or without further columns (number of the
    image, dose).
    """
    suffix = path.suffix.lower()
    if suffix == ".mdoc":
        return _read_mdoc(path)
    if suffix == ".tomostar":
        table = read_star(path, ["wrpAngleTilt"], any_names=True).particles
        return TiltFile(path, _sort(table["wrpAngleTilt"].to_numpy(float), path))
    if suffix == ".aln":
        # one row per image, the angle last; the local alignment follows
        text = read_text(path).partition("# Local")[0]
        rows = _parse_rows(text, path)
        return TiltFile(path, _sort(np.array([row[-1] for row in rows]), path))
    return TiltFile(path, _sort(_choose_column(_parse_rows(read_text(path), path)), path))


def _read_mdoc(path: Path) -> TiltFile:
    text = read_text(path)

    def find(key: str) -> list[float]:
        found = re.findall(rf"^\s*{key}\s*=\s*({NUMBER})", text, re.MULTILINE | re.IGNORECASE)
        return [_to_number(value) for value in found]

    voltage, defocus = find("Voltage"), find("TargetDefocus")
    return TiltFile(
        path,
        _sort(np.array(find("TiltAngle")), path),
        voltage[0] if voltage else None,
        abs(defocus[0]) if defocus else None,
    )


def _to_number(text: str) -> float:
    plain = text.replace("\u2212", "-").replace(",", ".")
    return float(re.sub("[dD]", "e", plain))


def _parse_rows(text: str, path: Path) -> list[list[float]]:
    """Return the numbers of each line; lines of other content are headings.

    A comma before a space separates columns, another one is a decimal comma. The comma of lines
    such as `-60,5` may be either: it separates if all lines then have the same number of columns.
    Raises `UserError` if that leaves two readings with different angles.
    """
    lines = [line.partition("#")[0].strip(" \t\r;,") for line in text.splitlines()]
    decimal = _read_numbers(lines, r"[\s;]+|,\s+")
    narrow = [line for line in lines if re.fullmatch(r"[^\s;]+,[^\s;]+", line)]
    separated = _read_numbers(lines, r"[\s;,]+")
    widths = {len(row) for row in separated.values()}
    if not narrow or len(widths) != 1 or len(separated) < len(decimal):
        return list(decimal.values())
    if len(decimal) < len(separated):
        return list(separated.values())
    # no table writes 0 before another digit of a whole number
    leading_zero = any(re.search(r",0\d", line) for line in narrow)
    one, other = (_choose_column(list(rows.values())) for rows in (decimal, separated))
    if leading_zero or np.array_equal(one, other):
        return list(decimal.values())
    raise UserError(
        f"{path}: the comma of '{narrow[0]}' may be a decimal comma or separate two columns; write "
        "a decimal point, or a space after each comma that separates"
    )


def _read_numbers(lines: list[str], separator: str) -> dict[int, list[float]]:
    """Return the numbers of the lines that hold nothing else, by the number of the line."""
    words = {n: re.split(separator, line) for n, line in enumerate(lines)}
    return {
        n: [_to_number(word) for word in row]
        for n, row in words.items()
        if all(re.fullmatch(NUMBER, word) for word in row)
    }


def _choose_column(rows: list[list[float]]) -> NDArray[np.float64]:
    """Return the column of the angles: the first that is in range and does not count the rows."""
    width = min(map(len, rows), default=0)
    table = np.array([row[:width] for row in rows])
    columns = [column for column in table.T if (np.abs(column) <= STEEPEST).all()]
    angles = [column for column in columns if not _is_count(column)]
    # a series in steps of one degree looks like a count
    return (angles or columns or [np.zeros(0)])[0]


def _is_count(column: NDArray[np.float64]) -> bool:
    """Return whether a column numbers the rows from 0 or 1, in any order."""
    numbers = np.sort(column)
    return numbers[0] in (0, 1) and bool((np.diff(numbers) == 1).all())


def _sort(angles: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    if len(angles) < MIN_ANGLES or not np.isfinite(angles).all():
        raise UserError(f"{path}: no tilt angles can be read from it; fill in tilt_low, tilt_high")
    if np.abs(angles).max() > STEEPEST:
        raise UserError(
            f"{path}: holds the angle {angles[np.abs(angles).argmax()]:g} degrees, wanted -90 to 90"
        )
    if np.abs(angles).max() < RADIANS:
        raise UserError(
            f"{path}: its angles reach from {angles.min():g} to {angles.max():g}, wanted degrees of a "
            "tilt series (are they radians?); fill in tilt_low, tilt_high"
        )
    return np.sort(angles)

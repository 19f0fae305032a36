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
        rows = _parse_rows(text)
        return TiltFile(path, _sort(np.array([row[-1] for row in rows]), path))
    rows = _parse_rows(read_text(path))
    width = min(map(len, rows), default=0)
    return TiltFile(path, _sort(_choose_column(np.array([row[:width] for row in rows])), path))


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


def _parse_rows(text: str) -> list[list[float]]:
    """Return the numbers of each line; lines of other content are headings."""
    rows = []
    for line in text.splitlines():
        words = re.split(r"[\s;]+|,\s+", line.partition("#")[0].strip())
        if all(re.fullmatch(NUMBER, word) for word in words):
            rows.append([_to_number(word) for word in words])
    return rows


def _choose_column(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the column of the angles: the first that is in range and does not count the rows."""
    columns = [column for column in rows.T if (np.abs(column) <= STEEPEST).all()]
    counts = [len(column) > 1 and bool((np.diff(column) == 1).all()) for column in columns]
    angles = [column for column, is_count in zip(columns, counts, strict=True) if not is_count]
    # a series in steps of one degree looks like a count
    return (angles or columns or [np.zeros(0)])[0]


def _sort(angles: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    if len(angles) < MIN_ANGLES or not np.isfinite(angles).all():
        raise UserError(f"{path}: no tilt angles can be read from it; fill in tilt_low, tilt_high")
    if np.abs(angles).max() > STEEPEST:
        raise UserError(
            f"{path}: holds the angle {angles[np.abs(angles).argmax()]:g} degrees, wanted -90 to 90"
        )
    return np.sort(angles)

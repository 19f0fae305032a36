"""A person's decisions on particles: CSV files with the columns id, accepted and class."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cryoetgan.errors import UserError, shown
from cryoetgan.io.files import check_exists, locked, write_text
from cryoetgan.progress import log

YES = {"1", "yes", "y", "true", "accepted", "accept"}
NO = {"0", "no", "n", "false", "rejected", "reject"}
COLUMNS = ["id", "accepted", "class"]
Decisions = Mapping[str, str]
"""Id to class; the class is empty if rejected, and `UNNAMED` if accepted without a class."""
UNNAMED = "*"


def parse_answer(text: str) -> str | None:
    """Return `yes` or `no` for an answer in any of its spellings, None for other text."""
    answer = text.strip().lower()
    return "yes" if answer in YES else "no" if answer in NO else None


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns and the rows of a CSV file of decisions, as text.

    Raises `UserError` if the file lacks a column or cannot be read as a table.
    """
    try:
        with open(check_exists(path, "CSV file"), newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            rows = list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not a CSV table ({error})") from error
    columns = list(reader.fieldnames or [])
    if not {"id", "accepted"} <= set(columns):
        raise UserError(
            f"{path}: has the columns {shown(', '.join(columns))}; it needs id, accepted and, "
            "optionally, class, separated by commas"
        )
    for number, row in enumerate(rows, start=2):
        if None in row:  # csv's key of values without a column
            raise UserError(f"{path}, row {number}: has more values than columns; quote commas")
    return columns, rows


def parse_rows(path: Path) -> Iterator[tuple[str, str, str | None, str]]:
    """Yield a description, id, answer (yes, no, or None if unclear) and class of each row."""
    for number, row in enumerate(read_rows(path)[1], start=2):
        answer, class_name = parse_answer(row["accepted"]), row.get("class", "").strip()
        row_text = (
            f"{path}, row {number}: accepted is {shown(row['accepted'])}, class {shown(class_name)}"
        )
        yield row_text, row["id"].strip(), answer, "" if answer == "no" else class_name


def read_decisions(folder: Path, classes: Sequence[str]) -> dict[str, str]:
    """Read a person's decisions from the CSV files of a folder; `classes` are the known ones."""
    decisions: dict[str, str] = {}
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; set particles.curation to one, or remove it")
    changed = 0
    for path in sorted(folder.glob("*.csv")):
        in_file: dict[str, str] = {}
        for row, name, answer, class_name in parse_rows(path):
            if answer is None:
                raise UserError(f"{row}; give yes or no as accepted")
            if answer == "yes" and class_name and class_name not in classes:
                raise UserError(
                    f"{row}, which is unknown (known: {', '.join(classes)}). Reject the particle "
                    "(no), or add the class to the table of classes"
                )
            in_file[name] = (class_name or UNNAMED) if answer == "yes" else ""
        changed += sum(decisions.get(name, said) != said for name, said in in_file.items())
        decisions |= in_file
    if changed:
        log.warning(
            "%s: %d particles have different answers in two files; the file that comes last in "
            "alphabetical order counts",
            folder, changed,
        )  # fmt: skip
    return decisions


def saved_decisions(path: Path) -> dict[str, dict[str, str]]:
    """Return the decisions of one CSV file by id, none if the file does not exist."""
    if not path.exists():
        return {}
    return {
        name: {"accepted": answer, "class": class_name}
        for _, name, answer, class_name in parse_rows(path)
        if answer is not None
    }


def change_decisions(path: Path, changes: Mapping[str, Mapping[str, str] | None]) -> None:
    """Change single decisions in a CSV file, and leave every other row and column as it is.

    `changes` maps an id to `accepted` and `class`, or to None if it is undecided again. A lock
    orders the changes of several programs.
    """
    path = path.resolve()  # a link stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):
        columns, rows = read_rows(path) if path.exists() else (COLUMNS, [])
        columns = columns if "class" in columns else [*columns, "class"]
        kept: dict[str | int, dict[str, str]] = {}
        for place, row in enumerate(rows):
            name = row["id"].strip()
            # of several rows of a particle the last one counts
            kept[name if name in changes else place] = row
        for name, said in changes.items():
            if said is None:
                kept.pop(name, None)
            else:
                kept[name] = {**kept.get(name, {"id": name}), **said}
        write_text(path, _csv_text(columns, list(kept.values())))


def _csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()

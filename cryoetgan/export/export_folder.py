"""The folder of an export: replaced as a whole, with the provenance of all its files."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryoetgan.errors import UserError, shown
from cryoetgan.io.files import atomic, provenance, read_json, sha256, write_json, write_text

README = "README.md"
RECORD = "provenance.json"
READMES = Path(__file__).parent / "readmes"


@contextmanager
def export_folder(
    folder: Path,
    command: str,
    inputs: Sequence[Path],
    parameters: Mapping[str, Any],
    editable: Sequence[str] = (),
) -> Iterator[Path]:
    """Yield a temporary folder that replaces `folder` on success.

    `folder` must be absent, empty, or an earlier export of this command. On exit, provenance.json
    gets the hashes of all files for `cryoetgan validate`, except of those that users edit.
    """
    _check_replaceable(folder, command)
    with atomic(folder) as part:
        part.mkdir()
        yield part
        files = {
            path.relative_to(part).as_posix(): sha256(path)
            for path in sorted(part.rglob("*"))
            if path.is_file() and path.relative_to(part).as_posix() not in editable
        }
        record = provenance(command, inputs, parameters)
        write_json(part / RECORD, {"provenance": record, "files": files})


def member(folder: Path, name: str) -> Path:
    """Return the path of a file in an export; raise `UserError` if its name leads elsewhere."""
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts or not name.isprintable() or not parts:
        raise UserError(f"{shown(name)} is not a name for a file of the export; rename its class")
    return folder / name


def write_csv(path: Path, heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV table; floats have four decimals."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heading)
    for row in rows:
        writer.writerow([f"{v:.4f}" if isinstance(v, float) else v for v in row])
    write_text(path, out.getvalue())


def write_readme(folder: Path, name: str, **values: str) -> None:
    """Write the README of an export from the text `readmes/NAME.md` with values filled in."""
    text = (READMES / f"{name}.md").read_text(encoding="utf-8")
    write_text(folder / README, text.format(**values))


def add_to_readme(folder: Path, text: str) -> None:
    """Append text to the README of an export."""
    readme = folder / README
    write_text(readme, readme.read_text(encoding="utf-8") + text)


def _check_replaceable(folder: Path, command: str) -> None:
    """Raise `UserError` if a folder holds files that are not an export of this command."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    record = folder / RECORD
    content = read_json(record) if record.exists() else {}
    earlier = content.get("provenance") if isinstance(content, dict) else None
    if not isinstance(earlier, dict) or earlier.get("command") != command:
        raise UserError(
            f"{folder}: holds other files, which the export would delete; give an empty folder"
        )

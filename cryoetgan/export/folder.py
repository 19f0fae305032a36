"""The folder of an export: replaced as a whole, with the provenance of all its files."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryoetgan.errors import UserError
from cryoetgan.io.files import atomic, provenance, read_json, sha256, write_json

RECORD = "provenance.json"


@contextmanager
def export_folder(
    folder: Path,
    command: str,
    inputs: Sequence[Path],
    parameters: Mapping[str, Any],
    editable: Sequence[str] = (),
) -> Iterator[Path]:
    """Yield a temporary folder that replaces `folder` on success.

    On exit, provenance.json gets the hashes of all files, for `cryoetgan validate`.

    Parameters
    ----------
    folder : Path
        Folder of the export; it must be absent, empty, or an earlier export of this command.
    command : str
        Name of the command, such as `export relion`.
    inputs : sequence of Path
        Input files.
    parameters : mapping
        Options of the command.
    editable : sequence of str
        Names of files without a hash, since users edit them.

    Raises
    ------
    UserError
        If the folder holds other files.
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

"""Download of structures by PDB id: complete and checked, or not at all."""

import re
import tempfile
import urllib.parse
from pathlib import Path

from cryoetgan.errors import UserError
from cryoetgan.io.download import FIRST_WAIT_S, TransientError, retry, transfer
from cryoetgan.io.files import atomic
from cryoetgan.structures.read_structure import check_mmcif, read_text

PDB_ID = re.compile(r"[0-9][a-z0-9]{3}|pdb_[0-9a-z]{8}")


def parse_pdb_id(text: str) -> str:
    """Return a PDB id, short (4v6x) or extended (pdb_00004v6x), in lower case."""
    name = text.strip().lower()
    if not PDB_ID.fullmatch(name):
        raise UserError(
            f"'{text}' is not a PDB id: wanted a digit and three letters or digits (4v6x), "
            "or pdb_ and eight (pdb_00004v6x)"
        )
    return name


def fetch(
    entry: str,
    path: Path,
    mirror: str,
    retries: int = 4,
    timeout: float = 60.0,
    first_wait: float = FIRST_WAIT_S,
) -> None:
    """Write one entry as uncompressed mmCIF; the file appears when it is complete and parses.

    `mirror` is a URL or folder that holds `<id>.cif.gz`. After a transient fault, up to `retries`
    further attempts are made; the wait of `first_wait` seconds doubles each time. An attempt is
    given up after `timeout` seconds without a byte.
    """
    name = parse_pdb_id(entry)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder, f"{name}.cif.gz")

        def attempt() -> bytes:
            source = _locate(mirror, scratch, timeout)
            try:
                text = read_text(source)
            except UserError as error:  # an error page or a damaged download
                scratch.unlink(missing_ok=True)
                raise TransientError(str(error)) from error
            check_mmcif(text, name)
            return text

        advice = "raise structures.retries or structures.timeout, or change structures.mirror"
        source = f"{name} from {mirror}"
        text = retry(attempt, source, retries, advice=advice, first_wait=first_wait)
    with atomic(path) as part:
        part.write_bytes(text)


def _locate(mirror: str, scratch: Path, timeout: float) -> Path:
    """Return the path of file `scratch.name` in a folder, or of its download in `scratch`."""
    scheme, separator, rest = mirror.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        transfer(f"{mirror.rstrip('/')}/{urllib.parse.quote(scratch.name)}", scratch, timeout)
        return scratch
    if separator and scheme.lower() != "file":
        raise UserError(f"{mirror}: a mirror is an http(s) URL or a folder (structures.mirror)")
    folder = Path(rest if separator else mirror)
    for name in (scratch.name, scratch.stem):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: holds neither {scratch.name} nor {scratch.stem}")

"""Download of structures by PDB id: complete and checked, or not at all."""

import re
import tempfile
import urllib.parse
from pathlib import Path

from cryoetgan.errors import UserError
from cryoetgan.io.download import FIRST_WAIT_S, Download, TransientError, retry
from cryoetgan.io.files import atomic
from cryoetgan.structures.read_structure import MAX_STRUCTURE_BYTES, check_mmcif, read_text

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

    `mirror` is a URL or folder that holds `<id>.cif.gz`. After a transient fault of a server, up to
    `retries` further attempts are made; the wait of `first_wait` seconds doubles each time. An
    attempt is given up after `timeout` seconds without a byte.
    """
    name = parse_pdb_id(entry)
    if re.match(r"https?://", mirror, re.IGNORECASE):
        advice = "raise structures.retries or structures.timeout, or change structures.mirror"
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder, f"{name}.cif.gz")
            url = f"{mirror.rstrip('/')}/{urllib.parse.quote(scratch.name)}"
            transfer = Download(url, scratch, timeout, MAX_STRUCTURE_BYTES)

            def attempt() -> bytes:
                transfer.attempt()
                try:
                    return read_text(scratch)
                except UserError as error:  # an error page or a damaged download
                    transfer.start_anew()
                    raise TransientError(str(error)) from error

            source = f"{name} from {mirror}"
            text = retry(attempt, source, retries, advice=advice, first_wait=first_wait)
    else:
        text = read_text(_find_file(mirror, name))
    check_mmcif(text, name)
    with atomic(path) as part:
        part.write_bytes(text)


def _find_file(mirror: str, name: str) -> Path:
    """Return the file of an entry in a folder."""
    scheme, separator, rest = mirror.partition("://")
    if separator and scheme.lower() != "file":
        raise UserError(f"{mirror}: a mirror is an http(s) URL or a folder (structures.mirror)")
    folder = Path(rest if separator else mirror)
    for path in (folder / f"{name}.cif.gz", folder / f"{name}.cif"):
        if path.is_file():
            return path
    raise UserError(f"{folder}: holds neither {name}.cif.gz nor {name}.cif")

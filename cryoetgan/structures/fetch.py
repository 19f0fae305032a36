"""Download of structures by PDB id: complete and checked, or not at all."""

import gzip
import re
import tempfile
import urllib.parse
from pathlib import Path

from cryoetgan.errors import UserError
from cryoetgan.io.download import FIRST_WAIT_S, TransientError, retry, transfer
from cryoetgan.io.files import atomic
from cryoetgan.structures.read_structure import check_mmcif, unpack_gzip

PDB_ID = re.compile(r"[0-9][a-z0-9]{3}|pdb_[0-9a-z]{8}")


def parse_pdb_id(text: str) -> str:
    """Return a PDB id in lower case.

    Raises
    ------
    UserError
        If `text` has neither the short form (4v6x) nor the extended form (pdb_00004v6x).
    """
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
    """Write one entry as mmCIF; the file appears when it is complete and parses.

    Parameters
    ----------
    entry : str
        PDB id.
    path : Path
        The mmCIF file to write, uncompressed.
    mirror : str
        URL or folder that holds `<id>.cif.gz`.
    retries : int
        Further attempts after a transient fault.
    timeout : float
        Seconds without a byte before an attempt is given up.
    first_wait : float
        Seconds before the second attempt; the wait doubles each time.

    Raises
    ------
    UserError
        If the id is invalid or unknown, or the server sends another entry.
    """
    name = parse_pdb_id(entry)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder, f"{name}.cif.gz")

        def attempt() -> bytes:
            text = _unpack(_read(mirror, scratch, timeout), scratch.name)
            check_mmcif(text, name)
            return text

        advice = "raise structures.retries or structures.timeout, or change structures.mirror"
        source = f"{name} from {mirror}"
        text = retry(attempt, source, retries, advice=advice, first_wait=first_wait)
    with atomic(path) as part:
        part.write_bytes(text)


def _read(mirror: str, scratch: Path, timeout: float) -> bytes:
    """Return the file `scratch.name` of a mirror; an interrupted download stays in `scratch`."""
    scheme, separator, rest = mirror.partition("://")
    if not separator or scheme.lower() == "file":
        return _read_folder(Path(rest if separator else mirror), scratch.name)
    if scheme.lower() not in ("http", "https"):
        raise UserError(f"{mirror}: a mirror is an http(s) URL or a folder (structures.mirror)")
    transfer(f"{mirror.rstrip('/')}/{urllib.parse.quote(scratch.name)}", scratch, timeout)
    content = scratch.read_bytes()
    scratch.unlink()
    return content


def _read_folder(folder: Path, name: str) -> bytes:
    for candidate in (folder / name, folder / name.removesuffix(".gz")):
        if candidate.is_file():
            content = candidate.read_bytes()
            return content if candidate.suffix == ".gz" else gzip.compress(content, 1)
    raise UserError(f"{folder}: holds neither {name} nor {name.removesuffix('.gz')}")


def _unpack(content: bytes, name: str) -> bytes:
    """Return the text of a download; a damaged download counts as a transient fault."""
    if content[:512].lstrip()[:1] == b"<":
        raise TransientError(f"the server sent a web page, not {name}")
    if content[:2] != b"\x1f\x8b":
        raise TransientError(f"the server sent {len(content)} bytes that are not gzip")
    try:
        return unpack_gzip(content, name)
    except UserError as error:
        raise TransientError(str(error)) from error

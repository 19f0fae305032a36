"""Download of structures by PDB id: complete and checked, or not at all."""

import re
import tempfile
import urllib.parse
from pathlib import Path

from cryoetgan.errors import UserError
from cryoetgan.io.download import FIRST_WAIT_S, Download, NotFoundError, TransientError, retry
from cryoetgan.io.files import atomic
from cryoetgan.structures.mirrors import addresses, find_in_folder
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

    `mirror` is a URL or folder that holds `<id>.cif.gz` or `.cif`, flat or in the archive's folders
    (`mirrors.addresses`). After a transient fault of a server, up to
    `retries` further attempts are made; the wait of `first_wait` seconds doubles each time. An
    attempt is given up after `timeout` seconds without a byte.
    """
    name = parse_pdb_id(entry)
    if re.match(r"https?://", mirror, re.IGNORECASE):
        text = _download(name, mirror, retries, timeout, first_wait)
    else:
        text = read_text(_find_file(mirror, name))
    check_mmcif(text, name)
    with atomic(path) as part:
        part.write_bytes(text)


def _download(name: str, mirror: str, retries: int, timeout: float, first_wait: float) -> bytes:
    """Return the text of an entry from the first of its addresses that a server knows."""
    advice = "raise structures.retries or structures.timeout, or change structures.mirror"
    missing = []
    for candidate in addresses(name):
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder, "entry.cif")
            url = f"{mirror.rstrip('/')}/{urllib.parse.quote(candidate)}"
            transfer = Download(url, scratch, timeout, MAX_STRUCTURE_BYTES)

            def attempt(transfer: Download = transfer, scratch: Path = scratch) -> bytes:
                transfer.attempt()
                try:
                    return read_text(scratch)
                except UserError as error:  # an error page or a damaged download
                    transfer.start_anew()
                    raise TransientError(str(error)) from error

            try:
                source = f"{name} from {mirror}"
                return retry(attempt, source, retries, advice=advice, first_wait=first_wait)
            except NotFoundError as error:
                missing.append(error)
    raise UserError(
        f"{missing[0]} (an obsolete entry has a successor), or structures.mirror; {len(missing)} "
        "addresses of the archive's layouts were tried"
    )


def _find_file(mirror: str, name: str) -> Path:
    """Return the file of an entry in a folder."""
    scheme, separator, rest = mirror.partition("://")
    if separator and scheme.lower() != "file":
        raise UserError(f"{mirror}: a mirror is an http(s) URL or a folder (structures.mirror)")
    return find_in_folder(Path(rest if separator else mirror).expanduser(), name)

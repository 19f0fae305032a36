"""Download a structure by PDB id: whole, checked, or not at all."""

import gzip
import http.client
import logging
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from cryoetgan.errors import UserError
from cryoetgan.io.files import atomic
from cryoetgan.structures.read_structure import check_mmcif, unpack

log = logging.getLogger("cryoetgan")
PDB_ID = re.compile(r"[0-9][a-z0-9]{3}|pdb_[0-9a-z]{8}")
LARGEST_DOWNLOAD = 2 << 30
CHUNK = 1 << 18
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0


class PassingError(Exception):
    """A fault that may be gone on the next try."""


def pdb_id(text: str) -> str:
    """Return a PDB id in lower case.

    Raises
    ------
    UserError
        Where `text` is neither four characters (4v6x) nor extended (pdb_00004v6x).
    """
    name = text.strip().lower()
    if not PDB_ID.fullmatch(name):
        raise UserError(
            f"'{text}' is no PDB id: wanted a digit and three letters or digits (4v6x), "
            "or pdb_ and eight (pdb_00004v6x)"
        )
    return name


def fetch(entry: str, path: Path, mirror: str, retries: int = 4, timeout: float = 60.0) -> None:
    """Write one entry as mmCIF; the file appears when all of it is there and parses.

    Parameters
    ----------
    entry : str
        PDB id.
    path : Path
        The mmCIF file to write, uncompressed.
    mirror : str
        URL or folder that holds `<id>.cif.gz`.
    retries : int
        Further tries after a passing fault, waiting 1, 2, 4 ... 60 seconds between them.
    timeout : float
        Seconds without a byte before a try is given up.

    Raises
    ------
    UserError
        Where the id is wrong or unknown, or what came is not that entry.
    """
    name = pdb_id(entry)
    for attempt in range(retries + 1):
        try:
            content = _read(mirror, f"{name}.cif.gz", timeout)
            text = _unpack(content, name)
            check_mmcif(text, name)
            break
        except PassingError as error:
            if attempt == retries:
                raise UserError(
                    f"{name}: {error}, {retries + 1} times; try again later, raise "
                    "structures.retries or structures.timeout, or name another structures.mirror"
                ) from error
            wait = min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S)
            log.warning("%s: %s; trying again in %g s", name, error, wait)
            time.sleep(wait)
    with atomic(path) as part:
        part.write_bytes(text)


def _read(mirror: str, name: str, timeout: float) -> bytes:
    scheme, separator, rest = mirror.partition("://")
    if not separator or scheme.lower() == "file":
        return _read_folder(Path(rest if separator else mirror), name)
    if scheme.lower() not in ("http", "https"):
        raise UserError(f"{mirror}: a mirror is an http(s) URL or a folder (structures.mirror)")
    url = f"{mirror.rstrip('/')}/{urllib.parse.quote(name)}"
    request = urllib.request.Request(url, headers={"User-Agent": "cryoetgan"})
    parts, size, start = [], 0, time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            expected = answer.headers.get("Content-Length")
            while chunk := answer.read1(CHUNK):
                parts.append(chunk)
                size += len(chunk)
                if size > LARGEST_DOWNLOAD:
                    raise UserError(f"{url}: sends more than {LARGEST_DOWNLOAD >> 30} GiB")
                # a server that drips single bytes never meets the socket's own timeout
                if time.monotonic() - start > timeout and size < CHUNK / 64 * (
                    time.monotonic() - start
                ):
                    raise PassingError(f"{url}: stalls at {size} bytes")
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise UserError(
                f"{url}: there is no such entry (HTTP {error.code}); check the PDB id"
            ) from error
        if error.code in (408, 425, 429) or error.code >= 500:
            raise PassingError(f"{url}: HTTP {error.code}") from error
        raise UserError(f"{url}: HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise PassingError(f"{url}: {getattr(error, 'reason', None) or error}") from error
    if expected is not None and size != int(expected):
        raise PassingError(f"{url}: ended after {size} of {expected} bytes")
    return b"".join(parts)


def _read_folder(folder: Path, name: str) -> bytes:
    for candidate in (folder / name, folder / name.removesuffix(".gz")):
        if candidate.is_file():
            content = candidate.read_bytes()
            return content if candidate.suffix == ".gz" else gzip.compress(content, 1)
    raise UserError(f"{folder}: holds neither {name} nor {name.removesuffix('.gz')}")


def _unpack(content: bytes, name: str) -> bytes:
    if content[:512].lstrip()[:1] == b"<":
        raise PassingError(f"{name}: the server sent a web page, not {name}.cif.gz")
    if content[:2] != b"\x1f\x8b":
        raise PassingError(f"{name}: the server sent {len(content)} bytes that are not gzip")
    try:
        return unpack(content, name)
    except UserError as error:
        raise PassingError(str(error)) from error

"""Read structure files (PDB or mmCIF, gzipped or not) and check their content."""

import codecs
import gzip
import io
import logging
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from cryoetgan.errors import UserError
from cryoetgan.io.files import check_exists, decode_text
from cryoetgan.machine import memory_bytes
from cryoetgan.structures.model_kinds import warn_if_superseded
from cryoetgan.structures.pdb_records import read_records

log = logging.getLogger("cryoetgan")
MAX_STRUCTURE_BYTES = 1 << 30
"""Bytes, unpacked; the largest entries of the archive have about 0.5 GiB."""
MEMORY_PER_BYTE = 20
"""Memory that the parser takes per byte of text."""
PDB_RECORD = rb"^(ATOM  |HETATM|HEADER|REMARK|CRYST1)"
CHUNK_BYTES = 1 << 22


def check_mmcif(text: bytes, name: str) -> None:
    """Raise `UserError` unless `text` parses as the mmCIF of entry `name`, with atoms."""
    import gemmi

    try:
        document = gemmi.cif.read_string(text)
        structure = gemmi.make_structure_from_block(document[0])
    except (ValueError, RuntimeError, IndexError, UnicodeDecodeError) as error:
        raise UserError(
            f"{name}: the download is not mmCIF ({error}); try another mirror"
        ) from error
    warn_if_superseded(text, document, name)
    served = (document[0].find_value("_entry.id") or document[0].name or "?").strip("'\"").lower()
    if served not in (name, name.removeprefix("pdb_0000")) and name != "pdb_0000" + served:
        old = document[0].find("_pdbx_database_PDB_obs_spr.", ["replace_pdb_id"])
        if name.removeprefix("pdb_0000") in " ".join(row.str(0) for row in old).lower().split():
            raise UserError(f"{name}: is superseded by {served}; name {served} in its place")
        raise UserError(f"{name}: the server sent entry {served}; try another structures.mirror")
    if count_atoms(structure) == 0:
        raise UserError(f"{name}: the entry holds no atoms")


def count_atoms(structure: Any) -> int:
    """Return the number of atom sites in all models."""
    return sum(chain.count_atom_sites() for model in structure for chain in model)


def read_structure(path: Path) -> Any:
    """Read PDB or mmCIF, gzipped or not, as a `gemmi.Structure` with finite coordinates."""
    import gemmi

    text = read_text(path)
    reason = ""
    try:
        if is_mmcif(text, path):
            document = gemmi.cif.read_string(text)
            structure = gemmi.make_structure_from_block(document[0])
            warn_if_superseded(text, document, path)
            more = [block.name for block in list(document)[1:] if block.find_loop("_atom_site.id")]
            if more:
                log.warning(
                    "%s: the first of %d structures is read, '%s', not %s; write each into a file "
                    "of its own", path, len(more) + 1, document[0].name, ", ".join(more[:5]),
                )  # fmt: skip
            if document[0].find_value("_ma_qa_metric.name") or len(
                document[0].find_loop("_ma_qa_metric.name")
            ):
                structure.info["_exptl.method"] = "THEORETICAL MODEL"
            if len(document[0].find_loop("_atom_site.Cartn_x")):
                reason = " that can be read: its table atom_site lacks a column"
        else:
            read_records(text, path)  # gemmi reads a coordinate that is not a number as zero
            structure = gemmi.read_pdb_string(text.decode("latin-1"))
            warn_if_superseded(text, None, path)
    except (ValueError, RuntimeError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: cannot be read as PDB or mmCIF ({error})") from error
    if count_atoms(structure) == 0:
        raise UserError(f"{path}: holds no atoms{reason}; is it a PDB or mmCIF file?")
    finite = np.isfinite(flatten_structure(structure, path).pos).all(axis=1)
    if not finite.all():
        number = int(np.flatnonzero(~finite)[0]) + 1
        raise UserError(f"{path}: atom {number} has a coordinate that is not a number")
    return structure


def read_text(path: Path) -> bytes:
    """Return the unpacked bytes of a structure file."""
    path = check_exists(path, "structure file")
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not a structure file")
    limit = min(MAX_STRUCTURE_BYTES, memory_bytes() // MEMORY_PER_BYTE)
    _check_size(path.stat().st_size, limit, path)
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = _unpack_gzip(content, path, limit)
    if content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = decode_text(content, path).encode()
    head = content[:4096].lstrip(b" \t\r\n")
    if not head and len(content) < 4096:
        raise UserError(f"{path}: is empty, so it holds no atoms; download or copy it again")
    if head.startswith(b"<"):
        raise UserError(
            f"{path}: is a web page or XML, not a structure; download the mmCIF or PDB file"
        )
    return content


def _check_size(size: int, limit: int, path: Path) -> None:
    if size > limit:
        raise UserError(
            f"{path}: holds more than {limit / 1e9:.2g} GB of text, the limit for structures "
            f"({MEMORY_PER_BYTE} bytes of memory per byte of text); is it a structure?"
        )


def _unpack_gzip(content: bytes, path: Path, limit: int) -> bytes:
    """Return the unpacked bytes, at most `limit`; damaged gzip is a `UserError`."""
    parts, size = [], 0
    try:
        with gzip.open(io.BytesIO(content)) as file:
            while part := file.read(CHUNK_BYTES):
                parts.append(part)
                size += len(part)
                _check_size(size, limit, path)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: the gzip file is cut short or damaged ({error})") from error
    return b"".join(parts)


def is_mmcif(text: bytes, path: Path) -> bool:
    """Return whether a structure file is mmCIF and not PDB; its text decides, then its name."""
    head = text[: 1 << 16]
    if re.search(rb"^\s*data_", head, re.MULTILINE | re.IGNORECASE):
        return True
    if re.search(PDB_RECORD, head, re.MULTILINE):
        return False
    return Path(path).name.lower().removesuffix(".gz").endswith((".cif", ".mmcif"))


def flatten_structure(structure: Any, path: Path) -> Any:
    """Return a structure's `gemmi.FlatStructure`: its atoms as arrays."""
    import gemmi

    try:
        return gemmi.FlatStructure(structure)
    except RuntimeError as error:
        raise UserError(f"{path}: cannot be read ({error}); shorten the names of chains") from error

"""Whether a file is the structure it should be."""

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

from cryoetgan.errors import UserError
from cryoetgan.files import existing


def check_mmcif(text: bytes, name: str) -> None:
    """Raise a `UserError` unless `text` parses as mmCIF of entry `name` with atoms."""
    import gemmi

    try:
        document = gemmi.cif.read_string(text)
        structure = gemmi.make_structure_from_block(document[0])
    except (ValueError, RuntimeError, IndexError, UnicodeDecodeError) as error:
        raise UserError(f"{name}: what came is not mmCIF ({error}); try another mirror") from error
    served = (document[0].find_value("_entry.id") or document[0].name or "?").strip("'\"").lower()
    if served not in (name, name.removeprefix("pdb_0000")) and name != "pdb_0000" + served:
        raise UserError(f"{name}: the server sent entry {served}; try another structures.mirror")
    if count_atoms(structure) == 0:
        raise UserError(f"{name}: the entry holds no atoms")


def count_atoms(structure: Any) -> int:
    """Return the number of atom sites in all models."""
    return sum(chain.count_atom_sites() for model in structure for chain in model)


def read_structure(path: Path) -> Any:
    """Read PDB or mmCIF, gzipped or not, as a `gemmi.Structure`.

    Raises
    ------
    UserError
        Where the file is missing, damaged, no structure, has no atoms, or a
        coordinate that is not finite.
    """
    import gemmi

    path = existing(path, "structure file")
    text = _text(path)
    start = text[:4096].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(f"{path}: is a web page, not a structure; download it again")
    name = path.name.lower().removesuffix(".gz")
    looks_like_cif = b"\ndata_" in b"\n" + text[:65536] or name.endswith((".cif", ".mmcif"))
    if not looks_like_cif:
        _finite_columns(text, path)
    try:
        if looks_like_cif:
            document = gemmi.cif.read_string(text)
            structure = gemmi.make_structure_from_block(document[0])
        else:
            structure = gemmi.read_pdb_string(text.decode("latin-1"))
    except (ValueError, RuntimeError, IndexError) as error:
        raise UserError(f"{path}: cannot be read as PDB or mmCIF ({error})") from error
    if count_atoms(structure) == 0:
        raise UserError(f"{path}: holds no atoms")
    _finite(structure, path)
    return structure


def _text(path: Path) -> bytes:
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: the gzip file is cut short or damaged ({error})") from error


def _finite_columns(text: bytes, path: Path) -> None:
    """Refuse coordinates that are no numbers: the parser would read them as zero."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line[:6] in (b"ATOM  ", b"HETATM"):
            try:
                values = [float(line[at : at + 8]) for at in (30, 38, 46)]
            except ValueError:
                values = [math.nan]
            if not all(map(math.isfinite, values)):
                raise UserError(
                    f"{path}, line {number}: has a coordinate that is not a number "
                    f"({line[30:54].decode('latin-1').strip()!r})"
                )


def _finite(structure: Any, path: Path) -> None:
    for model in structure:
        for site in model.all():
            position = site.atom.pos
            if not all(map(math.isfinite, (position.x, position.y, position.z))):
                raise UserError(f"{path}: atom {site} has a coordinate that is not a number")

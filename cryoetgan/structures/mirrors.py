"""Names under which mirrors of the PDB archive store an entry."""

import re
from itertools import product
from pathlib import Path

from cryoetgan.errors import UserError

ROOTS = (
    "",
    "data/structures/divided/mmCIF",
    "structures/divided/mmCIF",
    "divided/mmCIF",
    "mmCIF",
    "data/structures/all/mmCIF",
    "structures/all/mmCIF",
)
"""Folders of the archive that may lie below a mirror."""
SUFFIXES = (".cif.gz", ".cif")
EXTENDED = "pdb_0000"
"""Beginning of an extended id that stands for a short one."""


def entry_ids(name: str) -> list[str]:
    """Return a PDB id in its short and its extended form, the given one first.

    Examples
    --------
    >>> entry_ids("4v6x"), entry_ids("pdb_12345678")
    (['4v6x', 'pdb_00004v6x'], ['pdb_12345678'])
    """
    if len(name) == 4:
        return [name, EXTENDED + name]
    return [name, name.removeprefix(EXTENDED)] if name.startswith(EXTENDED) else [name]


def addresses(name: str) -> list[str]:
    """Return the paths below a server at which an entry may lie, the usual one first.

    The archive divides entries by the two letters before the last one: `v6/4v6x.cif.gz`. Its future
    form has a folder for each entry: `v6/pdb_00004v6x/pdb_00004v6x_xyz.cif.gz`.
    """
    middle, ids = name[-3:-1], entry_ids(name)
    short, long = min(ids, key=len), max(ids, key=len)
    flat = [f"{entry}{suffix}" for entry in ids for suffix in SUFFIXES]
    found = [*flat, *(f"{name.upper()}{suffix}" for suffix in SUFFIXES)]
    for root in ROOTS[:3]:
        found += [f"{root}/{middle}/{short}{suffix}".lstrip("/") for suffix in SUFFIXES]
    return [*found, f"{middle}/{long}/{long}_xyz.cif.gz"]


def find_in_folder(folder: Path, name: str) -> Path:
    """Return the file of an entry below a folder: any layout, any case, either form of the id.

    Versions of an entry (`_xyz_v1-2`) are compared, and the newest is taken.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; correct structures.mirror (--mirror)")
    middle, ids = name[-3:-1], entry_ids(name)
    spelled = "|".join(ids)
    pattern = re.compile(
        rf"(?:{spelled})(?:_xyz)?(?:_v(\d+)-(\d+))?(?:_updated)?\.cif(?:\.gz)?", re.IGNORECASE
    )
    found = []
    for root, inside in product(ROOTS, ("", middle, *(f"{middle}/{entry}" for entry in ids))):
        place = folder / root / inside
        for spelling in {place, folder / root / inside.upper()}:
            for file in spelling.iterdir() if spelling.is_dir() else ():
                match = pattern.fullmatch(file.name)
                if match and file.is_file():
                    found.append((int(match[1] or 0), int(match[2] or 0), str(file)))
    if found:
        return Path(max(found)[2])
    raise UserError(
        f"{folder}: holds neither {name}.cif.gz nor {name}.cif, in none of the archive's layouts "
        f"(flat, {middle}/, data/structures/divided/mmCIF/{middle}/); correct the id or "
        "structures.mirror"
    )

"""Whether what the two tables name is there, can be read, and fits the configuration."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryoetgan.config import Config
from cryoetgan.errors import UserError
from cryoetgan.tables import ClassRow, TomogramRow

ROOM = 1.3, 2.0
"""A box should measure so many times the largest particle: below it is cut, above it costs."""
Row = tuple[str, str, str]
"""What was looked at, its state, what is said of it."""


def inputs(
    config: Config, classes: Sequence[ClassRow], tomograms: Sequence[TomogramRow]
) -> list[Row]:
    """Return what is to be said of files, network and box.

    States are those of `check.examine`; `mind`: it runs, but look at it.
    """
    paths = [row.source for row in classes if row.kind in ("file", "map")]
    paths += [row.path for row in tomograms if _is_file(row)]
    paths += [path for row in tomograms for path in (row.annotations, row.mask) if path]
    gone = [path for path in paths if not local(path).exists()]
    found = [("input", "missing", f"{path}: no such file") for path in gone]
    if paths and not gone:
        found.append(("inputs", "ok", f"{len(paths)} files that the tables name are there"))
    found += [("input", "missing", text) for text in _headers(tomograms)]
    asked = [row for row in classes if row.kind == "pdb"]
    found += [("input", "missing", text) for text in _no_ids(asked)]
    online = [f"PDB {row.source}" for row in asked]
    online += [row.path for row in tomograms if row.is_remote]
    if online:
        found.append(("network", "ok", f"needed for {', '.join(online)}"))
    if len(classes) == 1:
        said = "one class: the evaluation has nothing to tell apart; add another, or a decoy (membrane)"
        found.append(("classes", "missing", said))
    return found + _box(config, classes)


def _no_ids(classes: Sequence[ClassRow]) -> Iterator[str]:
    """Yield what is wrong with sources that can only be PDB ids."""
    from cryoetgan.structures.fetch import parse_pdb_id

    for row in classes:
        try:
            parse_pdb_id(row.source)
        except UserError as error:
            yield f"class {row.class_}: {error}; a file ends in .pdb, .ent, .cif (.gz), .mrc or .map"


def local(path: str) -> Path:
    """Return a path of a table with variables and ~ put in."""
    return Path(os.path.expandvars(path)).expanduser()


def _is_file(row: TomogramRow) -> bool:
    return not (row.is_simulated or row.is_remote)


def _headers(tomograms: Sequence[TomogramRow]) -> Iterator[str]:
    """Yield what keeps a tomogram's file from being imported, as far as its header tells."""
    import mrcfile

    for row in tomograms:
        path = local(row.path)
        if not _is_file(row) or not path.is_file():
            continue
        try:
            with mrcfile.open(path, header_only=True, permissive=True) as file:
                size = float(file.voxel_size.x)
        except (ValueError, OSError) as error:
            yield f"{path}: cannot be read as MRC ({error})"
            continue
        if not (size > 0 or row.voxel_size):
            yield f"{path}: its header gives no voxel size; fill in column voxel_size"


def _box(config: Config, classes: Sequence[ClassRow]) -> list[Row]:
    """Return whether the box fits the largest particle whose atoms are at hand."""
    largest, name = max(_diameters(config, classes), default=(0.0, ""))
    if not largest:
        return []
    voxel_size, box = config.densities.voxel_size, config.densities.box
    low, high = (4 * math.ceil(room * largest / voxel_size / 4) for room in ROOM)
    said = f"{name} measures {largest:.0f} angstrom"
    if box * voxel_size < largest:
        way = f"densities.box: {box} cuts it; set {low} or more"
        return [("box", "mind", f"{said}; {way}")]
    if box < low:
        return [("box", "mind", f"{said}; densities.box: {box} is narrow, {low} gives it room")]
    if box > high:
        share = (low / box) ** 3
        way = f"densities.box: {low} holds all and takes {100 * share:.0f} % of the time of {box}"
        return [("box", "mind", f"largest particle: {said}; {way}")]
    return [("box", "ok", f"{box} voxels; {said}")]


def _diameters(config: Config, classes: Sequence[ClassRow]) -> Iterator[tuple[float, str]]:
    """Yield twice the reach of each structure in a file, angstrom, and its class."""
    from importlib.util import find_spec

    import numpy as np

    if find_spec("gemmi") is None:
        return
    from cryoetgan.densities.atoms import read_atoms

    for row in classes:
        path = local(row.source)
        if row.kind != "file" or not path.is_file():
            continue
        chains = (row.chains or "").split(",") if row.chains else []
        try:
            atoms = read_atoms(
                path,
                row.assembly or config.densities.assembly,
                model=row.model or "auto",
                component=row.component or 0,
                chains=chains,
            )
        except UserError as error:
            raise UserError(f"class {row.class_}: {error}") from error
        reach = np.linalg.norm(atoms.centre().positions, axis=1).max()
        yield 2 * float(reach), row.class_

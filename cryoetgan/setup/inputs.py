"""Checks of the files that the two tables name, and of the box."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cryoetgan.config import Config
from cryoetgan.errors import UserError
from cryoetgan.io.mrc import read_header
from cryoetgan.tables import ClassRow, TomogramRow

BOX_OVER_PARTICLE = 1.3, 2.0
"""Recommended range of the box edge over the largest diameter.

A smaller box cuts particles; a larger one costs time.
"""


class Finding(NamedTuple):
    """The result of one check: its subject, its state (see `check.examine`), and details."""

    what: str
    state: str
    detail: str


def check_inputs(
    config: Config, classes: Sequence[ClassRow], tomograms: Sequence[TomogramRow]
) -> list[Finding]:
    """Check the input files, the downloads and the box."""
    paths = [row.source for row in classes if row.kind in ("file", "map")]
    paths += [row.path for row in tomograms if _is_file(row)]
    paths += [path for row in tomograms for path in (row.annotations, row.mask) if path]
    absent = [path for path in paths if not expand_path(path).exists()]
    problems = [f"{path}: no such file" for path in absent]
    from_pdb = [row for row in classes if row.kind == "pdb"]
    problems += [*_header_problems(tomograms), *_pdb_id_problems(from_pdb)]
    findings = [Finding("input", "missing", problem) for problem in problems]
    if paths and not absent:
        findings.append(Finding("inputs", "ok", f"all {len(paths)} files in the tables exist"))
    online = [f"PDB {row.source}" for row in from_pdb]
    online += [row.path for row in tomograms if row.is_remote]
    if online:
        findings.append(Finding("network", "ok", f"needed for {', '.join(online)}"))
    return findings + _check_box(config, classes)


def expand_path(path: str) -> Path:
    """Return a path of a table, with variables and ~ expanded."""
    return Path(os.path.expandvars(path)).expanduser()


def _is_file(row: TomogramRow) -> bool:
    return not (row.is_simulated or row.is_remote)


def _pdb_id_problems(classes: Sequence[ClassRow]) -> Iterator[str]:
    from cryoetgan.structures.fetch import parse_pdb_id

    for row in classes:
        try:
            parse_pdb_id(row.source)
        except UserError as error:
            yield f"class {row.class_}: {error}; a file ends in .pdb, .ent, .cif (.gz), .mrc or .map"


def _header_problems(tomograms: Sequence[TomogramRow]) -> Iterator[str]:
    """Yield the problems of the tomograms' headers that prevent the import."""
    for row in tomograms:
        path = expand_path(row.path)
        if not _is_file(row) or not path.is_file():
            continue
        try:
            if not (read_header(path).voxel_size > 0 or row.voxel_size):
                yield f"{path}: its header has no voxel size; fill in column voxel_size"
        except UserError as error:
            yield str(error)


def _check_box(config: Config, classes: Sequence[ClassRow]) -> list[Finding]:
    """Compare the box with the largest particle whose structure is a local file."""
    largest, name = max(_diameters(config, classes), default=(0.0, ""))
    if not largest:
        return []
    voxel_size, box = config.densities.voxel_size, config.densities.box
    low, high = (4 * math.ceil(ratio * largest / voxel_size / 4) for ratio in BOX_OVER_PARTICLE)
    diameter = f"{name} measures {largest:.0f} angstrom"
    if box * voxel_size < largest:
        advice = f"densities.box: {box} cuts it; set {low} or more"
    elif box < low:
        advice = f"densities.box: {box} is narrow; {low} is recommended"
    elif box > high:
        time = 100 * (low / box) ** 3
        advice = f"densities.box: {low} is large enough and takes {time:.0f} % of the time of {box}"
    else:
        return [Finding("box", "ok", f"{box} voxels; {diameter}")]
    return [Finding("box", "warning", f"largest particle: {diameter}; {advice}")]


def _diameters(config: Config, classes: Sequence[ClassRow]) -> Iterator[tuple[float, str]]:
    """Yield the diameter (angstrom) and class of each structure in a local file."""
    from importlib.util import find_spec

    import numpy as np

    if find_spec("gemmi") is None:
        return
    from cryoetgan.densities.atoms import read_atoms

    for row in classes:
        path = expand_path(row.source)
        if row.kind != "file" or not path.is_file():
            continue
        try:
            atoms = read_atoms(
                path,
                row.assembly or config.densities.assembly,
                model=row.model or "auto",
                component=row.component or 0,
                chains=(row.chains or "").split(",") if row.chains else [],
            )
        except UserError as error:
            raise UserError(f"class {row.class_}: {error}") from error
        radius = np.linalg.norm(atoms.centre().positions, axis=1).max()
        yield 2 * float(radius), row.class_

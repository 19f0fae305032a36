"""Checks of the files that the two tables name, and of the box."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cryoetgan.config import Config, load
from cryoetgan.errors import UserError, format_shape
from cryoetgan.io.mrc_header import VOXEL_SIZE_TOLERANCE, image_stack_signs, read_header
from cryoetgan.tables import ClassRow, Image, SubtomogramRow, TomogramRow, read_images
from cryoetgan.tomograms.same_specimen import find_alike_files, find_repeated
from cryoetgan.tomograms.sources.addresses import is_remote

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
    config: Config, classes: Sequence[ClassRow], images: Sequence[Image]
) -> list[Finding]:
    """Check the input files, the downloads and the box; `inspect_sets` checks the files of sets."""
    tomograms = [row for row in images if isinstance(row, TomogramRow)]
    paths = [row.source for row in classes if row.kind in ("file", "map")]
    paths += [row.path for row in tomograms if _is_file(row)]
    paths += [path for row in tomograms for path in (row.annotations, row.mask) if path]
    paths += [path for row in tomograms for path in row.halves.values() if not is_remote(path)]
    absent = [path for path in paths if not expand_path(path).exists()]
    problems = [f"{path}: no such file" for path in absent]
    from_pdb = [row for row in classes if row.kind == "pdb"]
    warnings: list[str] = []
    problems += [*_header_problems(tomograms, warnings), *_pdb_id_problems(from_pdb)]
    problems += _half_problems(tomograms)
    problems += [*specimen_problems(images, expand_path, warnings)]
    problems += [*annotation_problems(images, expand_path), *run_problems(config)]
    warnings += _same_particles(classes)
    findings = [Finding("input", "missing", problem) for problem in problems]
    findings += [Finding("input", "warning", warning) for warning in warnings]
    if paths and not absent:
        findings.append(Finding("inputs", "ok", f"all {len(paths)} files in the tables exist"))
    online = [f"PDB {row.source}" for row in from_pdb]
    online += [row.path for row in tomograms if row.is_remote]
    if online:
        findings.append(Finding("network", "ok", f"needed for {', '.join(online)}"))
    return findings + _check_box(config, classes)


def _same_particles(classes: Sequence[ClassRow]) -> Iterator[str]:
    """Yield a warning for each two classes that are made from the same atoms."""
    seen: dict[object, str] = {}
    for row in classes:
        atoms = row.model_dump(exclude={"class_", "radius", "count", "copies"})
        first = seen.setdefault(tuple(sorted(atoms.items(), key=str)), row.class_)
        if first != row.class_:
            yield (
                f"classes {first} and {row.class_} have one source, {row.source}, so nothing tells "
                "their particles apart; correct the source, or remove a row"
            )


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


def _header_problems(tomograms: Sequence[TomogramRow], warnings: list[str]) -> Iterator[str]:
    """Yield the problems of the tomograms' headers that prevent the import; add warnings."""
    from cryoetgan.tomograms.importing.convert import check_header_voxel_size

    for row in tomograms:
        path = expand_path(row.path)
        if not _is_file(row) or not path.is_file():
            continue
        try:
            header = read_header(path)
            size = row.voxel_size or check_header_voxel_size(header.voxel_size, path)
        except UserError as error:
            yield str(error)
            continue
        if header.voxel_size > 0 and header.voxel_size != 1:
            ratio = size / header.voxel_size
            if abs(ratio - 1) > VOXEL_SIZE_TOLERANCE:
                warnings.append(
                    f"{path}: column voxel_size is {size:g} A, its header says "
                    f"{header.voxel_size:.6g}; the table is used"
                )
        signs = image_stack_signs(header, path, row.voxel_size)
        if len(signs) > 1:
            yield f"{path}: is a tilt series or an image stack, not a tomogram: {signs[0]}"
        elif signs:
            warnings.append(f"{path}: may be a tilt series, not a tomogram: {signs[0]}")


def _half_problems(tomograms: Sequence[TomogramRow]) -> Iterator[str]:
    """Yield the half tomograms that are not on the grid of their tomogram's file."""
    for row in tomograms:
        for half, name in row.halves.items():
            paths = expand_path(row.path), expand_path(name)
            if not all(path.is_file() for path in paths):
                continue
            try:
                whole, part = map(read_header, paths)
            except UserError as error:
                yield str(error)
                continue
            if whole.shape != part.shape:
                yield (
                    f"{name}: has {format_shape(part.shape)} voxels (x, y, z), but its tomogram "
                    f"{row.path} {format_shape(whole.shape)}; column {half} names the half tomogram "
                    "of the same reconstruction"
                )


Find = Callable[[str], Path | str]
"""Function that returns the path of a file that a table names."""


def specimen_problems(
    images: Sequence[Image], find: Find, warnings: list[str] | None = None
) -> Iterator[str]:
    """Yield the pairs of tomograms that show the same specimen on both sides of a split.

    If all tomograms have one split, each is split into blocks, so every pair is a problem. Other
    pairs are added to `warnings`. Sets of subtomograms are compared by content only: two halves of
    a set hold different particles.
    """
    rows = {row.tomogram: row for row in images if not row.is_simulated}
    paths = {n: row.path if row.is_remote else str(find(row.path)) for n, row in rows.items()}
    by_blocks = len({row.split or "train" for row in images}) == 1
    sets = {name: path for name, path in paths.items() if rows[name].is_set}
    tomograms = {name: path for name, path in paths.items() if name not in sets}
    repeated = [*find_repeated(tomograms), *find_repeated(sets, by_name=False)]
    for first, second, reason in repeated:
        splits = [rows[name].split or "train" for name in (first, second)]
        both = f"tomograms {first} and {second} {reason} ({paths[first]}, {paths[second]})"
        if by_blocks or splits[0] != splits[1]:
            where = "its blocks" if by_blocks else f"splits {splits[0]} and {splits[1]}"
            yield (
                f"{both}, so that one specimen is for training and test (in {where}). Remove one row"
                + ("" if by_blocks else ", or give both the same split")
            )
        elif warnings is not None:
            warnings.append(f"{both}; it counts twice, so remove one row")
    if warnings is None:
        return
    known = {pair[:2] for pair in repeated}
    files = {name: Path(path) for name, path in tomograms.items() if Path(path).is_file()}
    for first, second, reason in find_alike_files(files):
        if (first, second) not in known:
            warnings.append(
                f"tomograms {first} and {second} {reason}: if they show the same specimen, remove one row"
            )


def annotation_problems(tomograms: Sequence[Image], find: Find) -> Iterator[str]:
    """Yield the annotations of several tomograms that do not name the tomogram of a particle."""
    users: dict[str, list[str]] = {}
    for row in tomograms:
        if row.annotations and Path(find(row.annotations)).exists():
            users.setdefault(os.path.realpath(find(row.annotations)), []).append(row.tomogram)
    for path, names in users.items():
        if len(names) < 2:
            continue
        from cryoetgan.particles.importers import names_tomograms  # slow: scipy

        try:
            if not names_tomograms(Path(path)):
                yield (
                    f"{path}: is the annotations of {', '.join(names)}, but does not say which "
                    "particle belongs to which; add a column rlnTomoName (STAR) or tomo (CSV)"
                )
        except UserError as error:
            yield str(error)


def run_problems(config: Config, find: Find = Path) -> Iterator[str]:
    """Yield a message if the results of this run's name come from other tomograms.

    Two folders of the same name give two runs of the same name, and one would overwrite the other.
    """
    results = Path(f"results/{config.run}")
    try:
        before = load(results / "config.yaml") if (results / "config.yaml").is_file() else config
        tables = [
            [Path(find(name)) if name else None for name in (c.tomograms.table, c.particles.table)]
            for c in (before, config)
        ]
        if tables[0] == tables[1]:
            return
        rows = [{(row.tomogram, row.path) for row in read_images(*pair)} for pair in tables]
    except UserError:
        return  # the results or a table are damaged or gone: other checks say so
    if rows[0] and rows[1] and not rows[0] & rows[1]:
        old, new = (", ".join(str(table) for table in pair if table) for pair in tables)
        yield (
            f"{results}: holds the results of the tomograms in {old}, and this run would overwrite "
            f"them with results of {new}. Set another `run`, or delete the folder"
        )


def inspect_sets(
    config: Config, sets: Sequence[SubtomogramRow]
) -> tuple[list[str], dict[str, int]]:
    """Return the problems of sets of subtomograms, and the voxels of each set's boxes after import.

    Problems are absent or damaged files, and boxes that are too small.
    """
    from cryoetgan.particles.subtomograms.box_files import open_box_file
    from cryoetgan.particles.subtomograms.import_boxes import box_edge, choose_voxel_size
    from cryoetgan.particles.subtomograms.listings import FILE, list_boxes, name_classes
    from cryoetgan.physics.coordinates import ImportTransform, resampling_step

    size, box = config.densities.voxel_size, config.densities.box
    problems, voxels = [], {}
    for row in sets:
        try:
            listing = list_boxes(expand_path(row.path))
            name_classes(listing.table, row.classes)
            first = open_box_file(listing.table[FILE].iloc[0])
            given = choose_voxel_size(listing, first, row.voxel_size, size)
        except UserError as error:
            problems.append(f"subtomograms {row.name}: {error}")
            continue
        shape = first.boxes.shape[1:]
        edge = box_edge(ImportTransform(shape, given, resampling_step(size, given)))
        voxels[row.name] = len(listing.table) * edge**3
        if edge < box:
            problems.append(
                f"subtomograms {row.name}: boxes of {shape[0]} voxels of {given:.4g} A have {edge} "
                f"at {size:g} A, fewer than densities.box: {box}; set {edge // 4 * 4} or less, "
                "or extract larger boxes"
            )
    return problems, voxels


def refuse_unsafe_tables(config: Config, images: Sequence[Image], find: Find) -> None:
    """Raise `UserError` if a run would mix specimens, annotations, or the results of two runs."""
    problems = [
        *specimen_problems(images, find),
        *annotation_problems(images, find),
        *run_problems(config, find),
    ]
    if problems:
        raise UserError("; ".join(problems))


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
    from cryoetgan.densities.atoms import Part, read_atoms

    for row in classes:
        path = expand_path(row.source)
        if row.kind != "file" or not path.is_file():
            continue
        try:
            atoms = read_atoms(
                path,
                row.assembly or config.densities.assembly,
                part=Part(
                    row.model or "auto",
                    row.component or 0,
                    row.chains.split(",") if row.chains else [],
                    row.min_confidence or 0.0,
                ),
            )
        except UserError as error:
            raise UserError(f"class {row.class_}: {error}") from error
        radius = np.linalg.norm(atoms.centre().positions, axis=1).max()
        yield 2 * float(radius), row.class_

"""A scene in the layout of the CryoET Data Portal: a volume, points and masks of annotations.

    Reconstructions/VoxelSpacing10.000/Tomograms/100/RUN.mrc (or RUN.zarr)
    Reconstructions/VoxelSpacing10.000/Annotations/101/ribosome-1.0.json
    Reconstructions/VoxelSpacing10.000/Annotations/101/ribosome-1.0_orientedpoint.ndjson

A copick project that we exported has the same metadata in `portal/`. Files that were downloaded one
by one, into one folder, are known by their names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoetgan.errors import UserError, format_shape, shown
from cryoetgan.io.files import read_json
from cryoetgan.io.memmap import iterate_sections, scratch_array
from cryoetgan.io.mrc import Volume, read_volume
from cryoetgan.io.point_files import Points, read_copick_points, read_portal_points
from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.physics.geometry import relion_from_rotation
from cryoetgan.progress import log
from cryoetgan.tomograms.sources.motif_list import valid_name
from cryoetgan.tomograms.sources.scene_volumes import ForeignScene
from cryoetgan.tomograms.sources.zarr_volume import read_zarr

POINTS = ("OrientedPoint", "Point", "InstanceSegmentation")
"""Shapes of annotations in files of points, the best first."""
MASK, INSTANCE_MASK = "SegmentationMask", "InstanceSegmentationMask"
SHAPES = {shape.lower(): shape for shape in (*POINTS, MASK, INSTANCE_MASK)}
FILE_NAME = re.compile(
    rf"(?:\d+-)?(.+?)(?:-\d[\d._]*)?_({'|'.join(SHAPES)})\.(ndjson|mrc|zarr)", re.IGNORECASE
)
"""Object, version and shape in the name of a file of an annotation."""
LAYOUTS = (
    "Annotations", "*/Annotations", "Reconstructions/*/Annotations", "Tomograms/*/Annotations",
    "*/Reconstructions/*/Annotations", "portal/*/Reconstructions/*/Annotations",
)  # fmt: skip
"""Folders of annotations below the one that a user names."""
VOLUMES = ("Tomograms/*", "Tomograms/*/*", "CanonicalTomogram/*")
"""Volumes beside a folder of annotations."""


@dataclass
class Annotation:
    """The files of one object."""

    name: str
    source: Path
    is_truth: bool = False
    files: dict[str, tuple[Path, int | None]] = field(default_factory=dict)
    """Shape to file, and the label in a mask of several objects (None: all that is not 0)."""


@dataclass(frozen=True)
class PortalFiles:
    """A volume and its annotations."""

    density: Path
    folder: Path
    annotations: Sequence[Annotation]


def portal_object(path: Path) -> str:
    """Return the class in the name of an annotation's file.

    Examples
    --------
    >>> portal_object(Path("101-cytosolic_ribosome-1.0_orientedpoint.ndjson"))
    'cytosolic_ribosome'
    """
    named = FILE_NAME.fullmatch(path.name)
    return valid_name(named[1] if named else path.stem)


def find_portal_files(source: Path) -> PortalFiles | None:
    """Return the files of a folder or density in the data portal's layout; None if it has another."""
    is_density = source.suffix == ".zarr" or not source.is_dir()
    if is_density:
        folders = [parent / "Annotations" for parent in list(source.resolve().parents)[:3]]
        folders = [folder for folder in folders if folder.is_dir()][:1] or [source.parent]
    else:
        folders = [one for layout in LAYOUTS for one in sorted(source.glob(layout))] or [source]
    root = _root(source.resolve() if not is_density else folders[0].resolve())
    filled = {folder: found for folder in folders if (found := _annotations(folder, root))}
    if not filled:
        return None
    if len(filled) > 1:
        listed = ", ".join(str(folder.parent) for folder in list(filled)[:4])
        raise UserError(f"{source}: has annotations of several volumes; name one folder: {listed}")
    folder, annotations = next(iter(filled.items()))
    density = source if is_density else _density(source, folder, root)
    return PortalFiles(density, folder, _choose(annotations, folder))


def _root(folder: Path) -> Path:
    """Return the folder whose files metadata may name: the volume's, or the copick project."""
    if folder.name == "Annotations":
        folder = folder.parent
    within = [folder, *folder.parents]
    projects = [one.parent for one in within if one.name == "portal"]
    return next((one for one in projects if (one / "ExperimentRuns").is_dir()), folder)


def _read_metadata(path: Path, key: str) -> dict[str, Any] | None:
    """Return the content of a JSON file; None if it has not the key, or is another file."""
    if not path.is_file():
        return None
    try:
        content = read_json(path)
    except UserError:
        if key.encode() in path.read_bytes():
            raise
        return None
    return content if isinstance(content, dict) and key in content else None


def _annotations(folder: Path, root: Path) -> list[Annotation]:
    """Return the annotations of a folder: those with metadata, and files with names of their own."""
    found, used = [], set()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        if (content := _read_metadata(path, "annotation_object")) is None:
            continue
        try:
            name = valid_name(content["annotation_object"]["name"])
            one = Annotation(name, path, bool(content.get("ground_truth_status")))
            for entry in content.get("files") or []:
                file = _resolve(path, str(entry["path"]), root)
                used.add(file)
                shape = SHAPES.get(str(entry["shape"]).lower())
                if file and shape and (shape not in one.files or file.suffix == ".mrc"):
                    one.files[shape] = file, _mask_label(entry, path) if "Mask" in shape else None
        except (LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: is not metadata of an annotation ({error!r})") from error
        if one.files:
            found.append(one)
        else:
            log.warning("%s: its files of points and masks are not in %s; left out", path, root)
    for path in sorted([*folder.glob("*_*.*"), *folder.glob("*/*_*.*")]):
        named = FILE_NAME.fullmatch(path.name)
        if named and path not in used and _is_data(path):
            one = Annotation(valid_name(named[1]), path)
            one.files[SHAPES[named[2].lower()]] = path, None
            found.append(one)
    return found


def _mask_label(entry: dict[str, Any], path: Path) -> int | None:
    """Return the label of an object in its mask, None if there is none; refuse other values."""
    label = entry.get("mask_label")
    if label is None:
        return None
    if isinstance(label, bool) or not isinstance(label, int) or label < 1:
        raise UserError(
            f"{path}: mask_label is {shown(label)}, wanted a whole number of 1 or more; correct it, "
            "or remove the key if all voxels of the mask are of one object"
        )
    return label


def _resolve(metadata: Path, path: str, root: Path) -> Path | None:
    """Return a file that metadata names by its path in the archive or project, if it is here.

    Metadata may come from anywhere, so only files and zarr folders below `root` are taken.
    """
    named = Path(path)
    if named.is_absolute() or ".." in named.parts or "\0" in path:
        raise UserError(
            f"{metadata}: names the file {shown(path)}, wanted a path below {root} without '..'; "
            "copy the file there and correct its path"
        )
    for place in (metadata.parent / named.name, *(p / named for p in metadata.absolute().parents)):
        try:
            real = place.resolve()
            if not real.is_relative_to(root):
                continue
            if _is_data(place):
                return place
        except (OSError, RuntimeError):  # a name that is too long, links in a circle
            continue
    return None


def _is_data(path: Path) -> bool:
    """Return whether a path is a file, not a device or pipe, or a zarr folder."""
    return path.is_file() or (path.suffix == ".zarr" and path.is_dir())


def _choose(annotations: Sequence[Annotation], folder: Path) -> list[Annotation]:
    """Return one annotation of each object: the truth, if there are several of one shape."""
    chosen = []
    for name in sorted({one.name for one in annotations}):
        own = [one for one in annotations if one.name == name]
        own = [one for one in own if one.is_truth] or own
        merged = Annotation(name, own[0].source, own[0].is_truth)
        for one in own:
            for shape, file in one.files.items():
                other = merged.files.setdefault(shape, file)
                if other[0].suffix != file[0].suffix and other[0].stem == file[0].stem:
                    continue  # a mask as MRC and as zarr
                if other != file:
                    raise UserError(
                        f"{folder}: has several annotations of {name} ({other[0].name}, "
                        f"{file[0].name}); leave one in the folder"
                    )
        chosen.append(merged)
    return chosen


def _density(source: Path, folder: Path, root: Path) -> Path:
    """Return the only volume beside annotations, MRC or zarr."""
    patterns = ["*"] if folder == source else VOLUMES
    base = folder if folder == source else folder.parent
    found = [path for pattern in patterns for path in sorted(base.glob(pattern))]
    found = [p for p in found if p.suffix in (".mrc", ".zarr") and not FILE_NAME.fullmatch(p.name)]
    for path in [] if found else sorted(base.glob("Tomograms/**/tomogram_metadata.json")):
        for key in ("mrc_file", "omezarr_dir"):
            one = (_read_metadata(path, key) or {}).get(key)
            file = _resolve(path, str(one), root) if one else None
            found += [file] if file else []
    by_stem = {
        path.with_suffix(""): path for path in sorted(found, key=lambda p: p.suffix != ".zarr")
    }
    if len(by_stem) != 1:
        listed = ", ".join(path.name for path in by_stem.values()) or "no volume (.mrc, .zarr)"
        raise UserError(f"{source}: has {listed}; name the file of one volume")
    return next(iter(by_stem.values()))


def read_portal_scene(files: PortalFiles, scratch: Path | None) -> ForeignScene:
    """Return the scene of a volume and its annotations; labels are numbered by the name.

    Points are particles, at voxels from 0; points that share an `instance_id` belong to one object,
    whose mask is not split, and are left out. Masks and zarr are copied to files in `scratch`.
    """
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    volume = _read_grid(files.density, scratch)
    shape = volume.data.shape
    labels = scratch_array(scratch, np.int16, shape)
    instances: NDArray[Any] | None = None
    names, tables, overlap = {}, [], 0
    for number, one in enumerate(files.annotations, start=1):
        names[number] = one.name
        for kind in (MASK, INSTANCE_MASK):
            if kind not in one.files:
                continue
            path, label = one.files[kind]
            if kind == INSTANCE_MASK and instances is None:
                instances = scratch_array(scratch, np.uint32, shape)
            ids = instances if kind == INSTANCE_MASK else None
            overlap += _add_mask(labels, ids, (path, label), number, shape, scratch)
        tables.append(_rows(one, volume.voxel_size))
    if overlap:
        log.warning("%s: masks share %d voxels, which the last has", files.folder, overlap)
    rows = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    if ANGLES[0] in rows and rows[ANGLES].isna().all(axis=None):
        rows = rows.drop(columns=ANGLES)
    parts = {one.name for one in files.annotations if set(one.files) == {MASK}}
    read = [path for one in files.annotations for path, _ in one.files.values()]
    return ForeignScene(
        files.density, volume, files.folder, labels, names, rows, "CryoET Data Portal",
        instances=instances, files=[files.density, *read], parts=parts,
    )  # fmt: skip


def _read_grid(path: Path, scratch: Path | None) -> Volume:
    return read_zarr(path, scratch) if path.suffix == ".zarr" else read_volume(path)


def _add_mask(
    labels: NDArray[np.int16],
    instances: NDArray[Any] | None,
    file: tuple[Path, int | None],
    number: int,
    shape: tuple[int, ...],
    scratch: Path | None,
) -> int:
    """Add a mask to the labels, and its numbers to the instances; return the voxels of others.

    A file with two channels has labels and instances (copick's panoptic segmentations).
    """
    path, label = file
    mask = _read_grid(path, scratch).data
    if mask.shape != shape:
        raise UserError(
            f"{path}: has {format_shape(mask.shape)} voxels (x, y, z), the volume "
            f"{format_shape(shape)}; masks must cover it"
        )
    ids: NDArray[Any] = mask
    if instances is not None and label is not None:
        ids = read_zarr(path, scratch, channel=1).data
    overlap = 0
    for z, (section, values) in enumerate(
        zip(iterate_sections(labels), iterate_sections(mask), strict=True)
    ):
        inside = values == label if label is not None else values > 0
        overlap += int(((section != 0) & (section != number) & inside).sum())
        section[inside] = number
        if instances is not None:
            instances[z][inside] = ids[z][inside]
    return overlap


def _rows(one: Annotation, voxel_size: float) -> pd.DataFrame:
    """Return the rows of the points of an object: coordinates in voxels, angles if known."""
    shape = next((shape for shape in POINTS if shape in one.files), None)
    if shape is None:
        return pd.DataFrame(columns=[*COORDINATES, "cryoetganClass"])
    path, _ = one.files[shape]
    points = read_portal_points(path) if path.suffix == ".ndjson" else _copick(path, voxel_size)
    numbers = np.unique(points.instances if points.instances is not None else [])
    if shape == "InstanceSegmentation" and 0 < len(numbers) < len(points.places):
        log.info(
            "%s: its %d points lie on %d objects, so they are not particles; left out",
            path, len(points.places), len(numbers),
        )  # fmt: skip
        return pd.DataFrame(columns=[*COORDINATES, "cryoetganClass"])
    table = pd.DataFrame(points.places, columns=COORDINATES).assign(cryoetganClass=one.name)
    table[ANGLES] = np.nan
    if shape == "OrientedPoint" and points.rotations is not None and len(table):
        table[ANGLES] = relion_from_rotation(points.rotations)
    return table


def _copick(path: Path, voxel_size: float) -> Points:
    points = read_copick_points(path)
    return Points(points.places / voxel_size, points.rotations)

"""Import a density scene of another simulator: its scale, labels, instances and truth."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError, format_shape
from cryoetgan.io.files import INSTANCES, LABELS
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.mrc import open_volume, read_map, read_volume
from cryoetgan.io.scene import beside
from cryoetgan.io.star import ANGLES, COORDINATES, class_name, particle_id, write_star
from cryoetgan.physics.acquisition import optics_row
from cryoetgan.physics.geometry import clip_box, rotate_volume, rotation_from_relion
from cryoetgan.progress import log, track
from cryoetgan.tomograms.importing.no_data import NearestSections
from cryoetgan.tomograms.importing.resample import resample_into, resampled_shape
from cryoetgan.tomograms.simulation.contents import INSTANCE_NOTE
from cryoetgan.tomograms.simulation.packing import MASK_LEVEL
from cryoetgan.tomograms.sources.foreign_scene import ForeignScene

Floats = NDArray[np.floating]
MIN_COMPONENT = 8
"""Voxels of the smallest particle that is found as a component of a label."""
COMPARED = 30
"""Particles of a class that are compared with its map."""
MIN_LIKENESS = 0.9
"""Median correlation of a map with its particles below which a warning is logged."""
NO_PARTICLES = re.compile(
    r"(membrane|vesicle|bead|gold|carbon|grid|ice|contamination)s?(?![a-z])", re.IGNORECASE
)
"""First words of names of labels whose components do not count as particles."""


@dataclass(frozen=True)
class Match:
    """The map of a class beside its particles in the scene."""

    scale: float
    """Density of the map over the density of the scene."""
    likeness: float
    """Median correlation, on the voxels of the map's mask."""


def write_foreign_scene(
    output: Path, scene: ForeignScene, voxel_size: float, maps: Mapping[str, Path], scale: float
) -> dict[str, Any]:
    """Write `SCENE.mrc`, its labels, instances and truth; return entries of its record.

    Volumes are resampled to `voxel_size` (angstrom), labels to the nearest voxel. The density is
    multiplied by `scale` times the median scale of the classes that have a map.
    """
    density, labels = read_volume(scene.density), read_volume(scene.labels)
    if labels.data.shape != density.data.shape:
        raise UserError(
            f"{scene.labels}: has {format_shape(labels.data.shape)} voxels (x, y, z), "
            f"{scene.density} {format_shape(density.data.shape)}; labels must cover the density"
        )
    step = voxel_size / density.voxel_size
    if abs(step - 1) < 1e-3:
        step = 1.0
    shape = resampled_shape(density.data.shape, step)
    # everything is checked before a file is written
    names = _check_names(scene, labels.data)
    matches = _match_maps(density.data, scene.rows, step, maps, voxel_size)
    output.parent.mkdir(parents=True, exist_ok=True)
    note = [f"labels: see {output.name}.json"]
    with open_volume(beside(output, LABELS), shape, voxel_size, np.int16, note) as out:
        nearest = NearestSections(labels.data, shape, step)
        for section, values in zip(iterate_sections(out), nearest, strict=True):
            section[:] = values
    written = read_volume(beside(output, LABELS)).data
    with open_volume(
        beside(output, INSTANCES), shape, voxel_size, np.float32, INSTANCE_NOTE
    ) as instances:
        if scene.rows is None:
            rows = _components(written, names, instances)
        else:
            rows = _rows_inside(scene.rows, density.data.shape, scene.density)
            rows[COORDINATES] /= step
            rest = {} if scene.complete else _without_rows(names, rows)
            listed = {label: name for label, name in names.items() if label not in rest}
            _number_by_rows(written, listed, rows, instances)
            found = _components(written, rest, instances, len(rows) + len(listed))
            rows = pd.concat([rows, found], ignore_index=True) if len(found) else rows
    factor = scale * float(np.median([match.scale for match in matches.values()] or [1.0]))
    with open_volume(output, shape, voxel_size, np.float32, ["density scene"]) as out:
        if step == 1:
            pairs = zip(iterate_sections(out), iterate_sections(density.data), strict=True)
            for section, values in track(pairs, "scaling", len(out)):
                section[:] = np.asarray(values, np.float32) * factor
        else:
            resample_into(out, density.data, step, factor=factor)
    _write_truth(output, rows, voxel_size)
    counts = rows["cryoetganClass"].value_counts().to_dict()
    log.info("%s: %d particles of %d classes (%s)", output, len(rows), len(counts), scene.program)
    return {
        "labels": {str(number): name for number, name in names.items()},
        "program": scene.program,
        "density_scale": factor,
        "maps": {name: vars(match) for name, match in matches.items()},
    }


def _check_names(scene: ForeignScene, labels: NDArray[Any]) -> dict[int, str]:
    """Return the name of each label in the volume; labels without a name are an error."""
    values = {float(value) for section in labels for value in np.unique(section)}
    if odd := sorted(value for value in values if not value.is_integer()):
        raise UserError(
            f"{scene.labels}: holds the value {odd[0]:g} ({len(odd)} such values), wanted whole numbers: "
            "labels must not be interpolated or filtered"
        )
    present = {int(value) for value in values} - {0}
    unnamed = sorted(present - set(scene.names))
    if unnamed:
        raise UserError(
            f"{scene.labels}: label {', '.join(map(str, unnamed[:8]))} has no name; give "
            f"--label NAME={unnamed[0]} for each"
        )
    return {number: scene.names[number] for number in sorted(present)}


def _rows_inside(rows: pd.DataFrame, shape: tuple[int, ...], path: Path) -> pd.DataFrame:
    """Return the rows inside a volume `(z, y, x)`; others are logged: their list has errors.

    Places of PolNet can lie 0.9 voxels off.
    """
    places = rows[COORDINATES].to_numpy(float)
    inside = ((places > -1.4) & (places < np.array(shape[::-1]) + 0.4)).all(axis=1)
    for name, outside in rows[~inside].groupby("cryoetganClass"):
        log.warning(
            "%s: %d of %d listed places of %s lie outside the volume and are left out; the others may be wrong, "
            "too. Without the list, connected parts of the label become the particles",
            path, len(outside), (rows["cryoetganClass"] == name).sum(), name,
        )  # fmt: skip
    return rows[inside].reset_index(drop=True)


def _without_rows(names: Mapping[int, str], rows: pd.DataFrame) -> dict[int, str]:
    """Return the labels of particles without a row."""
    listed = set(rows["cryoetganClass"])
    return {
        label: name
        for label, name in names.items()
        if name not in listed and not NO_PARTICLES.match(name)
    }


def _components(
    labels: NDArray[Any], names: Mapping[int, str], instances: Floats, number: int = 0
) -> pd.DataFrame:
    """Number the connected components of each label; return a row for each particle.

    `number` is the last one that is taken.
    """
    rows: list[dict[str, Any]] = []
    for label, name in names.items():
        found, count = ndimage.label(labels == label, np.ones((3, 3, 3)))
        sums = np.zeros((4, count + 1))
        for z, section in enumerate(found):
            y, x = np.nonzero(section)
            for total, weights in zip(
                sums, (np.ones(len(y)), x, y, np.full(len(y), z)), strict=True
            ):
                total += np.bincount(section[y, x], weights, count + 1)
        kept = np.flatnonzero(sums[0] >= MIN_COMPONENT)
        new = np.zeros(count + 1, np.float32)
        new[kept] = number + 1 + np.arange(len(kept))
        for out, section in zip(instances, found, strict=True):
            out += new[section]
        if not NO_PARTICLES.match(name):
            for centre, index in zip((sums[1:, kept] / sums[0, kept]).T, new[kept], strict=True):
                row = dict(zip(COORDINATES, centre, strict=True))
                rows.append(row | {"cryoetganClass": name, "cryoetganInstance": int(index)})
        number += len(kept)
    return pd.DataFrame(rows, columns=[*COORDINATES, "cryoetganClass", "cryoetganInstance"])


def _number_by_rows(
    labels: NDArray[Any], names: Mapping[int, str], rows: pd.DataFrame, instances: Floats
) -> None:
    """Give each voxel of a label the number of the nearest row of its class, in place.

    All voxels of a label without rows, a membrane, have one number.
    """
    rows["cryoetganInstance"] = np.arange(1, len(rows) + 1)
    extra = len(rows)
    trees: dict[int, tuple[cKDTree | None, NDArray[np.int_]]] = {}
    for label, name in names.items():
        own = rows[rows["cryoetganClass"] == name]
        if len(own):
            numbers = own["cryoetganInstance"].to_numpy(int)
            trees[label] = cKDTree(own[COORDINATES].to_numpy(float)), numbers
        else:
            extra += 1
            trees[label] = None, np.array([extra])
    for z, (section, values) in enumerate(zip(instances, labels, strict=True)):
        for label in np.unique(values):
            if int(label) not in trees:
                continue
            tree, numbers = trees[int(label)]
            y, x = np.nonzero(values == label)
            nearest = 0 if tree is None else tree.query(np.column_stack([x, y, y * 0 + z]))[1]
            section[y, x] = numbers[nearest]


def _match_maps(
    density: NDArray[Any],
    rows: pd.DataFrame | None,
    step: float,
    maps: Mapping[str, Path],
    voxel_size: float,
) -> dict[str, Match]:
    """Return the scale and likeness of each class that has a map and poses.

    `density` and `rows` are on the simulator's grid, of `step` times smaller voxels than
    `voxel_size`. The
    scale is the slope of the map on the scene, on the voxels of the map's mask.
    """
    matches = {}
    for name, path in maps.items():
        volume = read_map(path)
        if abs(volume.voxel_size * step - voxel_size) > 1e-3 * voxel_size:
            raise UserError(
                f"{path}: has voxels of {volume.voxel_size:g} A, the scene {voxel_size / step:g} "
                "A; make the map with the scene's voxel size"
            )
        own = pd.DataFrame() if rows is None else rows[rows["cryoetganClass"] == name]
        if not set(ANGLES) <= set(own) or not own[ANGLES].notna().all(axis=1).any():
            log.warning("%s: no particle of class %s has angles; the map is not used", path, name)
            continue
        own = own[own[ANGLES].notna().all(axis=1)].head(COMPARED)
        found = _compare(density, volume.data, own)
        if not len(found):
            log.warning("%s: all particles of class %s lie at faces", path, name)
            continue
        matches[name] = Match(float(np.median(found[:, 0])), float(np.median(found[:, 1])))
        said = log.warning if matches[name].likeness < MIN_LIKENESS else log.info
        said(
            "%s: correlates %.3f with its particles; it is %.4g times as dense",
            path, matches[name].likeness, matches[name].scale,
        )  # fmt: skip
    return matches


def _compare(density: NDArray[Any], data: Floats, rows: pd.DataFrame) -> Floats:
    """Return `(N, 2)` slope and correlation of a rotated map and the scene, for whole particles."""
    coefficients = ndimage.spline_filter(np.asarray(data, np.float64))
    found = []
    rotations: Rotation = rotation_from_relion(rows[ANGLES].to_numpy(float))
    for place, rotation in zip(rows[COORDINATES].to_numpy(float), rotations, strict=True):
        whole = np.rint(place).astype(int)
        rotated = rotate_volume(coefficients, rotation, place - whole, prefilter=False)
        in_scene, in_box = clip_box(
            whole[::-1] - np.array(data.shape) // 2, data.shape, density.shape
        )
        mask = rotated > MASK_LEVEL * data.max()
        if not mask.any() or mask.sum() != mask[in_box].sum():
            continue
        expected, seen = (
            rotated[in_box][mask[in_box]],
            np.asarray(density[in_scene], float)[mask[in_box]],
        )
        if seen.std() > 0:
            slope = float((expected * seen).sum() / (seen**2).sum())
            found.append((slope, float(np.corrcoef(expected, seen)[0, 1])))
    return np.array(found).reshape(-1, 2)


def _write_truth(output: Path, rows: pd.DataFrame, voxel_size: float) -> None:
    """Write `SCENE.star`."""
    name = class_name(output)
    places = rows[COORDINATES].to_numpy(float)
    rows = rows.assign(
        rlnTomoName=name,
        cryoetganSource="density",
        cryoetganId=[particle_id(name, *place) for place in places],
        rlnOpticsGroup=1,
    )
    optics = pd.DataFrame([optics_row(None, 1, name)])
    write_star(output.with_suffix(".star"), rows, optics, voxel_size)

"""Import a density scene of another simulator: its scale, labels, instances and truth."""

from collections import Counter
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.errors import UserError
from cryoetgan.io.files import INSTANCES, LABELS
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.mrc import open_volume, read_volume
from cryoetgan.io.scene import beside
from cryoetgan.io.star import COORDINATES, class_name, particle_id, write_star
from cryoetgan.physics.acquisition import optics_row
from cryoetgan.progress import log, track
from cryoetgan.tomograms.importing.class_maps import (
    label_points,
    match_means,
    match_poses,
    read_class_maps,
    standard_errors,
)
from cryoetgan.tomograms.importing.no_data import NearestSections
from cryoetgan.tomograms.importing.objects import (
    COLUMNS,
    NO_PARTICLES,
    find_numbers,
    number_by_rows,
    number_components,
    number_given,
    settle_rows,
)
from cryoetgan.tomograms.importing.resample import resample_into, resampled_shape
from cryoetgan.tomograms.importing.touching import MIN_COMPONENT, MaskShape, map_shape
from cryoetgan.tomograms.simulation.contents import INSTANCE_NOTE
from cryoetgan.tomograms.sources.scene_volumes import ForeignScene

Floats = NDArray[np.floating]
SAMPLED_SECTIONS = 64
"""Sections of a density in which the means of its labels are taken."""


def write_foreign_scene(
    output: Path, scene: ForeignScene, voxel_size: float, maps: Mapping[str, Path], scale: float
) -> dict[str, Any]:
    """Write `SCENE.mrc`, its labels, instances and truth; return entries of its record.

    Volumes are resampled to `voxel_size` (angstrom), labels to the nearest voxel. The density is
    multiplied by `scale` times the median scale of the classes that have a map, and inverted if
    its labels are darker than the rest, by more than 3 standard errors.
    """
    density = scene.volume
    step = voxel_size / density.voxel_size
    if abs(step - 1) < 1e-3:
        step = 1.0
    shape = resampled_shape(density.data.shape, step)
    # everything is checked before a file is written
    densities = read_class_maps(maps, step, voxel_size)
    shapes = {name: map_shape(map_, name).scaled(step**-3) for name, map_ in densities.items()}
    label_points(scene, densities)
    names = _check_names(scene)
    means = _label_means(density.data, scene.label_data, names)
    means["particles"] = _count_particles(means, scene, names)
    sign = _check_contrast(means, scene)
    matches = match_poses(density.data, scene, densities, sign)
    matches |= match_means(means, names, densities, matches, sign)
    output.parent.mkdir(parents=True, exist_ok=True)
    note = [f"labels: see {output.name}.json"]
    with open_volume(beside(output, LABELS), shape, voxel_size, np.int16, note) as out:
        nearest = NearestSections(scene.label_data, shape, step)
        for section, values in zip(iterate_sections(out), nearest, strict=True):
            section[:] = values
    written = read_volume(beside(output, LABELS)).data
    with open_volume(
        beside(output, INSTANCES), shape, voxel_size, np.float32, INSTANCE_NOTE
    ) as instances:
        rows = _number_objects(scene, names, written, instances, step, shapes)
    factor = sign * scale * float(np.median([match.scale for match in matches.values()] or [1.0]))
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


def _number_objects(
    scene: ForeignScene,
    names: Mapping[int, str],
    labels: NDArray[Any],
    instances: Floats,
    step: float,
    shapes: Mapping[str, MaskShape],
) -> pd.DataFrame:
    """Number the objects in `instances`, in place; return the rows of the particles.

    Given instances come first, then listed particles, then connected components. `labels` and
    `instances` are on the new grid of `step` voxels.
    """
    objects = pd.DataFrame(columns=["label"])
    if scene.instances is not None:
        ids = NearestSections(scene.instances, labels.shape, step)
        objects = number_given(labels, ids, names, instances)
    number, given = len(objects), set(objects["label"].astype(int))
    rest = {label: name for label, name in names.items() if label not in given}
    if scene.rows is None:
        found = number_components(labels, rest, instances, shapes, number)
        return pd.concat([_particles(objects), found], ignore_index=True)
    rows = scene.rows.copy()
    rows[COORDINATES] /= step
    if not scene.complete:
        rows = settle_rows(labels, rest, rows)
    rows = _rows_inside(rows, labels.shape, scene.density)
    listed = set(rows["cryoetganClass"])
    rows["cryoetganInstance"] = find_numbers(rows, objects, labels, instances)
    components = {
        label: name
        for label, name in rest.items()
        if (not scene.complete or name in scene.parts) and _is_unlisted(name, listed)
    }
    others = {label: name for label, name in rest.items() if label not in components}
    number = number_by_rows(labels, others, rows, instances, number)
    found = number_components(labels, components, instances, shapes, number)
    objects = objects[~objects.get("cryoetganClass", pd.Series(dtype=str)).isin(listed)]
    parts = [part for part in (rows, _particles(objects), found) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else rows


def _particles(objects: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of given objects that are particles, not membranes for example."""
    if not len(objects):
        return pd.DataFrame(columns=COLUMNS)
    kept = [NO_PARTICLES.match(name) is None for name in objects["cryoetganClass"]]
    return objects.loc[kept, COLUMNS]


def _is_unlisted(name: str, listed: Set[str]) -> bool:
    return name not in listed and NO_PARTICLES.match(name) is None


def _check_names(scene: ForeignScene) -> dict[int, str]:
    """Return the name of each label in the volume; labels without a name are an error."""
    values = {float(value) for section in scene.label_data for value in np.unique(section)}
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


def _label_means(
    density: NDArray[Any], labels: NDArray[Any], names: Mapping[int, str]
) -> pd.DataFrame:
    """Return number, mean and standard deviation of the density by label, in sampled sections."""
    step = max(1, len(density) // SAMPLED_SECTIONS)
    sums = np.zeros((3, 1 + max(names, default=0)))
    for values, numbers in zip(density[::step], labels[::step], strict=True):
        where, grey = numbers.ravel().astype(int), values.ravel().astype(float)
        for total, weights in zip(sums, (None, grey, grey**2), strict=True):
            total += np.bincount(where, weights, sums.shape[1])
    table = pd.DataFrame(sums.T, columns=["n", "mean", "sd"])
    table = table[table["n"] > 0]
    table["mean"] /= table["n"]
    table["sd"] = np.sqrt(np.maximum(table["sd"] / table["n"] - table["mean"] ** 2, 0))
    return table


def _count_particles(
    means: pd.DataFrame, scene: ForeignScene, names: Mapping[int, str]
) -> list[int]:
    """Return the number of particles of each label in `means`, at least 1.

    They are rows, given instances or components. Without rows they are counted only if the contrast
    is so small that their number decides whether it is significant.
    """
    listed = Counter([] if scene.rows is None else scene.rows["cryoetganClass"])
    base, sd = (float(means[column].get(0, 0.0)) for column in ("mean", "sd"))
    counts = []
    for label, mean in means["mean"].items():
        name = names.get(int(label), "")
        count = listed[name]
        is_clear = abs(mean - base) > standard_errors(sd, 1)
        if label and not count and not is_clear and NO_PARTICLES.match(name) is None:
            where = scene.label_data == label
            if scene.instances is not None:
                count = len(set(np.unique(scene.instances[where]).tolist()) - {0})
            else:
                sizes = np.bincount(ndimage.label(where, np.ones((3, 3, 3)))[0].ravel())
                count = int((sizes[1:] >= MIN_COMPONENT).sum())
        counts.append(max(count, 1))
    return counts


def _check_contrast(means: pd.DataFrame, scene: ForeignScene) -> float:
    """Return -1 if labelled voxels are darker than the others, else 1; warn of a noisy density.

    A difference within the standard errors counts as bright, and is said.
    """
    labelled = means.drop(index=0, errors="ignore")
    if not len(labelled):
        log.warning(
            "%s: no voxel has a label, so whether particles are dark is not known; they are taken as bright",
            scene.density,
        )  # fmt: skip
    if 0 not in means.index or not len(labelled):
        return 1.0
    contrast = float(np.average(labelled["mean"], weights=labelled["n"]) - means.loc[0, "mean"])
    if means.loc[0, "sd"] > abs(contrast):
        log.warning(
            "%s: the voxels without a label vary by %.3g, and differ from those with one by %.3g: it seems "
            "to be a tomogram with noise, not a density; its noise becomes part of the scene",
            scene.density, means.loc[0, "sd"], abs(contrast),
        )  # fmt: skip
    count = int(labelled["particles"].sum())
    limit = standard_errors(float(means.loc[0, "sd"]), count)
    if abs(contrast) <= limit:
        log.warning(
            "%s: labelled voxels differ from the others by %.3g, within 3 standard errors (%.3g, %d "
            "particles). Whether particles are dark is not known, and they are taken as bright; if they "
            "are dark, invert the density first (tomograms import --contrast dark)",
            scene.density, contrast, limit, count,
        )  # fmt: skip
        return 1.0
    if contrast < 0:
        log.info("%s: particles are dark and are inverted", scene.density)
    return -1.0 if contrast < 0 else 1.0


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

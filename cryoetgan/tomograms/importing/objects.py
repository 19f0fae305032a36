"""Objects in volumes of labels: given instances, listed particles, or connected components."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from cryoetgan.io.star import COORDINATES
from cryoetgan.progress import log
from cryoetgan.tomograms.importing.no_data import NearestSections
from cryoetgan.tomograms.importing.touching import MIN_COMPONENT, MaskShape, split_touching

Floats = NDArray[np.floating]
LARGE, MIN_COMPONENTS = 1.6, 5
"""Volume of a component, over the median, above which it may hold several particles; number of
components from which the median is one."""
NO_PARTICLES = re.compile(
    r"(membrane|vesicle|bead|gold|carbon|grid|ice|contamination|crowder)s?(?![a-z])", re.IGNORECASE
)
"""First words of names of labels whose components do not count as particles."""
COLUMNS = [*COORDINATES, "cryoetganClass", "cryoetganInstance"]
BESIDE = 0.75
"""Distance of a listed place from the middle of its voxels, in radii of the particle, above which
the list has an error."""
FEW_VOXELS = 0.3
"""Voxels of a listed particle, over the median of its class, below which it is not in the labels."""
ROUNDS = 10
"""Of moving places to the middle of their voxels."""


def number_components(
    labels: NDArray[Any],
    names: Mapping[int, str],
    instances: Floats,
    shapes: Mapping[str, MaskShape],
    number: int = 0,
) -> pd.DataFrame:
    """Number the connected components of each label; return a row for each particle.

    Components of a class with a shape that hold several particles are split. `number` is the last
    one that is taken.
    """
    rows: list[pd.DataFrame] = []
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
        numbers = number + 1 + np.arange(len(kept))
        new = np.zeros(count + 1, np.float32)
        new[kept] = numbers
        for out, section in zip(instances, found, strict=True):
            out += new[section]
        number += len(kept)
        if NO_PARTICLES.match(name):
            continue
        part = pd.DataFrame((sums[1:, kept] / sums[0, kept]).T, columns=COORDINATES)
        part = part.assign(cryoetganClass=name, cryoetganInstance=numbers)
        if name in shapes:
            parts = split_touching(found, kept, sums[0, kept], shapes[name], name)
            split, number = _add_parts(parts, part, instances, number, name)
            rows.append(split)
        else:
            _warn_of_large(sums[0, kept], name)
            rows.append(part)
    filled = [part for part in rows if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=COLUMNS)


def _warn_of_large(volumes: Floats, name: str) -> None:
    """Warn of components that may be several particles."""
    if len(volumes) < MIN_COMPONENTS:
        return
    ratios = volumes / np.median(volumes)
    large = ratios > LARGE
    if large.any():
        log.warning(
            "label %s: %d of %d components are %.1f to %.1f times as large as the median, and each became "
            "one particle. Particles that touch are split with your map (--template %s.mrc) or "
            "--instances",
            name, large.sum(), len(ratios), ratios[large].min(), ratios[large].max(), name,
        )  # fmt: skip


def _add_parts(
    parts: Mapping[int, list[tuple[NDArray[np.int_], bool]]],
    rows: pd.DataFrame,
    instances: Floats,
    number: int,
    name: str,
) -> tuple[pd.DataFrame, int]:
    """Return the rows after the components of `parts` are split, and the last number taken.

    `parts` maps the index of a component among `rows` to the voxels (zyx) of its parts, and whether
    each has the shape of a particle. Only those have rows.
    """
    added, failed = [], []
    for voxels, is_particle in (part for found in parts.values() for part in found):
        number += 1
        instances[tuple(voxels.T)] = number
        if is_particle:
            added.append([*voxels.mean(axis=0)[::-1], name, number])
        else:
            failed.append(number)
    if parts:
        log.info(
            "label %s: %d components held several particles, and %d were split by the map",
            name, len(parts), len(added),
        )  # fmt: skip
    if failed:
        shown = ", ".join(map(str, failed[:8])) + ", ..." * (len(failed) > 8)
        log.warning(
            "label %s: %d of %d parts of touching particles have not the size and shape of the map, and no "
            "row in the truth (instances %s). Give --instances, or a list of the particles",
            name, len(failed), len(failed) + len(added), shown,
        )  # fmt: skip
    single = rows.drop(index=list(parts))
    if not added:
        return single, number
    return pd.concat([single, pd.DataFrame(added, columns=COLUMNS)], ignore_index=True), number


def number_given(
    labels: NDArray[Any],
    ids: NearestSections,
    names: Mapping[int, str],
    instances: Floats,
) -> pd.DataFrame:
    """Number the objects that a volume of instances gives; return one row for each.

    `ids` has the sections of numbers on the grid of `labels`; an object is a number of one label.
    The columns are `COLUMNS`, `label` and `radius`: the root mean square distance of an object's
    voxels from its middle.
    """
    tables = []
    for z, (section, values) in enumerate(zip(labels, ids, strict=True)):
        y, x = np.nonzero((section > 0) & (values > 0))
        if len(y):
            part = pd.DataFrame({"label": section[y, x], "id": values[y, x].astype(np.int64)})
            square = (np.square(a, dtype=float) for a in (x, y))
            part = part.assign(x=x, y=y, z=z, count=1, square=sum(square) + float(z) ** 2)
            tables.append(part.groupby(["label", "id"], as_index=False).sum())
    if not tables:
        return pd.DataFrame(columns=[*COLUMNS, "label", "radius"])
    table = pd.concat(tables).groupby(["label", "id"], as_index=False).sum()
    table = table[table["label"].isin(names)].reset_index(drop=True)
    table["number"] = np.arange(1, len(table) + 1)
    by_label = {label: part for label, part in table.groupby("label")}
    for out, section, values in zip(instances, labels, ids, strict=True):
        for label in np.unique(section):
            if label in by_label:
                y, x = np.nonzero((section == label) & (values > 0))
                known = by_label[label]
                at = np.searchsorted(known["id"], values[y, x].astype(np.int64))
                out[y, x] = known["number"].to_numpy()[at]
    places = table[["x", "y", "z"]].to_numpy(float) / table[["count"]].to_numpy(float)
    out_rows = pd.DataFrame(places, columns=COORDINATES)
    out_rows["cryoetganClass"] = [names[int(label)] for label in table["label"]]
    variance = table["square"] / table["count"] - (places**2).sum(axis=1)
    return out_rows.assign(
        cryoetganInstance=table["number"],
        label=table["label"],
        radius=np.sqrt(np.maximum(variance, 0)),
    )


def number_by_rows(
    labels: NDArray[Any],
    names: Mapping[int, str],
    rows: pd.DataFrame,
    instances: Floats,
    number: int = 0,
) -> int:
    """Give each voxel of a label the number of the nearest row of its class, in place.

    All voxels of a label without rows, a membrane, have one number. `number` is the last one that
    is taken; returns the last one afterwards.
    """
    new = rows["cryoetganClass"].isin(names.values())
    rows.loc[new, "cryoetganInstance"] = number + np.arange(1, new.sum() + 1)
    extra = number + int(new.sum())
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
    return extra


def find_numbers(
    rows: pd.DataFrame, objects: pd.DataFrame, labels: NDArray[Any], instances: Floats
) -> NDArray[np.int_]:
    """Return the number of the object of each row: of the nearest voxel of its class.

    `objects` comes from `number_given`. A row has 0 if no voxel lies within the largest radius of
    its class, or if another row lies nearer to the middle of the object. Their number is said.
    """
    found = np.zeros(len(rows), int)
    if not len(objects):
        return found
    for name, own in rows.groupby("cryoetganClass"):
        mine = objects[objects["cryoetganClass"] == name]
        if not len(mine):
            continue
        places = own[COORDINATES].to_numpy(float)
        # the object with the nearest middle is tried first, then all near it
        tree = cKDTree(mine[COORDINATES].to_numpy(float))
        reach = min(tree.query(places)[0].max(), float(mine["radius"].max())) + 2
        half, label = int(np.ceil(reach)), mine["label"].iloc[0]
        numbers = np.zeros(len(own), int)
        for index, place in enumerate(places):
            middle = np.rint(place[::-1]).astype(int)
            low = np.maximum(middle - half, 0)
            box = tuple(slice(a, max(b, 0)) for a, b in zip(low, middle + half + 1, strict=True))
            voxels = np.argwhere((labels[box] == label) & (instances[box] > 0)) + low
            if len(voxels):
                far = ((voxels[:, ::-1] - place) ** 2).sum(axis=1)
                if far.min() <= reach**2:
                    numbers[index] = instances[tuple(voxels[far.argmin()])]
        numbers = _one_row_each(numbers, places, mine)
        if lacking := int((numbers == 0).sum()):
            log.warning(
                "%s: %d of %d listed places have no object of their own among the instances",
                name, lacking, len(own),
            )  # fmt: skip
        found[rows.index.get_indexer(own.index)] = numbers
    return found


def _one_row_each(
    numbers: NDArray[np.int_], places: Floats, objects: pd.DataFrame
) -> NDArray[np.int_]:
    """Return the numbers `(N,)` of the objects of places `(N, 3)`, 0 if another is nearer."""
    middles = objects.set_index("cryoetganInstance")[COORDINATES].astype(float)
    far = np.linalg.norm(middles.reindex(numbers).to_numpy() - places, axis=1)
    order = np.argsort(far, kind="stable")
    _, first = np.unique(numbers[order], return_index=True)
    kept = np.zeros_like(numbers)
    kept[order[first]] = numbers[order[first]]
    return kept


def settle_rows(labels: NDArray[Any], names: Mapping[int, str], rows: pd.DataFrame) -> pd.DataFrame:
    """Return listed places, those beside the voxels of their class moved to the middle of these.

    Each voxel of a label belongs to the nearest place. A place more than `BESIDE` radii from the
    middle of its voxels is moved there, repeatedly; places without voxels are left out. All of it
    is said.
    """
    for label, name in names.items():
        own = rows.index[rows["cryoetganClass"] == name]
        voxels = np.argwhere(labels == label)[:, ::-1]
        if not len(own) or not len(voxels):
            continue
        listed = rows.loc[own, COORDINATES].to_numpy(float)
        radius = (3 * len(voxels) / (4 * np.pi * len(own))) ** (1 / 3)
        places = listed.copy()
        for _ in range(ROUNDS):
            nearest = cKDTree(places).query(voxels)[1]
            counts = np.bincount(nearest, minlength=len(own))
            middles = (
                np.column_stack([np.bincount(nearest, axis, len(own)) for axis in voxels.T])
                / np.maximum(counts, 1)[:, None]
            )
            beside = np.linalg.norm(middles - listed, axis=1) > BESIDE * radius
            moved = np.where((beside & (counts > 0))[:, None], middles, listed)
            if np.abs(moved - places).max() < 0.05:
                break
            places = moved
        empty = counts < FEW_VOXELS * np.median(counts[counts > 0])
        beside &= ~empty & (counts > 0)
        rows.loc[own, COORDINATES] = places
        if beside.any():
            far = np.linalg.norm(places - listed, axis=1)[beside]
            log.warning(
                "label %s: %d of %d listed places lie beside the voxels of their particle, by %.1f to %.1f "
                "voxels, and are moved to the middle of these",
                name, beside.sum(), len(own), far.min(), far.max(),
            )  # fmt: skip
        if empty.any():
            log.warning(
                "label %s: %d of %d listed places have no voxels of the label and are left out",
                name, empty.sum(), len(own),
            )  # fmt: skip
            rows = rows.drop(index=own[empty])
    return rows.reset_index(drop=True)

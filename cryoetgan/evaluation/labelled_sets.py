"""Volume sets in memory, as classifiers and metrics take them, and their subsets."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.star import COORDINATES, OTHER
from cryoetgan.io.volume_set import VolumeSet, check_same_boxes, read_volume_set
from cryoetgan.physics.acquisition import is_symmetric, read_tilt_ranges

log = logging.getLogger("cryoetgan")
SAME_PARTICLE = 0.25
"""Distance below which a crop shows the particle of another crop, in boxes."""


@dataclass(frozen=True)
class LabelledSet:
    """Volumes in memory with their labels."""

    volumes: NDArray[np.float32]  # (N, z, y, x)
    names: NDArray[np.str_]  # (N,) classes
    table: Any  # their rows, numbered from 0
    symmetric: bool = True  # all tilt ranges are symmetric, to a degree
    tilts: tuple[float, float] | None = None  # range that all tilt series share, degrees about y

    def __len__(self) -> int:
        return len(self.names)

    @property
    def box(self) -> int:
        """Edge of a box in voxels."""
        return int(self.volumes.shape[-1])

    def subset(self, rows: NDArray[np.int_]) -> "LabelledSet":
        """Return the volumes with these indices."""
        return replace(
            self,
            volumes=self.volumes[rows],
            names=self.names[rows],
            table=self.table.iloc[rows].reset_index(drop=True),
        )


def load_labelled(volumes: VolumeSet, split: str | None = None) -> LabelledSet:
    """Return the rows of one split, or all rows; every voxel must be finite."""
    table = volumes.table
    rows = np.arange(len(table))
    if split is not None:
        found = list(map(str, table.get("cryoetganSplit", ())))
        rows = np.flatnonzero([name == split for name in found])
        if not len(rows):
            known = ", ".join(sorted(set(found))) or "no column cryoetganSplit"
            raise UserError(f"{volumes.path}: no row of split '{split}'; the set has {known}")
    data = np.ascontiguousarray(volumes.volumes[rows], np.float32)
    if not np.isfinite(data).all():
        raise UserError(f"{volumes.path}: contains voxels that are not finite numbers")
    names = table["cryoetganClass"].to_numpy(str)[rows]
    symmetric, tilts = _tilts(volumes, rows)
    return LabelledSet(data, names, table.iloc[rows].reset_index(drop=True), symmetric, tilts)


def load_others(sets: Sequence[VolumeSet], split: str | None = None) -> list[LabelledSet]:
    """Return the rows of one split of each set, or all; sets without such rows are left out."""
    loaded = []
    for volumes in sets:
        if split is None or split in map(str, volumes.table.get("cryoetganSplit", ())):
            loaded.append(load_labelled(volumes, split))
        else:
            log.warning("%s: no row of split '%s', so nothing of it is used", volumes.path, split)
    return loaded


def _tilts(volumes: VolumeSet, rows: NDArray[np.int_]) -> tuple[bool, tuple[float, float] | None]:
    """Return whether the rows' tilt ranges are symmetric, and the range they share."""
    known = read_tilt_ranges(volumes.optics_of(rows))
    low = max((tilts[0] for tilts in known), default=0.0)
    high = min((tilts[1] for tilts in known), default=0.0)
    return all(map(is_symmetric, known)), (low, high) if low < high else None


def open_sets(first: Path, *others: Path) -> list[VolumeSet]:
    """Open volume sets with classes, of one box and voxel size."""
    sets = [read_volume_set(path, ["cryoetganClass"]) for path in (first, *others)]
    check_same_boxes(*sets)
    return sets


def check_classes(train: NDArray[np.str_], test: NDArray[np.str_]) -> None:
    """Raise `UserError` if a classifier cannot be trained, warn if it can be tested in part."""
    trained, tested = ({str(name) for name in names} for names in (train, test))
    if len(trained) < 2:
        raise UserError(
            f"the training set has one class ({', '.join(trained)}); a classifier needs two: give "
            f"crops without particles with --train-other and --test-other (class '{OTHER}'), or "
            "rows of another class"
        )
    if not tested & trained:
        raise UserError(
            f"the test set's classes ({', '.join(sorted(tested))}) do not occur in the training set "
            f"({', '.join(sorted(trained))}); give sets with the same class names"
        )
    for first, second, text in (
        (tested, trained, "classes in the test set only, always wrong: %s"),
        (trained, tested, "classes in the training set only, accuracy unknown: %s"),
    ):
        if first - second:
            log.warning(text, ", ".join(sorted(first - second)))


def draw_per_class(volumes: LabelledSet, count: int, rng: np.random.Generator) -> LabelledSet:
    """Return at most `count` random volumes of each class."""
    rows = [
        rng.permutation(np.flatnonzero(volumes.names == name))[:count]
        for name in np.unique(volumes.names)
    ]
    return volumes.subset(np.sort(np.concatenate(rows)))


def draw_balanced(volumes: LabelledSet, count: int, rng: np.random.Generator) -> LabelledSet:
    """Return `count` random volumes, classes in equal parts as far as possible.

    Sets drawn with the same random numbers are nested: a learning curve then depends only
    on the volumes that are added. `UserError` if the set has fewer volumes.
    """
    if not 2 <= count <= len(volumes):
        raise UserError(
            f"--count: got {count}, wanted 2 to {len(volumes)}, the size of the training set"
        )
    order = rng.permutation(len(volumes))
    rank_in_class = volumes.table.iloc[order].groupby("cryoetganClass").cumcount().to_numpy()
    ranked = order[np.argsort(rank_in_class, kind="stable")]
    return volumes.subset(np.sort(ranked[:count]))


def concatenate(*sets: LabelledSet) -> LabelledSet:
    """Return several sets as one; rows keep their coordinates, if they have any."""
    import pandas as pd

    return LabelledSet(
        np.concatenate([part.volumes for part in sets]),
        np.concatenate([part.names for part in sets]),
        pd.concat([part.table for part in sets], ignore_index=True),
        all(part.symmetric for part in sets),
        sets[0].tilts,
    )


def add_other(
    volumes: LabelledSet,
    others: Sequence[LabelledSet],
    rng: np.random.Generator | None = None,
) -> LabelledSet:
    """Return a set with the crops of `others` added as class `other`.

    Crops within `SAME_PARTICLE` of a crop of `volumes`, or in none of its tomograms, are left out.
    With `rng`, at most as many are drawn as the largest class has: for training.
    """
    kept = []
    for part in others:
        rows = np.flatnonzero(_apart(part.table, volumes.table, SAME_PARTICLE * volumes.box))
        if len(rows):
            kept.append(replace(part.subset(rows), names=np.full(len(rows), OTHER)))
    if not kept:
        return volumes
    added = concatenate(*kept)
    if rng is not None:
        most = int(np.unique(volumes.names, return_counts=True)[1].max())
        added = added.subset(np.sort(rng.permutation(len(added))[:most]))
    added = replace(added, table=added.table.assign(cryoetganClass=OTHER))
    return concatenate(volumes, added)


def _apart(table: Any, crops: Any, distance: float) -> NDArray[np.bool_]:
    """Return which rows `(N,)` lie in a tomogram of the crops, and `distance` voxels from each.

    Boxes with random phases show no particle, wherever they are.
    """
    from scipy.spatial import cKDTree

    if not {"rlnTomoName", *COORDINATES} <= set(table) & set(crops):
        return np.ones(len(table), bool)  # simulated crops have no place
    apart = np.zeros(len(table), bool)
    for name, part in crops.groupby(crops["rlnTomoName"].astype(str)):
        rows = np.flatnonzero(table["rlnTomoName"].to_numpy(str) == name)
        if len(rows):
            places = table[COORDINATES].to_numpy(float)[rows]
            apart[rows] = cKDTree(part[COORDINATES].to_numpy(float)).query(places)[0] > distance
    if "cryoetganPhases" in table:
        apart |= (table["cryoetganPhases"] == "random").to_numpy()
    return apart


def mask_centre(volumes: LabelledSet, diameter: float) -> LabelledSet:
    """Return the volumes with a ball about the centre replaced by the mean of the rest.

    A classifier of these volumes can only use the background, for example the tomogram if
    each tomogram holds one class. The diameter is a fraction of the box edge.
    """
    from cryoetgan.physics.geometry import centre_distance

    ball = centre_distance(volumes.box) <= diameter * volumes.box / 2
    data = volumes.volumes.copy()
    data[:, ball] = data[:, ~ball].mean(axis=1, keepdims=True)
    return replace(volumes, volumes=data)


def classes_of_picks(test: LabelledSet, picks: Any, radius: float) -> NDArray[np.str_]:
    """Return the class of the nearest pick of each test crop, empty if none is within `radius`.

    `picks` is a table with rlnTomoName, coordinates and cryoetganClass; lengths are in voxels.
    """
    from scipy.spatial import cKDTree

    found = np.full(len(test), "", dtype=object)
    tomograms = test.table["rlnTomoName"].to_numpy(str)
    coordinates = test.table[COORDINATES].to_numpy(float)
    for name, part in picks.groupby(picks["rlnTomoName"].astype(str)):
        rows = np.flatnonzero(tomograms == name)
        if len(rows):
            tree = cKDTree(part[COORDINATES].to_numpy(float))
            distance, nearest = tree.query(coordinates[rows])
            classes = part["cryoetganClass"].to_numpy(str)[nearest]
            found[rows] = np.where(distance <= radius, classes, "")
    return found.astype(str)

"""Subsets and combinations of labelled sets, and crops with hidden particles."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.evaluation.labelled_sets import LabelledSet
from cryoetgan.io.star import COORDINATES
from cryoetgan.physics.geometry import centre_distance


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


def mask_centre(volumes: LabelledSet, diameter: float) -> LabelledSet:
    """Return the volumes with a ball about the centre replaced by the mean of the rest.

    A classifier of these volumes can only use the background, for example the tomogram if
    each tomogram holds one class. The diameter is a fraction of the box edge.
    """
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

"""Sets that answer one question: how many labels, what background gives away, a new class."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.evaluation.labelled_sets import Labelled
from cryoetgan.io.star import COORDINATES


def few(real: Labelled, count: int, numbers: np.random.Generator) -> Labelled:
    """Return at most `count` volumes of each class, drawn at random."""
    rows = [
        numbers.permutation(np.flatnonzero(real.names == name))[:count]
        for name in np.unique(real.names)
    ]
    return real.rows(np.sort(np.concatenate(rows)))


def first(volumes: Labelled, count: int, numbers: np.random.Generator) -> Labelled:
    """Return `count` volumes, classes in equal parts as far as they go, drawn at random.

    The same numbers give nested sets: the smaller lies within the larger, so that a
    learning curve differs by what was added and not by what was drawn.
    """
    order = numbers.permutation(len(volumes.names))
    seen: dict[str, int] = {}
    turn = np.zeros(len(order), int)  # which of its class a row is
    for row in order:
        name = str(volumes.names[row])
        turn[row] = seen.get(name, 0)
        seen[name] = turn[row] + 1
    ranked = order[np.argsort(turn[order], kind="stable")]
    return volumes.rows(np.sort(ranked[:count]))


def joined(*sets: Labelled) -> Labelled:
    """Return several sets as one; a small one is repeated so that it is not drowned.

    Each set after the first is repeated to about a third of the first's length. Repeats
    share their place, or class and pose, so they stay on one side of the validation split.
    """
    parts = [sets[0]]
    for other in sets[1:]:
        times = max(1, len(sets[0].names) // (3 * max(len(other.names), 1)))
        parts += [other] * times
    return stacked(*parts)


def stacked(*parts: Labelled) -> Labelled:
    """Return several sets as one; rows keep their place in a tomogram, where they have one."""
    import pandas as pd

    return Labelled(
        np.concatenate([part.volumes for part in parts]),
        np.concatenate([part.names for part in parts]),
        pd.concat([part.table for part in parts], ignore_index=True),
        all(part.symmetric for part in parts),
        parts[0].tilts,
    )


def hidden(volumes: Labelled, diameter: float) -> Labelled:
    """Return the volumes with a ball about the centre replaced by the rest's mean.

    A classifier that still tells the classes apart does so by background: by the
    tomogram, where each class comes from one of its own.

    Parameters
    ----------
    diameter : float
        Share of the box.
    """
    n = volumes.volumes.shape[-1]
    line = np.arange(n) - n // 2
    square = line[:, None, None] ** 2 + line[None, :, None] ** 2 + line[None, None] ** 2
    ball = square <= (diameter * n / 2) ** 2
    data = volumes.volumes.copy()
    data[:, ball] = data[:, ~ball].mean(axis=1, keepdims=True)
    return Labelled(data, volumes.names, volumes.table, volumes.symmetric, volumes.tilts)


def matched_classes(test: Labelled, picks: Any, radius: float) -> NDArray[np.str_]:
    """Return the class that picks give each test crop, empty where none is near.

    Parameters
    ----------
    test : Labelled
        Crops with tomogram and coordinate.
    picks : pandas.DataFrame
        rlnTomoName, coordinates in voxels, cryoetganClass.
    radius : float
        Voxels.
    """
    from scipy.spatial import cKDTree

    found = np.full(len(test.names), "", dtype=object)
    tomograms = test.table["rlnTomoName"].to_numpy(str)
    places = test.table[COORDINATES].to_numpy(float)
    for name, part in picks.groupby(picks["rlnTomoName"].astype(str)):
        rows = np.flatnonzero(tomograms == name)
        if len(rows):
            distance, nearest = cKDTree(part[COORDINATES].to_numpy(float)).query(places[rows])
            classes = part["cryoetganClass"].to_numpy(str)[nearest]
            found[rows] = np.where(distance <= radius, classes, "")
    return found.astype(str)


def without(real: Labelled, name: str) -> Labelled:
    """Return the volumes of all other classes."""
    return real.rows(np.flatnonzero(real.names != name))


def only(volumes: Labelled, name: str, count: int, numbers: np.random.Generator) -> Labelled:
    """Return at most `count` volumes of one class."""
    return volumes.rows(np.sort(numbers.permutation(np.flatnonzero(volumes.names == name))[:count]))


def per_class(right: NDArray[Any], names: NDArray[np.str_]) -> Mapping[str, float]:
    """Return the mean of `right` `(seeds, N)` for each class."""
    return {str(name): float(right[:, names == name].mean()) for name in np.unique(names)}

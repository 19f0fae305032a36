"""How well the picks and their pseudo-labels agree with the marked particles."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from cryoetgan.io.star import COORDINATES


@dataclass(frozen=True)
class Agreement:
    """One tomogram: how many are marked, selected, both; of both, how many of the same class."""

    tomogram: str
    marked: int
    selected: int
    both: int
    same_class: int

    @property
    def recall(self) -> float:
        """Share of the marked particles that were selected."""
        return self.both / max(self.marked, 1)

    @property
    def precision(self) -> float:
        """Share of the selected particles that are marked ones."""
        return self.both / max(self.selected, 1)

    @property
    def purity(self) -> float:
        """Share of the selected particles that are marked ones of the class they were given."""
        return self.same_class / max(self.selected, 1)


def agree(tomogram: str, selected: Any, marked: Any, distance: float) -> Agreement:
    """Match selected particles to marked ones, one to one.

    Parameters
    ----------
    tomogram : str
        Its name.
    selected, marked : pandas.DataFrame
        Coordinates in voxels and cryoetganClass.
    distance : float
        Voxels: farther apart, they are not the same particle.

    Notes
    -----
    As many pairs as can be, and of those the closest (an assignment problem).
    """
    ours, theirs = (table[COORDINATES].to_numpy(float) for table in (selected, marked))
    first, second = _pairs(ours, theirs, distance)
    a = selected["cryoetganClass"].to_numpy(str)[first]
    b = marked["cryoetganClass"].to_numpy(str)[second]
    return Agreement(tomogram, len(marked), len(selected), len(first), int((a == b).sum()))


def _pairs(ours: Any, theirs: Any, distance: float) -> tuple[Any, Any]:
    if not len(ours) or not len(theirs):
        return np.zeros(0, int), np.zeros(0, int)
    # only rows with a neighbour at all: the cost matrix of a large tomogram stays small
    near = cKDTree(ours).query(theirs, distance_upper_bound=distance)[0] < np.inf
    close = cKDTree(theirs).query(ours, distance_upper_bound=distance)[0] < np.inf
    rows, columns = np.flatnonzero(close), np.flatnonzero(near)
    if not len(rows) or not len(columns):
        return np.zeros(0, int), np.zeros(0, int)
    apart = np.linalg.norm(ours[rows][:, None] - theirs[columns][None], axis=-1)
    far = apart > distance
    # a pair too far apart costs more than any set of allowed ones
    i, j = linear_sum_assignment(np.where(far, 1e6, apart))
    kept = ~far[i, j]
    return rows[i[kept]], columns[j[kept]]

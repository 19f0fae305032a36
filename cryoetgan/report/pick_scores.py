"""Precision and recall of selected particles against a tomogram's annotations."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from cryoetgan.io.star import COORDINATES


@dataclass(frozen=True)
class PickScores:
    """Counts of one tomogram.

    Attributes
    ----------
    tomogram : str
        Name of the tomogram.
    annotated, selected : int
        Numbers of annotations and of selected particles.
    matched : int
        Pairs of a selected particle and an annotation.
    same_class : int
        Pairs whose classes agree.
    """

    tomogram: str
    annotated: int
    selected: int
    matched: int
    same_class: int

    @property
    def recall(self) -> float:
        """Fraction of the annotations that were selected."""
        return self.matched / max(self.annotated, 1)

    @property
    def precision(self) -> float:
        """Fraction of the selected particles that are annotated."""
        return self.matched / max(self.selected, 1)

    @property
    def class_precision(self) -> float:
        """Fraction of the selected particles that are annotated with the same class."""
        return self.same_class / max(self.selected, 1)


def score_picks(tomogram: str, selected: Any, annotated: Any, radius: float) -> PickScores:
    """Match selected particles with annotations, one to one, and count the pairs.

    Parameters
    ----------
    tomogram : str
        Name of the tomogram.
    selected, annotated : pandas.DataFrame
        Coordinates in voxels, and cryoetganClass.
    radius : float
        Largest distance of a pair, voxels.

    Notes
    -----
    The number of pairs is the largest possible, and their total distance the smallest for that
    number (a linear assignment problem).
    """
    picks, truth = (table[COORDINATES].to_numpy(float) for table in (selected, annotated))
    first, second = _match(picks, truth, radius)
    a = selected["cryoetganClass"].to_numpy(str)[first]
    b = annotated["cryoetganClass"].to_numpy(str)[second]
    return PickScores(tomogram, len(annotated), len(selected), len(first), int((a == b).sum()))


def _match(picks: Any, truth: Any, radius: float) -> tuple[Any, Any]:
    """Return the row indices of matched pairs: of `picks` `(N, 3)` and of `truth` `(M, 3)`."""
    if not len(picks) or not len(truth):
        return np.zeros(0, int), np.zeros(0, int)
    # only rows with a neighbour within the radius: the cost matrix stays small
    columns = np.flatnonzero(cKDTree(picks).query(truth, distance_upper_bound=radius)[0] < np.inf)
    rows = np.flatnonzero(cKDTree(truth).query(picks, distance_upper_bound=radius)[0] < np.inf)
    if not len(rows) or not len(columns):
        return np.zeros(0, int), np.zeros(0, int)
    distance = np.linalg.norm(picks[rows][:, None] - truth[columns][None], axis=-1)
    far = distance > radius
    # a forbidden pair costs more than any set of allowed pairs
    i, j = linear_sum_assignment(np.where(far, 1e6, distance))
    kept = ~far[i, j]
    return rows[i[kept]], columns[j[kept]]

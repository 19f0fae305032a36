"""Precision and recall as functions of the score, from held-out parts of synthetic tomograms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.spatial import cKDTree

from cryoetgan.detection.predict import Detections
from cryoetgan.detection.truth import Truth
from cryoetgan.evaluation.metrics.precision_recall import class_scores
from cryoetgan.seeds import rng

Floats = NDArray[np.floating]
RESAMPLES = 200
"""Resamples of the held-out picks for an interval."""
LEVELS = 50
"""Scores at which the record states precision and recall."""


@dataclass(frozen=True)
class Calibration:
    """The held-out picks of a detector, best first, and whether they are right."""

    scores: Floats
    """`(N,)`."""
    numbers: NDArray[np.int_]
    """`(N,)` number of the class."""
    hits: NDArray[np.bool_]
    """`(N,)` a particle of this class lies within its radius."""
    found: NDArray[np.bool_]
    """`(N,)` a named particle of any class lies within its radius."""
    truth: NDArray[np.int_]
    """`(C,)` held-out particles of each class."""

    def scores_at(self, threshold: float) -> dict[str, Any]:
        """Return precision, recall and F1 of all picks at or above a threshold together.

        A pick of a wrong class is wrong.
        """
        use = self.scores >= threshold
        return class_scores(self.hits[use].sum(), use.sum(), self.truth.sum())

    def best_threshold(self, of_places: bool = False) -> float:
        """Return the score of the highest F1 of all picks together (`scores_at`).

        `of_places` ignores the classes.
        """
        right = self.found if of_places else self.hits
        if not right.any():
            return 0.5
        hits = np.cumsum(right)
        f1 = 2 * hits / (np.arange(1, len(hits) + 1) + self.truth.sum())
        return float(self.scores[int(np.argmax(f1))])

    def expected_precision(self, scores: Floats, seed: int = 0) -> tuple[float, float, float]:
        """Return the expected precision of picks with these scores, and its 95 % interval.

        The probability that a pick is right is the isotonic regression of the held-out picks on
        their score; the interval is a bootstrap over these.
        """
        if not len(scores) or not len(self.scores):
            return float("nan"), float("nan"), float("nan")
        numbers, values = rng(seed, "calibration"), []
        for _ in range(RESAMPLES):
            index = np.sort(numbers.integers(len(self.scores), size=len(self.scores)))
            values.append(float(self._right(scores, index).mean()))
        low, high = np.quantile(values, [0.025, 0.975])
        value = float(self._right(scores, np.arange(len(self.scores))).mean())
        return value, min(float(low), value), max(float(high), value)

    def _right(self, scores: Floats, index: NDArray[np.int_]) -> Floats:
        """Return the probability that picks of these scores are right, from some held-out picks."""
        rates = isotonic_regression(self.hits[index].astype(float), increasing=False).x
        known = self.scores[index][::-1]
        return np.interp(scores, known, rates[::-1])

    def record(self, classes: Sequence[str], threshold: float) -> dict[str, Any]:
        """Return the held-out scores for the record beside the model."""
        use = self.scores >= threshold
        by_class = {
            name: class_scores(
                (use & self.hits & (self.numbers == k)).sum(),
                (use & (self.numbers == k)).sum(),
                self.truth[k - 1],
            )
            for k, name in enumerate(classes, start=1)
        }
        places = class_scores(self.found[use].sum(), use.sum(), self.truth.sum())
        return self.scores_at(threshold) | {"classes": by_class, "places": places}

    def table(self) -> dict[str, list[float]]:
        """Return score, precision and recall at some thresholds, for plots."""
        if not len(self.scores):
            return {"score": [], "precision": [], "recall": []}
        levels = np.unique(np.quantile(self.scores, np.linspace(0, 1, LEVELS)))
        rows = [self.scores_at(level) for level in levels]
        return {
            "score": [float(level) for level in levels],
            "precision": [row["precision"] for row in rows],
            "recall": [row["recall"] for row in rows],
        }


def match_picks(
    found: Detections, truth: Truth, radii: Floats
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return for each pick, best first, whether it hits its class, and whether any class.

    A pick takes the nearest free particle within the radius of its class, `radii` `(C + 1,)`;
    particles of `other` count for neither.
    """
    count = len(radii) - 1
    hits, places = np.zeros((2, len(found.scores)), bool)
    for number in range(1, count + 1):
        own = truth.places[truth.numbers == number]
        picks = np.flatnonzero(found.numbers == number)
        hits[picks] = _take_nearest(
            found.places[picks], own, np.full(len(picks), radii[number - 1])
        )
    named = truth.places[truth.numbers <= count]
    places[:] = _take_nearest(found.places, named, radii[found.numbers - 1])
    return hits, places


def _take_nearest(picks: Floats, truth: Floats, reach: Floats) -> NDArray[np.bool_]:
    right, free = np.zeros(len(picks), bool), np.ones(len(truth), bool)
    if not len(truth):
        return right
    tree = cKDTree(truth)
    for index, place in enumerate(picks):
        near = [k for k in tree.query_ball_point(place, reach[index]) if free[k]]
        if near:
            free[near[int(np.linalg.norm(truth[near] - place, axis=1).argmin())]] = False
            right[index] = True
    return right


def join_calibrations(parts: Sequence[Calibration]) -> Calibration:
    """Return the calibration of the held-out picks of all tomograms."""

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    order = np.argsort(-joined("scores"), kind="stable")
    return Calibration(
        scores=joined("scores")[order],
        numbers=joined("numbers")[order],
        hits=joined("hits")[order],
        found=joined("found")[order],
        truth=np.sum([part.truth for part in parts], axis=0),
    )

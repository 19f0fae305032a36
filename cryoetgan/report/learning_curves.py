"""What changes with a number: accuracy with the size of the generated set, scores with steps."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cryoetgan.report import plots
from cryoetgan.report.evaluation_results import Accuracy
from cryoetgan.report.results import Results

SETS = {"gan_train": "generated", "fitted_train": "fitted physics"}
"""Classifiers that learn from a set whose size is varied, and that set's name on the page."""
POINT = re.compile(rf"({'|'.join(SETS)})_(\d+)")
EPOCHS = "evaluation/epochs.csv"
SCORES = {"is": "Inception score", "fid": "FID", "kid": "KID"}
Points = list[tuple[int, Accuracy]]


@dataclass(frozen=True)
class Learning:
    """Learning curves: how many volumes were trained on, and what that gave.

    Attributes
    ----------
    curves : mapping
        Name of a set to its points, by size.
    plot : Plot
        Of all of them.
    sentences : list of str
        How many are enough, a sentence a set.
    """

    curves: Mapping[str, Points]
    plot: plots.Plot
    sentences: list[str]


def is_point(name: str) -> bool:
    """Return whether a classifier's name says that it saw a part of a set."""
    return POINT.fullmatch(name) is not None


def learning(found: Mapping[str, Accuracy]) -> Learning | None:
    """Return the curves over parts of the sets; None where none has two points."""
    curves = {}
    for whole, label in SETS.items():
        points = [
            (accuracy.n_train, accuracy)
            for name, accuracy in found.items()
            if name == whole or ((match := POINT.fullmatch(name)) and match[1] == whole)
        ]
        if len(points) > 1:
            curves[label] = sorted(points, key=lambda point: point[0])
    if not curves:
        return None
    levels = {
        label: found[name]
        for name, label in (
            ("real_train", "trained on real crops"),
            ("fitted_train", "fitted physics"),
            ("conventional_train", "physics, typed in"),
        )
        if name in found and label not in curves
    }
    return Learning(
        curves,
        plots.learning_curve(curves, levels),
        [enough(points, name) for name, points in curves.items()],
    )


def enough(points: Points, name: str = "generated") -> str:
    """Return how many volumes of a set are enough, as far as the test crops can tell."""
    most, best = points[-1]
    if best.low <= best.guessing:
        return f"Even all {most} ({name}) teach no more than guessing: number is not what lacks."
    for number, accuracy in points[:-1]:
        if accuracy.compared(best) != "below":
            return (
                f"From {number} volumes on ({name}), more made no difference that these test crops "
                f"can show; {most} were tried."
            )
    more = "densities.count, translation.draws" if name == "generated" else "densities.count"
    return f"Still rising at {most} ({name}): more volumes ({more}) may teach more."


def by_step(results: Results) -> list[tuple[str, plots.Plot]]:
    """Return IS, FID and KID against training steps, a line a noise level (Figures 5 and 6).

    Read from what `evaluation epochs` writes: columns noise, step, and any of is, fid, kid,
    with their _low and _high.
    """
    rows = results.rows(EPOCHS)
    if rows and not {"noise", "step"} <= set(rows[0]):
        results.gaps.append(f"{EPOCHS}: lacks the columns noise and step")
        return []
    shown = []
    for key, title in SCORES.items():
        curves: dict[str, list[tuple[float, ...]]] = {}
        for row in rows:
            bounds = (_number(row.get(f"{key}_{end}")) for end in ("low", "high"))
            point = (_number(row.get("step")), _number(row.get(key)), *bounds)
            if np.isfinite(point[:2]).all():
                curves.setdefault(str(row["noise"]), []).append(point)
        if curves:
            lines = {name: np.array(sorted(line)) for name, line in sorted(curves.items())}
            shown.append((title, plots.score_curves(lines, title)))
    return shown


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")

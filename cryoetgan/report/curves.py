"""What changes with a number: accuracy with the size of the generated set, scores with steps."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cryoetgan.report import plots
from cryoetgan.report.numbers import Accuracy
from cryoetgan.report.results import Results

POINT = re.compile(r"gan_train_(\d+)")
EPOCHS = "evaluation/epochs.csv"
SCORES = {"is": "Inception score", "fid": "FID", "kid": "KID"}


@dataclass(frozen=True)
class Learning:
    """A learning curve: how many volumes were trained on, and what that gave."""

    points: list[tuple[int, Accuracy]]
    plot: plots.Plot
    sentence: str


def is_point(name: str) -> bool:
    """Return whether a classifier's name says that it saw a part of the generated set."""
    return POINT.fullmatch(name) is not None


def learning(found: Mapping[str, Accuracy]) -> Learning | None:
    """Return the curve over parts of the generated set; None with fewer than two points."""
    points = [(a.n_train, a) for name, a in found.items() if is_point(name)]
    if "gan_train" in found:
        points.append((found["gan_train"].n_train, found["gan_train"]))
    points.sort(key=lambda point: point[0])
    if len(points) < 2:
        return None
    levels = {
        label: found[name]
        for name, label in (
            ("ceiling", "trained on real crops"),
            ("fitted_train", "physics, fitted"),
            ("physics_train", "physics, typed in"),
        )
        if name in found
    }
    return Learning(points, plots.learning_curve(points, levels), enough(points))


def enough(points: list[tuple[int, Accuracy]]) -> str:
    """Return how many volumes are enough, as far as the test set can tell."""
    most, best = points[-1]
    if best.low <= best.guessing:
        return "Even the whole set teaches no more than guessing: its size is not what lacks."
    for number, accuracy in points[:-1]:
        if accuracy.compared(best) != "below":
            return (
                f"From {number} generated volumes on, more made no difference that these test "
                "crops can show."
            )
    return (
        f"Still rising at {most}: more volumes (densities.count, translation.draws) may teach more."
    )


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

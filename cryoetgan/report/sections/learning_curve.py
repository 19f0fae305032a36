"""Section: accuracy against the number of training volumes."""

import re
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from cryoetgan.report.evaluation_json import Accuracy
from cryoetgan.report.html import Section, macros
from cryoetgan.report.plots import plot_learning_curve
from cryoetgan.report.run import Run

CURVES = {"gan_train": "generated", "fitted_train": "fitted simulation"}
"""Classifier of a whole set to the name of its learning curve."""
LEVELS = {
    "real_train": "real crops (upper bound)",
    "fitted_train": "fitted simulation",
    "conventional_train": "conventional simulation",
}
"""Classifier to its name; drawn as a horizontal line if it has no learning curve."""
POINT = re.compile(rf"({'|'.join(CURVES)})_(\d+)")


def is_learning_curve_point(name: str) -> bool:
    """Return whether a classifier was trained on a subset of a set, such as `gan_train_40`."""
    return POINT.fullmatch(name) is not None


def render(run: Run) -> Iterator[Markup]:
    """Yield the conclusions, a plot and a table of the curves with at least two points."""
    curves = {}
    for whole, label in CURVES.items():
        points = [
            (accuracy.n_train, accuracy)
            for name, accuracy in run.accuracies.items()
            if name == whole or ((match := POINT.fullmatch(name)) and match[1] == whole)
        ]
        if len(points) > 1:
            curves[label] = sorted(points, key=lambda point: point[0])
    if not curves:
        return
    yield from (macros.text(conclude_curve(points, name)) for name, points in curves.items())
    found = run.accuracies
    levels = {t: found[n] for n, t in LEVELS.items() if n in found and t not in curves}
    caption = (
        "Classifiers trained on nested subsets with equal numbers of steps, and tested on the same "
        "real crops. Bars are 95 % intervals. Horizontal lines are other training sets, used whole."
    )
    plot = plot_learning_curve(curves, levels)
    yield macros.figure(plot, "Accuracy against the number of training volumes", caption, "half")
    rows = [
        [name, size, f"{100 * a.value:.1f} %", f"{100 * a.low:.1f} to {100 * a.high:.1f}"]
        for name, points in curves.items()
        for size, a in points
    ]
    yield macros.grid([["training set", "volumes", "accuracy", "95 % interval"], *rows], "curve")


def conclude_curve(points: Sequence[tuple[int, Accuracy]], name: str = "generated") -> str:
    """Return the number of volumes that is sufficient, as far as the test crops show it.

    Parameters
    ----------
    points : sequence of (int, Accuracy)
        Number of training volumes and accuracy, in order of size.
    name : str
        Name of the set.
    """
    largest, best = points[-1]
    if best.at_chance:
        return (
            f"Even {largest} volumes ({name}) are not better than guessing: the number of volumes "
            "is not the limit."
        )
    for size, accuracy in points[:-1]:
        if accuracy.compare(best) != "below":
            return (
                f"From {size} volumes on ({name}), accuracy does not increase significantly on "
                f"these test crops; the largest set has {largest}."
            )
    keys = "densities.count, translation.draws" if name == "generated" else "densities.count"
    return (
        f"Accuracy still increases at {largest} volumes ({name}): more volumes ({keys}) may "
        "improve it."
    )


SECTION = Section("learning", "Number of training volumes", render)

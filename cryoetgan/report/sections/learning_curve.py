"""Section: accuracy against the number of training volumes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cryoetgan.report.evaluation_json import Accuracy
from cryoetgan.report.plots import plot_learning_curve
from cryoetgan.report.run import Run
from cryoetgan.report.section import Section

CURVES = {"gan_train": "generated", "fitted_train": "fitted simulation"}
"""Classifier of a whole set to the name of its learning curve."""
LEVELS = {
    "real_train": "real crops (upper bound)",
    "fitted_train": "fitted simulation",
    "conventional_train": "conventional simulation",
}
"""Classifier to its name; drawn as a horizontal line if it has no learning curve."""
POINT = re.compile(rf"({'|'.join(CURVES)})_(\d+)")
TEMPLATE = """
{% for sentence in conclusions %}<p>{{ sentence }}</p>{% endfor %}
<figure class="half">{{ m.plot(plot, "Accuracy against the number of training volumes") }}
<figcaption>Classifiers trained on nested subsets with equal numbers of steps, and tested on the
same real crops. Bars are 95 % intervals. Horizontal lines are other training sets, used
whole.</figcaption></figure>
{{ m.grid(rows, "curve") }}
"""


def is_learning_curve_point(name: str) -> bool:
    """Return whether a classifier was trained on a subset of a set, such as `gan_train_40`."""
    return POINT.fullmatch(name) is not None


def context(run: Run) -> Mapping[str, Any] | None:
    """Return the curves that have at least two points."""
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
        return None
    levels = {
        label: run.accuracies[name]
        for name, label in LEVELS.items()
        if name in run.accuracies and label not in curves
    }
    heading = ["training set", "volumes", "accuracy", "95 % interval"]
    rows = [
        [name, str(size), f"{100 * a.value:.1f} %", f"{100 * a.low:.1f} to {100 * a.high:.1f}"]
        for name, points in curves.items()
        for size, a in points
    ]
    return {
        "plot": plot_learning_curve(curves, levels),
        "conclusions": [conclude_curve(points, name) for name, points in curves.items()],
        "rows": [heading, *rows],
    }


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


SECTION = Section(
    name="learning", title="Number of training volumes", template=TEMPLATE, context=context
)

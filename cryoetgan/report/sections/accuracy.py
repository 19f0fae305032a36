"""Sections: accuracies of classifiers with label-free checks, and learning curves."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from cryoetgan.report.evaluation_json import Accuracy
from cryoetgan.report.label_free import checks_by_set
from cryoetgan.report.plots import (
    Method,
    Plot,
    confusion_colours,
    plot_learning_curve,
    plot_methods,
)
from cryoetgan.report.run import TITLES as SET_TITLES
from cryoetgan.report.run import Run
from cryoetgan.report.verdict import take_open

TITLES = {
    "gan_train": "trained on generated, tested on real",
    "conventional_train": "trained on conventional simulation, tested on real",
    "fitted_train": "trained on fitted simulation, tested on real",
    "real_train": "reference: trained on labelled real crops, tested on real",
    "pseudo_label_train": "trained on pseudo-labelled picks, tested on real",
    "gan_test": "trained on real, tested on generated",
}
PSEUDO_LABEL_TITLES = {
    "real_train": "reference: trained on pseudo-labelled picks, tested on others",
    "gan_test": "trained on pseudo-labelled picks, tested on generated",
}
"""Descriptions for a run without annotated crops."""
CURVES = {"gan_train": "generated", "fitted_train": "fitted simulation"}
"""Classifier of a whole set to the name of its learning curve."""
LEVELS = {
    "real_train": "labelled real crops",
    "fitted_train": "fitted simulation",
    "conventional_train": "conventional simulation",
}
"""Classifier to its name; drawn as a horizontal line if it has no learning curve."""
METHODS = {
    "real_train": "labelled real crops",
    "gan_train": "generated",
    "fitted_train": "fitted simulation",
    "conventional_train": "conventional simulation",
}
"""Classifier to its training set in the chart of methods."""
EXPORTED = {"generated": "gan_train", "fitted": "fitted_train"}
POINT = re.compile(rf"({'|'.join(CURVES)})_(\d+)")
"""Name of a classifier that was trained on a subset of a set, such as `gan_train_40`."""


def list_classifiers(run: Run) -> dict[str, Any]:
    """Return the classifiers of whole sets with their confusion matrices, and the checks."""
    whole = {n: a for n, a in run.accuracies.items() if not POINT.fullmatch(n)}
    titles = _classifier_titles(whole.values(), run.label_source)
    names = dict.fromkeys([*(name for name in titles if name in whole), *whole])
    classifiers = [
        (name, titles.get(name, name), whole[name], _colour_rows(whole[name])) for name in names
    ]
    checks = {name: found for name, found in checks_by_set(run).items() if found}
    return {"classifiers": classifiers, "checks": checks} if classifiers else {}


def draw_methods(run: Run) -> Plot | None:
    """Return the chart of methods: F1 on all picks or accuracies, else two-sample AUC values, else None."""
    found = take_open(run.accuracies)
    names = [name for name in METHODS if name in found]
    if names:
        exported = EXPORTED[run.exported]
        rows = [Method(METHODS[n], *_percent(found[n]), is_exported=n == exported) for n in names]
        first = found[names[0]]
        title, level = "accuracy on real crops (%)", "majority class"
        if first.is_f1:
            title, level = "mean F1 over classes on all picks (%)", "guessing"
        return plot_methods(rows, title, {level: 100 * first.majority})
    rows, levels = [], {"indistinguishable": 0.5}
    for name in ("generated", "fitted", "conventional"):
        metric = run.metrics[name].get("c2st_auc")
        if metric is None or not np.isfinite(metric.value):
            continue
        is_exported = name == run.exported
        rows.append(Method(SET_TITLES[name], metric.value, metric.low, metric.high, is_exported))
        if is_exported and "real_half" in metric.baselines:
            levels["real against real"] = metric.baselines["real_half"]
    title = "two-sample AUC against real crops (lower is better)"
    return plot_methods(rows, title, levels) if rows else None


def _percent(found: Accuracy) -> tuple[float, float, float]:
    return 100 * found.value, 100 * found.low, 100 * found.high


def _classifier_titles(accuracies: Iterable[Accuracy], label_source: str) -> dict[str, str]:
    """Return the description of each classifier, of a second network after all of the first."""
    titles = TITLES | (PSEUDO_LABEL_TITLES if label_source == "templates" else {})
    networks = dict.fromkeys(accuracy.network for accuracy in accuracies)
    return titles | {f"{name}_{network}": titles[name] for network in networks for name in titles}


def _colour_rows(found: Accuracy) -> list[list[tuple[str, str]]]:
    """Return background and ink of each cell of a confusion matrix, by its fraction of the row."""
    table = np.asarray((found.open or found).confusion, float)
    return confusion_colours(table / np.maximum(table.sum(axis=1, keepdims=True), 1))


def draw_learning_curves(run: Run) -> dict[str, Any]:
    """Return conclusions, plot and table of the curves with at least two points."""
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
        return {}
    found = run.accuracies
    levels = {t: found[n] for n, t in LEVELS.items() if n in found and t not in curves}
    rows = [
        [name, size, f"{100 * a.value:.1f} %", f"{100 * a.low:.1f} to {100 * a.high:.1f}"]
        for name, points in curves.items()
        for size, a in points
    ]
    return {
        "conclusions": [conclude_curve(points, name) for name, points in curves.items()],
        "plot": plot_learning_curve(curves, levels),
        "rows": [["training set", "volumes", "accuracy", "95 % interval"], *rows],
    }


def conclude_curve(points: Sequence[tuple[int, Accuracy]], name: str = "generated") -> str:
    """Return how many volumes are sufficient; `points` are in order of the number of volumes."""
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

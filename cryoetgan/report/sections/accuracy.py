"""Section: accuracies of classifiers, label-free checks, and confusion matrices."""

from collections.abc import Iterable, Iterator

import numpy as np
from markupsafe import Markup

from cryoetgan.report.evaluation_json import Accuracy
from cryoetgan.report.html import Section, macros
from cryoetgan.report.label_free import checks_by_set
from cryoetgan.report.plots import confusion_colours
from cryoetgan.report.run import Run
from cryoetgan.report.sections.learning_curve import is_learning_curve_point

TITLES = {
    "gan_train": "trained on generated, tested on real",
    "conventional_train": "trained on conventional simulation, tested on real",
    "fitted_train": "trained on fitted simulation, tested on real",
    "real_train": "upper bound: trained on labelled real crops, tested on real",
    "pseudo_label_train": "trained on pseudo-labelled picks, tested on real",
    "gan_test": "trained on real, tested on generated",
}
"""Classifier to its description."""
PSEUDO_LABEL_TITLES = {
    "real_train": "upper bound: trained on pseudo-labelled picks, tested on others",
    "gan_test": "trained on pseudo-labelled picks, tested on generated",
}
"""Descriptions for a run without annotated crops."""


def render(run: Run) -> Iterator[Markup]:
    """Yield the classifiers of whole sets; learning curves are another section."""
    whole = {n: a for n, a in run.accuracies.items() if not is_learning_curve_point(n)}
    if not whole:
        return
    titles = classifier_titles(whole.values(), run.label_source)
    names = dict.fromkeys([*(name for name in titles if name in whole), *whole])
    yield macros.accuracy_table([(name, titles.get(name), whole[name]) for name in names])
    yield macros.note(
        "The thin line across a bar is the accuracy of always predicting the majority class. "
        "Conventional simulation has user-specified parameters; the fitted simulation estimates "
        "them from the tomograms. A pseudo-label is the class of the best template."
    )
    checks = {name: found for name, found in checks_by_set(run).items() if found}
    if checks:
        yield macros.heading("Label-free checks", "checks")
        yield macros.note("Weaker evidence than annotated crops, but available in every run.")
    for name, found in checks.items():
        yield macros.heading(name, level=4) + macros.check_list(found)
    yield macros.heading("Confusion matrices")
    matrices = [(f"{titles.get(n, n)} ({whole[n].network})", whole[n]) for n in names]
    yield macros.group([draw_confusion(title, found) for title, found in matrices], "tables")


def classifier_titles(accuracies: Iterable[Accuracy], label_source: str) -> dict[str, str]:
    """Return the description of each classifier, of a second network after all of the first."""
    titles = TITLES | (PSEUDO_LABEL_TITLES if label_source == "templates" else {})
    networks = dict.fromkeys(accuracy.network for accuracy in accuracies)
    return titles | {f"{name}_{network}": titles[name] for network in networks for name in titles}


def draw_confusion(title: str, found: Accuracy) -> Markup:
    """Return a confusion matrix whose cells are coloured by their fraction of the row."""
    table = np.asarray(found.confusion, float)
    colours = confusion_colours(table / np.maximum(table.sum(axis=1, keepdims=True), 1))
    rows = [
        (name, [(count, *cell) for count, cell in zip(counts, line, strict=True)])
        for name, counts, line in zip(found.classes, found.confusion, colours, strict=True)
    ]
    return Markup(macros.confusion(title, found.classes, rows))


SECTION = Section("accuracy", "Classifier accuracy on real crops", render)

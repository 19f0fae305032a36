"""Section: accuracies of classifiers, label-free checks, and confusion matrices."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cryoetgan.report.evaluation_json import Accuracy
from cryoetgan.report.label_free import ANSWERS, checks_by_set
from cryoetgan.report.plots import confusion_colours
from cryoetgan.report.run import Run
from cryoetgan.report.section import Section
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
TEMPLATE = """
<div class="wide"><table id="accuracies"><thead><tr><th>classifier</th><th class="n">accuracy</th>
<th class="n">95 % interval</th><th class="bar"></th><th class="n">training volumes</th>
<th class="n">test volumes</th><th>network</th></tr></thead><tbody>
{% for name, title, a in accuracies %}
<tr><td><b>{{ title or name }}</b><br><span class="dim">evaluation/{{ name }}.json</span></td>
<td class="n">{{ m.percent(a.value) }} %</td><td class="n">{{ m.percent_range(a) }}</td>
<td class="bar"><svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img"
aria-label="{{ m.percent(a.value) }} percent"><rect class="rail" x="0" y="3" width="100"
height="4"/><rect class="span" x="{{ "%.2f"|format(100 * a.low) }}" y="1"
width="{{ "%.2f"|format(100 * (a.high - a.low)) }}" height="8"/><rect class="dot"
x="{{ "%.2f"|format(100 * a.value - 0.6) }}" y="0" width="1.2" height="10"/><rect class="guess"
x="{{ "%.2f"|format(100 * a.majority - 0.25) }}" y="0" width="0.5" height="10"/></svg></td>
<td class="n">{{ a.n_train }}</td><td class="n">{{ a.n_test }}</td><td>{{ a.network }}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="dim">The thin line across a bar is the accuracy of always predicting the majority class.
Conventional simulation has user-specified parameters; the fitted simulation estimates them from the
tomograms. A pseudo-label is the class of the best template.</p>
{% if checks %}
<h3 id="checks">Label-free checks</h3>
<p class="dim">These are weaker evidence than a test on annotated crops, but available in every
run.</p>
{% for name, items in checks.items() %}
{% if checks|length > 1 %}<h4>{{ name }}</h4>{% endif %}
<ul class="checks">
{% for check in items %}
<li class="{{ check.tone }}"><b><span aria-hidden="true">{{ m.mark(check.tone) }}</span>
{{ check.name }}</b>: {{ answers[check.tone] }}. {{ check.text }}</li>
{% endfor %}
</ul>
{% endfor %}
{% endif %}
<h3>Confusion matrices</h3>
<div class="tables">
{% for title, classes, rows in confusions %}
<figure class="wide"><table class="confusion"><caption>{{ title }}</caption><thead>
<tr><th>rows: true; columns: predicted</th>
{% for name in classes %}<th class="n"><span>{{ name }}</span></th>{% endfor %}</tr></thead><tbody>
{% for name, cells in rows %}
<tr><th>{{ name }}</th>{% for count, colour, ink in cells %}
<td class="n" style="background:{{ colour }};color:{{ ink }}">{{ count }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></figure>
{% endfor %}
</div>
"""


def context(run: Run) -> Mapping[str, Any] | None:
    """Return the classifiers of whole sets; learning curves are another section."""
    whole = {n: a for n, a in run.accuracies.items() if not is_learning_curve_point(n)}
    titles = classifier_titles(whole.values(), run.label_source)
    names = dict.fromkeys([*(name for name in titles if name in whole), *whole])
    if not whole:
        return None
    return {
        "accuracies": [(name, titles.get(name, ""), whole[name]) for name in names],
        "checks": {name: checks for name, checks in checks_by_set(run).items() if checks},
        "answers": ANSWERS,
        "confusions": [
            (f"{titles.get(name, name)} ({whole[name].network})", *_confusion(whole[name]))
            for name in names
        ],
    }


def classifier_titles(accuracies: Iterable[Accuracy], label_source: str) -> dict[str, str]:
    """Return the description of each classifier, of a second network after all of the first."""
    titles = TITLES | (PSEUDO_LABEL_TITLES if label_source == "templates" else {})
    networks = dict.fromkeys(accuracy.network for accuracy in accuracies)
    return titles | {f"{name}_{network}": titles[name] for network in networks for name in titles}


def _confusion(found: Accuracy) -> tuple[list[str], list[tuple[str, list[Any]]]]:
    """Return the classes, and each true class with count, background and ink of its cells."""
    table = np.asarray(found.confusion, float)
    colours = confusion_colours(table / np.maximum(table.sum(axis=1, keepdims=True), 1))
    rows = [
        (name, [(count, *cell) for count, cell in zip(counts, line, strict=True)])
        for name, counts, line in zip(found.classes, found.confusion, colours, strict=True)
    ]
    return found.classes, rows


SECTION = Section(
    name="accuracy",
    title="Classifier accuracy on real crops",
    template=TEMPLATE,
    context=context,
)

"""Section: metrics of each volume set, with intervals and baselines."""

from collections.abc import Mapping
from typing import Any

from cryoetgan.report.run import TITLES, Run
from cryoetgan.report.section import Section

DESCRIPTIONS = {
    "kid": ("0", "Kernel distance to real crops in classifier features; unbiased for small sets."),
    "fid": ("0", "Fréchet distance to real crops in classifier features; falls with set size."),
    "is": ("real", "Inception score of a classifier of real crops: confident, varied predictions."),
    "precision": ("real half", "Fraction of generated volumes in the neighbourhood of real crops."),
    "recall": ("real half", "Fraction of real crops in the neighbourhood of generated volumes."),
    "density": ("1", "Density of real crops around generated volumes; well above 1: low variety."),
    "coverage": ("real half", "Fraction of real crops with a generated volume in reach."),
    "ssim_class": ("real", "Structural similarity to a real crop of the same class."),
    "ssim_best": ("", "Structural similarity to the most similar of a few real crops."),
    "ssim_cycle": ("1", "Structural similarity of a density and its cycle G_sd(G_ds(d))."),
    "power_ratio": ("1", "Power relative to real crops in the worst Fourier shell."),
    "sd_ratio": ("1", "Standard deviation of grey values relative to real crops."),
    "pose_recovery": ("1", "Fraction of volumes that match their own density best."),
    "c2st_auc": ("0.5", "Area under the ROC curve of a classifier two-sample test."),
}
"""Metric to its best value and its meaning."""
WITH_WARNINGS = ("generated", "conventional", "fitted")
TEMPLATE = """
<p class="dim">Values with 95 % intervals. Baselines: one half of the real crops against the other
(real half), a constant volume, Gaussian noise. A value that a baseline also reaches carries no
information. &#9888;: see the warnings at the top.</p>
<div class="wide"><table><thead><tr><th>metric</th><th class="n">best</th>
{% for title in columns.values() %}<th class="n">{{ title }}</th>{% endfor %}
<th>baselines</th></tr></thead><tbody>
{% for row in rows %}
<tr><td><b>{{ row.name }}</b><br><span class="dim">{{ row.meaning }}</span></td>
<td class="n">{{ row.best }}</td>
{% for column in columns %}
{% set value = row.metrics[column] %}
<td class="n">{% if value %}{% if value.warning %}<span
title="{{ value.warning }}">&#9888;&nbsp;</span>{% endif %}{{ value.value|short }}
{% if value.interval %}<br><span class="dim">{{ value.low|short }} to {{ value.high|short }}</span>
{% endif %}{% endif %}</td>
{% endfor %}
<td class="baselines">{% for key, value in row.baselines.items() %}<span>{{ key|replace("_", " ")
}}&nbsp;{{ value|short }}</span>{% if not loop.last %}, {% endif %}{% endfor %}</td></tr>
{% endfor %}
</tbody></table></div>
"""


def context(run: Run) -> Mapping[str, Any] | None:
    """Return a row per metric and a column per measured set."""
    measured = {name for metrics in run.metrics.values() for name in metrics}
    known = [name for name in DESCRIPTIONS if name in measured]
    rows = []
    for name in [*known, *sorted(measured - set(known))]:
        metrics = {column: found.get(name) for column, found in run.metrics.items()}
        first = next(metric for metric in metrics.values() if metric)
        best, meaning = DESCRIPTIONS.get(name, ("", ""))
        rows.append(
            {
                "name": name,
                "metrics": metrics,
                "baselines": first.baselines,
                "best": best,
                "meaning": meaning,
            }
        )
    if not rows:
        return None
    return {"rows": rows, "columns": {c: TITLES[c] for c, found in run.metrics.items() if found}}


def warnings(run: Run) -> list[str]:
    """Return the warnings of all metrics; metrics with the same warning share a line."""
    found = []
    for column in WITH_WARNINGS:
        names: dict[str, list[str]] = {}
        for name, metric in run.metrics[column].items():
            if metric.warning:
                names.setdefault(metric.warning, []).append(name)
        found += [f"{TITLES[column]}, {', '.join(n)}: {text}" for text, n in names.items()]
    return found


SECTION = Section(
    name="metrics", title="Metrics", template=TEMPLATE, context=context, warnings=warnings
)

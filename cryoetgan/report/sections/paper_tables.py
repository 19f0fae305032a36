"""Section: tables 2 to 4 of the paper (Wu et al. 2022) with the numbers of this run."""

from collections.abc import Mapping, Sequence
from typing import Any

from cryoetgan.evaluation.paper import TABLE_2, TABLE_3, TABLE_4
from cryoetgan.report.evaluation_json import Accuracy, Metric, short
from cryoetgan.report.results import Results, to_float
from cryoetgan.report.run import TITLES, Run
from cryoetgan.report.section import Section

ABLATIONS_FILE = "ablations.csv"
METRIC_COLUMNS = {
    "ssim_class": "SSIM",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "gan_test": "accuracy (gan_test)",
}
TABLES: dict[str, tuple[Mapping[str, Mapping[str, float]], Mapping[str, str]]] = {
    "Table 3": (TABLE_3, {"fid": "FID", "is": "IS"}),
    "Table 4": (TABLE_4, METRIC_COLUMNS | {"gan_train": "gan_train"}),
    "Ours": ({}, {"fid": "FID", "is": "IS"} | METRIC_COLUMNS | {"gan_train": "gan_train"}),
}
"""Table of ablations to the paper's rows, and its columns with their titles."""
Rows = list[list[str]]
TEMPLATE = """
<p class="dim">Paper: Wu et al. 2022. The numbers are not comparable: data, features and classifiers
differ. The paper's accuracy is gan_test here (trained on real crops, tested on generated volumes).
On raw voxels, a constant volume gives precision 1, recall 0, density 320 and coverage 1.</p>
<h3>Table 2 of the paper</h3>
{{ m.grid(table_2, "table-2") }}
{% for name, rows in ablations %}
<h3>{{ "Other ablations" if name == "Ours" else "Ablations, " ~ name ~ " of the paper" }}</h3>
{{ m.grid(rows) }}
{% endfor %}
{% if not ablated %}<p class="dim">This run has no ablations: <code>snakemake ablations</code>
creates their table (evaluation/ablations.csv).</p>{% endif %}
"""


def context(run: Run) -> Mapping[str, Any]:
    """Return table 2 and the tables of ablations."""
    rows = ablation_rows(run.results)
    return {
        "table_2": table_2(run.metrics, run.accuracies),
        "ablations": ablation_tables(rows),
        "ablated": bool(rows),
    }


def ablation_rows(results: Results) -> list[dict[str, Any]]:
    """Return the rows of the CSV files of `evaluation ablations`."""
    return [
        row
        for path in sorted(results.folder.glob(f"evaluation/**/{ABLATIONS_FILE}"))
        for row in results.rows(path.relative_to(results.folder).as_posix())
    ]


def table_2(
    metrics: Mapping[str, Mapping[str, Metric]], accuracies: Mapping[str, Accuracy]
) -> Rows:
    """Return heading and rows of table 2: the sets of this run, then the paper's.

    Parameters
    ----------
    metrics : mapping
        Volume set to its metrics.
    accuracies : mapping
        Classifiers; `gan_test` is shown if it exists.
    """
    rows = [["", *METRIC_COLUMNS.values()]]
    for name, found in metrics.items():
        if not set(METRIC_COLUMNS) & set(found):
            continue
        accuracy = accuracies.get("gan_test") if name == "generated" else None
        cells = [short(found[key].value) if key in found else "" for key in METRIC_COLUMNS]
        rows.append([f"this run, {TITLES[name]}", *cells[:-1], str(accuracy or "")])
    return [*rows, *_paper_rows(TABLE_2, METRIC_COLUMNS)]


def ablation_tables(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, Rows]]:
    """Return tables 3 and 4 and further ablations, our rows above the paper's.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of the CSV file of `evaluation ablations`; may be empty.
    """
    found = []
    for table, (paper, columns) in TABLES.items():
        ours = [row for row in rows if row.get("table") == table]
        if not ours and not paper:
            continue
        counts = ["seeds", "collapsed"] if ours else []
        shown: Rows = [["", *counts, *columns.values()]]
        for row in ours:
            collapsed = to_float(row.get("collapsed"))
            fraction = "" if collapsed != collapsed else f"{100 * collapsed:.0f} %"
            cells = [with_interval(row, key) for key in columns]
            label = f"this run, {row.get('label', '')}"
            shown.append([label, row.get("seeds", ""), fraction, *cells])
        found.append((table, [*shown, *_paper_rows(paper, columns, len(counts))]))
    return found


def _paper_rows(
    paper: Mapping[str, Mapping[str, float]], columns: Mapping[str, str], n_empty: int = 0
) -> Rows:
    """Return the paper's rows with as many digits as printed; accuracies in percent."""
    return [
        [
            f"paper, {label}",
            *[""] * n_empty,
            *(
                f"{100 * row[key]:.1f} %"
                if key == "gan_test"
                else f"{row[key]:g}"
                if key in row
                else ""
                for key in columns
            ),
        ]
        for label, row in paper.items()
    ]


def with_interval(row: Mapping[str, str], key: str) -> str:
    """Return a value of a table and its interval, from columns `key`, `key_low`, `key_high`."""
    value, low, high = (to_float(row.get(name)) for name in (key, f"{key}_low", f"{key}_high"))
    if value != value:
        return ""
    if low != low or high != high:
        return short(value)
    return f"{short(value)} ({short(low)} to {short(high)})"


SECTION = Section(
    name="paper", title="Comparison with the paper", template=TEMPLATE, context=context
)

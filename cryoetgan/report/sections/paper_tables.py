"""Section: tables 2 to 4 of the paper (Wu et al. 2022) with the numbers of this run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from cryoetgan.evaluation.paper import TABLE_2, TABLE_3, TABLE_4
from cryoetgan.report.evaluation_json import Accuracy, Metric, short, to_float, with_interval
from cryoetgan.report.html import Section, macros
from cryoetgan.report.results import Results
from cryoetgan.report.run import TITLES, Run

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


def render(run: Run) -> Iterator[Markup]:
    """Yield table 2 and the tables of ablations."""
    yield macros.note(
        "Paper: Wu et al. 2022. The numbers are not comparable: data, features and classifiers "
        "differ. The paper's accuracy is gan_test here (trained on real crops, tested on generated "
        "volumes). On raw voxels, a constant volume gives precision 1, recall 0, density 320 and "
        "coverage 1."
    )
    yield macros.heading("Table 2 of the paper")
    yield macros.grid(table_2(run.metrics, run.accuracies), "table-2")
    ours = ablation_rows(run.results)
    for table, rows in ablation_tables(ours):
        title = "Other ablations" if table == "Ours" else f"Ablations, {table} of the paper"
        yield macros.heading(title) + macros.grid(rows)
    if not ours:
        yield macros.note(
            "This run has no ablations: `snakemake ablations` creates evaluation/ablations.csv."
        )


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


SECTION = Section("paper", "Comparison with the paper", render)

"""Sections: metrics of each set, comparison of training sets, tables of the paper, other tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cryoetgan.evaluation.paper import TABLE_2, TABLE_3, TABLE_4
from cryoetgan.report.evaluation_json import Accuracy, Metric, short, to_float, with_interval
from cryoetgan.report.results import Results
from cryoetgan.report.run import TITLES, Run
from cryoetgan.report.sections.training import EPOCHS_FILE

METRICS = {
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
COMPARISON = "evaluation/comparison/comparison.csv"
COMPARISON_COLUMNS = {
    "gan_train": "trained on the set",
    "minus_baseline": "points above",
    "mixed": "with a few real crops",
    "gan_test": "GAN-test",
}
COMPARED_SETS = {
    "noise_only": "fitted noise without transfer",
    "no_neighbours": "fitted simulation without neighbours",
    "real_background": "fitted simulation in real background",
    "fitted": "fitted simulation",
    "pseudo_labels": "pseudo-labelled picks",
}
ABLATIONS_FILE = "ablations.csv"
PAPER_COLUMNS = {
    "ssim_class": "SSIM",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "gan_test": "accuracy (gan_test)",
}
ABLATION_COLUMNS = PAPER_COLUMNS | {"gan_train": "gan_train"}
DISTANCES = {"fid": "FID", "is": "IS"}
ABLATION_TABLES: dict[str, tuple[Mapping[str, Mapping[str, float]], Mapping[str, str]]] = {
    "Table 3": (TABLE_3, DISTANCES),
    "Table 4": (TABLE_4, ABLATION_COLUMNS),
    "Ours": ({}, DISTANCES | ABLATION_COLUMNS),
}
"""Table of ablations to the paper's rows, and its columns with their titles."""
Rows = list[list[str]]


def list_metrics(run: Run) -> dict[str, Any]:
    """Return a row per metric with its value of each measured set."""
    sets = {name: metrics for name, metrics in run.metrics.items() if metrics}
    measured = {name for metrics in sets.values() for name in metrics}
    names = [name for name in METRICS if name in measured]
    rows = []
    for name in [*names, *sorted(measured - set(names))]:
        values = [metrics.get(name) for metrics in sets.values()]
        baselines = next(metric.baselines for metric in values if metric)
        rows.append((name, *METRICS.get(name, ("", "")), values, baselines))
    return {"columns": [TITLES[name] for name in sets], "rows": rows} if rows else {}


def metric_warnings(run: Run) -> list[str]:
    """Return the warnings of all metrics; metrics with the same warning share a line."""
    found = []
    for column in ("generated", "conventional", "fitted"):
        names: dict[str, list[str]] = {}
        for name, metric in run.metrics[column].items():
            if metric.warning:
                names.setdefault(metric.warning, []).append(name)
        found += [f"{TITLES[column]}, {', '.join(n)}: {text}" for text, n in names.items()]
    return found


def compare_sets(run: Run) -> dict[str, Any]:
    """Return the table of `snakemake comparison`; without it, the section names the command."""
    return {"rows": comparison_rows(run.results)}


def comparison_rows(results: Results) -> Rows:
    """Return heading and rows; empty if the file is missing or has unknown columns."""
    rows = results.rows(COMPARISON)
    columns = [name for name in COMPARISON_COLUMNS if any(row.get(name) for row in rows)]
    if not columns:
        if results.has(COMPARISON):
            wanted = ", ".join(COMPARISON_COLUMNS)
            results.gaps.append(f"{COMPARISON}: has none of the columns {wanted}")
        return []
    summary = results.json(COMPARISON.replace(".csv", ".json"), optional=True)
    baseline = _name_compared_set(str(summary.get("baseline") or "the baseline"))
    titles = COMPARISON_COLUMNS | {"minus_baseline": f"points above {baseline}"}
    found = [["set", "volumes", *(titles[name] for name in columns)]]
    for row in rows:
        cells = [
            with_interval(row, n, _to_percent, "" if n == "minus_baseline" else " %")
            for n in columns
        ]
        name = _name_compared_set(str(row.get("name") or "?"))
        found.append([name, row.get("n_train") or "", *cells])
    return found


def _to_percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _name_compared_set(name: str) -> str:
    kind, _, rest = name.partition("_")
    if kind == "conventional" and rest.startswith("snr"):
        return f"conventional simulation, SNR {rest.removeprefix('snr')}"
    if kind == "generated" and rest:
        return f"generated by {rest}"
    return COMPARED_SETS.get(name, name)


def compare_with_paper(run: Run) -> dict[str, Any]:
    """Return tables 2 to 4 of the paper (Wu et al. 2022) with the numbers of this run."""
    ours = [
        row
        for path in sorted(run.results.folder.glob(f"evaluation/**/{ABLATIONS_FILE}"))
        for row in run.results.rows(path.relative_to(run.results.folder).as_posix())
    ]
    return {
        "table_2": table_2(run.metrics, run.accuracies),
        "ablations": ablation_tables(ours),
        "is_run": bool(ours),
    }


def table_2(
    metrics: Mapping[str, Mapping[str, Metric]], accuracies: Mapping[str, Accuracy]
) -> Rows:
    """Return heading and rows of table 2: the sets of this run, then the paper's."""
    rows = [["", *PAPER_COLUMNS.values()]]
    for name, found in metrics.items():
        if not set(PAPER_COLUMNS) & set(found):
            continue
        accuracy = accuracies.get("gan_test") if name == "generated" else None
        cells = [short(found[key].value) if key in found else "" for key in PAPER_COLUMNS]
        rows.append([f"this run, {TITLES[name]}", *cells[:-1], str(accuracy or "")])
    return [*rows, *_paper_rows(TABLE_2, PAPER_COLUMNS)]


def ablation_tables(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, Rows]]:
    """Return tables 3 and 4 and further ablations: rows of `evaluation ablations`, the paper's."""
    found = []
    for table, (paper, columns) in ABLATION_TABLES.items():
        ours = [row for row in rows if row.get("table") == table]
        if not ours and not paper:
            continue
        counts = ["seeds", "collapsed"] if ours else []
        shown: Rows = [["", *counts, *columns.values()]]
        for row in ours:
            collapsed = to_float(row.get("collapsed"))
            fraction = "" if math.isnan(collapsed) else f"{100 * collapsed:.0f} %"
            cells = [with_interval(row, key) for key in columns]
            label = f"this run, {row.get('label', '')}"
            shown.append([label, row.get("seeds", ""), fraction, *cells])
        found.append((table, [*shown, *_paper_rows(paper, columns, len(counts))]))
    return found


def _paper_rows(
    paper: Mapping[str, Mapping[str, float]], columns: Mapping[str, str], n_empty: int = 0
) -> Rows:
    """Return the paper's rows with as many digits as printed; accuracies in percent."""
    found = []
    for label, row in paper.items():
        cells = [f"{row[key]:g}" if key in row else "" for key in columns]
        if "gan_test" in row:
            cells[list(columns).index("gan_test")] = f"{100 * row['gan_test']:.1f} %"
        found.append([f"paper, {label}", *[""] * n_empty, *cells])
    return found


def list_other_tables(run: Run, max_rows: int = 200) -> dict[str, Any]:
    """Return name and rows of each other CSV file; an interval is shown behind its value."""
    found = []
    for path in sorted(run.results.folder.glob("evaluation/**/*.csv")):
        name = path.relative_to(run.results.folder).as_posix()
        rows = run.results.rows(name)[:max_rows]
        if path.name in (ABLATIONS_FILE, EPOCHS_FILE) or name == COMPARISON or not rows:
            continue
        columns = [column for column in rows[0] if column]
        bounded = [c for c in columns if {f"{c}_low", f"{c}_high"} <= set(columns)]
        bounds = {f"{column}_{end}" for column in bounded for end in ("low", "high")}
        kept = [column for column in columns if column not in bounds]
        cells = [
            [with_interval(row, c) if c in bounded else row.get(c) or "" for c in kept]
            for row in rows
        ]
        found.append((name, [kept, *cells]))
    return {"tables": found} if found else {}

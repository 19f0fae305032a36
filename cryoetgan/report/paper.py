"""The paper's tables 2 to 4, ours beside them.

Source: Wu et al. 2022, doi 10.3389/fphys.2022.760404. The paper's accuracy is that of a
classifier trained on real crops and tested on generated ones: our gan_test.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cryoetgan.report.evaluation_results import Accuracy, Metric, short

METRICS = ("ssim_class", "precision", "recall", "density", "coverage")
HEADING = ["", "SSIM", "precision", "recall", "density", "coverage", "accuracy"]
TABLE_2: tuple[tuple[str, ...], ...] = (
    ("paper, S_e1", "0.3071", "1.0", "0.0", "320.0", "1.0", "76.4 %"),
    ("paper, S_e1, traditional simulation", "", "", "", "", "", "19.7 %"),
    ("paper, S_e2", "0.7192", "0.3493", "0.0678", "2.216", "0.5532", "67.3 %"),
    ("paper, S_e2, traditional simulation", "", "", "", "", "", "28.9 %"),
)
COLUMNS = {
    "Table 3": {"fid": "FID", "is": "IS"},
    "Table 4": {
        "ssim_class": "SSIM",
        "precision": "precision",
        "recall": "recall",
        "density": "density",
        "coverage": "coverage",
        "gan_test": "accuracy (gan_test)",
        "gan_train": "gan_train",
    },
}
COLUMNS["Ours"] = COLUMNS["Table 3"] | COLUMNS["Table 4"]
PAPER_ROWS: dict[str, tuple[tuple[str, Mapping[str, str]], ...]] = {
    "Table 3": (
        ("without Gaussian noise", {"fid": "828.18", "is": "1.42"}),
        ("0.2 x Gaussian noise", {"fid": "201.37", "is": "2.32"}),
        ("0.5 x Gaussian noise", {"fid": "273.01", "is": "2.22"}),
    ),
    "Table 4": tuple(
        (label, dict(zip((*METRICS, "gan_test"), values, strict=True)))
        for label, values in (
            (
                "Wasserstein loss, spectral norm",
                ("0.3071", "1.0", "0.0", "320.0", "1.0", "76.4 %"),
            ),
            ("spectral norm alone", ("0.2006", "0.0", "0.0", "0.0", "0.0", "26.9 %")),
            ("Wasserstein loss alone", ("0.0413", "1.0", "0.0", "320.0", "1.0", "57.1 %")),
        )
    ),
    "Ours": (),
}
Rows = list[list[str]]


def table_2(
    measured: Mapping[str, Mapping[str, Metric]], accuracies: Mapping[str, Accuracy]
) -> Rows:
    """Return the rows of table 2: this run's sets, then the paper's.

    Parameters
    ----------
    measured : mapping
        Set to its metrics.
    accuracies : mapping
        With gan_test, where it is known.
    """
    rows = [HEADING]
    for name, found in measured.items():
        if not set(METRICS) & set(found):
            continue
        accuracy = accuracies.get("gan_test") if name == "generated" else None
        cells = [_shown(found.get(metric)) for metric in METRICS]
        rows.append([f"this run, {name}", *cells, str(accuracy or "")])
    return [*rows, *(list(row) for row in TABLE_2)]


def _shown(metric: Metric | None) -> str:
    return short(metric.value) if metric else ""


def ablation_tables(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, Rows]]:
    """Return tables 3 and 4 and our own ablations, each row of ours above the paper's.

    Parameters
    ----------
    rows : sequence of mapping
        Of the CSV that `evaluation ablations` writes; empty: the paper's stand alone.
    """
    found = []
    for table, columns in COLUMNS.items():
        ours = [row for row in rows if row.get("table") == table]
        if not ours and not PAPER_ROWS[table]:
            continue
        counted = ["seeds", "collapsed"] if ours else []
        shown: Rows = [["", *counted, *columns.values()]]
        for row in ours:
            cells = [_with_interval(row, key) for key in columns]
            collapsed = _share(row.get("collapsed", ""))
            label = f"this run, {row.get('label', '')}"
            shown.append([label, row.get("seeds", ""), collapsed, *cells])
        for label, paper in PAPER_ROWS[table]:
            cells = [paper.get(key, "") for key in columns]
            shown.append([f"paper, {label}", *[""] * len(counted), *cells])
        found.append((table, shown))
    return found


def _share(text: str) -> str:
    number = _number(text)
    return "" if number is None else f"{100 * number:.0f} %"


def _with_interval(row: Mapping[str, str], key: str) -> str:
    value, low, high = (_number(row.get(name, "")) for name in (key, f"{key}_low", f"{key}_high"))
    if value is None:
        return ""
    if low is None or high is None:
        return short(value)
    return f"{short(value)} ({short(low)} to {short(high)})"


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None

"""The paper's ablations (tables 3 and 4) and ours: what is switched, and the table of results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cryoetgan.errors import UserError
from cryoetgan.evaluation.paper import TABLE_3, TABLE_4
from cryoetgan.evaluation.statistics.intervals import over_seeds, wilson
from cryoetgan.translation.settings import Settings

COLUMNS = (
    "fid",
    "is",
    "kid",
    "ssim_class",
    "precision",
    "recall",
    "density",
    "coverage",
    "sd_ratio",
    "gan_test",
    "gan_train",
)
LOW_RECALL, HIGH_COVERAGE, NARROW, ONE_CLASS = 0.05, 0.9, 0.3, 0.9
CLOSE_TOGETHER = 0.5
"""Distances between generated volumes over those between real ones; older measures lack it."""
SHARES = ("precision", "recall", "coverage", "gan_test", "gan_train")
NOT_COMPARABLE = "other data, features and classifier: not comparable"


@dataclass(frozen=True)
class Ablation:
    """One row of a table.

    Attributes
    ----------
    table : str
        Where it stands.
    label : str
        As the paper says it.
    settings : mapping
        What is changed in a preset of `translation train`.
    paper : mapping
        The paper's numbers, accuracies as shares.
    """

    table: str
    label: str
    settings: Mapping[str, Any]
    paper: Mapping[str, float]


def _ablation(table: str, label: str, **settings: Any) -> Ablation:
    return Ablation(table, label, settings, PAPER.get(table, {}).get(label, {}))


PAPER = {"Table 3": TABLE_3, "Table 4": TABLE_4}
_W: dict[str, Any] = {"objective": "wgan", "clip": 0.01}
_NO_W: dict[str, Any] = {"objective": "bce", "clip": 0.0}
ABLATIONS: dict[str, Ablation] = {
    "input_noise_0": _ablation("Table 3", "without Gaussian noise", input_noise=0.0),
    "input_noise_0.2": _ablation("Table 3", "0.2 x Gaussian noise", input_noise=0.2),
    "input_noise_0.5": _ablation("Table 3", "0.5 x Gaussian noise", input_noise=0.5),
    "wasserstein_spectral": _ablation(
        "Table 4", "Wasserstein loss, spectral norm", **_W, spectral_norm=True
    ),
    "spectral": _ablation("Table 4", "spectral norm alone", **_NO_W, spectral_norm=True),
    "wasserstein": _ablation("Table 4", "Wasserstein loss alone", **_W, spectral_norm=False),
    "dropout_off": _ablation("Ours", "no dropout", dropout=0.0),
    "bottleneck_noise_off": _ablation("Ours", "no bottleneck noise", noise_channels=0),
}


def refuse_residual(settings: Settings, preset: str) -> None:
    """Refuse a preset that has nothing of what the ablations switch."""
    if settings.frame != "cycle":
        raise UserError(
            f"--preset: {preset} has no critic, no cycle and no noise input to switch off; wanted "
            "paper, released, smoke, or a file of that kind (evaluation.ablation_preset)"
        )


def collapsed(metrics: Mapping[str, Any], gan_test: Mapping[str, Any]) -> bool:
    """Return whether a generator collapsed: no variety, or one class for everything.

    Recall near 0 with high coverage (all volumes in the middle of the real ones) or with
    none (far away, and close to each other: far alone is no collapse), voxels that hardly
    vary, or nine tenths of the generated volumes of all classes taken for one class.
    """
    close = (metrics.get("recall", {}).get("spread") or 0.0) < CLOSE_TOGETHER
    recall, coverage = _of(metrics, "recall"), _of(metrics, "coverage")
    spread = _of(metrics, "sd_ratio")
    found = np.array(gan_test.get("confusion", [[0]]), float).sum(axis=0)
    return bool(
        (recall < LOW_RECALL and (coverage > HIGH_COVERAGE or (coverage < LOW_RECALL and close)))
        or spread < NARROW
        or (found.sum() > 0 and found.max() > ONE_CLASS * found.sum())
    )


def _of(metrics: Mapping[str, Any], name: str) -> float:
    value = metrics.get(name, {}).get("value")
    return float("nan") if value is None else float(value)


def tabulate(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return one row an ablation: mean, interval over seeds, collapse rate, the paper's number.

    Parameters
    ----------
    found : mapping
        Ablation to its seeds' results: mappings with keys `measure` (of `evaluation
        measure`), `gan_test` and `gan_train` (of `evaluation classify`).
    """
    rows = []
    for name, ablation in ABLATIONS.items():
        runs = found.get(name)
        if not runs:
            continue
        fallen = sum(collapsed(run["measure"], run["gan_test"]) for run in runs)
        low, high = wilson(fallen, len(runs))
        row: dict[str, Any] = {
            "table": ablation.table,
            "ablation": name,
            "label": ablation.label,
            "seeds": len(runs),
            "collapsed": fallen / len(runs),
            "collapsed_low": low,
            "collapsed_high": high,
        }
        for column in COLUMNS:
            values = np.array([[_value(run, column)] for run in runs])
            values = values[np.isfinite(values[:, 0])]
            if len(values):
                mean, (low, high) = over_seeds(values)
                row |= {column: mean}
                if len(values) > 1:
                    top = 1.0 if column in SHARES else np.inf
                    least = -np.inf if column == "kid" else 0.0
                    row |= {f"{column}_low": max(low, least), f"{column}_high": min(high, top)}
                if len(values) < len(runs):
                    row |= {f"{column}_seeds": len(values)}
            if column in ablation.paper:
                row[f"{column}_paper"] = ablation.paper[column]
        row["paper"] = NOT_COMPARABLE if ablation.paper else ""
        rows.append(row)
    return rows


def _value(run: Mapping[str, Any], column: str) -> float:
    if column in ("gan_test", "gan_train"):
        return float(run[column]["accuracy"]) if column in run else float("nan")
    return _of(run["measure"], column)

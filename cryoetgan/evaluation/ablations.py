"""The ablations of the paper (tables 3 and 4) and our own: their presets, and their table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cryoetgan.errors import UserError, suggest
from cryoetgan.evaluation import paper
from cryoetgan.evaluation.statistics.intervals import mean_over_seeds, wilson
from cryoetgan.translation.engine.settings import TrainingSettings
from cryoetgan.translation.presets import read_preset

COLUMNS = ("fid", "is", "kid", *paper.COLUMNS[:-1], "sd_ratio", "gan_test", "gan_train")
"""Columns of the table."""
FRACTIONS = ("precision", "recall", "coverage", "gan_test", "gan_train")
"""Columns whose intervals end at 1."""
LOW_RECALL, HIGH_COVERAGE, LOW_SD_RATIO, DOMINANT_CLASS = 0.05, 0.9, 0.3, 0.9
LOW_SPREAD = 0.5
"""Neighbour distance in the generated set over that in the real set (`spread` of recall)."""
NOT_COMPARABLE = "other data, features and classifier: not comparable"
PAPER_TABLES = {"Table 3": paper.TABLE_3, "Table 4": paper.TABLE_4}


@dataclass(frozen=True)
class Ablation:
    """One row of a table."""

    table: str  # of the paper, or "Ours"
    label: str  # of the row, as in the paper
    settings: Mapping[str, Any]  # changed keys of a preset

    @property
    def paper(self) -> Mapping[str, float]:
        """The numbers of the paper; accuracies are fractions."""
        return PAPER_TABLES.get(self.table, {}).get(self.label, {})


WASSERSTEIN, NO_WASSERSTEIN = {"objective": "wgan", "clip": 0.01}, {"objective": "bce", "clip": 0.0}
ABLATIONS = {
    "input_noise_0": Ablation("Table 3", "without Gaussian noise", {"input_noise": 0.0}),
    "input_noise_0.2": Ablation("Table 3", "0.2 x Gaussian noise", {"input_noise": 0.2}),
    "input_noise_0.5": Ablation("Table 3", "0.5 x Gaussian noise", {"input_noise": 0.5}),
    "wasserstein_spectral": Ablation(
        "Table 4", "Wasserstein loss, spectral norm", WASSERSTEIN | {"spectral_norm": True}
    ),
    "spectral": Ablation(
        "Table 4", "spectral norm alone", NO_WASSERSTEIN | {"spectral_norm": True}
    ),
    "wasserstein": Ablation(
        "Table 4", "Wasserstein loss alone", WASSERSTEIN | {"spectral_norm": False}
    ),
    "dropout_off": Ablation("Ours", "no dropout", {"dropout": 0.0}),
    "bottleneck_noise_off": Ablation("Ours", "no bottleneck noise", {"noise_channels": 0}),
}


def ablate_preset(name: str, preset: str, snapshot_every: int | None = None) -> TrainingSettings:
    """Return the settings of a preset with one ablation, and with more snapshots if wanted."""
    if name not in ABLATIONS:
        known = ", ".join(ABLATIONS)
        raise UserError(f"unknown ablation '{name}'{suggest(name, ABLATIONS)} (known: {known})")
    settings = read_preset(preset)
    if settings.model != "cyclegan":
        raise UserError(
            f"--preset: {preset} has no discriminator, cycle or input noise to ablate; wanted "
            "paper, released, cyclegan, smoke, or a file of that kind (evaluation.ablation_preset)"
        )
    changed = dict(ABLATIONS[name].settings)
    if snapshot_every is not None:
        changed["snapshot_every"] = snapshot_every
    return settings.replace(**changed)


def has_collapsed(metrics: Mapping[str, Any], gan_test: Mapping[str, Any]) -> bool:
    """Return whether a generator has collapsed: low variety, or one class for everything.

    The signs are: (1) a recall near 0 with a high coverage: all volumes are in the middle of
    the real ones; (2) a recall and coverage near 0, and volumes close to each other;
    (3) a low standard deviation of the voxels; (4) 90 % of the generated volumes are
    classified as one class. The arguments are outputs of `evaluation measure` and `classify`.
    """
    close = (metrics.get("recall", {}).get("spread") or 0.0) < LOW_SPREAD
    recall, coverage = _metric(metrics, "recall"), _metric(metrics, "coverage")
    predicted = np.array(gan_test.get("confusion", [[0]]), float).sum(axis=0)
    return bool(
        (recall < LOW_RECALL and (coverage > HIGH_COVERAGE or (coverage < LOW_RECALL and close)))
        or _metric(metrics, "sd_ratio") < LOW_SD_RATIO
        or (predicted.sum() > 0 and predicted.max() > DOMINANT_CLASS * predicted.sum())
    )


def _metric(metrics: Mapping[str, Any], name: str) -> float:
    value = metrics.get(name, {}).get("value")
    return float("nan") if value is None else float(value)


def tabulate(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return one row per ablation: mean, interval over seeds, collapse rate, the paper's number.

    `found` holds the results of each seed of an ablation: mappings with keys `measure` (of
    `evaluation measure`), `gan_test` and `gan_train` (of `evaluation classify`).
    """
    return [_row(name, found[name]) for name in ABLATIONS if found.get(name)]


def _row(name: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ablation = ABLATIONS[name]
    collapsed = sum(has_collapsed(run["measure"], run["gan_test"]) for run in runs)
    low, high = wilson(collapsed, len(runs))
    row: dict[str, Any] = {
        "table": ablation.table,
        "ablation": name,
        "label": ablation.label,
        "seeds": len(runs),
        "collapsed": collapsed / len(runs),
        "collapsed_low": low,
        "collapsed_high": high,
    }
    for column in COLUMNS:
        lowest = -np.inf if column == "kid" else 0.0
        highest = 1.0 if column in FRACTIONS else np.inf
        values = np.array([[_value(run, column)] for run in runs])
        values = values[np.isfinite(values[:, 0])]
        if len(values):
            row[column], (low, high) = mean_over_seeds(values)
            if len(values) > 1:
                row |= {f"{column}_low": max(low, lowest), f"{column}_high": min(high, highest)}
            if len(values) < len(runs):
                row[f"{column}_seeds"] = len(values)
        if column in ablation.paper:
            row[f"{column}_paper"] = ablation.paper[column]
    return row | {"paper": NOT_COMPARABLE if ablation.paper else ""}


def _value(run: Mapping[str, Any], column: str) -> float:
    if column in ("gan_test", "gan_train"):
        return float(run[column]["accuracy"]) if column in run else float("nan")
    return _metric(run["measure"], column)

"""The table of a comparison, from the correctly classified volumes of each trial."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.evaluation.comparison.comparison_config import REAL, ComparisonConfig
from cryoetgan.evaluation.labelled_sets import LabelledSet
from cryoetgan.evaluation.metrics.precision_recall import f1_contributions
from cryoetgan.evaluation.statistics.clusters import Labels, cluster_labels
from cryoetgan.evaluation.statistics.intervals import cluster_robust_wilson, mean_over_seeds
from cryoetgan.io.star import OTHER

COLUMNS = ("gan_train", "gan_test", "mixed", "minus_baseline", "minus_upper_bound")
CONFOUNDED = (
    "a classifier without the particles is better than chance: classes and tomograms are "
    "confounded, which raises every accuracy"
)
Results = Mapping[tuple[str, ...], Sequence[Mapping[str, Any]]]
"""Name of a trial to its results (of `run_trial`), one per seed."""
Correct = NDArray[np.float64]
"""`(seeds, N)`: 1 if a test volume was classified correctly, 0 if not; or its contribution to the
mean F1."""


def tabulate(
    config: ComparisonConfig,
    results: Results,
    test: LabelledSet,
    by_templates: NDArray[np.str_] | None,
) -> dict[str, Any]:
    """Return the table: methods, upper bound, controls.

    `by_templates` `(N,)` are the classes of the test crops by template matching. Figures are
    accuracies, or mean F1 over classes if the test set holds `other` (key `figure`).
    """
    clusters = cluster_labels(test.table)
    found, counts = np.unique(test.names, return_counts=True)
    is_open = OTHER in found
    upper_bound = _stack(results[REAL,])
    points = [(count, results["curve", str(count)]) for count in config.curve]
    table: dict[str, Any] = {
        "methods": _method_rows(config, results, test.names, clusters),
        "baseline": config.baseline,
        "seeds": config.seeds,
        "few_shot": config.few_shot,
        "n_test": len(test),
        "figure": "f1" if is_open else "accuracy",
        "chance": 1 / len(counts) if is_open else float(counts.max() / counts.sum()),
        "upper_bound": _accuracy(upper_bound, clusters)
        | {
            "n_train": results[REAL,][0]["n_train"],
            "classes": _accuracy_by_class(_stack(results[REAL,], "correct"), test.names),
        },
        "curve": [
            _accuracy(_stack(found), clusters)
            | {"per_class": count, "n_train": found[0]["n_train"]}
            for count, found in points
        ],
    }
    if config.background:
        background = _accuracy(_stack(results["background",]), clusters)
        confounded = background["interval"][0] > table["chance"]
        table["background"] = background | {"warning": CONFOUNDED if confounded else None}
    if by_templates is not None:
        correct = by_templates == test.names
        table["template_matching"] = {
            "value": float(correct.mean()),
            "interval": list(cluster_robust_wilson(correct, clusters)),
        }
        if is_open:
            values = f1_contributions(test.names, by_templates, found.tolist())
            table["template_matching"] = _accuracy(values[None], clusters)
    if config.leave_one_out:
        table["leave_one_out"] = _left_out(results, test.names, clusters)
    return table


def _stack(results: Sequence[Mapping[str, Any]], key: str = "values", name: str = REAL) -> Correct:
    """Return `(seeds, N)` of one test set; sets of several lengths are cut to the shortest."""
    rows = [result[key][name] for result in results]
    shortest = min(map(len, rows))
    return np.array([list(row[:shortest]) for row in rows], float)


def _method_rows(
    config: ComparisonConfig, results: Results, names: Labels, clusters: Labels
) -> list[dict[str, Any]]:
    """Return one row per method, the highest GAN-train accuracy first."""
    upper_bound = _stack(results[REAL,])
    baseline = _stack(results["gan_train", config.baseline]) if config.baseline else None
    rows = []
    for name, method in config.methods.items():
        correct = _stack(results["gan_train", name])
        row = {
            "name": name,
            "gan_train": _accuracy(correct, clusters),
            # its test set belongs to the method: only the seeds vary
            "gan_test": _accuracy(_stack(results[REAL,], name=name)),
            "classes": _accuracy_by_class(_stack(results["gan_train", name], "correct"), names),
            "n_train": results["gan_train", name][0]["n_train"],
            "fraction_of_upper_bound": float(correct.mean() / max(upper_bound.mean(), 1e-9)),
            "minus_upper_bound": _accuracy(correct - upper_bound, clusters, -1.0),
        }
        if config.few_shot and method.mix:
            row["mixed"] = _accuracy(_stack(results["mixed", name]), clusters)
        if baseline is not None and name != config.baseline:
            row["minus_baseline"] = _accuracy(correct - baseline, clusters, -1.0)
        rows.append(row)
    return sorted(rows, key=lambda row: -row["gan_train"]["value"])


def _accuracy(
    correct: Correct, clusters: Labels | None = None, lowest: float = 0.0
) -> dict[str, Any]:
    """Return an accuracy over seeds, or a difference of two (`lowest` is -1 then)."""
    mean, (low, high) = mean_over_seeds(correct, clusters)
    interval = [max(low, lowest), min(high, 1.0)]  # a few seeds make wide intervals
    return {"value": mean, "interval": interval, "seeds": correct.mean(axis=1).tolist()}


def _accuracy_by_class(correct: Correct, names: Labels) -> dict[str, float]:
    return {str(name): float(correct[:, names == name].mean()) for name in np.unique(names)}


def _left_out(results: Results, names: Labels, clusters: Labels) -> dict[str, Any]:
    """Return the accuracy on each left-out class, for each method.

    `with_real`: trained on real crops of all other classes and synthetic ones of this
    class; `synthetic`: trained on synthetic volumes alone. Each with `others`, the accuracy
    on the other classes: 0 for a classifier that always predicts the class left out.
    """
    table: dict[str, Any] = {}
    for name, new in (rest for kind, *rest in results if kind == "left_out"):
        columns = {
            "with_real": results["left_out", name, new],
            "synthetic": results.get(("left_out_synthetic", name, new), results["gan_train", name]),
        }
        chosen = names == new
        table.setdefault(name, {})[new] = {
            column: _accuracy(_stack(found, "correct")[:, chosen], clusters[chosen])
            | {"others": _accuracy(_stack(found, "correct")[:, ~chosen], clusters[~chosen])}
            for column, found in columns.items()
        }
    return table


def csv_rows(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of `comparison.csv`: methods, then the upper bound and controls."""
    # the columns that any method has, always in the same order
    used = [name for name in COLUMNS if any(name in row for row in table["methods"])]
    rows = []
    for row in table["methods"]:
        line = {"name": row["name"], "n_train": row["n_train"]}
        for column in used:
            line |= _csv_columns(column, row.get(column))
        rows.append(line)
    references = [("real (upper bound)", table["upper_bound"])]
    references += [(f"real, {point['per_class']} per class", point) for point in table["curve"]]
    controls = (("background only", "background"), ("template matching", "template_matching"))
    references += [(name, table[key]) for name, key in controls if key in table]
    for name, found in references:
        size = {"n_train": found["n_train"]} if "n_train" in found else {}
        rows.append({"name": name} | size | _csv_columns("gan_train", found))
    return rows


def _csv_columns(name: str, found: Mapping[str, Any] | None) -> dict[str, float | None]:
    value, (low, high) = (found["value"], found["interval"]) if found else (None, (None, None))
    return {name: value, f"{name}_low": low, f"{name}_high": high}

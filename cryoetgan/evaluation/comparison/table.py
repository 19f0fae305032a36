"""The table of a competition, from what each classifier got right."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.evaluation.comparison.config import ComparisonConfig
from cryoetgan.evaluation.comparison.subsets import per_class
from cryoetgan.evaluation.statistics.intervals import clustered, over_seeds

COLUMNS = ("gan_train", "gan_test", "mixed", "minus_baseline", "minus_upper_bound")
Found = Mapping[str, list[dict[str, Any]]]


def decoded(found: list[dict[str, Any]], name: str = "real") -> NDArray[np.float64]:
    """Return `(seeds, N)` of 0 (wrong) and 1 (right) on one test set.

    Sets of different seeds may differ in length: they are cut to the shortest.
    """
    rows = [np.array(list(run["right"][name]), float) for run in found]
    least = min(len(row) for row in rows)
    return np.array([row[:least] for row in rows])


def standings(
    plan: ComparisonConfig,
    found: Found,
    names: NDArray[np.str_],
    groups: NDArray[np.str_],
    template: NDArray[np.bool_] | None,
) -> dict[str, Any]:
    """Return the table: competitors, ceiling, controls.

    Parameters
    ----------
    plan : ComparisonConfig
        Who and how.
    found : mapping
        Job to its runs, one a seed.
    names, groups : ndarray of str
        Class and cluster of each real test crop.
    template : ndarray of bool, optional
        What template matching got right.
    """
    ceiling = decoded(found["real"])
    base = decoded(found[f"gan_train/{plan.baseline}"]) if plan.baseline else None
    rows = []
    for name in plan.methods:
        trained = decoded(found[f"gan_train/{name}"])
        row: dict[str, Any] = {
            "name": name,
            "gan_train": _value(trained, groups),
            # its test set is the competitor's own: only the seeds vary
            "gan_test": _value(decoded(found["real"], name)),
            "classes": dict(per_class(trained, names)),
            "n_train": found[f"gan_train/{name}"][0]["n_train"],
            "fraction_of_upper_bound": float(trained.mean() / max(ceiling.mean(), 1e-9)),
            "minus_upper_bound": _value(trained - ceiling, groups, -1.0),
        }
        if plan.few_shot and plan.methods[name].mix:
            row["mixed"] = _value(decoded(found[f"mixed/{name}"]), groups)
        if base is not None and name != plan.baseline:
            row["minus_baseline"] = _value(trained - base, groups, -1.0)
        rows.append(row)
    rows.sort(key=lambda row: -row["gan_train"]["value"])
    _, counts = np.unique(names, return_counts=True)
    table: dict[str, Any] = {
        "methods": rows,
        "baseline": plan.baseline,
        "seeds": plan.seeds,
        "few_shot": plan.few_shot,
        "n_test": len(names),
        "chance": float(counts.max() / counts.sum()),
        "upper_bound": _value(ceiling, groups)
        | {"n_train": found["real"][0]["n_train"], "classes": dict(per_class(ceiling, names))},
        "curve": [
            _value(decoded(found[f"curve/{count}"]), groups)
            | {"per_class": count, "n_train": found[f"curve/{count}"][0]["n_train"]}
            for count in plan.curve
        ],
    }
    if plan.background:
        table["background"] = _background(_value(decoded(found["background"]), groups), table)
    if template is not None:
        low, high = clustered(template, groups)
        table["template_matching"] = {"value": float(template.mean()), "interval": [low, high]}
    if plan.leave_one_out:
        table["leave_one_out"] = _left_out(plan, found, names, groups)
    return table


def _value(
    right: NDArray[np.float64], groups: NDArray[np.str_] | None = None, least: float = 0.0
) -> dict[str, Any]:
    """Return a share over seeds, or a difference of two, which may be -1 at `least`."""
    mean, (low, high) = over_seeds(right, groups)
    low, high = max(low, least), min(high, 1.0)  # few seeds make wide ones
    return {"value": mean, "interval": [low, high], "seeds": right.mean(axis=1).tolist()}


def _background(found: dict[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    warning = None
    if found["interval"][0] > table["chance"]:
        warning = (
            "a classifier that sees no particle is better than chance: classes and tomograms are "
            "confounded, and every accuracy here holds some of that"
        )
    return found | {"warning": warning}


def _left_out(
    plan: ComparisonConfig, found: Found, names: NDArray[np.str_], groups: NDArray[np.str_]
) -> dict[str, Any]:
    """Return for each competitor and class how often the class is recognised.

    `with_real`: trained on real crops of all other classes and synthetic ones of this;
    `synthetic`: trained on synthetic volumes alone. Each with `others`, how often crops of
    the other classes are recognised then: 0 for a classifier that always answers this one.
    """
    table: dict[str, Any] = {}
    for job in found:
        kind, _, rest = job.partition("/")
        if kind != "new":
            continue
        name, _, new = rest.rpartition("/")
        alone = f"new_synthetic/{name}/{new}"
        columns = {"with_real": job, "synthetic": alone if alone in found else f"gan_train/{name}"}
        chosen = names == new
        table.setdefault(name, {})[new] = {
            column: _value(decoded(found[runs])[:, chosen], groups[chosen])
            | {"others": _value(decoded(found[runs])[:, ~chosen], groups[~chosen])}
            for column, runs in columns.items()
        }
    return table


def flat(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of `comparison.csv`: competitors, then ceiling and controls."""
    rows = []
    # those that any competitor has: the order of columns is not a matter of who comes first
    used = [name for name in COLUMNS if any(name in row for row in table["methods"])]
    for row in table["methods"]:
        line: dict[str, Any] = {"name": row["name"], "n_train": row["n_train"]}
        for column in used:
            line |= _columns(column, row.get(column))
        rows.append(line)
    rows.append(
        {"name": "real (upper bound)", "n_train": table["upper_bound"]["n_train"]}
        | _columns("gan_train", table["upper_bound"])
    )
    rows += [
        {"name": f"real, {point['per_class']} per class", "n_train": point["n_train"]}
        | _columns("gan_train", point)
        for point in table["curve"]
    ]
    for name, key in (
        ("background only", "background"),
        ("template matching", "template_matching"),
    ):
        if key in table:
            rows.append({"name": name} | _columns("gan_train", table[key]))
    return rows


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV, six digits; a column for every key that occurs."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
    )
    return text.getvalue()


def _columns(name: str, found: Mapping[str, Any] | None) -> dict[str, float | None]:
    value, (low, high) = (found["value"], found["interval"]) if found else (None, (None, None))
    return {name: value, f"{name}_low": low, f"{name}_high": high}

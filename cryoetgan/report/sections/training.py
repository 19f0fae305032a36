"""Section: training curves, and scores against the training step."""

from typing import Any

import numpy as np

from cryoetgan.report.evaluation_json import to_float
from cryoetgan.report.plots import Plot, plot_scores, plot_training
from cryoetgan.report.results import Results
from cryoetgan.report.run import Run, config_section

EPOCHS_FILE = "epochs.csv"
SCORES = {"is": "Inception score", "fid": "FID", "kid": "KID"}


def draw_training(run: Run) -> dict[str, Any]:
    """Return training curves and scores by step."""
    curves, scores = training_curves(run), scores_by_step(run.results)
    return {"curves": curves, "scores": scores, "preset": run.preset} if curves or scores else {}


def training_curves(run: Run) -> list[tuple[str, Plot]]:
    """Return title and plot of the training curves, of each group of tomograms if there are."""
    per_group = bool(config_section(run.config, "translation").get("per_group"))
    logs = run.results.training_logs(run.preset, per_group) if run.preset else {}
    return [
        (f"{group}: {title}" if group else title, plot)
        for group, log in logs.items()
        for title, plot in plot_training(log)
    ]


def scores_by_step(results: Results) -> list[tuple[str, Plot]]:
    """Return IS, FID and KID against the training step (Paper, figures 5 and 6).

    The table of `evaluation epochs` has the columns noise and step, and any of is, fid and kid
    with their _low and _high.
    """
    name = f"evaluation/{EPOCHS_FILE}"
    rows = results.rows(name)
    if rows and not {"noise", "step"} <= set(rows[0]):
        results.gaps.append(f"{name}: lacks the columns noise and step")
        return []
    shown = []
    for key, title in SCORES.items():
        curves: dict[str, list[tuple[float, ...]]] = {}
        for row in rows:
            point = tuple(to_float(row.get(n)) for n in ("step", key, f"{key}_low", f"{key}_high"))
            if np.isfinite(point[:2]).all():
                curves.setdefault(str(row["noise"]), []).append(point)
        if curves:
            lines = {noise: np.array(sorted(points)) for noise, points in sorted(curves.items())}
            shown.append((title, plot_scores(lines, title)))
    return shown

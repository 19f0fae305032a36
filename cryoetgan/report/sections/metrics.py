"""Section: metrics of each volume set, with intervals and baselines."""

from collections.abc import Iterator

from markupsafe import Markup

from cryoetgan.report.html import Section, macros
from cryoetgan.report.run import TITLES, Run

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


def render(run: Run) -> Iterator[Markup]:
    """Yield a table with a row per metric and a column per measured set."""
    sets = {name: metrics for name, metrics in run.metrics.items() if metrics}
    measured = {name for metrics in sets.values() for name in metrics}
    if not measured:
        return
    yield macros.note(
        "Values with 95 % intervals. Baselines: one half of the real crops against the other (real "
        "half), a constant volume, Gaussian noise. A value that a baseline also reaches carries no "
        "information. \u26a0: see the warnings at the top."
    )
    names = [name for name in DESCRIPTIONS if name in measured]
    rows = []
    for name in [*names, *sorted(measured - set(names))]:
        values = [metrics.get(name) for metrics in sets.values()]
        baselines = next(metric.baselines for metric in values if metric)
        rows.append((name, *DESCRIPTIONS.get(name, ("", "")), values, baselines))
    yield macros.metric_table([TITLES[name] for name in sets], rows)


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


SECTION = Section("metrics", "Metrics", render, warnings)

"""Section: the detector's picks, by tomogram and class, beside template matching and annotations."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoetgan.io.star import COORDINATES
from cryoetgan.report.evaluation_json import to_float
from cryoetgan.report.results import volumes_in
from cryoetgan.report.run import Run, config_section
from cryoetgan.report.sections.tomograms import (
    SCORES_HEADING,
    match_radius,
    read_particles,
    score_picks,
    score_rows,
)
from cryoetgan.report.slices import draw_tomogram

if TYPE_CHECKING:
    import pandas as pd

HEADING = ["tomogram", "picks", "expected precision", "own hand", "template matching", "both"]
HEADING += ["same class"]
NO_VALUE = "-"
NO_PICK = (
    "no particle was detected. Lower detection.threshold, or train on tomograms more like this one"
)
USELESS = (
    "detector: its F1 is {f1:.2f} on held-out parts of its own synthetic tomograms, so its picks are not "
    "usable. Train it for more steps (detection.steps) or on more particles (tomograms.synthetic, "
    "tomograms.shape, tomograms.copies)"
)


def draw_detections(run: Run, max_tomograms: int = 3) -> dict[str, Any]:
    """Return slices with picks, counts, agreement, and scores against annotations."""
    paths = [
        path
        for path in volumes_in(run.results.folder / "tomograms")
        if run.results.has(f"detection/{path.stem}.star")
    ]
    tables = {path: _read_picks(run, path.stem) for path in paths}
    found = {path: picks for path, picks in tables.items() if picks is not None}
    if not found:
        return {}
    others = read_particles(run.results, list(found))
    slices = []
    for path in list(found)[:max_tomograms]:
        volume = run.results.tomogram(path)
        if volume is not None:
            annotated = others[path][1]
            slices.append(draw_tomogram(path.stem, volume, found[path], annotated, box=run.box))
    against = score_rows(run, {path: (picks, others[path][1]) for path, picks in found.items()})
    if against:
        against[0] = [{"selected": "detected"}.get(name, name) for name in SCORES_HEADING]
    return {
        "slices": slices,
        "n_omitted": len(found) - max_tomograms,
        "tomograms": [HEADING, *(_row(run, path, found[path], others[path][0]) for path in found)],
        "classes": _counts(found),
        "scores": against,
    }


def warnings(run: Run) -> list[str]:
    """Return the warnings on the detector, its picks and their hand tests, each once.

    Warnings on the maps are omitted if the hand test of template matching has them, too.
    """
    named: dict[str, list[str]] = {}
    for path in sorted(run.results.folder.glob("detection/*_hand.json")):
        tomogram = path.stem.removesuffix("_hand")
        for text in run.results.hand_test(f"detection/{path.name}")[1]:
            if not any(line.endswith(text) for line in run.selection.warnings):
                named.setdefault(text, []).append(tomogram)
        picks = _read_picks(run, tomogram)
        if picks is not None and not len(picks):
            named.setdefault(NO_PICK, []).append(tomogram)
    found = [f"detector, {', '.join(names)}: {text}" for text, names in named.items()]
    trained = config_section(run.results.json("detection/model.pt.json", optional=True), "detector")
    f1 = to_float(config_section(trained, "held_out").get("f1"))
    return [USELESS.format(f1=f1), *found] if trained.get("usable") is False else found


def _read_picks(run: Run, tomogram: str) -> "pd.DataFrame | None":
    columns = ["cryoetganClass", *COORDINATES]
    return run.results.table(f"detection/{tomogram}.star", columns)


def _row(run: Run, path: Path, picks: "pd.DataFrame", selected: "pd.DataFrame | None") -> list[str]:
    """Return counts, expected precision, hand test, and agreement with template matching."""
    volume = run.results.tomogram(path)
    agreement = [NO_VALUE] * 3
    if selected is not None and volume is not None:
        both = score_picks(picks, selected, match_radius(run) / volume.voxel_size)
        same = f"{100 * both.same_class / both.matched:.0f} %" if both.matched else NO_VALUE
        agreement = [str(len(selected)), str(both.matched), same]
    record = run.results.json(f"detection/{path.stem}.star.json", optional=True)
    expected = config_section(record, "detection")
    precision = _precision(
        config_section(expected, "precision_kept") or config_section(expected, "precision")
    )
    return [path.stem, str(len(picks)), precision, _own_hand(run, path.stem), *agreement]


def _precision(record: Mapping[str, Any]) -> str:
    """Return the expected precision with its interval."""
    value, interval = to_float(record.get("value")), record.get("interval")
    if math.isnan(value):
        return NO_VALUE
    if not isinstance(interval, list) or len(interval) != 2:
        return f"{100 * value:.0f} %"
    low, high = (100 * to_float(end) for end in interval)
    return f"{100 * value:.0f} % ({low:.0f} to {high:.0f})"


def _own_hand(run: Run, tomogram: str) -> str:
    test = run.results.hand_test(f"detection/{tomogram}_hand.json")[0].get("")
    if test is None or not test.n:
        return NO_VALUE
    share, low, high = (100 * value for value in (test.share, test.low, test.high))
    return f"{share:.0f} % of {test.n} ({low:.0f} to {high:.0f})"


def _counts(found: Mapping[Path, "pd.DataFrame"]) -> list[list[str]]:
    """Return the number of picks of each class in each tomogram."""
    counts = {path.stem: picks["cryoetganClass"].value_counts() for path, picks in found.items()}
    classes = sorted({str(name) for column in counts.values() for name in column.index})
    rows = [[name, *(str(column.get(name, 0)) for column in counts.values())] for name in classes]
    return [["class", *counts], *rows]

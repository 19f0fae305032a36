"""Section: picks over tomogram slices, their purity, and their match with annotations."""

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from cryoetgan.io.star import COORDINATES
from cryoetgan.report.html import Section, macros
from cryoetgan.report.pick_scores import PickScores, score_picks
from cryoetgan.report.results import Results
from cryoetgan.report.run import Run, config_section
from cryoetgan.report.slices import draw_tomogram

MATCH_RADIUS = 80.0
"""Default distance of a matching pick and annotation, angstrom."""
PURITY_KEYS = ("purity", "interval", "particles", "n_annotated")


def render(run: Run, max_tomograms: int = 6) -> Iterator[Markup]:
    """Yield slices of the first tomograms, purity, and scores against annotations."""
    tomograms = run.results.tomograms()
    slices = []
    for path in tomograms[:max_tomograms]:
        volume, tables = run.results.tomogram(path), _particles(run.results, path.stem)
        if volume is not None:
            shown = draw_tomogram(path.stem, volume.data, volume.voxel_size, *tables, box=run.box)
            is_annotated = any(circle.dashed for circle in shown.circles)
            meaning = "Solid circles: selected; dashed: annotated."
            slices.append(macros.tomogram(shown, meaning if is_annotated else "Circles: selected."))
    if not slices:
        return
    yield macros.group(slices, "tomograms")
    if len(tomograms) > max_tomograms:
        yield macros.note(f"{len(tomograms) - max_tomograms} more tomograms are not shown.")
    if purity := purity_rows(run.results):
        yield macros.heading("Purity, from blind annotation")
        yield macros.note(
            "The sample was drawn over all scores and shown without score and class. It is an "
            "unbiased estimate for the set that it was drawn from."
        )
        yield macros.grid(purity, "purity")
    if scores := score_rows(run):
        yield macros.heading("Selected particles and annotations")
        yield macros.grid(scores, "pick-scores")


def _particles(results: Results, tomogram: str) -> tuple[Any, Any]:
    """Return the tables of selected and of annotated particles; None if one is missing."""
    columns = ["rlnTomoName", "cryoetganClass", *COORDINATES]
    selected = results.table("particles/selected.star", columns)
    if selected is not None:
        selected = selected[selected["rlnTomoName"].astype(str) == tomogram]
    return selected, results.table(f"particles/{tomogram}_annotations.star", columns[1:])


def purity_rows(results: Results) -> list[list[str]]:
    """Return purity with its 95 % interval, of the whole set and of each class."""
    content = results.json("particles/purity.json", optional=True)
    rows = [("all", content), *sorted(config_section(content, "classes").items())]
    found = [
        [
            name,
            f"{100 * row['purity']:.0f} %",
            f"{100 * row['interval'][0]:.0f} to {100 * row['interval'][1]:.0f}",
            f"{100 * row['particles']:.0f} %",
            str(row["n_annotated"]),
        ]
        for name, row in rows
        if isinstance(row, Mapping) and set(PURITY_KEYS) <= set(row)
    ]
    heading = ["class", "correct class", "95 % interval", "any particle", "annotated"]
    return [heading, *found] if found else []


def score_rows(run: Run) -> list[list[str]]:
    """Return precision and recall of the selected particles of each annotated tomogram."""
    radius = float(config_section(run.config, "evaluation").get("match_radius") or MATCH_RADIUS)
    found: list[PickScores] = []
    for path in run.results.tomograms():
        selected, annotated = _particles(run.results, path.stem)
        if selected is None or annotated is None:
            continue
        volume = run.results.tomogram(path)
        if volume is not None:
            found.append(score_picks(path.stem, selected, annotated, radius / volume.voxel_size))
    heading = ["tomogram", "annotated", "selected", "recall", "precision"]
    rows = [
        [
            scores.tomogram,
            str(scores.annotated),
            str(scores.selected),
            *(
                f"{100 * v:.0f} %"
                for v in (scores.recall, scores.precision, scores.class_precision)
            ),
        ]
        for scores in found
    ]
    return [[*heading, "precision with correct class"], *rows] if rows else []


SECTION = Section("picks", "Picks", render)

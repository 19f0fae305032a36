"""Section: picks over tomogram slices, their purity, and their match with annotations."""

from collections.abc import Mapping
from typing import Any

from cryoetgan.io.star import COORDINATES
from cryoetgan.report.pick_scores import PickScores, score_picks
from cryoetgan.report.results import Results
from cryoetgan.report.run import Run, config_section
from cryoetgan.report.section import Section
from cryoetgan.report.slices import draw_tomogram

MATCH_RADIUS = 80.0
"""Default distance of a matching pick and annotation, angstrom."""
PURITY_KEYS = ("purity", "interval", "particles", "n_annotated")
TEMPLATE = """
<div class="tomograms">
{% for slice in slices %}
{{ m.tomogram(slice, "Solid circles: selected; dashed: annotated."
if slice.circles|selectattr("dashed")|list else "Circles: selected.") }}
{% endfor %}
</div>
{% if others %}<p class="dim">{{ others }} more tomograms are not shown.</p>{% endif %}
{% if purity %}
<h3>Purity, from blind annotation</h3>
<p class="dim">The sample was drawn over all scores and shown without score and class. It is an
unbiased estimate for the set that it was drawn from.</p>
{{ m.grid(purity, "purity") }}
{% endif %}
{% if scores %}
<h3>Selected particles and annotations</h3>
{{ m.grid(scores, "pick-scores") }}
{% endif %}
"""


def context(run: Run, max_tomograms: int = 6) -> Mapping[str, Any] | None:
    """Return slices of the first tomograms, purity, and scores against annotations."""
    tomograms = run.results.tomograms()
    slices = []
    for path in tomograms[:max_tomograms]:
        volume, tables = run.results.tomogram(path), _particles(run.results, path.stem)
        if volume is not None:
            slices.append(
                draw_tomogram(path.stem, volume.data, volume.voxel_size, *tables, box=run.box)
            )
    if not slices:
        return None
    return {
        "slices": slices,
        "others": max(len(tomograms) - max_tomograms, 0),
        "purity": purity_rows(run.results),
        "scores": score_rows(run),
    }


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


SECTION = Section(name="picks", title="Picks", template=TEMPLATE, context=context)

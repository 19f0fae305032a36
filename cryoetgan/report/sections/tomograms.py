"""Sections: picks over tomogram slices with their scores, and synthetic tomograms."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from cryoetgan.io.star import COORDINATES
from cryoetgan.report.results import Results, volumes_in
from cryoetgan.report.run import Run, config_section
from cryoetgan.report.slices import draw_tomogram

MATCH_RADIUS = 80.0
"""Default distance of a matching pick and annotation, angstrom."""
PURITY_HEADING = ["class", "correct class", "95 % interval", "any particle", "annotated"]
PURITY_KEYS = {"purity", "interval", "particles", "n_annotated"}
SCORES_HEADING = ["tomogram", "annotated", "selected", "recall", "precision"]
SCORES_HEADING += ["precision with correct class"]


def draw_picks(run: Run, max_tomograms: int = 6) -> dict[str, Any]:
    """Return slices of the first tomograms, purity, and scores against annotations."""
    paths = volumes_in(run.results.folder / "tomograms")
    tables = read_particles(run.results, paths)
    slices = []
    for path in paths[:max_tomograms]:
        volume = run.results.tomogram(path)
        if volume is not None:
            slices.append(draw_tomogram(path.stem, volume, *tables[path], box=run.box))
    if not slices:
        return {}
    return {
        "slices": slices,
        "n_omitted": len(paths) - max_tomograms,
        "purity": purity_rows(run.results),
        "scores": score_rows(run, tables),
    }


def draw_synthetic(run: Run, max_tomograms: int = 2) -> dict[str, Any]:
    """Return tomograms of the generator, or else of the fitted simulation."""
    results = run.results
    folder, method = f"translation/{run.preset}/tomograms", f"preset {run.preset}"
    if not any(results.folder.glob(f"{folder}/*.mrc")):
        folder, method = "imaging/tomograms", "the fitted simulation alone"
    paths = volumes_in(results.folder / folder)
    slices = []
    for path in paths[:max_tomograms]:
        volume = results.tomogram(path)
        truth = results.table(f"{folder}/{path.stem}.star", [*COORDINATES, "cryoetganClass"])
        if volume is not None:
            slices.append(draw_tomogram(path.stem, volume, truth, box=run.box))
    omitted = len(paths) - max_tomograms
    values = {"slices": slices, "folder": folder, "method": method, "n_omitted": omitted}
    return values if slices else {}


def read_particles(results: Results, tomograms: list[Path]) -> dict[Path, tuple[Any, Any]]:
    """Return each tomogram's tables of selected and annotated particles; None if one is missing."""
    columns = ["rlnTomoName", "cryoetganClass", *COORDINATES]
    selected = results.table("particles/selected.star", columns)
    found = {}
    for path in tomograms:
        own = (
            None if selected is None else selected[selected["rlnTomoName"].astype(str) == path.stem]
        )
        annotated = results.table(f"particles/{path.stem}_annotations.star", columns[1:])
        found[path] = own, annotated
    return found


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
        if isinstance(row, Mapping) and set(row) >= PURITY_KEYS
    ]
    return [PURITY_HEADING, *found] if found else []


def match_radius(run: Run) -> float:
    """Return the largest distance of a matching pick and annotation, angstrom."""
    return float(config_section(run.config, "evaluation").get("match_radius") or MATCH_RADIUS)


def score_rows(run: Run, tables: Mapping[Path, tuple[Any, Any]]) -> list[list[str]]:
    """Return precision and recall of the selected particles of each annotated tomogram."""
    radius = match_radius(run)
    rows = []
    for path, (selected, annotated) in tables.items():
        if selected is None or annotated is None:
            continue
        volume = run.results.tomogram(path)
        if volume is not None:
            found = score_picks(selected, annotated, radius / volume.voxel_size)
            fractions = (found.recall, found.precision, found.class_precision)
            counts = [path.stem, str(found.annotated), str(found.selected)]
            rows.append([*counts, *(f"{100 * value:.0f} %" for value in fractions)])
    return [SCORES_HEADING, *rows] if rows else []


@dataclass(frozen=True)
class PickScores:
    """Numbers of annotations, of selected particles, and of pairs of both in one tomogram."""

    annotated: int
    selected: int
    matched: int
    same_class: int

    @property
    def recall(self) -> float:
        """Fraction of the annotations that were selected."""
        return self.matched / max(self.annotated, 1)

    @property
    def precision(self) -> float:
        """Fraction of the selected particles that are annotated."""
        return self.matched / max(self.selected, 1)

    @property
    def class_precision(self) -> float:
        """Fraction of the selected particles that are annotated with the same class."""
        return self.same_class / max(self.selected, 1)


def score_picks(selected: Any, annotated: Any, radius: float) -> PickScores:
    """Match selected particles with annotations, one to one, and count the pairs.

    The number of pairs is the largest possible, and their total distance the smallest for that
    number (a linear assignment problem).

    Both tables have coordinates in voxels and cryoetganClass; `radius` is the largest distance of
    a pair, voxels.
    """
    picks, truth = (table[COORDINATES].to_numpy(float) for table in (selected, annotated))
    first, second = _match_pairs(picks, truth, radius)
    a = selected["cryoetganClass"].to_numpy(str)[first]
    b = annotated["cryoetganClass"].to_numpy(str)[second]
    return PickScores(len(annotated), len(selected), len(first), int((a == b).sum()))


def _match_pairs(picks: Any, truth: Any, radius: float) -> tuple[Any, Any]:
    """Return the row indices of matched pairs: of `picks` `(N, 3)` and of `truth` `(M, 3)`."""
    # only rows with a neighbour within the radius: the cost matrix stays small
    columns = np.flatnonzero(cKDTree(picks).query(truth, distance_upper_bound=radius)[0] < np.inf)
    rows = np.flatnonzero(cKDTree(truth).query(picks, distance_upper_bound=radius)[0] < np.inf)
    distance = np.linalg.norm(picks[rows][:, None] - truth[columns][None], axis=-1)
    far = distance > radius
    # a forbidden pair costs more than any set of allowed pairs
    i, j = linear_sum_assignment(np.where(far, 1e6, distance))
    kept = ~far[i, j]
    return rows[i[kept]], columns[j[kept]]

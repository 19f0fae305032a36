"""Scores of picks against the truth: precision, recall and F1 by class, with `other`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree

from cryoetgan.errors import UserError
from cryoetgan.evaluation.metrics.precision_recall import class_scores
from cryoetgan.io.mrc import read_header
from cryoetgan.io.star import COORDINATES, OTHER, Star

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
BACKGROUND = (OTHER, "empty", "background")
"""Classes of the truth that no pick can hit, beside those that begin with `crowder`."""


def is_background(name: str) -> bool:
    """Return whether a class of the truth is background or a crowder."""
    return name in BACKGROUND or name.startswith("crowder")


def voxel_size_of(tables: dict[Path, Star], given: float | None = None) -> float:
    """Return the voxel size, angstrom: given, of an optics block, or of the MRC file beside."""
    if given is not None:
        return given
    for table in tables.values():
        sizes = [float(size) for size in table.optics.get("rlnImagePixelSize", ())]
        if sizes and sizes[0] > 0:
            return sizes[0]
    for path in tables:
        if path.with_suffix(".mrc").exists():
            return float(read_header(path.with_suffix(".mrc")).voxel_size)
    raise UserError(
        f"{' and '.join(map(str, tables))}: have no voxel size (rlnImagePixelSize in the optics "
        "block); give --voxel-size"
    )


def count_matches(picks: Floats, truth: Floats, radius: float) -> int:
    """Return the size of the largest one-to-one matching of places at most `radius` apart.

    Places are `(N, 3)` and `(M, 3)` in one unit. The number does not depend on the order; a
    second pick of one particle has no partner (Hopcroft & Karp 1973, doi 10.1137/0202019).
    """
    if not len(picks) or not len(truth):
        return 0
    pairs = cKDTree(picks).query_ball_point(truth, radius)
    rows = np.repeat(np.arange(len(truth)), [len(found) for found in pairs])
    columns = np.concatenate([np.array(found, int) for found in pairs])
    graph = csr_matrix((np.ones(len(rows)), (rows, columns)), (len(truth), len(picks)))
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())


def score_detections(
    picks: "pd.DataFrame", truth: "pd.DataFrame", radius: float, classes: Sequence[str] = ()
) -> dict[str, Any]:
    """Return precision, recall and F1 by class, their means over classes, and of all places.

    A hit is a pick matched one-to-one with a particle of its class in its tomogram, at most
    `radius` voxels away. `classes` are all of the truth by default, without background and
    crowders, which are neither hits nor misses: a pick on one of them is wrong. `other` is scored
    if picks have this class: right if no particle of the classes is near; true are all picks
    without such a particle. `places` ignores the classes of picks and particles.
    """
    known = truth["cryoetganClass"].astype(str)
    named = list(classes) or sorted(name for name in set(known) if not is_background(name))
    counts = {name: np.zeros(3, int) for name in (*named, OTHER, "places")}
    particles = truth[known.isin(named)]
    has_classes = "cryoetganClass" in picks
    for tomogram in sorted({*picks["rlnTomoName"], *particles["rlnTomoName"]}, key=str):
        found = picks[picks["rlnTomoName"] == tomogram]
        real = particles[particles["rlnTomoName"] == tomogram]
        places, targets = (part[COORDINATES].to_numpy(float) for part in (found, real))
        labels = found["cryoetganClass"].to_numpy(str) if has_classes else np.array([])
        kinds = real["cryoetganClass"].to_numpy(str)
        for name in named if has_classes else ():
            own, wanted = places[labels == name], targets[kinds == name]
            counts[name] += count_matches(own, wanted, radius), len(own), len(wanted)
        called = places[labels != OTHER] if has_classes else places
        counts["places"] += count_matches(called, targets, radius), len(called), len(targets)
        if has_classes and len(places):
            free = np.ones(len(places), bool)
            if len(targets):
                free = cKDTree(targets).query(places)[0] > radius
            is_other = labels == OTHER
            counts[OTHER] += (free & is_other).sum(), is_other.sum(), free.sum()
    shown = [*named, *([OTHER] if counts[OTHER][1] else [])] if has_classes else []
    scores = {name: class_scores(*map(int, counts[name])) for name in shown}
    means = {
        key: float(np.mean([row[key] for row in scores.values()])) if scores else None
        for key in ("precision", "recall", "f1")
    }
    return means | {"classes": scores, "places": class_scores(*map(int, counts["places"]))}

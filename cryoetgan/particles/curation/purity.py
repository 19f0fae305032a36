"""Purity of a set, estimated from a blindly annotated sample; and an annotated test set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from cryoetgan.errors import UserError
from cryoetgan.io.star import COORDINATES
from cryoetgan.particles.curation.decisions import UNNAMED, Decisions

REJECTED = "rejected"


def estimate_purity(sample: Sequence[Mapping[str, Any]], decisions: Decisions) -> dict[str, Any]:
    """Return the share of true particles in the set from which a sample was drawn.

    The interval of a class is Wilson's (1927, doi 10.1080/01621459.1927.10502953). The half
    widths of classes are added in squares, weighted by the sizes of the classes.

    Parameters
    ----------
    sample : sequence of mapping
        id, class and weight of each box (`gallery.draw_sample`).
    decisions : mapping
        A box accepted without a class counts as right only if the sample has one class.

    Returns
    -------
    dict
        `purity` (accepted and given its class; unbiased for the whole set), `interval` (95 %),
        `particles` (accepted, of any class), all of these by class in `classes`, and
        `confusion`: class of the set against class given by the person.
    """
    annotated = [box for box in sample if box["id"] in decisions]
    if not annotated:
        raise UserError("no box of the sample is annotated; annotate the boxes in the gallery")
    names = sorted({str(box["class"]) for box in sample})
    sizes: dict[str, float] = {}
    classes: dict[str, dict[str, Any]] = {}
    for name in names:
        answers = [decisions[box["id"]] for box in annotated if box["class"] == name]
        if answers:
            sizes[name] = sum(box["weight"] for box in sample if box["class"] == name)
            right = {name, UNNAMED} if len(names) == 1 else {name}
            count = sum(answer in right for answer in answers)
            interval = stats.binomtest(count, len(answers)).proportion_ci(0.95, method="wilson")
            classes[name] = {
                "purity": count / len(answers),
                "interval": [float(interval.low), float(interval.high)],
                "particles": sum(answer != "" for answer in answers) / len(answers),
                "n_annotated": len(answers),
                "n_set": round(sizes[name]),
            }
    share = {name: size / sum(sizes.values()) for name, size in sizes.items()}

    def weighted_mean(key: str) -> float:
        return float(sum(share[name] * found[key] for name, found in classes.items()))

    def half_width(side: int) -> float:
        distance = {name: c["purity"] - c["interval"][side] for name, c in classes.items()}
        return float(np.sqrt(sum((share[name] * far) ** 2 for name, far in distance.items())))

    columns = sorted({decisions[box["id"]] or REJECTED for box in annotated})
    confusion = {name: dict.fromkeys(columns, 0) for name in classes}
    for box in annotated:
        confusion[box["class"]][decisions[box["id"]] or REJECTED] += 1
    purity = weighted_mean("purity")
    return {
        "purity": purity,
        "interval": [max(0.0, purity - half_width(0)), min(1.0, purity + half_width(1))],
        "particles": weighted_mean("particles"),
        "n_annotated": len(annotated),
        "n_sample": len(sample),
        "classes": classes,
        "confusion": confusion,
    }


def sample_of(record: Mapping[str, Any], path: Path) -> list[Mapping[str, Any]]:
    """Return the sample of a gallery's record; raise `UserError` if it is not one."""
    boxes = record.get("sample")
    wanted = {"id": str, "class": str, "weight": int | float}
    if not isinstance(boxes, list) or not boxes:
        raise UserError(f"{path}: has no sample; give the record of a gallery with --sample")
    for box in boxes:
        known = isinstance(box, dict) and all(isinstance(box.get(k), t) for k, t in wanted.items())
        if not (known and box["weight"] > 0):
            raise UserError(
                f"{path}: a box of its sample lacks {', '.join(wanted)}; make the gallery again"
            )
    return boxes


def annotated_rows(
    sample: Sequence[Mapping[str, Any]], decisions: Decisions
) -> list[dict[str, Any]]:
    """Return the accepted and named boxes as rows of a STAR file: a small labelled test set.

    `sample` has id, tomogram and place (x, y, z in voxels) of each box; `decisions` are as in
    `estimate_purity`.
    """
    rows = []
    for box in sample:
        name = decisions.get(box["id"], "")
        place: Any = box.get("place")
        placed = isinstance(place, list) and len(place) == 3 and "tomogram" in box
        if name and name != UNNAMED and placed:
            rows.append(
                {
                    "rlnTomoName": box["tomogram"],
                    **dict(zip(COORDINATES, place, strict=True)),
                    "cryoetganClass": name,
                    "cryoetganSplit": "test",
                    "cryoetganSource": "real",
                    "cryoetganId": box["id"],
                }
            )
    return rows

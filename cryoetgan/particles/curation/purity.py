"""What a blindly marked sample says of the whole set: its purity, and a labelled test set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from cryoetgan.errors import UserError


def estimate(sample: Sequence[Mapping[str, Any]], decisions: Mapping[str, str]) -> dict[str, Any]:
    """Return the share of right particles in the set that a sample was drawn from.

    Parameters
    ----------
    sample : sequence of mapping
        id, class and weight of each box drawn (see `cryoetgan.particles.curation.gallery.draw`).
    decisions : mapping
        Id to the class a person gave, empty where rejected, `*` where accepted unnamed: that
        is right only where the sample has one class.

    Returns
    -------
    dict
        `purity` (accepted, and named as its class: unbiased for the whole set), `interval`
        (95 %), `particles` (accepted, whatever the name), and the same a class; `confusion`
        counts class given against class seen.

    Notes
    -----
    Within a class Wilson's interval (1927, doi 10.1080/01621459.1927.10502953); over the
    classes, half widths are added in squares, weighted by the classes' sizes.
    """
    marked = [box for box in sample if box["id"] in decisions]
    if not marked:
        raise UserError("no box of the sample is marked; mark them in the gallery first")
    kinds = sorted({str(box["class"]) for box in sample})
    classes: dict[str, Any] = {}
    size = {kind: sum(b["weight"] for b in sample if b["class"] == kind) for kind in kinds}
    for kind in kinds:
        mine = [decisions[box["id"]] for box in marked if box["class"] == kind]
        if mine:
            right = sum(answer == kind or (answer == "*" and len(kinds) == 1) for answer in mine)
            low, high = _wilson(right, len(mine))
            classes[kind] = {
                "purity": right / len(mine),
                "interval": [low, high],
                "particles": sum(answer != "" for answer in mine) / len(mine),
                "n_marked": len(mine),
                "n_set": round(size[kind]),
            }
    share = {kind: size[kind] / sum(size[k] for k in classes) for kind in classes}
    purity = sum(share[k] * classes[k]["purity"] for k in classes)
    below = np.sqrt(
        sum(
            (share[k] * (found["purity"] - found["interval"][0])) ** 2
            for k, found in classes.items()
        )
    )
    above = np.sqrt(
        sum(
            (share[k] * (found["interval"][1] - found["purity"])) ** 2
            for k, found in classes.items()
        )
    )
    seen = sorted({decisions[box["id"]] or "rejected" for box in marked})
    confusion = {
        kind: {
            name: sum(
                box["class"] == kind and (decisions[box["id"]] or "rejected") == name
                for box in marked
            )
            for name in seen
        }
        for kind in classes
    }
    return {
        "purity": float(purity),
        "interval": [float(max(0, purity - below)), float(min(1, purity + above))],
        "particles": float(sum(share[k] * classes[k]["particles"] for k in classes)),
        "n_marked": len(marked),
        "n_sample": len(sample),
        "classes": classes,
        "confusion": confusion,
    }


def _wilson(right: int, count: int) -> tuple[float, float]:
    found = stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def marked_rows(
    sample: Sequence[Mapping[str, Any]], decisions: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the accepted and named boxes as rows of a STAR file: a small labelled test set."""
    rows = []
    for box in sample:
        name = decisions.get(box["id"], "")
        if name and name != "*" and len(box["place"]) == 3:
            x, y, z = box["place"]
            rows.append(
                {
                    "rlnTomoName": box["tomogram"],
                    "rlnCoordinateX": x,
                    "rlnCoordinateY": y,
                    "rlnCoordinateZ": z,
                    "cryoetganClass": name,
                    "cryoetganSplit": "test",
                    "cryoetganSource": "real",
                    "cryoetganId": box["id"],
                }
            )
    return rows

"""Align picks of a detector to the maps of their classes, with decoys."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.evaluation.statistics.intervals import wilson
from cryoetgan.io.mrc import Volume
from cryoetgan.io.star import ANGLES, COORDINATES, DETECTION_SCORE
from cryoetgan.particles.curation.fdr import (
    add_q_values,
    beats_decoys,
    count_decoys,
    posterior,
    rank_rows,
)
from cryoetgan.particles.curation.select import choose_classes
from cryoetgan.particles.matching.decoys import make_decoys
from cryoetgan.particles.matching.score_table import score_table
from cryoetgan.particles.matching.template import SearchOptions
from cryoetgan.particles.picking.dog import non_maximum_suppression

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
log = logging.getLogger("cryoetgan")
LIKELY = 0.5
"""Smallest probability (`fdr.posterior`) of a pick that is kept: more likely right than wrong."""
DETECTION_WEIGHT = 0.2
"""Weight of the detector's log odds in the rank of a pick, in standard deviations. With 0 the mean F1
at the SNR of 0.1 and 0.05 in dev_set2_2 is 0.981 and 0.865, with 0.2 0.990 and 0.881."""
LEAST_PICKS = 10
"""Fewest picks of a class that its own decoys judge; fewer are judged with all classes' decoys."""
TAKEN = (
    "cryoetganClass",
    *COORDINATES,
    *ANGLES,
    "cryoetganScore",
    "cryoetganDecoyScore",
    "cryoetganDecoys",
    "cryoetganQValue",
)


def align_picks(
    tomogram: Volume, picks: "pd.DataFrame", maps: Mapping[str, Floats], options: SearchOptions
) -> "pd.DataFrame":
    """Return the scores of picks against all maps and their decoys: one row a pick and class."""
    places = picks[["rlnTomoName", "cryoetganId", *COORDINATES]]
    scores, _ = score_table(tomogram, places, maps, options, make_decoys)
    by_id = picks.set_index("cryoetganId")[DETECTION_SCORE]
    return scores.assign(**{DETECTION_SCORE: scores["cryoetganId"].map(by_id)})


def keep_likely(
    picks: "pd.DataFrame", scores: "pd.DataFrame", threshold: float, radii: Mapping[str, float]
) -> tuple["pd.DataFrame", dict[str, Any]]:
    """Return the picks that are more likely right than wrong, and what the decoys imply.

    Maps and decoys compete for each pick (`curation.fdr`). It takes the class, place and angles of
    the map that wins, and is kept if its `posterior` at its joint rank is at least `LIKELY`, and if
    its class has a radius: other maps only compete. No pick stays closer to a better one than the
    radius of its class, `radii` in voxels.

    Of the record, `precision_by_decoys` is of the picks and classes of the detector alone, at or above
    its `threshold`, and `precision_kept` of the picks that are kept, by `cross_fit`.
    """
    by_id = picks.set_index("cryoetganId")
    is_own = scores["cryoetganClass"] == scores["cryoetganId"].map(by_id["cryoetganClass"])
    alone = scores[is_own & (scores[DETECTION_SCORE] >= threshold)]
    best = choose_classes(scores, {})
    best = add_q_values(best, np.full(len(best), "all")).set_index("cryoetganId").loc[by_id.index]
    likely, won = np.zeros(len(best), bool), beats_decoys(best)
    ranks, decoys, judged = joint_ranks(best), count_decoys(best), np.zeros(len(best), bool)
    for name, rows in best.groupby("cryoetganClass").indices.items():
        count = int(decoys[rows[0]])
        alike = rows if len(rows) >= LEAST_PICKS else np.flatnonzero(decoys == count)
        is_row = np.isin(alike, rows)
        likely[rows] = find_likely(ranks[alike], won[alike], count)[is_row]
        judged[rows] = cross_fit(ranks[alike], won[alike], count)[is_row]
        if won[rows].any() and not (likely & won)[rows].any():
            log.warning(
                "class %s: none of %d picks that fit its map best is kept, because decoys fit others as "
                "well, or they are too few to tell", name, int(won[rows].sum()),
            )  # fmt: skip
    wanted = best["cryoetganClass"].isin(list(radii)).to_numpy()
    likely, judged = likely & wanted, judged & wanted
    table = picks.assign(**{name: best[name].to_numpy() for name in TAKEN})[likely & won]
    # two picks of one particle may have moved to one place
    places, values = table[COORDINATES].to_numpy(float), table[DETECTION_SCORE].to_numpy(float)
    reach = table["cryoetganClass"].map(radii).to_numpy(float)
    table = table.iloc[non_maximum_suppression(places, values, reach)]
    given, above = picks["cryoetganClass"][table.index], picks[DETECTION_SCORE] >= threshold
    about = {
        "precision_by_decoys": implied_precision(alone, precision_of_all),
        "precision_kept": implied_precision(best[judged], precision_of_winners, 1),
        "renamed": int((table["cryoetganClass"] != given).sum()),
        "added": int((~above[table.index]).sum()),
        "removed": int((above & ~above.index.isin(table.index)).sum()),
    }
    return table.reset_index(drop=True), about


def find_likely(ranks: Floats, won: NDArray[np.bool_], decoys: int) -> NDArray[np.bool_]:
    """Return `(N,)` whether a pick is more likely right than wrong; see `posterior`."""
    return posterior(ranks, won, decoys) >= LIKELY


def cross_fit(ranks: Floats, won: NDArray[np.bool_], decoys: int) -> NDArray[np.bool_]:
    """Return `(N,)` the picks at or above a rank that was found without their own decoys.

    The lowest likely rank is found on every second pick and applied to the others, and vice versa:
    the share of picks that prefer their map then does not depend on the choice.
    """
    half = np.empty(len(ranks), int)
    half[np.argsort(-ranks, kind="stable")] = np.arange(len(ranks)) % 2
    chosen = np.zeros(len(ranks), bool)
    for side in (0, 1):
        learn = half == side
        likely = ranks[learn][find_likely(ranks[learn], won[learn], decoys)]
        if len(likely):
            chosen |= ~learn & (ranks >= likely.min())
    return chosen


def joint_ranks(best: "pd.DataFrame") -> Floats:
    """Return `(N,)` ranks by alignment and by the detector, each in its standard deviation.

    Map and decoy exchanged, the rank is the same: the detector saw neither.
    """
    chance = np.clip(best[DETECTION_SCORE].to_numpy(float), 1e-6, 1 - 1e-6)
    values = rank_rows(best), np.log(chance / (1 - chance))
    aligned, detected = (value / max(float(value.std()), 1e-9) for value in values)
    return aligned + DETECTION_WEIGHT * detected


def implied_precision(
    table: "pd.DataFrame", precision: Callable[[float, int], float], added: int = 0
) -> dict[str, Any]:
    """Return the least share of right picks that their decoys imply, with its 95 % interval.

    `precision` gives it for the share r of picks that prefer their map, and K decoys. `added` picks
    that prefer a decoy are added to each class: a set that ends before its first decoy still holds
    wrong picks. The interval of r is Wilson's; half widths of classes are added in squares, weighted by their picks.
    """
    classes: dict[str, dict[str, Any]] = {}
    for name, rows in table.groupby("cryoetganClass", sort=True):
        decoys, own = int(count_decoys(rows)[0]), int(beats_decoys(rows).sum())
        count = len(rows) + added
        value, low, high = (
            float(np.clip(precision(share, decoys), 0, 1))
            for share in (own / count, *wilson(own, count))
        )
        classes[str(name)] = {"value": value, "interval": [low, high], "n": count}
    total = sum(one["n"] for one in classes.values())
    if not total:
        return {"value": None, "interval": [0.0, 1.0], "n": 0, "classes": {}}
    shares = {name: one["n"] / total for name, one in classes.items()}
    value = sum(shares[name] * one["value"] for name, one in classes.items())
    below, above = (
        np.sqrt(
            sum(
                (shares[name] * (one["value"] - one["interval"][side])) ** 2
                for name, one in classes.items()
            )
        )
        for side in (0, 1)
    )
    interval = [max(0.0, float(value - below)), min(1.0, float(value + above))]
    return {"value": float(value), "interval": interval, "n": total, "classes": classes}


def precision_of_all(share: float, decoys: int) -> float:
    """Return the precision p of picks that were chosen without decoys.

    A wrong pick prefers its map to K decoys with probability 1 / (K + 1), a right one if its pose is
    found, so r <= p + (1 - p) / (K + 1), hence p >= ((K + 1) r - 1) / K. With K = 1, the mirror
    image, this is the hand test.
    """
    return ((decoys + 1) * share - 1) / decoys


def precision_of_winners(share: float, decoys: int) -> float:
    """Return the precision of the picks that prefer their map: of n picks n r.

    n (1 - r) / K of them are wrong (`curation.fdr`); a set without decoys has none.
    """
    return 1 - (1 - share) / (decoys * share) if share else 0.0

"""Align picks of a detector to the maps of their classes, with decoys."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.io.mrc import Volume
from cryoetgan.io.star import ANGLES, COORDINATES, DETECTION_SCORE
from cryoetgan.particles.curation.fdr import add_q_values, count_decoys
from cryoetgan.particles.curation.select import choose_classes
from cryoetgan.particles.matching.decoys import make_decoys
from cryoetgan.particles.matching.score_table import score_table
from cryoetgan.particles.matching.template import SearchOptions
from cryoetgan.particles.picking.dog import non_maximum_suppression

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
CLEAR = 0.05
"""Largest q-value of an alignment that gives a pick its class and place."""
TAKEN = (
    *ANGLES,
    "cryoetganScore",
    "cryoetganDecoyScore",
    "cryoetganDecoys",
    "cryoetganQValue",
)


def align_picks(
    tomogram: Volume,
    picks: "pd.DataFrame",
    maps: Mapping[str, Floats],
    options: SearchOptions,
    threshold: float,
    radii: Mapping[str, float],
) -> tuple["pd.DataFrame", dict[str, Any]]:
    """Return picks with angles, scores against map and decoys, and q-values; and their precision.

    Picks below the detector's `threshold` are kept only if their alignment is clear. No pick stays
    closer to a better one than the radius of its class, `radii` in voxels.

    Each pick is aligned to all maps and their decoys, which compete for it (`curation.fdr`). If a
    map wins at a q-value of at most `CLEAR`, the pick takes its class and the refined place.
    Otherwise it keeps class and place, and has angles and scores of the map of its class. The
    precision (`precision_by_decoys`) is of the picks and classes of the detector alone.
    """
    places = picks[["rlnTomoName", "cryoetganId", *COORDINATES]]
    scores, _ = score_table(tomogram, places, maps, options, make_decoys)
    given = picks.set_index("cryoetganId")["cryoetganClass"]
    is_own = scores["cryoetganClass"] == scores["cryoetganId"].map(given)
    own, best = (
        add_q_values(rows, np.full(len(rows), "all")).set_index("cryoetganId").loc[given.index]
        for rows in (scores[is_own], choose_classes(scores, {}))
    )
    clear = (best["cryoetganScore"] > best["cryoetganDecoyScore"]).to_numpy()
    clear = clear & (best["cryoetganQValue"] <= CLEAR).to_numpy()
    table = picks.copy()
    for name in TAKEN:
        table[name] = np.where(clear, best[name], own[name])
    for name in ("cryoetganClass", *COORDINATES):
        table[name] = np.where(clear, best[name], picks[name])
    above = (picks[DETECTION_SCORE] >= threshold).to_numpy()
    about = precision_by_decoys(own[above])
    # two picks of one particle may have moved to one place
    kept = table[above | clear]
    places, scores = kept[COORDINATES].to_numpy(float), kept[DETECTION_SCORE].to_numpy(float)
    reach = kept["cryoetganClass"].map(radii).to_numpy(float)
    kept = kept.iloc[non_maximum_suppression(places, scores, reach)]
    about["renamed"] = int((kept["cryoetganClass"] != picks["cryoetganClass"][kept.index]).sum())
    about["added"] = int((~above[kept.index]).sum())
    return kept.reset_index(drop=True), about


def precision_by_decoys(table: "pd.DataFrame") -> dict[str, Any]:
    """Return the least share of right picks that their decoys imply, with its 95 % interval.

    A wrong pick prefers its map to K decoys with probability 1 / (K + 1), a right one if its pose is
    found. If a share r prefers the map,

        r <= p + (1 - p) / (K + 1),    hence    p >= ((K + 1) r - 1) / K

    The detector never saw the decoys, so no pick was chosen by them. With K = 1, the mirror image,
    this is the hand test. The interval of r is Wilson's.
    """
    classes = {
        str(name): _implied(rows) for name, rows in table.groupby("cryoetganClass", sort=True)
    }
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


def _implied(rows: "pd.DataFrame") -> dict[str, Any]:
    from scipy.stats import binomtest

    own = rows["cryoetganScore"].to_numpy(float) > rows["cryoetganDecoyScore"].to_numpy(float)
    count = len(own)
    decoys = int(count_decoys(rows)[0])
    found = binomtest(int(own.sum()), count).proportion_ci(0.95, method="wilson")
    value, low, high = (
        float(np.clip(((decoys + 1) * share - 1) / decoys, 0, 1))
        for share in (own.mean(), found.low, found.high)
    )
    return {"value": value, "interval": [low, high], "n": count}

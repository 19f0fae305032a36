"""Align picks of a detector to the maps of their classes, with decoys."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.mrc import Volume
from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.particles.curation.fdr import add_q_values
from cryoetgan.particles.matching.decoys import make_decoys
from cryoetgan.particles.matching.score_table import score_table
from cryoetgan.particles.matching.template import SearchOptions
from cryoetgan.particles.subtomograms.set_picks import GIVEN_CLASS

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
CLEAR = 0.05
"""Largest q-value of an alignment that moves a pick to the refined place."""
TAKEN = [*ANGLES, "cryoetganScore", "cryoetganDecoyScore", "cryoetganDecoys"]


def align_picks(
    tomogram: Volume,
    picks: "pd.DataFrame",
    maps: Mapping[str, Floats],
    options: SearchOptions,
) -> "pd.DataFrame":
    """Return picks with angles, scores against map and decoys, and q-values.

    Each pick is aligned to the map of its class alone, and keeps its class. It moves to the refined
    place if its map wins against the decoys at a q-value of at most `CLEAR`.
    """
    missing = sorted(set(picks["cryoetganClass"]) - set(maps))
    if missing:
        raise UserError(
            f"--template: no map of class {', '.join(missing)}; give --template {missing[0]}.mrc, or "
            "keep only classes with a map (--class)"
        )
    own = picks[["rlnTomoName", "cryoetganId", *COORDINATES]].copy()
    own[GIVEN_CLASS] = picks["cryoetganClass"]
    scores, _ = score_table(tomogram, own, maps, options, make_decoys)
    scores = scores.set_index("cryoetganId").loc[picks["cryoetganId"]].reset_index()
    table = picks.assign(**{name: scores[name].to_numpy() for name in TAKEN})
    table = add_q_values(table, np.full(len(table), "all"))
    wins = table["cryoetganScore"] > table["cryoetganDecoyScore"]
    clear = wins & (table["cryoetganQValue"] <= CLEAR)
    for name in COORDINATES:
        table[name] = np.where(clear, scores[name], picks[name])
    return table


def precision_by_decoys(table: "pd.DataFrame") -> dict[str, Any]:
    """Return the share of right picks that their decoys imply, with its 95 % interval.

    A wrong pick prefers its map to K decoys with probability 1 / (K + 1), a right one always. If a
    share r prefers the map,

        r = p + (1 - p) / (K + 1),    hence    p = ((K + 1) r - 1) / K

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
    decoys = 1 + str(rows["cryoetganDecoys"].iloc[0]).count(",")
    found = binomtest(int(own.sum()), count).proportion_ci(0.95, method="wilson")
    value, low, high = (
        float(np.clip(((decoys + 1) * share - 1) / decoys, 0, 1))
        for share in (own.mean(), found.low, found.high)
    )
    return {"value": value, "interval": [low, high], "n": count}

"""Hand test: the share of picks that prefer the map of their class to its mirror image.

A mirrored map has the spectrum, size and mass of the map itself, and no particle fits it. So a pick
of nothing prefers either in half of the cases, and a particle its map. If a share p of the picks
is right and particles prefer their map with probability h, the share that prefers the map is

    r = p h + (1 - p) / 2,    hence    p = (2 r - 1) / (2 h - 1) >= 2 r - 1

The test uses h = 1: it needs no label, and p is a lower bound. (Of 445 particles of six proteins at
30 A, 94 to 100 % of each prefer their map, and of 413 picks of nothing 46 to 52 %; simulated, tilts to
60 degrees.) It is the target-decoy argument of Elias & Gygi 2007 (doi
10.1038/nmeth1019), applied to picks made by any program. A tomogram of the wrong hand has r < 1/2.

Picks that were selected with mirror decoys have r = 1 by construction. Of a file of scores, the
test therefore judges particles and decoys alike, see `best_ranks`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.evaluation.statistics.intervals import wilson
from cryoetgan.evaluation.statistics.wrong_hand import CLEAR_SHARE, SIGNIFICANCE
from cryoetgan.io.exclusion import excluded_voxels
from cryoetgan.io.star import COORDINATES, DETECTION_SCORE
from cryoetgan.particles.curation.fdr import q_values, rank_values
from cryoetgan.particles.curation.select import FLIP, choose_classes
from cryoetgan.particles.matching.align import Aligner, needed_rotations
from cryoetgan.particles.matching.decoys import MAX_MIRROR_LIKENESS, map_likeness
from cryoetgan.particles.matching.score import score_picks, whitened_band
from cryoetgan.particles.matching.template import (
    SearchOptions,
    Template,
    template_box,
)
from cryoetgan.physics.geometry import mirror
from cryoetgan.progress import log

if TYPE_CHECKING:
    import pandas as pd

    from cryoetgan.io.mrc import Volume

Floats = NDArray[np.floating]
JUDGED = ["cryoetganClass", "cryoetganScore", "cryoetganDecoyScore"]
"""Columns of the rows that are judged."""


def compare_hands(
    tomogram: "Volume",
    table: "pd.DataFrame",
    maps: Mapping[str, Floats],
    options: SearchOptions,
    rate: float,
) -> dict[str, Any]:
    """Return the hand test of picks in a tomogram (`judge_hands`).

    Scores against mirror images that the picks bring are used; other picks are aligned to maps and
    mirror images. `rate` is the rate of `best_ranks`, which judges picks with scores.
    """
    likeness = measure_likeness(tomogram, maps, options)
    if not len(table):
        return judge_hands(table.reindex(columns=JUDGED), likeness, None)
    table = one_row_a_pick(table, maps)
    if "cryoetganDecoyScore" not in table:
        return judge_hands(score_hands(tomogram, table, maps, options), likeness, None)
    # copies of other sizes have no hand
    has_mirror = table["cryoetganDecoys"] == "mirror"
    table = table.assign(cryoetganDecoyScore=table["cryoetganDecoyScore"].where(has_mirror))
    found = judge_hands(table, likeness, rate)
    if "cryoetganQValue" in table:
        found["warning"] = (
            "the picks were selected with mirror decoys, so all prefer their map by construction; "
            "judge the file of `particles score` instead, or PICKS_scores.star of `detection run`"
        )
        for record in [found["all"], *found["classes"].values()]:
            record |= {"precision": None, "precision_interval": None}
    return found


def rows_of_tomogram(table: "pd.DataFrame", name: str, path: Path) -> "pd.DataFrame":
    """Return the picks of one tomogram; all, if they name none."""
    if "rlnTomoName" in table:
        found = sorted(set(table["rlnTomoName"].astype(str)))
        table = table[table["rlnTomoName"] == name].reset_index(drop=True)
        if found and not len(table):
            raise UserError(f"{path}: holds picks of {', '.join(found)}, none of tomogram {name}")
    # a detector may find nothing, which is a result
    if not len(table) and DETECTION_SCORE not in table:
        raise UserError(f"{path}: holds no pick; lower particles.threshold and pick again")
    if "cryoetganId" not in table:
        table = table.assign(cryoetganId=[f"p{i}" for i in range(len(table))])
    return table


def one_row_a_pick(table: "pd.DataFrame", maps: Mapping[str, Floats]) -> "pd.DataFrame":
    """Return the rows to judge: of a file of scores, the best class of each pick.

    Picks without a class are of the only map, or all rows are repeated for every map.
    """
    if "cryoetganClass" not in table:
        parts = [table.assign(cryoetganClass=name) for name in maps]
        return _concatenate(parts)
    if "cryoetganScore" in table and table["cryoetganId"].duplicated().any():
        table = choose_classes(table, {})
    known = table["cryoetganClass"].isin(list(maps))
    if not known.any():
        found = ", ".join(sorted(set(table["cryoetganClass"].astype(str))))
        raise UserError(
            f"the picks are of class {found}, the templates of class {', '.join(maps)}; name a "
            "template like the class of its picks"
        )
    if not known.all():
        log.warning("%d picks are of classes without a template", int((~known).sum()))
    return table[known].reset_index(drop=True)


def _concatenate(parts: list["pd.DataFrame"]) -> "pd.DataFrame":
    import pandas as pd

    return pd.concat(parts, ignore_index=True)


def score_hands(
    tomogram: "Volume",
    table: "pd.DataFrame",
    maps: Mapping[str, Floats],
    options: SearchOptions,
) -> "pd.DataFrame":
    """Return the rows with cryoetganScore and cryoetganDecoyScore, of the map and its mirror image.

    `table` has one row for each pick and class to compare; the best class of a pick is kept.
    """
    parts = []
    for name, rows in table.groupby("cryoetganClass", sort=True):
        places = rows[COORDINATES].to_numpy(float)
        (found,) = score_picks(
            tomogram, places, {str(name): maps[str(name)]}, options, _mirror_decoy
        ).values()
        scores, images = found.scores, found.decoy_scores
        parts.append(rows.assign(cryoetganScore=scores, cryoetganDecoyScore=images))
    return choose_classes(_concatenate(parts), {})


def _mirror_decoy(density: Floats, _: Aligner) -> dict[str, Floats]:
    return {"mirror": mirror(density)}


def measure_likeness(
    tomogram: "Volume", maps: Mapping[str, Floats], options: SearchOptions
) -> dict[str, float]:
    """Return the correlation of each map with its mirror image, in the band of the scores."""
    excluded = excluded_voxels(tomogram)
    band = whitened_band(tomogram, template_box(maps), options, excluded)
    found = {}
    for name, density in maps.items():
        rotations = options.rotations or needed_rotations(density, band)
        aligner = Aligner(Template(density, band), rotations)
        found[name] = map_likeness(mirror(density), aligner)
    return found


def best_ranks(scores: Floats, mirror_scores: Floats, rate: float) -> NDArray[np.bool_]:
    """Return which of N picks have a rank at which one hand has all but a share `rate`.

    Both the rank and the condition are symmetric in the two hands, so the choice favours neither.
    The lowest rank is found on every second pick and applied to the others, and vice versa: the
    share of the picks that are returned is not subject to the condition. Without such a rank
    (picks of nothing), all picks are returned.
    """
    ranks, own = rank_values(scores, mirror_scores), scores > mirror_scores
    side = np.empty(len(ranks), int)
    side[np.argsort(-ranks, kind="stable")] = np.arange(len(ranks)) % 2
    chosen = np.zeros(len(ranks), bool)
    for half in (0, 1):
        learn = side == half
        q = [q_values(ranks[learn], hand[learn], 1) for hand in (own, ~own)]
        passing = ranks[learn][np.minimum(*q) <= rate]
        if len(passing):
            chosen |= ~learn & (ranks >= passing.min())
    return chosen if chosen.any() else np.ones(len(ranks), bool)


def hand_record(scores: Floats, mirror_scores: Floats) -> dict[str, Any]:
    """Return share r with interval, precision 2 r - 1 with interval, and the number of picks.

    Equal scores, as of boxes in padding, count half.

    Examples
    --------
    >>> hand_record(np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.1, 0.1, 0.2]))["precision"]
    0.5
    """
    from scipy.stats import binomtest

    own = np.where(scores == mirror_scores, 0.5, scores > mirror_scores)
    count = len(own)
    share = float(own.mean()) if count else None
    low, high = wilson(float(own.sum()), count)
    probability = binomtest(int(own.sum()), count, 0.5, "less").pvalue if count else 1.0
    return {
        "share": share,
        "interval": [low, high],
        "n": count,
        "precision": None if share is None else max(0.0, 2 * share - 1),
        "precision_interval": [max(0.0, 2 * low - 1), max(0.0, 2 * high - 1)],
        "is_wrong_hand": bool(probability < SIGNIFICANCE),
    }


def judge_hands(
    table: "pd.DataFrame", likeness: Mapping[str, float], best: float | None
) -> dict[str, Any]:
    """Return the record of each class, and of all classes whose map has a hand.

    `table` has one row a pick, with the scores of map and mirror image (NaN: not compared). `best`
    is the rate of `best_ranks`; None judges all picks. `likeness` is of each map and its mirror
    image.
    """
    classes, kept = {}, []
    for name in sorted(likeness):
        rows = table[table["cryoetganClass"] == name]
        rows = rows[rows["cryoetganDecoyScore"].notna()]
        pair = rows[["cryoetganScore", "cryoetganDecoyScore"]].to_numpy(float)
        if best is not None and len(pair):
            pair = pair[best_ranks(pair[:, 0], pair[:, 1], best)]
        record = hand_record(*pair.T) | {"mirror_likeness": likeness[name], "warning": None}
        if likeness[name] > MAX_MIRROR_LIKENESS:
            record |= {"precision": None, "precision_interval": None, "is_wrong_hand": False}
            record["warning"] = (
                f"the map of {name} resembles its mirror image ({likeness[name]:.2f}, at most "
                f"{MAX_MIRROR_LIKENESS:g} wanted), so the hand test says nothing; compare finer detail "
                "(`--lowpass`)"
            )
        else:
            kept.append(pair)
        classes[name] = record
    pooled = hand_record(*np.concatenate(kept or [np.empty((0, 2))]).T)
    judged = "all picks" if best is None else "best ranks"
    warning = _warn_of_hand(classes, pooled)
    return {"judged": judged, "classes": classes, "all": pooled, "warning": warning}


def _warn_of_hand(classes: dict[str, Any], pooled: Mapping[str, Any]) -> str | None:
    """Return the warning on all classes; the warnings on single classes are added to these."""
    wrong = [name for name, record in classes.items() if record["is_wrong_hand"]]
    tested = [record for record in classes.values() if record["precision"] is not None]
    if pooled["is_wrong_hand"] and all(record["share"] < 0.5 for record in tested):
        what = "or this map" if len(tested) == 1 else "or all maps"
        # some species fit the mirror image of another a little better than its map
        unless = ", or the picks are other particles" * (pooled["interval"][1] > CLEAR_SHARE)
        return (
            f"{100 * (1 - pooled['share']):.0f} % of {pooled['n']} picks prefer the mirror image: "
            f"the tomogram {what} has the wrong hand{unless}; {FLIP}"
        )
    for name in wrong:
        record = classes[name]
        record["warning"] = (
            f"{100 * (1 - record['share']):.0f} % of {record['n']} picks of {name} prefer the "
            "mirror image: its map has the wrong hand, or they are another particle; mirror the "
            "map, or check the picks"
        )
    return None

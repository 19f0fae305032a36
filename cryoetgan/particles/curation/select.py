"""Select a clean set from scores: one class a place, the best of each, splits without overlap."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoetgan.errors import UserError, suggest
from cryoetgan.io.star import COORDINATES, OTHER, SPLITS, particle_id
from cryoetgan.particles.curation.decisions import UNNAMED, Decisions
from cryoetgan.particles.curation.fdr import add_q_values, rank_rows
from cryoetgan.particles.picking.dog import non_maximum_suppression
from cryoetgan.particles.subtomograms.set_picks import BOX_EDGE, GIVEN_CLASS, has_given_class
from cryoetgan.progress import log
from cryoetgan.seeds import rng

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
DUPLICATE_DISTANCE = 0.25
"""Distance below which two refined positions are one particle picked twice, in boxes."""
TEST_OTHERS = 5
"""Largest number of picks without a particle in the test set, over the largest of a class."""
FLIP = "import it with --flip-hand (column flip_hand of the table), or mirror the map"
"""Advice if the tomogram or the map has the wrong hand."""


@dataclass(frozen=True, kw_only=True)
class SelectOptions:
    """Options of the selection."""

    top: int
    """Largest number of particles of each class."""
    box: int
    """Voxels; the unit of duplicates and the gap between the splits."""
    fdr: float = 0.05
    """Largest false discovery rate of each class, if the scores have decoys."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """Tomogram to train, validation or test."""
    test_fraction: float = 0.25
    """Share of the particles in the test block of a single tomogram."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Tomogram to group; `top` counts in each, because scores of microscopes are not comparable."""

    def __post_init__(self) -> None:
        for name, split in self.splits.items():
            if split not in SPLITS:
                raise UserError(f"--split: {name} is '{split}'; give {', '.join(SPLITS)}")
        if not 0 < self.fdr <= 1:
            raise UserError(f"--fdr is {self.fdr:g}; give a number above 0, at most 1")
        if not 0 <= self.test_fraction < 1:
            raise UserError(
                f"--test-fraction is {self.test_fraction:g}; give a number from 0 to below 1"
            )


def find_winners(
    scores: "pd.DataFrame", options: SelectOptions, decisions: Decisions | None = None
) -> "pd.DataFrame":
    """Return one row a place, of its best class; with q-values if the scores have decoys."""
    decisions = decisions or {}
    _check_scores(scores)
    table = choose_classes(scores, decisions)
    table = remove_duplicates(table, DUPLICATE_DISTANCE * options.box, decisions)
    if "cryoetganDecoyScore" not in table:
        return table
    groups = np.array([options.groups.get(name, "all") for name in table["rlnTomoName"]], str)
    return add_q_values(table, groups)


def _check_scores(scores: "pd.DataFrame") -> None:
    """Raise `UserError` if a row lacks a score, or only some have the scores of decoys."""
    for column in ("cryoetganScore", "cryoetganDecoyScore"):
        if column not in scores:
            continue
        absent = ~np.isfinite(scores[column].to_numpy(float))
        if absent.any():
            names = ", ".join(sorted(scores["rlnTomoName"][absent].astype(str).unique())[:5])
            raise UserError(
                f"{absent.sum()} of {len(absent)} rows have no {column} ({names}), so they cannot be "
                "compared with the others; score all tomograms with the same --decoys"
            )


def select(
    scores: "pd.DataFrame", options: SelectOptions, decisions: Decisions | None = None
) -> "pd.DataFrame":
    """Return the selected particles with their class, q-value and split.

    `scores` has one row a particle and class; `decisions` of a person (`read_decisions`) override
    the scores. Classes and decoys compete for each place (`fdr`); scores without decoys are
    selected by `top` alone.
    """
    decisions = decisions or {}
    table = find_winners(scores, options, decisions)
    mirrored = fit_mirror_images(table, options.fdr)
    if "cryoetganDecoyScore" in table:
        table = keep_below_fdr(table, options, decisions)
    else:
        log.warning(
            "the scores have no decoys, so --fdr is not applied; the best %d are kept", options.top
        )
    unknown = len(set(decisions) - set(scores["cryoetganId"]))
    if unknown:
        log.warning("%d of %d decisions belong to no particle here", unknown, len(decisions))
    if decisions:
        table = apply_decisions(table, decisions)
    table = keep_best(table, options, decisions)
    classes = set(table["cryoetganClass"])
    missing = sorted(set(scores["cryoetganClass"]) - classes)
    if set(missing) & set(mirrored):
        name = min(set(missing) & set(mirrored))
        raise UserError(
            f"no particle of class {name} is left, but {mirrored[name]} picks fit the mirror image "
            f"of its map at a false discovery rate of {options.fdr:g}: the tomogram or the map has "
            f"the wrong hand; {FLIP}"
        )
    if missing:
        raise UserError(
            f"no particle of class {', '.join(missing)} is left: no pick fits it best at a false "
            f"discovery rate of {options.fdr:g}. Lower particles.threshold, raise particles.fdr, set "
            "its radius in the table of classes, or remove the class"
        )
    for name, group in table.groupby("cryoetganClass"):
        for tomogram in sorted(set(table["rlnTomoName"]) - set(group["rlnTomoName"])):
            log.warning("%s: no particle of class %s is selected", tomogram, name)
    return assign_splits(table, options)


def given_classes(scores: "pd.DataFrame") -> dict[str, str]:
    """Return the classes that a person or program gave boxes of a set, by id; see `GIVEN_CLASS`.

    They count as decisions, so the false discovery rate does not apply to them.
    """
    if GIVEN_CLASS not in scores:
        return {}
    given = scores[has_given_class(scores)]
    return dict(zip(given["cryoetganId"], given[GIVEN_CLASS].astype(str), strict=True))


def warn_of_doubtful_classes(selected: "pd.DataFrame", rate: float) -> None:
    """Warn of boxes of a given class that resemble its decoy as much as its map."""
    given = has_given_class(selected)
    if "cryoetganQValue" not in selected or not given.any():
        return
    for name, rows in selected[given].groupby("cryoetganClass", sort=True):
        doubtful = int((rows["cryoetganQValue"] > rate).sum())
        if 2 * doubtful > len(rows):
            log.warning(
                "%s: %d of %d boxes of this given class are kept, although their scores alone would "
                "not name them at a false discovery rate of %g: they are noisy, or another particle",
                name, doubtful, len(rows), rate,
            )  # fmt: skip


def fit_mirror_images(table: "pd.DataFrame", rate: float) -> dict[str, int]:
    """Return the number of picks that fit the mirror image of a map, by class.

    `table` has one row a pick; of the rates, map and mirror image have exchanged their parts.
    """
    if "cryoetganDecoys" not in table:
        return {}
    swapped = {"cryoetganScore": "cryoetganDecoyScore", "cryoetganDecoyScore": "cryoetganScore"}
    images = table[table["cryoetganDecoys"] == "mirror"].rename(columns=swapped)
    images = add_q_values(images, np.full(len(images), "all"))
    fits = images["cryoetganScore"] > images["cryoetganDecoyScore"]
    found = images[fits & (images["cryoetganQValue"] <= rate)]
    return {str(name): len(rows) for name, rows in found.groupby("cryoetganClass")}


def choose_classes(scores: "pd.DataFrame", decisions: Decisions) -> "pd.DataFrame":
    """Return one row a particle, best first: of the best class, or the class a person named."""
    named = scores["cryoetganId"].map(decisions)
    order = np.lexsort([-rank_rows(scores), scores["cryoetganClass"] != named])
    return scores.iloc[order].drop_duplicates("cryoetganId").reset_index(drop=True)


def select_others(
    winners: "pd.DataFrame",
    selected: "pd.DataFrame",
    options: SelectOptions,
    decisions: Decisions | None = None,
) -> "pd.DataFrame":
    """Return the winners without a particle, of class `other`, with the splits of the selected.

    Their decoy won, their q-value is above the rate, or a person rejected them; without decoys,
    they were not selected. All lie `DUPLICATE_DISTANCE` from each selected particle. A tomogram
    without such picks has background instead: places one box from its particles; of a set, its
    boxes with random phases. The training
    and validation sets hold at most `top` of them, at random, the test set `TEST_OTHERS` times as
    many.
    """
    import pandas as pd

    decisions = decisions or {}
    table = winners
    rejected = np.array([decisions.get(name) == "" for name in table["cryoetganId"]], bool)
    if "cryoetganDecoyScore" in table:
        kept = set(keep_below_fdr(table, options, decisions)["cryoetganId"])
        rejected |= ~table["cryoetganId"].isin(kept).to_numpy()
    else:
        rejected |= ~table["cryoetganId"].isin(selected["cryoetganId"]).to_numpy()
    parts = []
    for name, particles in selected.groupby("rlnTomoName", sort=True):
        near = cKDTree(particles[COORDINATES].to_numpy(float))
        found = table[rejected & (table["rlnTomoName"] == name).to_numpy()]
        distance, _ = near.query(found[COORDINATES].to_numpy(float))
        found = found[distance > DUPLICATE_DISTANCE * options.box]
        if not len(found) and BOX_EDGE in particles:
            # nothing lies beside a box of a set: the box itself, without its particle
            parts.append(_without_phases(particles))
            continue
        if not len(found):
            picks = table[table["rlnTomoName"] == name]
            found = _background(str(name), picks[COORDINATES].to_numpy(float), options.box)
        if set(particles["cryoetganSplit"]) == {"train", "test"}:
            found = split_like(found, particles, options.box)
        else:
            found = found.assign(cryoetganSplit=particles["cryoetganSplit"].iloc[0])
        parts.append(found)
    return _draw_others(pd.concat(parts, ignore_index=True).assign(cryoetganClass=OTHER), options)


def _draw_others(others: "pd.DataFrame", options: SelectOptions) -> "pd.DataFrame":
    """Return at most as many picks without a particle, at random, as each split holds."""
    import pandas as pd

    order = rng(0, "particles", "other").permutation(len(others))
    drawn = []
    for split, group in others.iloc[order].groupby("cryoetganSplit", sort=True):
        most = options.top * (TEST_OTHERS if split == "test" else 1)
        drawn.append(group.head(most).sort_index())
        if len(group) > most:
            log.info(
                "%s: %d of %d picks without a particle are drawn (--top %d)",
                split, most, len(group), options.top,
            )  # fmt: skip
    return pd.concat(drawn, ignore_index=True)


def _without_phases(particles: "pd.DataFrame") -> "pd.DataFrame":
    """Return rows of the same boxes, whose phases `particles extract` replaces by random ones."""
    ids = [f"{name}r" for name in particles["cryoetganId"]]
    return particles.assign(cryoetganId=ids, cryoetganPhases="random")


def _background(name: str, places: Floats, box: int) -> "pd.DataFrame":
    """Return places `(x, y, z)` one box from a pick along x or y, and no nearer to another."""
    import pandas as pd

    steps = box * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]], float)
    tried = np.concatenate([places + step for step in steps])
    tried = tried[cKDTree(places).query(tried)[0] >= box - 1e-6]
    table = pd.DataFrame(tried, columns=COORDINATES)
    ids = [particle_id(name, *place) for place in tried]
    return table.assign(rlnTomoName=name, cryoetganId=ids)


def keep_below_fdr(
    table: "pd.DataFrame", options: SelectOptions, decisions: Decisions
) -> "pd.DataFrame":
    """Return the winners (`find_winners`) that beat their decoys, up to the rate.

    Particles that a person accepted stay in any case.
    """
    good = table["cryoetganScore"] > table["cryoetganDecoyScore"]
    good &= table["cryoetganQValue"] <= options.fdr
    good |= _accepted(table, decisions)
    return table[good].reset_index(drop=True)


def _accepted(table: "pd.DataFrame", decisions: Decisions) -> NDArray[np.bool_]:
    return np.array([bool(decisions.get(name)) for name in table["cryoetganId"]], bool)


def remove_duplicates(
    table: "pd.DataFrame", distance: float, decisions: Decisions
) -> "pd.DataFrame":
    """Keep the best of particles closer than `distance` voxels in one tomogram."""
    kept = []
    rank = np.empty(len(table))
    rank[_best_first(table, decisions)] = -np.arange(len(table))
    for _, group in table.groupby("rlnTomoName", sort=True):
        places = group[COORDINATES].to_numpy(float)
        distances = np.full(len(group), distance)
        kept += list(group.index[non_maximum_suppression(places, rank[group.index], distances)])
    return table.loc[sorted(kept)].reset_index(drop=True)


def keep_best(
    table: "pd.DataFrame", options: SelectOptions, decisions: Decisions
) -> "pd.DataFrame":
    """Return the best rows of each class and group, best first."""
    order = table.iloc[_best_first(table, decisions, table["cryoetganClass"].astype(str))]
    group = np.array([options.groups.get(name, "all") for name in order["rlnTomoName"]])
    best = order.groupby(["cryoetganClass", group], sort=True).head(options.top)
    return best.reset_index(drop=True)


def _best_first(
    table: "pd.DataFrame", decisions: Decisions, *first: "pd.Series[str]"
) -> NDArray[np.int_]:
    """Return the order of rows by `first`, then accepted ones, then rank."""
    return np.lexsort([-rank_rows(table), ~_accepted(table, decisions), *first])


def apply_decisions(table: "pd.DataFrame", decisions: Decisions) -> "pd.DataFrame":
    """Drop the rejected particles and give the named ones their class."""
    decided = table["cryoetganId"].map(decisions)
    table = table[decided != ""].copy()
    decided = decided[decided != ""]
    named = decided.notna() & (decided != UNNAMED)
    table.loc[named, "cryoetganClass"] = decided[named]
    return table.reset_index(drop=True)


def assign_splits(table: "pd.DataFrame", options: SelectOptions) -> "pd.DataFrame":
    """Fill cryoetganSplit: by tomogram if the tomograms' splits differ, else by blocks."""
    splits = options.splits
    names = sorted(table["rlnTomoName"].unique())
    for name in sorted(set(splits) - set(names)):
        log.warning("--split: no particle of tomogram %s is selected%s", name, suggest(name, names))
    table = table.copy()
    if len(names) > 1 and len({splits.get(name, "train") for name in names}) > 1:
        table["cryoetganSplit"] = [splits.get(name, "train") for name in table["rlnTomoName"]]
        return table
    table["cryoetganSplit"] = ""
    for _, group in table.groupby("rlnTomoName", sort=True):
        places = group[COORDINATES].to_numpy(float)
        table.loc[group.index, "cryoetganSplit"] = block_split(
            places, options.box, options.test_fraction
        )
    gap = int((table["cryoetganSplit"] == "").sum())
    log.info("split by blocks; %d particles lie in the gap and are excluded", gap)
    return table[table["cryoetganSplit"] != ""].reset_index(drop=True)


def block_split(coordinates: Floats, box: int, test_fraction: float) -> NDArray[np.str_]:
    """Split the particles of one tomogram by a plane, with a gap of one box.

    `coordinates` is `(N, 3)` x, y, z in voxels; boxes of the two sides share no voxel.
    `test_fraction` of the particles lie beyond the plane; 0 puts all into the training set. The
    result is `(N,)`: train, test, or empty for particles in the gap.
    """
    if test_fraction == 0:
        return np.full(len(coordinates), "train", dtype="<U5")
    longest = int(np.argmax(np.ptp(coordinates, axis=0)))
    along = coordinates[:, longest]
    split = _sides(along, float(np.quantile(along, 1 - test_fraction)), box)
    for side in ("train", "test"):
        if not (split == side).any():
            raise UserError(
                f"one tomogram is too small to split: its {side} side has no particle outside the "
                f"gap of one box ({box} voxels). Add a tomogram, or set particles.test_fraction"
            )
    return split


def split_like(table: "pd.DataFrame", selected: "pd.DataFrame", box: int) -> "pd.DataFrame":
    """Return the rows outside the gap, split by the plane that split the selected particles.

    No box of one side shares a voxel with a box of the other, selected or not.
    """
    places, sides = selected[COORDINATES].to_numpy(float), selected["cryoetganSplit"].to_numpy(str)
    train, test = places[sides == "train"], places[sides == "test"]
    if len(train) and len(test):
        ends, starts = train.max(axis=0), test.min(axis=0)
        axis = int(np.argmax(starts - ends))
        if starts[axis] - ends[axis] >= box:
            along = table[COORDINATES[axis]].to_numpy(float)
            split = _sides(along, (ends[axis] + starts[axis]) / 2, box)
            log.info("split by blocks; %d particles lie in the gap", int((split == "").sum()))
            return table.assign(cryoetganSplit=split)[split != ""].reset_index(drop=True)
    raise UserError(
        "no plane with a gap of one box separates the train and test particles; select them again "
        "with 'particles select'"
    )


def _sides(along: Floats, plane: float, box: int) -> NDArray[np.str_]:
    """Return the side of each position; positions one box apart have boxes that only touch."""
    return np.where(
        along <= plane - box / 2, "train", np.where(along >= plane + box / 2, "test", "")
    )

"""From scores to a clean set: one class a place, no duplicates, the best of each class."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError, suggest
from cryoetgan.io.star import COORDINATES, SPLITS
from cryoetgan.particles.curation.splits import block_split
from cryoetgan.particles.picking.dog import suppress

log = logging.getLogger("cryoetgan")
YES = {"1", "yes", "y", "true", "accepted", "accept"}
NO = {"0", "no", "n", "false", "rejected", "reject"}
CLOSEST = 0.25
"""Refined places closer than this share of the box are one particle picked twice."""


def best_class(scores: Any, decisions: Mapping[str, str] | None = None) -> Any:
    """Return one row a particle, best first: of the class that a person named, else that fits best.

    `scores` has one row a particle and class: angles and place come with the class.
    """
    said = scores["cryoetganId"].map(decisions or {})
    order = np.lexsort(
        [-scores["cryoetganScore"].to_numpy(float), scores["cryoetganClass"] != said]
    )
    return scores.iloc[order].drop_duplicates("cryoetganId").reset_index(drop=True)


def without_duplicates(
    table: Any, distance: float, decisions: Mapping[str, str] | None = None
) -> Any:
    """Drop all but the best of particles closer than `distance` voxels in one tomogram.

    One that a person accepted is better than any other.
    """
    kept = []
    accepted = _accepted(table, decisions or {})
    best = np.lexsort([-table["cryoetganScore"].to_numpy(float), ~accepted])
    rank = np.empty(len(table))
    rank[best] = -np.arange(len(table))
    for _, group in table.groupby("rlnTomoName", sort=True):
        where = group[COORDINATES].to_numpy(float)
        found = suppress(where, rank[group.index], np.full(len(group), distance))
        kept += list(group.index[found])
    return table.loc[sorted(kept)].reset_index(drop=True)


def _accepted(table: Any, decisions: Mapping[str, str]) -> NDArray[np.bool_]:
    """Return which rows a person accepted."""
    return np.array([bool(decisions.get(name)) for name in table["cryoetganId"]], bool)


def best_of_each(
    table: Any,
    top: int,
    groups: Mapping[str, str] | None = None,
    decisions: Mapping[str, str] | None = None,
) -> Any:
    """Return the `top` best-scoring rows of each class, best first within a class.

    What a person accepted comes before every score. With `groups` (tomogram to group) in each
    group: scores of two microscopes do not compare.
    """
    scores = table["cryoetganScore"].to_numpy(float)
    accepted = _accepted(table, decisions or {})
    order = table.iloc[np.lexsort([-scores, ~accepted, table["cryoetganClass"].astype(str)])]
    group = np.array([(groups or {}).get(name, "all") for name in order["rlnTomoName"]])
    return order.groupby(["cryoetganClass", group], sort=True).head(top).reset_index(drop=True)


def read_decisions(folder: Path, classes: Sequence[str]) -> dict[str, str]:
    """Read a person's decisions: id to class, an empty class where rejected.

    Parameters
    ----------
    folder : Path
        Holds CSV files with the columns id, accepted and, if wanted, class.
    classes : sequence of str
        Known classes.
    """
    decisions: dict[str, str] = {}
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; set particles.curation to one, or leave it out")
    for path in sorted(folder.glob("*.csv")):
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"id", "accepted"} <= set(reader.fieldnames or []):
                raise UserError(f"{path}: wanted the columns id, accepted[, class]")
            for number, row in enumerate(reader, start=2):
                answer = (row["accepted"] or "").strip().lower()
                name = (row.get("class") or "").strip()
                if answer not in YES | NO:
                    raise UserError(
                        f"{path}, row {number}: accepted is '{answer}', wanted yes or no"
                    )
                if answer in YES and name and name not in classes:
                    raise UserError(
                        f"{path}, row {number}: class '{name}' is none of {', '.join(classes)}; "
                        "reject it (no), or give the class a row in the table of classes"
                    )
                decisions[row["id"].strip()] = (name or "*") if answer in YES else ""
    return decisions


def apply_decisions(table: Any, decisions: Mapping[str, str]) -> Any:
    """Drop what a person rejected, rename what a person named."""
    said = table["cryoetganId"].map(decisions)
    table = table[said != ""].copy()
    said = said[said != ""]
    named = said.notna() & (said != "*")
    table.loc[named, "cryoetganClass"] = said[named]
    return table.reset_index(drop=True)


def assign_splits(table: Any, splits: Mapping[str, str], box: int, test_fraction: float) -> Any:
    """Fill cryoetganSplit: by tomogram where they differ, else by blocks with a gap.

    Parameters
    ----------
    table : pandas.DataFrame
        Particles.
    splits : mapping
        Tomogram to train, validation or test.
    box : int
        Voxels.
    test_fraction : float
        For the blocks of single tomograms.
    """
    names = sorted(table["rlnTomoName"].unique())
    for name in sorted(set(splits) - set(names)):
        log.warning("--split: no particle is selected of tomogram %s%s", name, suggest(name, names))
    for name, split in splits.items():
        if split not in SPLITS:
            raise UserError(f"--split: {name} is '{split}', wanted {', '.join(SPLITS)}")
    table = table.copy()
    if len(names) > 1 and len({splits.get(name, "train") for name in names}) > 1:
        table["cryoetganSplit"] = [splits.get(name, "train") for name in table["rlnTomoName"]]
        return table
    table["cryoetganSplit"] = ""
    for _, group in table.groupby("rlnTomoName", sort=True):
        sides = block_split(group[COORDINATES].to_numpy(float), box, test_fraction)
        table.loc[group.index, "cryoetganSplit"] = sides
    gap = int((table["cryoetganSplit"] == "").sum())
    log.info("split by blocks; %d particles lie in the gap and are left out", gap)
    return table[table["cryoetganSplit"] != ""].reset_index(drop=True)


def select(
    scores: Any,
    top: int,
    box: int,
    splits: Mapping[str, str],
    test_fraction: float,
    decisions: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
) -> Any:
    """Return the selected particles, with class and split; see the functions above.

    Raises
    ------
    UserError
        Where a class has no particle at all.
    """
    classes = sorted(scores["cryoetganClass"].unique())
    table = without_duplicates(best_class(scores, decisions), CLOSEST * box, decisions)
    if decisions:
        unknown = len(set(decisions) - set(scores["cryoetganId"]))
        if unknown:
            log.warning("%d of %d decisions are of no particle here", unknown, len(decisions))
        table = apply_decisions(table, decisions)
    table = best_of_each(table, top, groups, decisions)
    gone = [name for name in classes if name not in set(table["cryoetganClass"])]
    if gone:
        raise UserError(
            f"no particle is left of class {', '.join(gone)}: no pick fits it best; lower "
            "particles.threshold, give it a radius in the table of classes, or leave it out"
        )
    for name, group in table.groupby("cryoetganClass"):
        absent = set(table["rlnTomoName"]) - set(group["rlnTomoName"])
        for tomogram in sorted(absent):
            log.warning("%s: no particle of class %s is selected from it", tomogram, name)
    return assign_splits(table, splits, box, test_fraction)

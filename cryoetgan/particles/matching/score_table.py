"""Score a table of picks: one row a pick and class; classes and poses that picks bring are kept."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cryoetgan.io.mrc import Volume
from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.particles.curation.fdr import rank_rows
from cryoetgan.particles.matching.given_poses import LEAST_POSES, LEAST_T, Poses, judge_poses
from cryoetgan.particles.matching.score import DecoyMaker, contrast_warning, score_picks
from cryoetgan.particles.matching.template import SearchOptions
from cryoetgan.particles.subtomograms.set_picks import BOX_EDGE, GIVEN_CLASS
from cryoetgan.physics.geometry import relion_from_rotation, rotation_from_relion
from cryoetgan.progress import log

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
KEPT = ["rlnTomoName", "cryoetganId", GIVEN_CLASS, BOX_EDGE]


def score_table(
    tomogram: Volume,
    picks: "pd.DataFrame",
    maps: Mapping[str, Floats],
    options: SearchOptions,
    decoys: DecoyMaker | None,
) -> tuple["pd.DataFrame", dict[str, list[str]]]:
    """Return the scores of picks, and the names of each class's decoys.

    A pick of a given class is compared with the map of that class alone.
    """
    import pandas as pd

    given = picks.get(GIVEN_CLASS, pd.Series("", index=picks.index)).astype(str)
    unknown = sorted(set(given) - set(maps) - {""})
    if unknown:
        log.warning(
            "%d boxes are of classes without a template (%s), and are compared with all templates",
            int(given.isin(unknown).sum()), ", ".join(unknown),
        )  # fmt: skip
    given = given.where(given.isin(list(maps)), "")
    rows, used = [], {}
    for name, group in picks.groupby(given, sort=True):
        own = {str(name): maps[str(name)]} if name else maps
        places = group[COORDINATES].to_numpy(float)
        found = score_picks(tomogram, places, own, options, decoys)
        if warning := contrast_warning(found, tomogram.part is not None):
            log.warning("%s", warning)
        for class_name, fits in found.items():
            part = group[[column for column in KEPT if column in group]].copy()
            if GIVEN_CLASS in part:
                part[GIVEN_CLASS] = name
            part[COORDINATES], part[ANGLES] = fits.coordinates, fits.angles
            part["cryoetganClass"], part["cryoetganScore"] = class_name, fits.scores
            if fits.decoys:
                part["cryoetganDecoyScore"] = fits.decoy_scores
                part["cryoetganDecoys"] = ",".join(fits.decoys)
            used[class_name] = list(fits.decoys)
            rows.append(part.assign(cryoetganSource="real"))
    scores = pd.concat(rows, ignore_index=True)
    return keep_given_poses(tomogram, picks, scores, maps, options), used


def keep_given_poses(
    tomogram: Volume,
    picks: "pd.DataFrame",
    scores: "pd.DataFrame",
    maps: Mapping[str, Floats],
    options: SearchOptions,
) -> "pd.DataFrame":
    """Return scores with the poses that picks bring, class by class, in the frame of our map.

    They are kept if they fit their own boxes better than other boxes. Otherwise, or of fewer than
    `LEAST_POSES` picks, the poses of the search stay.
    """
    if not set(ANGLES) <= set(picks):
        return scores
    known = picks[np.isfinite(picks[ANGLES].to_numpy(float)).all(axis=1)].set_index("cryoetganId")
    best = scores.iloc[np.argsort(-rank_rows(scores), kind="stable")].drop_duplicates("cryoetganId")
    for name, density in maps.items():
        rows = best[(best["cryoetganClass"] == name) & best["cryoetganId"].isin(known.index)]
        if len(rows) < LEAST_POSES:
            continue
        brought = known.loc[rows["cryoetganId"]]
        rotations = rotation_from_relion(brought[ANGLES].to_numpy(float))
        given = Poses(brought[COORDINATES].to_numpy(float), rotations)
        found = judge_poses(tomogram, given, density, options)
        if found.mirror_t > LEAST_T:
            log.warning(
                "%s: the boxes show the mirror image of the map (t %.1f): import them with "
                "--flip-hand (column flip_hand of the table of subtomograms), or mirror the map",
                name, found.mirror_t,
            )  # fmt: skip
        if found.t < LEAST_T:
            log.warning(
                "%s: the given poses fit their own boxes no better than other boxes (correlation "
                "%.3f and %.3f), so poses are searched; the poses may have another convention, or "
                "the map may be another particle",
                name, found.correlation, found.exchanged,
            )  # fmt: skip
            continue
        turned = f", rotated by {found.angle:.0f} degrees into the frame of the map"
        log.info(
            "%s: %d given poses are kept%s (correlation %.3f, at exchanged poses %.3f, t %.1f)",
            name, len(rows), turned if found.angle else "", found.correlation, found.exchanged,
            found.t,
        )  # fmt: skip
        scores.loc[rows.index, ANGLES] = relion_from_rotation(found.poses.rotations)
        scores.loc[rows.index, COORDINATES] = found.poses.places
    return scores

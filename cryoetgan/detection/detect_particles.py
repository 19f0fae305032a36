"""Picks of a tomogram as a table, with their expected precision."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.detection.align_picks import align_picks, keep_likely
from cryoetgan.detection.detector import Detector
from cryoetgan.detection.grey import GreyValues
from cryoetgan.detection.predict import detect
from cryoetgan.errors import UserError, suggest
from cryoetgan.io.mrc import VOXEL_SIZE_TOLERANCE, Volume
from cryoetgan.io.star import DETECTION_SCORE, OTHER, class_name, picks_table
from cryoetgan.particles.matching.template import SearchOptions
from cryoetgan.progress import log

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
SEARCHED = 0.5
"""Lowest score of a pick that is aligned to maps, over the detector's thresholds."""


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """Options of a detection."""

    threshold: float | None = None
    """Lowest score; None: the detector's."""
    top: int | None = None
    """Largest number of picks."""
    classes: tuple[str, ...] = ()
    """Classes to report; all if empty."""
    with_other: bool = False
    """Report picks of class `other`."""


def detect_particles(
    detector: Detector,
    volume: Volume,
    path: Path,
    options: DetectOptions,
    mask: NDArray[np.generic] | None = None,
    maps: Mapping[str, Floats] | None = None,
    search: SearchOptions | None = None,
) -> tuple["pd.DataFrame", "pd.DataFrame | None", dict[str, Any]]:
    """Return the picks of a tomogram, best first, their scores, and the entries of their record.

    With `maps` and `search`, picks are aligned to the maps (`align_picks`, `keep_likely`); without, there are no
    scores.
    """
    check_voxel_size(detector, volume, path)
    for name in options.classes:
        if name not in detector.classes:
            known = ", ".join(detector.classes)
            raise UserError(
                f"--class: the detector does not know {name}{suggest(name, detector.classes)}; its "
                f"classes are {known}"
            )
    wanted = set(options.classes or detector.classes)
    wanted |= {OTHER} if options.with_other else set()
    if maps and (missing := sorted(wanted - set(maps))):
        raise UserError(
            f"--template: no map of class {', '.join(missing)}; give --template {missing[0]}.mrc, or "
            "report only classes with a map (--class, without --other)"
        )
    grey = GreyValues(volume, path, mask)
    device = next(detector.network.parameters()).device
    found = detect(detector.network, grey, detector.radii, device, options.with_other)
    threshold = detector.threshold if options.threshold is None else options.threshold
    names = np.array([*detector.classes, OTHER])[found.numbers - 1]
    lowest = threshold
    if maps and options.threshold is None:  # decoys judge them
        places_alone = detector.calibration.best_threshold(of_places=True)
        lowest = SEARCHED * min(threshold, places_alone)
    kept = np.flatnonzero((found.scores >= lowest) & np.isin(names, list(wanted)))
    kept = kept[: options.top]
    found, names = found.take(kept), names[kept]
    columns = {
        "cryoetganClass": names, "cryoetganScore": found.scores, DETECTION_SCORE: found.scores
    }  # fmt: skip
    table = picks_table(class_name(path), found.places[:, ::-1], columns)
    implied: dict[str, Any] = {}
    scores = table if maps else None
    if not len(table):
        log.warning(
            "%s: no particle has a score of %.3g; lower --threshold, or train on tomograms more like "
            "this one", path, lowest,
        )  # fmt: skip
    elif maps and search is not None:
        kinds = zip([*detector.classes, OTHER], detector.radii, strict=True)
        radii = {name: float(radius) for name, radius in kinds if name in wanted}
        scores = align_picks(volume, table, maps, search)
        table, implied = keep_likely(table, scores, threshold, radii)
        if not len(table):
            log.warning(
                "%s: by the decoys of their maps, none of %d picks is more likely a particle than not; "
                "compare with template matching (`particles match`)", path, len(kept),
            )  # fmt: skip
    return table, scores, describe(detector, table, threshold) | implied


def describe(detector: Detector, table: "pd.DataFrame", threshold: float) -> dict[str, Any]:
    """Return the record of picks: counts, and the expected precision above the threshold."""
    named = table[table["cryoetganClass"] != OTHER]
    scores = named[DETECTION_SCORE].to_numpy(float)
    above = scores[scores >= threshold]
    precision: dict[str, Any] = {"value": None, "interval": [0.0, 1.0]}
    if len(above):
        value, low, high = detector.calibration.expected_precision(above)
        precision = {"value": value, "interval": [low, high]}
    counts = table["cryoetganClass"].value_counts()
    return {
        "threshold": threshold,
        "n": len(table),
        "classes": {str(name): int(counts[name]) for name in sorted(counts.index)},
        "precision": precision | {"n": len(above), "basis": "held-out"},
    }


def check_voxel_size(detector: Detector, volume: Volume, path: Path) -> None:
    """Raise `UserError` if tomogram and training have other voxel sizes."""
    size, wanted = volume.voxel_size, detector.voxel_size
    if abs(size - wanted) > VOXEL_SIZE_TOLERANCE * wanted:
        raise UserError(
            f"{path}: has voxels of {size:.4g} A, but the detector learned at {wanted:.4g} A; import it "
            f"with `tomograms import --voxel-size {wanted:.4g}`, or train at {size:.4g} A"
        )

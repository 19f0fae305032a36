"""Acquisition, contrast and places of exported particles."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.mrc import contrast_sign
from cryoetgan.io.star import COORDINATES
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.particles.subtomograms.set_picks import BOX_EDGE
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.progress import track


def acquisition_by_group(volumes: VolumeSet) -> dict[int, Acquisition]:
    """Return the acquisition of each optics group; defaults if the set has no optics block."""
    rows = volumes.optics.to_dict("records")
    found = {int(row["rlnOpticsGroup"]): Acquisition.from_optics(row) for row in rows}
    return found or {1: Acquisition()}


def exported_particles(
    volumes: VolumeSet, contrast: str | None
) -> Iterator[tuple[int, dict[Any, Any], Acquisition, NDArray[np.float32]]]:
    """Yield number (from 1), row, acquisition and grey values `(z, y, x)` of each particle.

    Rows of sets of subtomograms have no coordinates: their place in a tomogram is unknown.
    """
    groups = acquisition_by_group(volumes)
    records = track(volumes.table.to_dict("records"), "exporting")
    sections = iterate_sections(volumes.volumes)
    for number, (row, volume) in enumerate(zip(records, sections, strict=True), start=1):
        acquisition = groups.get(optics_group(row), Acquisition())
        factor = np.float32(contrast_factor(contrast, acquisition))
        if is_of_set(row):
            row = {key: value for key, value in row.items() if key not in COORDINATES}
        yield number, row, acquisition, factor * np.asarray(volume, np.float32)


def is_of_set(row: Mapping[Any, Any]) -> bool:
    """Return whether the coordinates of a row count the boxes of a set, not a tomogram's voxels."""
    return bool(np.isfinite(float(row.get(BOX_EDGE, np.nan))))


def optics_group(row: Mapping[Any, Any]) -> int:
    """Return the optics group of a particle's row."""
    return int(row.get("rlnOpticsGroup", 1))


def contrast_factor(contrast: str | None, acquisition: Acquisition | None) -> float:
    """Return the factor of exported grey values: 1 or -1 (protein is bright internally).

    `contrast` is dark or bright; None stands for the contrast of the user's file, dark if unknown.
    """
    return contrast_sign(contrast or (acquisition.contrast if acquisition else "dark"))


def describe_contrast(contrast: str | None, volumes: VolumeSet) -> str:
    """Return the contrast of an export, for its README."""
    groups = acquisition_by_group(volumes).values()
    found = {contrast or acquisition.contrast for acquisition in groups}
    return found.pop() if len(found) == 1 else "dark or bright, as in each tomogram"

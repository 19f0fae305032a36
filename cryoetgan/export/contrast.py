"""Acquisition and contrast of exported particles."""

from collections.abc import Mapping
from typing import Any

from cryoetgan.errors import UserError
from cryoetgan.io.mrc import contrast_sign
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.acquisition import Acquisition


def acquisition_by_group(volumes: VolumeSet) -> dict[int, Acquisition]:
    """Return the acquisition of each optics group; defaults if the set has no optics block."""
    rows = volumes.optics.to_dict("records")
    found = {int(row["rlnOpticsGroup"]): Acquisition.from_optics(row) for row in rows}
    return found or {1: Acquisition()}


def optics_group(row: Mapping[Any, Any]) -> int:
    """Return the optics group of a particle's row."""
    return int(row.get("rlnOpticsGroup", 1))


def contrast_factor(contrast: str | None, acquisition: Acquisition | None) -> float:
    """Return the factor of exported grey values: 1 or -1 (protein is bright internally).

    Parameters
    ----------
    contrast : str, optional
        Contrast of the protein, dark or bright; default: the tomogram's own.
    acquisition : Acquisition, optional
        Acquisition of the tomogram; without it, its contrast is dark.
    """
    return contrast_sign(contrast or (acquisition.contrast if acquisition else "dark"))


def check_contrast(contrast: str | None) -> None:
    """Raise `UserError` if the option is neither dark nor bright."""
    if contrast not in (None, "dark", "bright"):
        raise UserError(f"--contrast: got '{contrast}', wanted dark or bright")


def describe_contrast(contrast: str | None, groups: Mapping[int, Acquisition]) -> str:
    """Return the contrast of an export, for its README."""
    found = {contrast or acquisition.contrast for acquisition in groups.values()}
    return found.pop() if len(found) == 1 else "dark or bright, as in each tomogram"

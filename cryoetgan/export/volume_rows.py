"""What all exports need of a volume set: contrast, acquisition, where the particle lies."""

from collections.abc import Mapping
from typing import Any

from cryoetgan.errors import UserError
from cryoetgan.io.mrc import contrast_sign
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.acquisition import Acquisition


def acquisitions(volumes: VolumeSet) -> dict[int, Acquisition]:
    """Return how each optics group was recorded."""
    rows = volumes.optics.to_dict("records")
    found = {int(row["rlnOpticsGroup"]): Acquisition.from_optics(row) for row in rows}
    return found or {1: Acquisition()}


def group_of(row: Mapping[Any, Any]) -> int:
    """Return the optics group of a particle's row."""
    return int(row.get("rlnOpticsGroup", 1))


def factor(contrast: str | None, recorded: Acquisition | None) -> float:
    """Return what our protein-bright values are multiplied with.

    Parameters
    ----------
    contrast : str, optional
        dark or bright; the user's own (that of `recorded`, else dark) where None.
    recorded : Acquisition, optional
        Of the tomogram.
    """
    return contrast_sign(contrast or (recorded.contrast if recorded else "dark"))


def check_contrast(contrast: str | None) -> None:
    """Raise a `UserError` where the option is neither dark nor bright."""
    if contrast not in (None, "dark", "bright"):
        raise UserError(f"--contrast: got '{contrast}', wanted dark or bright")


def shown_contrast(contrast: str | None, groups: Mapping[int, Acquisition]) -> str:
    """Return the contrast of an export, for its README."""
    found = {contrast or recorded.contrast for recorded in groups.values()}
    return found.pop() if len(found) == 1 else "dark or bright, as each tomogram was"

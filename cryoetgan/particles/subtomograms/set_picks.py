"""The boxes of a volume set as picks of a tomogram: boxes stacked along z, one after the other."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cryoetgan.errors import UserError
from cryoetgan.io.mrc import Volume
from cryoetgan.io.star import ANGLES, COORDINATES, OTHER, check_ids, class_name, particle_id
from cryoetgan.io.volume_set import VolumeSet, read_volume_set
from cryoetgan.physics.coordinates import centre_offsets

if TYPE_CHECKING:
    import pandas as pd

GIVEN_CLASS = "cryoetganGivenClass"
"""Class that a person or program gave a box; empty: unknown."""
EMPTY = ("", "nan", "<NA>")
"""Unknown values, as STAR files hold them."""
BOX_EDGE = "cryoetganBoxEdge"
"""Edge in voxels of the boxes of a set, of rows whose coordinates count boxes stacked along z."""


def has_given_class(table: "pd.DataFrame") -> "pd.Series[bool]":
    """Return whether each row has a given class; False of rows of tomograms."""
    import pandas as pd

    given = table.get(GIVEN_CLASS, pd.Series("", index=table.index))
    return ~given.isna() & ~given.astype(str).isin(EMPTY)


def set_picks(opened: VolumeSet) -> "pd.DataFrame":
    """Return a row for each box, with its particle's place among the boxes stacked along z.

    The particle of box i, of n voxels, lies at x, y, z + i n, at n // 2 less its origin. Given
    angles and classes (`GIVEN_CLASS`) are kept.
    """
    import pandas as pd

    name, edge, table = class_name(opened.path), opened.box, opened.table
    middle = np.full((len(table), 3), edge // 2)
    middle[:, 2] += edge * np.arange(len(table))
    places = middle + centre_offsets(table, opened.voxel_size)
    picks = pd.DataFrame(places, columns=COORDINATES)
    picks.insert(0, "rlnTomoName", name)
    check_ids(table, opened.path)
    if "cryoetganId" in table:
        picks["cryoetganId"] = table["cryoetganId"].to_numpy(str)
    else:
        picks["cryoetganId"] = [particle_id(name, *place) for place in middle]
    if set(ANGLES) <= set(table):
        picks[ANGLES] = table[ANGLES].to_numpy(float)
    if "cryoetganClass" in table:
        given = table["cryoetganClass"].astype(str)
        picks[GIVEN_CLASS] = given.where(given != OTHER, "").to_numpy()
    return picks.assign(**{BOX_EDGE: edge, "cryoetganSource": "real"})


def read_set_picks(path: Path) -> "pd.DataFrame":
    """Return `set_picks` of a set by its STAR file."""
    return set_picks(read_volume_set(path))


def check_edge(tomogram: Volume, box: int, path: Path) -> None:
    """Raise `UserError` if the boxes of a set are smaller than maps or boxes of `box` voxels."""
    if tomogram.part is not None and tomogram.part < box:
        raise UserError(
            f"{path}: its boxes have {tomogram.part} voxels, fewer than {box}; make maps of "
            f"{tomogram.part // 4 * 4} voxels (densities.box), or extract larger boxes"
        )

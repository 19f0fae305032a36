"""Concatenate the volume sets of several generators, one of each group of tomograms."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cryoetgan.errors import UserError
from cryoetgan.io.volume_set import VolumeSetWriter, check_same_boxes, read_volume_set
from cryoetgan.progress import track


def concatenate_volume_sets(paths: Sequence[Path], output: Path) -> int:
    """Write one volume set (STAR) of several, and return its number of volumes.

    Optics groups are numbered anew, in order. Boxes and voxel sizes must be equal.
    """
    sets = [read_volume_set(path, ["rlnOpticsGroup"]) for path in paths]
    first = sets[0]
    check_same_boxes(*sets)
    optics: list[pd.DataFrame] = []
    tables: list[pd.DataFrame] = []
    for volumes in sets:
        count = sum(map(len, optics))
        old = list(volumes.optics.get("rlnOpticsGroup", []))
        new = {number: count + place for place, number in enumerate(old, start=1)}
        if not set(volumes.table["rlnOpticsGroup"]) <= set(old):
            raise UserError(f"{volumes.path}: its optics block lacks groups of its rows")
        optics.append(volumes.optics.assign(rlnOpticsGroup=list(new.values())))
        tables.append(volumes.table.assign(rlnOpticsGroup=volumes.table["rlnOpticsGroup"].map(new)))
    rows = pd.concat(tables, ignore_index=True).to_dict("records")
    stacks = (volume for each in sets for volume in each.volumes)
    groups = pd.concat(optics, ignore_index=True)
    with VolumeSetWriter(output, len(rows), first.box, first.voxel_size, groups) as writer:
        for volume, row in track(zip(stacks, rows, strict=True), "concatenating", len(rows)):
            writer.add(volume, row)
    return len(rows)

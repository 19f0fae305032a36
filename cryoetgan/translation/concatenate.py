"""Join the sets that each group's generator made."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cryoetgan.errors import UserError
from cryoetgan.io.mrc import check_same_voxel_size
from cryoetgan.io.volume_set import VolumeSetWriter, read_volume_set
from cryoetgan.progress import track


def write_joined(paths: Sequence[Path], output: Path) -> int:
    """Write volume sets one behind the other and return how many volumes there are.

    Parameters
    ----------
    paths : sequence of Path
        STAR files; their optics groups are numbered anew, in order.
    output : Path
        STAR file of the joined set.

    Raises
    ------
    UserError
        Where boxes or voxel sizes differ, or a row's optics group is not there.
    """
    sets = [read_volume_set(path, ["rlnOpticsGroup"]) for path in paths]
    first = sets[0]
    optics: list[pd.DataFrame] = []
    tables: list[pd.DataFrame] = []
    for volumes in sets:
        check_same_voxel_size(first.voxel_size, volumes.voxel_size, first.path, volumes.path)
        if volumes.box != first.box:
            raise UserError(
                f"{first.path} has boxes of {first.box} voxels, {volumes.path} of {volumes.box}; "
                "make both with one densities.box"
            )
        before = sum(map(len, optics))
        numbers = list(volumes.optics.get("rlnOpticsGroup", []))
        new = {old: before + place for place, old in enumerate(numbers, start=1)}
        if not set(volumes.table["rlnOpticsGroup"]) <= set(numbers):
            raise UserError(f"{volumes.path}: its optics block lacks groups that its rows name")
        optics.append(volumes.optics.assign(rlnOpticsGroup=list(new.values())))
        tables.append(volumes.table.assign(rlnOpticsGroup=volumes.table["rlnOpticsGroup"].map(new)))
    rows = pd.concat(tables, ignore_index=True).to_dict("records")
    stacks = (volume for each in sets for volume in each.volumes)
    joined = pd.concat(optics, ignore_index=True)
    with VolumeSetWriter(output, len(rows), first.box, first.voxel_size, joined) as writer:
        for volume, row in track(zip(stacks, rows, strict=True), "joining", len(rows)):
            writer.add(volume, row)
    return len(rows)

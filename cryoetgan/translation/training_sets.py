"""The training rows of two volume sets: which rows, their checks, their hash, their tensors."""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cryoetgan.errors import UserError
from cryoetgan.io.memmap import release_pages
from cryoetgan.io.star import ANGLES, ORIGINS
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.acquisition import COLUMNS, read_tilt_ranges

log = logging.getLogger("cryoetgan")


def training_rows(volumes: VolumeSet) -> np.ndarray:
    """Return the indices of rows with split train, or of all rows if no row has a split."""
    if "cryoetganSplit" not in volumes.table:
        return np.arange(len(volumes))
    split = volumes.table["cryoetganSplit"].astype(str)
    if not split.isin(["train", "validation", "test"]).any():
        return np.arange(len(volumes))
    rows = np.flatnonzero(split == "train")
    if not len(rows):
        raise UserError(
            f"{volumes.path}: no row has cryoetganSplit 'train'; give at least one tomogram "
            "split=train"
        )
    return rows


def select_group(volumes: VolumeSet, group: str) -> VolumeSet:
    """Return the volumes of one group of tomograms, by cryoetganGroup of the optics block."""
    column, number = COLUMNS["group"], "rlnOpticsGroup"
    groups = {}
    if number in volumes.table and {number, column} <= set(volumes.optics):
        groups = {row[number]: row.get(column) for row in volumes.optics.to_dict("records")}
    rows = np.flatnonzero(volumes.table[number].map(groups) == group) if groups else ()
    if not len(rows):
        known = ", ".join(sorted({str(value) for value in groups.values() if value is not None}))
        raise UserError(
            f"{volumes.path}: no volume is of group '{group}'; groups of its tomograms: "
            f"{known or 'not recorded'} (column group of the table of tomograms)"
        )
    optics = volumes.optics[volumes.optics[column] == group]
    table = volumes.table.iloc[rows].reset_index(drop=True)
    return replace(volumes, table=table, optics=optics, volumes=volumes.volumes[rows])


def warn_of_mixed_tilts(volumes: VolumeSet) -> None:
    """Warn if one CycleGAN is trained on tomograms of different tilt ranges."""
    tilts = sorted(set(read_tilt_ranges(volumes.optics)))
    if len(tilts) > 1:
        log.warning(
            "%s: the training tomograms have different tilt ranges (%s degrees). The CycleGAN mixes "
            "them, and generated volumes are recorded with the first. With translation.per_group "
            "each group has its own network",
            volumes.path,
            ", ".join(f"{low:g} to {high:g}" for low, high in tilts),
        )


def hash_rows(volumes: VolumeSet) -> str:
    """Return a hash of the training rows' metadata: index, class, pose and optics group."""
    rows = training_rows(volumes)
    columns = ["cryoetganClass", *ANGLES, *ORIGINS, "rlnOpticsGroup"]
    table = volumes.table.iloc[rows]
    text = table[[name for name in columns if name in table]].to_csv(index=False)
    if "rlnOpticsGroup" in table and "rlnOpticsGroup" in volumes.optics:
        text += volumes.optics_of(rows).to_csv(index=False)
    return hashlib.sha256(f"{rows.tolist()}\n{text}".encode()).hexdigest()


def to_tensor(volumes: VolumeSet, rows: np.ndarray) -> torch.Tensor:
    """Return `(N, 1, z, y, x)` float32 of some rows; refuse values that are not finite."""
    data = torch.from_numpy(np.ascontiguousarray(volumes.volumes[rows], np.float32))[:, None]
    release_pages(volumes.volumes)
    if not torch.isfinite(data).all():
        raise UserError(f"{volumes.path}: holds voxels that are not finite numbers")
    return data


def exclude_constant(volumes: torch.Tensor, path: Path) -> torch.Tensor:
    """Return the volumes `(N, 1, z, y, x)` that are not constant; refuse a set without any."""
    varied = volumes.flatten(1).amax(1) > volumes.flatten(1).amin(1)
    constant = int((~varied).sum())
    if constant == len(volumes):
        raise UserError(f"{path}: all training volumes are constant (one grey value)")
    if constant:
        log.warning(
            "%s: %d of %d volumes are constant (one grey value) and are excluded; a mask (column "
            "mask of the table of tomograms) keeps picks away from padding",
            path,
            constant,
            len(volumes),
        )
    return volumes[varied] if constant else volumes

"""Volume sets to a trainer, for each frame: the paper's cycle, or what is added to physics."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.imaging.simulate.fitted import check_models
from cryoetgan.imaging.storage import load_model
from cryoetgan.io.mrc import check_same_voxel_size
from cryoetgan.io.star import ANGLES, ORIGINS
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.acquisition import COLUMNS, Acquisition, is_symmetric, read_tilt_ranges
from cryoetgan.seeds import integer_seed
from cryoetgan.translation.cyclegan.trainer import Trainer
from cryoetgan.translation.engine.scaling import Scaler, fit_density, fit_plain, fit_scalers
from cryoetgan.translation.engine.trainer import Loop
from cryoetgan.translation.residual import scene_simulation
from cryoetgan.translation.residual.trainer import ResidualTrainer
from cryoetgan.translation.settings import Settings

log = logging.getLogger("cryoetgan")


def training_rows(volumes: VolumeSet) -> np.ndarray:
    """Return indices of the rows to train on: split train, or all where none is named."""
    if "cryoetganSplit" not in volumes.table:
        return np.arange(len(volumes))
    split = volumes.table["cryoetganSplit"].astype(str)
    if not split.isin(["train", "validation", "test"]).any():
        return np.arange(len(volumes))
    rows = np.flatnonzero(split == "train")
    if not len(rows):
        raise UserError(
            f"{volumes.path}: no row has cryoetganSplit train; what is to be learnt from?"
        )
    return rows


def of_training(volumes: VolumeSet, settings: Settings) -> VolumeSet:
    """Return the set with the optics groups of its training rows alone; all its volumes stay.

    What is made is recorded as they were. A warning where they saw different tilts and one
    network of the paper's learns from all.
    """
    if "rlnOpticsGroup" not in volumes.table or "rlnOpticsGroup" not in volumes.optics:
        return volumes
    used = volumes.table["rlnOpticsGroup"].to_numpy()[training_rows(volumes)]
    optics = volumes.optics[volumes.optics["rlnOpticsGroup"].isin(used)].reset_index(drop=True)
    rows = [row for row in optics.to_dict("records") if COLUMNS["tilt_low"] in row]
    tilts = sorted({Acquisition.from_optics(row).tilts for row in rows})
    if len(tilts) > 1 and settings.frame == "cycle":
        log.warning(
            "%s: its training tomograms saw different tilts (%s degrees); the paper's networks mix "
            "them, and what they make is recorded as the first tomogram's: translation.per_group "
            "learns each group by itself",
            volumes.path,
            ", ".join(f"{low:g} to {high:g}" for low, high in tilts),
        )
    return replace(volumes, optics=optics)


def rows_hash(volumes: VolumeSet) -> str:
    """Return a hash of what is said of the rows trained on.

    Which they are, class, pose, optics group, and how these groups were recorded.
    """
    rows = training_rows(volumes)
    told = ["cryoetganClass", *ANGLES, *ORIGINS, "rlnOpticsGroup"]
    table = volumes.table.iloc[rows]
    text = table[[name for name in told if name in table]].to_csv(index=False)
    if "rlnOpticsGroup" in table and "rlnOpticsGroup" in volumes.optics:
        used = volumes.optics["rlnOpticsGroup"].isin(table["rlnOpticsGroup"])
        text += volumes.optics[used].to_csv(index=False)
    return hashlib.sha256(f"{rows.tolist()}\n{text}".encode()).hexdigest()


def of_group(volumes: VolumeSet, group: str) -> VolumeSet:
    """Return the volumes of one group of tomograms, by the optics block's cryoetganGroup.

    Raises
    ------
    UserError
        Where no volume is of it.
    """
    column, number = COLUMNS["group"], "rlnOpticsGroup"
    if number not in volumes.table or not {number, column} <= set(volumes.optics):
        raise UserError(
            f"{volumes.path}: no volume is of group '{group}'; its tomograms' groups are not "
            "recorded (column group of the table of tomograms)"
        )
    named = {row["rlnOpticsGroup"]: row.get(column) for row in volumes.optics.to_dict("records")}
    of = volumes.table["rlnOpticsGroup"].map(named)
    rows = np.flatnonzero(of == group)
    if not len(rows):
        found = sorted(set(of.dropna().astype(str)))
        raise UserError(
            f"{volumes.path}: no volume is of group '{group}'; its tomograms' groups are "
            f"{', '.join(found) or 'not recorded'} (column group of the table of tomograms)"
        )
    optics = volumes.optics[volumes.optics[column] == group]
    table = volumes.table.iloc[rows].reset_index(drop=True)
    return replace(volumes, table=table, optics=optics, volumes=volumes.volumes[rows])


def to_tensor(volumes: VolumeSet, rows: np.ndarray) -> torch.Tensor:
    """Return `(N, 1, z, y, x)` float32 of the chosen rows; refuses what is not finite."""
    data = torch.from_numpy(np.ascontiguousarray(volumes.volumes[rows], np.float32))[:, None]
    if not torch.isfinite(data).all():
        raise UserError(f"{volumes.path}: holds voxels that are not finite numbers")
    return data


def without_blank(volumes: torch.Tensor, path: Path) -> torch.Tensor:
    """Return the volumes `(N, 1, z, y, x)` in which anything varies; the others show nothing.

    Raises
    ------
    UserError
        Where that is none.
    """
    varied = volumes.flatten(1).amax(1) > volumes.flatten(1).amin(1)
    blank = int((~varied).sum())
    if blank == len(volumes):
        raise UserError(f"{path}: each of its volumes to learn from is one grey value throughout")
    if blank:
        log.warning(
            "%s: %d of %d volumes are one grey value throughout, and are left out; a mask (column "
            "mask of the table of tomograms) keeps picks away from padding",
            path,
            blank,
            len(volumes),
        )
    return volumes[varied] if blank else volumes


def check_sets(densities: VolumeSet, subtomograms: VolumeSet, settings: Settings) -> None:
    """Raise a `UserError` where the two domains do not fit each other."""
    check_same_voxel_size(
        densities.voxel_size, subtomograms.voxel_size, densities.path, subtomograms.path
    )
    if densities.box != subtomograms.box:
        raise UserError(
            f"{densities.path} has boxes of {densities.box} voxels, {subtomograms.path} of "
            f"{subtomograms.box}; set densities.box once and make both again"
        )
    if densities.box % 4 and settings.frame == "cycle":
        raise UserError(
            f"{densities.path}: boxes of {densities.box} voxels; wanted a multiple of 4"
        )


def read_models(paths: Sequence[Path], densities: VolumeSet) -> list[ImagingModel]:
    """Return the imaging models; they must fit the densities."""
    models = {path: load_model(path) for path in paths}
    check_models(densities, models)
    of: dict[str, Path] = {}
    for path, model in models.items():
        if model.tomogram in of:
            raise UserError(
                f"--imaging: {of[model.tomogram]} and {path} are both of tomogram "
                f"{model.tomogram}; give one model a tomogram"
            )
        of[model.tomogram] = path
    return list(models.values())


def make_trainer(
    densities: VolumeSet,
    subtomograms: VolumeSet,
    settings: Settings,
    imaging: Sequence[Path],
    device: torch.device,
    seed: int,
    name: str,
) -> tuple[Loop, dict[str, Scaler], list[ImagingModel]]:
    """Return the trainer of a run, its scalers, and the imaging models it stands on.

    Raises
    ------
    UserError
        Where the sets do not fit each other or the recipe.
    """
    number = integer_seed(seed, "translation", name) % 2**31
    d_rows = training_rows(densities)
    s = to_tensor(subtomograms, training_rows(subtomograms))
    s = without_blank(s, subtomograms.path)
    if settings.frame == "residual":
        models = read_models(imaging, densities)
        d = to_tensor(densities, d_rows)
        scalers = fit_density(d), fit_plain(s)
        del d
        stock = scene_simulation.make_scenes(
            densities, d_rows, models, settings.scenes, settings.shares, seed
        )
        symmetric = _symmetric(subtomograms, models)
        trainer: Any = ResidualTrainer(settings, stock, s, scalers, symmetric, device, number)
    else:
        models, d = [], to_tensor(densities, d_rows)
        scalers = fit_scalers(d, s, settings.scaling, settings.scale_clip)
        d, s = scalers[0].forward(d), scalers[1].forward(s)
        trainer = Trainer(settings, d, s, device, number)
        smallest = trainer.networks["D_s"].smallest_box()
        if smallest > densities.box:
            raise UserError(
                f"boxes of {densities.box} voxels are too small for this discriminator; wanted "
                f"{smallest} or more (densities.box)"
            )
    log.info("%d densities, %d subtomograms, preset %s, %s", len(d_rows), len(s), name, device)
    return trainer, dict(zip(("density", "subtomogram"), scalers, strict=True)), models


def _symmetric(subtomograms: VolumeSet, models: Sequence[ImagingModel]) -> bool:
    """Return whether every tilt range reaches as far on either side."""
    known = read_tilt_ranges(subtomograms.optics)
    return all(map(is_symmetric, [*known, *(model.acquisition.tilts for model in models)]))


def check_recipe(settings: Settings, imaging: Sequence[Path], name: str) -> None:
    """Refuse a recipe that lacks its imaging models; warn of what cannot work."""
    if settings.frame == "residual" and not imaging:
        raise UserError(
            f"preset {name} adds to fitted physics and needs an imaging model of each tomogram: "
            "--imaging M.json (cryoetgan imaging fit), or take another preset (translation.preset)"
        )
    if settings.frame == "cycle" and imaging:
        log.warning("preset %s learns without imaging models: --imaging is not looked at", name)
    if (
        settings.frame == "cycle"
        and settings.objective == "wgan"
        and settings.clip > 0
        and settings.spectral_norm
    ):
        log.warning(
            "preset %s clips weights that spectral_norm rescales: the clip bounds nothing", name
        )

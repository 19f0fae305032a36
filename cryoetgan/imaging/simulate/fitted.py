"""Simulate subtomograms with fitted physics: each volume with the model of one tomogram."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cryoetgan import seeds
from cryoetgan.errors import UserError
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.imaging.simulate.ablated import BackgroundPatches, flatten_transfer
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.mrc import check_same_voxel_size
from cryoetgan.io.star import item_names
from cryoetgan.io.volume_set import VolumeSet, VolumeSetWriter
from cryoetgan.physics.coordinates import centre_offset
from cryoetgan.progress import track


def check_models(densities: VolumeSet, models: Mapping[Path, ImagingModel]) -> None:
    """Raise `UserError` if a model's voxel size or box differs from the densities'."""
    for path, model in models.items():
        check_same_voxel_size(densities.voxel_size, model.voxel_size, densities.path, path)
        if model.box != densities.box:
            raise UserError(
                f"{densities.path} has boxes of {densities.box} voxels, {path} was fitted with "
                f"maps of {model.box}; make both with one densities.box"
            )


def write_fitted(
    densities: VolumeSet,
    output: Path,
    models: Mapping[Path, ImagingModel],
    seed: int,
    *,
    per_group: bool = False,
    neighbours: bool = True,
    flat_transfer: bool = False,
    backgrounds: Sequence[BackgroundPatches] = (),
) -> int:
    """Write the fitted simulation of a set of densities, and return the number of volumes.

    Each volume has the transfer, noise and grey values of one randomly drawn model. Names of
    volumes seed the random numbers: a volume keeps its model and noise if others are added.

    Parameters
    ----------
    densities : VolumeSet
        rlnOriginX/Y/ZAngst give the particle's centre in its box.
    per_group : bool
        Simulate the whole set once for each group of tomograms, one after another; a density has
        the same neighbours and noise seed in each.
    neighbours : bool
        Surround each particle with others.
    flat_transfer : bool
        Use `flatten_transfer` in place of the fitted transfer.
    backgrounds : sequence of BackgroundPatches
        One a model, in place of the fitted noise.
    """
    check_models(densities, models)
    rows = densities.table.drop(columns="rlnOpticsGroup", errors="ignore")
    rows = rows.assign(cryoetganSource="simulated").to_dict("records")
    names = item_names(densities.table["cryoetganClass"])
    fitted = list(models.values())
    groups: dict[str, list[int]] = {}
    for index, model in enumerate(fitted):
        groups.setdefault(model.acquisition.group if per_group else "", []).append(index)
    optics = pd.DataFrame([m.acquisition.to_optics(i, m.tomogram) for i, m in enumerate(fitted, 1)])
    if flat_transfer:
        fitted = [flatten_transfer(model) for model in fitted]
    count, voxel_size = len(densities) * len(groups), densities.voxel_size
    with VolumeSetWriter(output, count, densities.box, voxel_size, optics) as writer:
        for group in groups.values():
            items = zip(iterate_sections(densities.volumes), rows, names, strict=True)
            for density, row, name in track(items, "simulating", len(densities)):
                rng = seeds.rng(seed, "imaging", name)
                index = group[int(rng.integers(len(group)))]
                signal, noise = fitted[index].signal_and_noise(
                    np.asarray(density), centre_offset(row, voxel_size), rng, neighbours
                )
                if backgrounds:
                    noise = backgrounds[index].draw(rng)
                writer.add(signal + noise, row | {"rlnOpticsGroup": index + 1})
    return count

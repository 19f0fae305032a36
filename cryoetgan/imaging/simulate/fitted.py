"""Simulate subtomograms with fitted physics: each volume with the model of one tomogram.

In an ablation, a part of the physics is removed or replaced by real data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoetgan import seeds
from cryoetgan.errors import UserError
from cryoetgan.imaging.fit.gain import constant_gain
from cryoetgan.imaging.model import ImagingModel, crop_centre
from cryoetgan.io.exclusion import ExclusionMask, excluded_voxels
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.mrc import check_same_voxel_size, read_mask, read_tomogram
from cryoetgan.io.star import COORDINATES, class_name, item_names, read_star, select_tomogram
from cryoetgan.io.volume_set import VolumeSet, VolumeSetWriter
from cryoetgan.physics.coordinates import centre_offset
from cryoetgan.physics.geometry import block_slices
from cryoetgan.progress import track

KINDS = ("noise_only", "no_neighbours", "real_background")
"""Ablations, described by the command `imaging ablate`."""
Floats = NDArray[np.floating]
MIN_PATCHES, MAX_PATCHES = 20, 2_000
"""Patches of a tomogram: with fewer, each would be used too often."""


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
    backgrounds: "Sequence[BackgroundPatches]" = (),
) -> int:
    """Write the fitted simulation of a set of densities, and return the number of volumes.

    Each volume has the transfer, noise and grey values of one randomly drawn model, which
    replaces the fitted transfer by `flatten_transfer` with `flat_transfer`, and the noise by its
    own patches with `backgrounds` (one a model). Names of volumes seed the random numbers: a
    volume keeps its model and noise if others are added. With `per_group`, the whole set is
    simulated once for each group of tomograms, with the same neighbours and noise seeds.
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
    if not neighbours:  # their power is then density of no shape
        fitted = [model.for_scene(has_crowders=False) for model in fitted]
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


def flatten_transfer(model: ImagingModel) -> ImagingModel:
    """Return a copy whose transfer function is the missing wedge times a constant.

    The constant keeps the mean variance of the signal over the classes.
    """
    flat = constant_gain(model.acquisition.tilts, model.box, model.voxel_size)
    acquisition = replace(model.acquisition, ctf="corrected", defocus=None)
    unscaled = replace(model, gain=flat, acquisition=acquisition)
    before, after = (
        sum(float(_isolated_signal(m, density).var()) for density in model.maps.values())
        for m in (model, unscaled)
    )
    scale = np.sqrt(before / max(after, 1e-30))
    return replace(unscaled, gain=replace(flat, values=np.full_like(flat.values, scale)))


def _isolated_signal(model: ImagingModel, density: Floats) -> NDArray[np.float32]:
    rng = seeds.rng(0, "imaging", "alone")
    scene = model.build_scene(density, np.zeros(3), rng, neighbours=False)
    return crop_centre(model.signal(scene), model.box)


class BackgroundPatches:
    """Boxes of a tomogram `(z, y, x)` that hold no pick, padding or masked voxel.

    Picks are `(N, 3)` x, y, z in voxels, `box` is the edge in voxels. The name of `path` and the
    seed give `tries` random positions.
    """

    def __init__(
        self,
        path: Path,
        data: Floats,
        places: Floats,
        excluded: ExclusionMask,
        box: int,
        seed: int,
        tries: int = 20_000,
    ) -> None:
        self.data, self.box = data, box
        low = np.full(3, box // 2)
        high = np.array(data.shape[::-1]) - (box - box // 2)
        found = np.empty((0, 3), int)
        if (high > low).all():
            rng = seeds.rng(seed, "imaging", "patches", path.stem)
            found = np.rint(rng.uniform(low, high, (tries, 3))).astype(int)
            if len(places):
                distance, _ = cKDTree(places).query(found, p=np.inf)
                found = found[distance > box / 2]
            free = (place for place in found if not excluded.intersects_box(place, box))
            found = np.array(list(islice(free, MAX_PATCHES)), int).reshape(-1, 3)
        if len(found) < MIN_PATCHES:
            raise UserError(
                f"{path}: {len(found)} boxes of {box} voxels hold no pick, wanted "
                f"{MIN_PATCHES}; it is too crowded, or too small, for real background"
            )
        self.centres = found
        """`(N, 3)` x y z; voxel n // 2 of each box."""

    def draw(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return a random patch `(z, y, x)`."""
        centre = self.centres[int(rng.integers(len(self.centres)))]
        patch = block_slices(centre[::-1] - self.box // 2, (self.box,) * 3)
        return np.asarray(self.data[patch], np.float32)


def open_backgrounds(
    densities: VolumeSet,
    models: Mapping[Path, ImagingModel],
    tomograms: Sequence[Path],
    picks: Sequence[Path],
    masks: Mapping[str, Path],
    seed: int,
) -> list[BackgroundPatches]:
    """Return background patches from the tomogram of each model, in the order of the models.

    `masks` gives the mask (MRC) of a tomogram by its name.
    """
    if not len(tomograms) == len(picks) == len(models):
        raise UserError(
            f"--kind real_background: got {len(models)} --model, {len(tomograms)} --tomogram and "
            f"{len(picks)} --particles; wanted as many of each, in one order"
        )
    names = [class_name(path) for path in tomograms]
    if unknown := sorted(set(masks) - set(names)):
        raise UserError(f"--mask: no --tomogram is named {', '.join(unknown)}")
    backgrounds = []
    for (fitted, model), path, table_path, name in zip(
        models.items(), tomograms, picks, names, strict=True
    ):
        if name != model.tomogram:
            raise UserError(
                f"{fitted}: was fitted to tomogram {model.tomogram}, not to {path}; give --model, "
                "--tomogram and --particles in one order"
            )
        volume = read_tomogram(path)
        check_same_voxel_size(volume.voxel_size, densities.voxel_size, path, densities.path)
        table = select_tomogram(read_star(table_path, COORDINATES).particles, path, table_path)
        mask = read_mask(masks[name], volume, path) if name in masks else None
        excluded = excluded_voxels(volume, mask)
        places = table[COORDINATES].to_numpy(float)
        backgrounds.append(
            BackgroundPatches(path, volume.data, places, excluded, densities.box, seed)
        )
    return backgrounds

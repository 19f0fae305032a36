"""Ablations of the fitted simulation: a part of the physics is removed or replaced by real data.

- `noise_only`: the fitted noise; the transfer function is the missing wedge times a constant.
- `no_neighbours`: the fitted transfer and noise.
- `real_background`: the fitted transfer; for noise, patches of the real tomogram without picks.

No particle has neighbours in any of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoetgan import seeds
from cryoetgan.errors import UserError
from cryoetgan.imaging.fit.exclusion import ExclusionMask
from cryoetgan.imaging.fit.gain import constant_gain
from cryoetgan.imaging.model import ImagingModel, crop_centre
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.mrc import check_same_voxel_size, read_mask, read_tomogram
from cryoetgan.io.star import COORDINATES, class_name, read_star, select_tomogram
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.coordinates import centre_offset
from cryoetgan.physics.geometry import block_slices

KINDS = ("noise_only", "no_neighbours", "real_background")
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class BackgroundTomogram:
    """The tomogram of a model, as a source of background patches.

    Attributes
    ----------
    path : Path
        For messages.
    data : ndarray
        `(z, y, x)`.
    places : ndarray
        `(N, 3)` picks, x y z in voxels.
    excluded : ExclusionMask
        Padding and masked regions.
    """

    path: Path
    data: Floats
    places: Floats
    excluded: ExclusionMask


def open_backgrounds(
    densities: VolumeSet,
    models: Mapping[Path, ImagingModel],
    tomograms: Sequence[Path],
    picks: Sequence[Path],
    masks: Mapping[str, Path],
) -> list[BackgroundTomogram]:
    """Open the tomogram and the picks of each model, in the order of the models.

    Parameters
    ----------
    densities : VolumeSet
        Posed densities, of the same voxel size.
    models : mapping
        Path to model.
    tomograms, picks : sequence of Path
        As many as models, in the same order.
    masks : mapping
        Name of a tomogram to its mask (MRC).

    Raises
    ------
    UserError
        If a file belongs to another tomogram, or numbers or voxel sizes differ.
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
    for (model_path, model), path, picks_path, name in zip(
        models.items(), tomograms, picks, names, strict=True
    ):
        if name != model.tomogram:
            raise UserError(
                f"{model_path}: was fitted to tomogram {model.tomogram}, not to {path}; give "
                "--model, --tomogram and --particles in one order"
            )
        volume = read_tomogram(path)
        check_same_voxel_size(volume.voxel_size, densities.voxel_size, path, densities.path)
        table = select_tomogram(read_star(picks_path, COORDINATES).particles, path, picks_path)
        mask = read_mask(masks[name], volume, path) if name in masks else None
        places = table[COORDINATES].to_numpy(float)
        excluded = ExclusionMask(volume.data, mask)
        backgrounds.append(BackgroundTomogram(path, volume.data, places, excluded))
    return backgrounds


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


def find_background_boxes(
    background: BackgroundTomogram,
    box: int,
    seed: int,
    tries: int = 20_000,
    most: int = 2_000,
    least: int = 20,
) -> NDArray[np.int_]:
    """Return centres of boxes, `(N, 3)` x y z, that hold no pick, padding or masked voxel.

    Parameters
    ----------
    background : BackgroundTomogram
        Tomogram and picks.
    box : int
        Voxels.
    seed : int
        The run's seed.
    tries, most : int
        Random positions to try, and boxes to keep.
    least : int
        Boxes below which each patch would be used too often.

    Raises
    ------
    UserError
        If there are fewer than `least`.
    """
    low = np.full(3, box // 2)
    high = np.array(background.data.shape[::-1]) - (box - box // 2)
    found = np.empty((0, 3), int)
    if (high > low).all():
        rng = seeds.rng(seed, "imaging", "patches", background.path.stem)
        found = np.rint(rng.uniform(low, high, (tries, 3))).astype(int)
        if len(background.places):
            distance, _ = cKDTree(background.places).query(found, p=np.inf)
            found = found[distance > box / 2]
        free = (place for place in found if not background.excluded.intersects_box(place, box))
        found = np.array(list(islice(free, most)), int).reshape(-1, 3)
    if len(found) < least:
        raise UserError(
            f"{background.path}: {len(found)} boxes of {box} voxels hold no pick, wanted {least}; "
            "it is too crowded, or too small, for real background"
        )
    return found


def simulate_ablated(
    kind: str,
    densities: VolumeSet,
    models: Sequence[ImagingModel],
    backgrounds: Sequence[BackgroundTomogram],
    names: Sequence[str],
    seed: int,
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Yield the simulated subtomogram of each density, and the index of its model.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    densities : VolumeSet
        Posed densities.
    models : sequence of ImagingModel
        One is drawn for each volume.
    backgrounds : sequence of BackgroundTomogram
        One a model; used by `real_background` only.
    names : sequence of str
        Names that seed the random numbers, as in `simulate_fitted`.
    seed : int
        The run's seed.
    """
    used = [flatten_transfer(model) for model in models] if kind == "noise_only" else list(models)
    boxes = [find_background_boxes(one, densities.box, seed) for one in backgrounds]
    rows = densities.table.to_dict("records")
    for density, row, name in zip(iterate_sections(densities.volumes), rows, names, strict=True):
        rng = seeds.rng(seed, "imaging", name)
        index = int(rng.integers(len(models)))
        centre = centre_offset(row, densities.voxel_size)
        signal, noise = used[index].signal_and_noise(np.asarray(density), centre, rng, False)
        if kind == "real_background":
            place = boxes[index][int(rng.integers(len(boxes[index])))]
            corner = place[::-1] - densities.box // 2
            patch = block_slices(corner, (densities.box,) * 3)
            noise = np.asarray(backgrounds[index].data[patch], np.float32)
        yield signal + noise, index

"""Sets between physics and data: what a part of fitted physics teaches by itself.

`noise`: fitted noise, but of the transfer the missing wedge alone. `pasted`: densities through the
fitted transfer, in patches of the real tomogram where no particle was picked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoetgan.errors import UserError
from cryoetgan.imaging.fit.exclusion import LeftOut
from cryoetgan.imaging.fit.gain import flat_gain
from cryoetgan.imaging.model import ImagingModel, crop
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.coordinates import centre_offset
from cryoetgan.seeds import rng

KINDS = ("noise", "pasted")
LEAST = 20
"""Patches: of fewer, each would come again too often."""
TRIED, MOST = 20_000, 2_000
"""Places drawn, and patches kept of them."""
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Backdrop:
    """A model's own tomogram, and where it was picked.

    Attributes
    ----------
    path : Path
        What messages call it.
    data : ndarray
        `(z, y, x)`.
    places : ndarray
        `(N, 3)` picks, x y z in voxels.
    left_out : LeftOut
        What is no data in it: padding, and what a mask leaves out.
    """

    path: Path
    data: Floats
    places: Floats
    left_out: LeftOut


def without_transfer(model: ImagingModel) -> ImagingModel:
    """Return the model with one density scale and the missing wedge in the place of its transfer.

    Its particles vary as strongly as the fitted ones: only how, by frequency, is not known.
    """
    flat = flat_gain(model.acquisition.tilts, model.box, model.voxel_size)
    plain = replace(model.acquisition, ctf="corrected", defocus=None)
    made = replace(model, gain=replace(flat, values=np.ones_like(flat.values)), acquisition=plain)
    fitted, unscaled = (
        sum(float(_alone(m, density).var()) for density in model.maps.values())
        for m in (model, made)
    )
    scale = np.sqrt(fitted / max(unscaled, 1e-30))
    return replace(made, gain=replace(flat, values=np.full_like(flat.values, scale)))


def _alone(model: ImagingModel, density: Floats) -> NDArray[np.float32]:
    scene = model.scene(density, np.zeros(3), rng(0, "imaging", "alone"), neighbours=False)
    return crop(model.signal(scene), model.box)


def free_places(backdrop: Backdrop, box: int, seed: int) -> NDArray[np.int_]:
    """Return middles of boxes, `(N, 3)` x y z, that hold no pick and lie in the tomogram.

    Nor do they touch what is masked, or padding.

    Raises
    ------
    UserError
        Where there are fewer than twenty.
    """
    low = np.full(3, box // 2)
    high = np.array(backdrop.data.shape[::-1]) - (box - box // 2)
    found = np.empty((0, 3), int)
    if (high > low).all():
        numbers = rng(seed, "imaging", "patches", backdrop.path.stem)
        found = np.rint(numbers.uniform(low, high, (TRIED, 3))).astype(int)
        if len(backdrop.places):
            distance, _ = cKDTree(backdrop.places).query(found, p=np.inf)
            found = found[distance > box / 2]
        kept = (place for place in found if not backdrop.left_out.touches(place, box))
        found = np.array(list(islice(kept, MOST)), int).reshape(-1, 3)
    if len(found) < LEAST:
        raise UserError(
            f"{backdrop.path}: {len(found)} boxes of {box} voxels hold no pick, wanted {LEAST}: it is "
            "too crowded, or too small, to paste densities into"
        )
    return found


def made(
    kind: str,
    source: VolumeSet,
    models: Sequence[ImagingModel],
    backdrops: Sequence[Backdrop],
    names: Sequence[str],
    seed: int,
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Yield each density's volume and the number of its model, as `imaging simulate` draws it.

    Parameters
    ----------
    kind : {'noise', 'pasted'}
        Which.
    source : VolumeSet
        Densities.
    models : sequence of ImagingModel
        One is drawn for each volume.
    backdrops : sequence of Backdrop
        As many; none are needed for noise.
    names : sequence of str
        What chance is drawn for.
    seed : int
        The run's seed.
    """
    plain = [without_transfer(model) for model in models] if kind == "noise" else list(models)
    free = [free_places(backdrop, source.box, seed) for backdrop in backdrops]
    rows = source.table.to_dict("records")
    for density, row, name in zip(iterate_sections(source.volumes), rows, names, strict=True):
        numbers = rng(seed, "imaging", name)
        index = int(numbers.integers(len(models)))
        centre = centre_offset(row, source.voxel_size)
        signal, noise = plain[index].halves(np.asarray(density), centre, numbers, neighbours=False)
        if kind == "pasted":
            place = free[index][int(numbers.integers(len(free[index])))]
            noise = np.asarray(backdrops[index].data[_box(place, source.box)], np.float32)
        yield signal + noise, index


def _box(place: NDArray[np.int_], box: int) -> tuple[slice, ...]:
    return tuple(slice(c, c + box) for c in place[::-1] - box // 2)

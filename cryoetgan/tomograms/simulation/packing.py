"""Place particles in a volume without overlap, by their masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from cryoetgan.io.memmap import release_pages
from cryoetgan.io.star import ANGLES, COORDINATES, particle_id
from cryoetgan.physics.geometry import (
    clip_box,
    random_rotations,
    relion_from_rotation,
    rotate_volume,
)
from cryoetgan.progress import track
from cryoetgan.seeds import rng

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]
MASK_LEVEL = 0.15
"""Share of a map's maximum above which a voxel belongs to the particle."""
TRIES = 400
MISSES = 3
"""Copies of a class in a row for which no place was left, after which no more are tried."""
BLOCK = 256
"""Voxels: edge of the blocks of a volume that are looked through for a free place."""


@dataclass
class Scene:
    """A packed volume; its arrays may be memory-mapped files.

    Attributes
    ----------
    density : ndarray
        `(z, y, x)` float32, the sum of all that is in it but gold.
    labels : ndarray
        `(z, y, x)` int16: 0, or the number of the name in `names`.
    taken : ndarray
        `(z, y, x)` bool, where nothing more may lie.
    names : dict
        Number of each name in `labels`.
    rows : list of dict
        One a particle, in the order of placing.
    missing : dict
        How many copies of each class found no place.
    beads : ndarray or None
        `(z, y, x)` float32, density of gold, in the units of the maps; may be `density`.
    """

    density: NDArray[np.float32]
    labels: NDArray[np.int16]
    taken: Mask
    names: dict[str, int] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, int] = field(default_factory=dict)
    beads: NDArray[np.float32] | None = None

    def label(self, name: str) -> int:
        """Return the number that stands for a name in the labels; new names get the next."""
        return self.names.setdefault(name, len(self.names) + 1)


def empty_scene(shape: tuple[int, int, int], names: Sequence[str] = ()) -> Scene:
    """Return a scene with nothing in it; `names` are numbered from 1 in their order."""
    scene = Scene(np.zeros(shape, np.float32), np.zeros(shape, np.int16), np.zeros(shape, bool))
    for name in names:
        scene.label(name)
    return scene


def pack(
    scene: Scene, maps: Mapping[str, Floats], copies: Mapping[str, int], tomogram: str, seed: int
) -> None:
    """Fill a scene with randomly turned particles.

    One of each class in turn, the largest first: where not all fit, no class starves
    because it came last.

    Parameters
    ----------
    scene : Scene
        Changed in place. Positions are subvoxel; no two masks (map above 15 % of its
        maximum, one voxel apart) share a voxel, and every mask lies inside the volume.
    maps : mapping
        Class to density `(z, y, x)`, cubes with the particle's centre at n // 2.
    copies : mapping
        Class to how many are wanted.
    tomogram : str
        Name, for seeds and ids.
    seed : int
        The run's.
    """
    by_size = sorted(maps, key=lambda name: -_volume(maps[name]))
    coefficients = {
        name: ndimage.spline_filter(np.asarray(maps[name], np.float64), order=3) for name in maps
    }
    missed = dict.fromkeys(maps, 0)
    placed = dict.fromkeys(maps, 0)
    turns = [
        (index, name)
        for index in range(max(copies.values(), default=0))
        for name in by_size
        if index < copies[name]
    ]
    for index, name in track(turns, f"placing particles in {tomogram}"):
        if missed[name] >= MISSES:
            continue
        numbers = rng(seed, "pack", tomogram, name, index)
        rotation = random_rotations(1, numbers)[0]
        fraction = numbers.uniform(-0.5, 0.5, 3)
        turned = rotate_volume(coefficients[name], rotation, fraction, prefilter=False)
        mask = turned > MASK_LEVEL * float(maps[name].max())
        place = find_place(mask, scene.taken, numbers)
        if place is None:
            missed[name] += 1
            continue
        missed[name] = 0
        placed[name] += 1
        add(scene, turned, mask, place, name)
        scene.rows.append(_row(tomogram, name, place[::-1] + fraction, rotation))
    scene.missing |= {
        name: copies[name] - placed[name] for name in maps if placed[name] < copies[name]
    }


def _row(tomogram: str, name: str, centre: Floats, rotation: Rotation) -> dict[str, Any]:
    row: dict[str, Any] = {"rlnTomoName": tomogram}
    row |= dict(zip(COORDINATES, centre, strict=True))
    row |= dict(zip(ANGLES, relion_from_rotation(rotation), strict=True))
    row |= {"cryoetganClass": name, "cryoetganSource": "simulated"}
    return row | {"cryoetganId": particle_id(tomogram, *centre)}


def _volume(density: Floats) -> int:
    return int((density > MASK_LEVEL * density.max()).sum())


def find_place(
    mask: Mask, taken: Mask, numbers: np.random.Generator, inside: bool = True
) -> NDArray[np.int_] | None:
    """Return a zyx voxel for the box centre n // 2 where the mask overlaps nothing, or None.

    Random places first; where those are all taken, one of all that are free.

    Parameters
    ----------
    mask : ndarray
        `(z, y, x)` bool, what is placed in its box.
    taken : ndarray
        `(z, y, x)` bool.
    numbers : numpy.random.Generator
        Where the place is drawn from.
    inside : bool
        Whether all of the mask must lie in the volume; else only its middle.
    """
    filled = np.argwhere(mask)
    half = np.array(mask.shape) // 2
    first, last = filled.min(axis=0), filled.max(axis=0)
    if inside:
        # the mask's own extent decides how near a face it may lie, not its box
        low, high = half - first, np.array(taken.shape) - 1 - (last - half)
    else:
        low, high = np.zeros(3, int), np.array(taken.shape) - 1
    if (low > high).any():
        return None
    for place in numbers.integers(low, high + 1, (TRIES, 3)):
        whole, part = clip_box(place - half, mask.shape, taken.shape)
        if not (taken[whole] & mask[part]).any():
            return place
    if not inside:
        return None
    core = mask[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))]
    corner = free_corner(core, taken, numbers)
    return None if corner is None else corner - first + half


def free_corner(
    core: Mask, taken: Mask, numbers: np.random.Generator, block: int = BLOCK
) -> NDArray[np.int_] | None:
    """Return a zyx corner where `core` fits, or None: one of all in a block that has any.

    Block by block, in random order: memory does not grow with the volume.
    """
    starts = [range(0, n - m + 1, block) for n, m in zip(taken.shape, core.shape, strict=True)]
    corners = np.array(list(product(*starts)))
    for low in corners[numbers.permutation(len(corners))]:
        part = taken[
            tuple(slice(a, a + block + m - 1) for a, m in zip(low, core.shape, strict=True))
        ]
        free = _free_corners(core, part)
        release_pages(taken)
        if len(free):
            return low + free[numbers.integers(len(free))]
    return None


def _free_corners(core: Mask, taken: Mask) -> NDArray[np.int_]:
    """Return all zyx corners where `core` fits, from the overlaps at every shift at once."""
    shape = [fft.next_fast_len(n, real=True) for n in taken.shape]
    spectrum = fft.rfftn(taken.astype(np.float32), shape)
    spectrum *= np.conj(fft.rfftn(core.astype(np.float32), shape))
    overlap = fft.irfftn(spectrum, shape)
    # shifts at which the core does not reach over the faces, so that nothing wraps around
    valid = tuple(slice(0, n - m + 1) for n, m in zip(taken.shape, core.shape, strict=True))
    return np.argwhere(overlap[valid] < 0.5)


def add(scene: Scene, density: Floats, mask: Mask, place: NDArray[np.int_], name: str) -> None:
    """Put a box into the scene, its voxel n // 2 at `place` (zyx)."""
    whole, part = clip_box(place - np.array(mask.shape) // 2, mask.shape, scene.labels.shape)
    scene.density[whole] += density[part]
    scene.labels[whole][mask[part]] = scene.label(name)
    scene.taken[whole] |= ndimage.binary_dilation(mask)[part]
    for array in (scene.density, scene.labels, scene.taken):
        release_pages(array)

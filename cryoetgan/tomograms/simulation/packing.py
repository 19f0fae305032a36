"""A density scene, and particles packed into it without overlap, by their masks."""

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
from cryoetgan.seeds import rng as generator_for

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass
class Scene:
    """A packed volume; its arrays may be memory-mapped files."""

    density: NDArray[np.float32]
    """`(z, y, x)` float32, the sum of all objects except gold."""
    labels: NDArray[np.int16]
    """`(z, y, x)` int16: 0, or the number of a name in `names`."""
    occupied: Mask
    """`(z, y, x)` bool, True if a voxel and its neighbours are not free for another object."""
    names: dict[str, int] = field(default_factory=dict)
    """Name to its number in `labels`."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """One row per particle, in the order of placing."""
    missing: dict[str, int] = field(default_factory=dict)
    """Name to the number of copies that did not fit."""
    beads: NDArray[np.float32] | None = None
    """`(z, y, x)`, density of gold in the units of the maps; may be `density`."""

    def label(self, name: str) -> int:
        """Return the label number of a name; a new name gets the next number."""
        return self.names.setdefault(name, len(self.names) + 1)

    def label_names(self) -> dict[str, str]:
        """Return the name of each label number, for the record beside the labels."""
        return {str(number): name for name, number in self.names.items()}

    def add(self, density: Floats, mask: Mask, centre: NDArray[np.int_], name: str) -> None:
        """Add an object in a box `(z, y, x)`, with its voxel n // 2 at `centre` (zyx)."""
        corner = centre - np.array(mask.shape) // 2
        in_scene, in_box = clip_box(corner, mask.shape, self.labels.shape)
        self.density[in_scene] += density[in_box]
        self.labels[in_scene][mask[in_box]] = self.label(name)
        self.occupied[in_scene] |= ndimage.binary_dilation(mask)[in_box]
        for array in (self.density, self.labels, self.occupied):
            release_pages(array)


def empty_scene(shape: tuple[int, int, int], names: Sequence[str] = ()) -> Scene:
    """Return a scene without objects; `names` are numbered from 1 in their order."""
    scene = Scene(np.zeros(shape, np.float32), np.zeros(shape, np.int16), np.zeros(shape, bool))
    for name in names:
        scene.label(name)
    return scene


MASK_LEVEL = 0.15
"""Fraction of a map's maximum above which a voxel belongs to the particle."""
RANDOM_TRIES = 400
"""Random positions per object before the search of all free positions."""
MAX_MISSES = 3
"""Consecutive copies of a class without a free position, after which the class is skipped."""
SEARCH_BLOCK = 256
"""Edge in voxels of the blocks in which all free positions are searched."""


def pack(
    scene: Scene, maps: Mapping[str, Floats], copies: Mapping[str, int], tomogram: str, seed: int
) -> None:
    """Fill a scene with randomly rotated particles, in place.

    The classes take turns, the largest first. If not all copies fit, every class therefore gets
    its share. Positions are subvoxel. No two masks (map above 15 % of its maximum, one voxel
    apart) share a voxel, and every mask lies inside the volume.

    Parameters
    ----------
    scene : Scene
        Changed in place.
    maps, copies : mapping
        Class to density `(z, y, x)`, a cube with the particle's centre at n // 2; to copies.
    tomogram, seed
        Name, for seeds and ids; the run's seed.
    """
    levels = {name: MASK_LEVEL * float(density.max()) for name, density in maps.items()}
    by_size = sorted(maps, key=lambda name: -int((maps[name] > levels[name]).sum()))
    coefficients = {
        name: ndimage.spline_filter(np.asarray(maps[name], np.float64), order=3) for name in maps
    }
    misses = dict.fromkeys(maps, 0)
    placed = dict.fromkeys(maps, 0)
    turns = [
        (index, name)
        for index in range(max(copies.values(), default=0))
        for name in by_size
        if index < copies[name]
    ]
    for index, name in track(turns, f"placing particles in {tomogram}"):
        if misses[name] >= MAX_MISSES:
            continue
        rng = generator_for(seed, "pack", tomogram, name, index)
        rotation = random_rotations(1, rng)[0]
        fraction = rng.uniform(-0.5, 0.5, 3)
        rotated = rotate_volume(coefficients[name], rotation, fraction, prefilter=False)
        mask = rotated > levels[name]
        centre = find_place(mask, scene.occupied, rng)
        if centre is None:
            misses[name] += 1
            continue
        misses[name] = 0
        placed[name] += 1
        scene.add(rotated, mask, centre, name)
        scene.rows.append(_particle_row(tomogram, name, centre[::-1] + fraction, rotation))
    scene.missing |= {
        name: copies[name] - placed[name] for name in maps if placed[name] < copies[name]
    }


def _particle_row(tomogram: str, name: str, centre: Floats, rotation: Rotation) -> dict[str, Any]:
    row: dict[str, Any] = {"rlnTomoName": tomogram}
    row |= dict(zip(COORDINATES, centre, strict=True))
    row |= dict(zip(ANGLES, relion_from_rotation(rotation), strict=True))
    row |= {"cryoetganClass": name, "cryoetganSource": "simulated"}
    return row | {"cryoetganId": particle_id(tomogram, *centre)}


def find_place(
    mask: Mask, occupied: Mask, rng: np.random.Generator, inside: bool = True
) -> NDArray[np.int_] | None:
    """Return a zyx voxel for the box centre n // 2 at which the mask overlaps nothing, or None.

    Random positions are tried first, then one of all free positions is drawn. `mask` is the object
    in its box, and `occupied` the volume, both `(z, y, x)` bool. If `inside` is false, only the
    box centre must lie in the volume, not the whole mask.
    """
    filled = np.argwhere(mask)
    half = np.array(mask.shape) // 2
    first, last = filled.min(axis=0), filled.max(axis=0)
    if inside:
        # the mask's extent limits its distance from a face, not the box
        low, high = half - first, np.array(occupied.shape) - 1 - (last - half)
    else:
        low, high = np.zeros(3, int), np.array(occupied.shape) - 1
    if (low > high).any():
        return None
    for centre in rng.integers(low, high + 1, (RANDOM_TRIES, 3)):
        in_scene, in_box = clip_box(centre - half, mask.shape, occupied.shape)
        if not (occupied[in_scene] & mask[in_box]).any():
            return centre
    if not inside:
        return None
    core = mask[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))]
    corner = find_free_corner(core, occupied, rng)
    return None if corner is None else corner - first + half


def find_free_corner(
    core: Mask, occupied: Mask, rng: np.random.Generator, block: int = SEARCH_BLOCK
) -> NDArray[np.int_] | None:
    """Return a zyx corner at which `core` fits, or None.

    Blocks of `block` voxels are searched in random order, and one free corner of the first block
    that has any is drawn. Memory does not grow with the volume.
    """
    starts = [range(0, n - m + 1, block) for n, m in zip(occupied.shape, core.shape, strict=True)]
    corners = np.array(list(product(*starts)))
    for low in corners[rng.permutation(len(corners))]:
        part = occupied[
            tuple(slice(a, a + block + m - 1) for a, m in zip(low, core.shape, strict=True))
        ]
        free = _find_free_corners(core, part)
        release_pages(occupied)
        if len(free):
            return low + free[rng.integers(len(free))]
    return None


def _find_free_corners(core: Mask, occupied: Mask) -> NDArray[np.int_]:
    """Return all zyx corners at which `core` fits, by correlating the two masks."""
    shape = [fft.next_fast_len(n, real=True) for n in occupied.shape]
    spectrum = fft.rfftn(occupied.astype(np.float32), shape)
    spectrum *= np.conj(fft.rfftn(core.astype(np.float32), shape))
    overlap = fft.irfftn(spectrum, shape)
    # shifts at which the core stays inside, so that nothing wraps around
    valid = tuple(slice(0, n - m + 1) for n, m in zip(occupied.shape, core.shape, strict=True))
    return np.argwhere(overlap[valid] < 0.5)

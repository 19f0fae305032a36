"""Place particles in a volume without overlap, by their masks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.geometry import random_rotations, relion_from_rotation, rotate_volume
from cryoetgan.seeds import rng
from cryoetgan.star import ANGLES, COORDINATES, particle_id

Floats = NDArray[np.floating]
MASK_LEVEL = 0.15
"""Share of a map's maximum above which a voxel belongs to the particle."""
TRIES = 400


@dataclass
class Scene:
    """A packed volume.

    Attributes
    ----------
    density : ndarray
        `(z, y, x)` float32, the sum of all particles.
    labels : ndarray
        `(z, y, x)` int16: 0, or 1 + the index of the class.
    rows : list of dict
        One a particle, in the order of placing.
    missing : dict
        How many copies of each class found no place.
    """

    density: NDArray[np.float32]
    labels: NDArray[np.int16]
    rows: list[dict[str, Any]]
    missing: dict[str, int]


def pack(
    maps: Mapping[str, Floats],
    copies: Mapping[str, int],
    shape: tuple[int, int, int],
    tomogram: str,
    seed: int,
) -> Scene:
    """Fill a volume with randomly turned particles, the largest first.

    Parameters
    ----------
    maps : mapping
        Class to density `(z, y, x)`, cubes with the particle's centre at n // 2.
    copies : mapping
        Class to how many are wanted.
    shape : (int, int, int)
        zyx, voxels.
    tomogram : str
        Name, for seeds and ids.
    seed : int
        The run's seed.

    Returns
    -------
    Scene
        Positions are subvoxel; no two masks (map above 15 % of its maximum, one voxel
        wider) share a voxel, and every mask lies inside the volume.
    """
    scene = Scene(np.zeros(shape, np.float32), np.zeros(shape, np.int16), [], {})
    taken = np.zeros(shape, bool)
    names = list(maps)
    by_size = sorted(names, key=lambda name: -_volume(maps[name]))
    for name in by_size:
        coefficients = ndimage.spline_filter(np.asarray(maps[name], np.float64), order=3)
        level = MASK_LEVEL * float(maps[name].max())
        missing = 0
        for index in range(copies[name]):
            numbers = rng(seed, "pack", tomogram, name, index)
            rotation = random_rotations(1, numbers)[0]
            fraction = numbers.uniform(-0.5, 0.5, 3)
            turned = rotate_volume(coefficients, rotation, fraction, prefilter=False)
            mask = turned > level
            place = _find_place(mask, taken, numbers)
            if place is None:
                missing += 1
                continue
            _add(scene, taken, turned, mask, place, names.index(name) + 1)
            centre = place[::-1] + fraction
            row: dict[str, Any] = {"rlnTomoName": tomogram}
            row |= dict(zip(COORDINATES, centre, strict=True))
            row |= dict(zip(ANGLES, relion_from_rotation(rotation), strict=True))
            row |= {"cryoetganClass": name, "cryoetganSource": "simulated"}
            row["cryoetganId"] = particle_id(tomogram, *centre)
            scene.rows.append(row)
        if missing:
            scene.missing[name] = missing
    return scene


def _volume(density: Floats) -> int:
    return int((density > MASK_LEVEL * density.max()).sum())


def _find_place(
    mask: NDArray[np.bool_], taken: NDArray[np.bool_], numbers: np.random.Generator
) -> NDArray[np.int_] | None:
    """Return the zyx voxel for the box centre where the mask overlaps nothing, or None."""
    filled = np.argwhere(mask)
    half = np.array(mask.shape) // 2
    # the mask's own extent decides how near a face it may lie, not its box
    low = half - filled.min(axis=0)
    high = np.array(taken.shape) - 1 - (filled.max(axis=0) - half)
    if (low > high).any():
        return None
    core = mask[tuple(slice(a, b + 1) for a, b in zip(filled.min(0), filled.max(0), strict=True))]
    for place in numbers.integers(low, high + 1, (TRIES, 3)):
        start = place - half + filled.min(axis=0)
        window = tuple(slice(a, a + n) for a, n in zip(start, core.shape, strict=True))
        if not (taken[window] & core).any():
            return place
    return None


def _add(
    scene: Scene,
    taken: NDArray[np.bool_],
    turned: Floats,
    mask: NDArray[np.bool_],
    place: NDArray[np.int_],
    label: int,
) -> None:
    half = np.array(mask.shape) // 2
    start = place - half
    low = np.maximum(start, 0)
    high = np.minimum(start + np.array(mask.shape), scene.density.shape)
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    part = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
    scene.density[inside] += turned[part]
    scene.labels[inside][mask[part]] = label
    taken[inside] |= ndimage.binary_dilation(mask)[part]

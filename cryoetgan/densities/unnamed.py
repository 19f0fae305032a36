"""Generic proteins, which stand for species without a map, and the densities of class `other`."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.densities.crowders import BLUR_VOXELS, make_crowders, protein_mass
from cryoetgan.densities.density_from_atoms import gaussian_width
from cryoetgan.densities.poses import Poser
from cryoetgan.io.star import OTHER
from cryoetgan.physics.geometry import clip_box, random_rotations
from cryoetgan.seeds import rng as generator_for

Floats = NDArray[np.floating]


def make_unnamed(maps: Mapping[str, Floats], voxel_size: float, seed: int) -> dict[str, Floats]:
    """Return densities of unnamed proteins by name, in the units of the maps `(z, y, x)`.

    Scenes hold the same proteins (`make_crowders`). Maps may have any unit, so the densities inside
    particles are made equal: the median of sum rho^2 / sum rho over maps and over proteins.
    """
    width = gaussian_width(BLUR_VOXELS * voxel_size)
    unit = inner_density(maps) / inner_density(make_crowders(voxel_size, width, seed))
    largest = max(protein_mass(np.maximum(m, 0) / unit, voxel_size, width) for m in maps.values())
    made = make_crowders(voxel_size, width, seed, largest)
    return {name: (unit * density).astype(np.float32) for name, density in made.items()}


def inner_density(maps: Mapping[str, Floats]) -> float:
    """Return the median over maps of their mean density, weighted by the density."""
    positive = [np.maximum(density, 0).astype(np.float64) for density in maps.values()]
    return float(np.median([(p**2).sum() / max(p.sum(), 1e-30) for p in positive]))


def draw_others(
    maps: Mapping[str, Floats],
    count: int,
    unnamed: float,
    max_shift: float,
    voxel_size: float,
    seed: int,
) -> Iterator[tuple[NDArray[np.float32], dict[str, Any]]]:
    """Yield boxes `(z, y, x)` without a particle of the maps, and their STAR rows.

    The fraction `unnamed` of the boxes holds one of the proteins of `make_unnamed` in a random pose,
    at most `max_shift` angstrom off centre along each axis; the others are empty. Box i is the
    same for any `count`. Boxes have the size of the maps, cubes.
    """
    box = len(next(iter(maps.values())))
    posers = [Poser(density) for density in make_unnamed(maps, voxel_size, seed).values()]
    for index in range(count):
        volume, rng = np.zeros((box,) * 3, np.float32), generator_for(seed, OTHER, index)
        rotation, shift = random_rotations(1, rng)[0], rng.uniform(-max_shift, max_shift, 3)
        if rng.random() < unnamed:
            # the protein's own box is tight: it is moved by whole voxels, and inside only by the rest
            voxels = np.rint(shift / voxel_size)
            protein = posers[rng.integers(len(posers))](rotation, shift / voxel_size - voxels)
            corner = box // 2 - len(protein) // 2 + voxels[::-1].astype(int)
            in_box, in_protein = clip_box(corner, protein.shape, volume.shape)
            volume[in_box] = protein[in_protein]
        yield volume, {"cryoetganClass": OTHER, "cryoetganSource": "density"}

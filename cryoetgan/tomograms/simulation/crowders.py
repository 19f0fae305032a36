"""Unnamed crowders by a distribution of sizes."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.densities.density_from_atoms import HEAVY_ATOM_DENSITY, gaussian_integral
from cryoetgan.io.scene import CROWDER
from cryoetgan.seeds import rng as generator_for

Floats = NDArray[np.floating]
SPECIES = 16
"""Different crowders of a run."""
MASS_DA = (3e4, 6e5)
"""Smallest and largest mass, log-uniform, dalton."""
VOLUME_PER_DA = 1.21
"""Cubic angstrom per dalton of protein (partial specific volume of 0.73 ml/g)."""
LOBES = (2, 5)
"""Number of balls that make up a crowder."""
SUBGRID = 2
"""Points of the grid in a voxel, along an axis."""


def make_crowders(voxel_size: float, width: float, seed: int) -> dict[str, Floats]:
    """Return densities `(z, y, x)` of proteins that nobody named, by name.

    A crowder is a union of touching balls with the volume of its mass, blurred by exp(-r^2 / w^2)
    with w = `width` (angstrom), in the units of `cryoetgan.densities.simulate`.
    """
    made = {}
    for index in range(SPECIES):
        rng = generator_for(seed, "crowder", index)
        mass = np.exp(rng.uniform(*np.log(MASS_DA)))
        lobes = int(rng.integers(LOBES[0], LOBES[1] + 1))
        shares = rng.dirichlet(np.full(lobes, 4.0))
        radii = (3 * mass * VOLUME_PER_DA * shares / (4 * np.pi)) ** (1 / 3)
        places = [np.zeros(3)]
        for radius, before in zip(radii[1:], radii[:-1], strict=True):
            step = rng.normal(size=3)
            places.append(places[-1] + step / np.linalg.norm(step) * 0.9 * (radius + before))
        centres = np.array(places) - np.average(places, axis=0, weights=shares)
        reach = (np.linalg.norm(centres, axis=1) + radii).max() + 2 * width
        half = int(np.ceil(reach / voxel_size)) + 1
        spacing = voxel_size / SUBGRID
        axis = (np.arange((2 * half + 1) * SUBGRID) + 0.5 - (half + 0.5) * SUBGRID) * spacing
        z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
        inside = np.zeros(z.shape, bool)
        for (a, b, c), radius in zip(centres, radii, strict=True):
            inside |= (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 < radius**2
        fine = ndimage.gaussian_filter(inside.astype(np.float32), width / np.sqrt(2) / spacing)
        edge = 2 * half + 1
        coarse = fine.reshape(edge, SUBGRID, edge, SUBGRID, edge, SUBGRID).mean(axis=(1, 3, 5))
        # overlaps of balls lose volume: the mass is kept
        volume = inside.sum() * spacing**3
        scale = HEAVY_ATOM_DENSITY * gaussian_integral(width) * mass * VOLUME_PER_DA / volume
        made[f"{CROWDER}_{index + 1}"] = coarse * np.float32(scale)
    return made

"""Random poses of density maps: the density domain D."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.geometry import random_rotations, relion_from_rotation, rotate_volume
from cryoetgan.seeds import rng
from cryoetgan.star import ANGLES

ORIGINS = ["rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst"]
"""RELION's sense: the particle's centre lies at n // 2 - origin / voxel size."""


def poses(
    name: str,
    density: NDArray[np.floating],
    count: int,
    max_shift: float,
    voxel_size: float,
    seed: int,
) -> Iterator[tuple[NDArray[np.floating], dict[str, Any]]]:
    """Yield `(volume, row)` of `count` poses of one class.

    Parameters
    ----------
    name : str
        The class.
    density : ndarray
        `(z, y, x)`, a cube; the particle's centre at n // 2.
    count : int
        How many; pose i is the same whatever `count` is.
    max_shift : float
        Angstrom; shifts are uniform on [-max_shift, max_shift] an axis.
    voxel_size : float
        Angstrom.
    seed : int
        The run's seed.
    """
    coefficients = ndimage.spline_filter(np.asarray(density, np.float64), order=3)
    for index in range(count):
        numbers = rng(seed, "pose", name, index)
        rotation = random_rotations(1, numbers)[0]
        shift = numbers.uniform(-max_shift, max_shift, 3)  # xyz, angstrom
        volume = rotate_volume(coefficients, rotation, shift / voxel_size, prefilter=False)
        row = {"cryoetganClass": name}
        row |= dict(zip(ANGLES, relion_from_rotation(rotation), strict=True))
        row |= dict(zip(ORIGINS, -shift, strict=True))
        row["cryoetganSource"] = "density"
        yield volume, row

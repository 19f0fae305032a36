"""A membrane patch: two layers of head groups, a hydrophobic trough between them."""

import numpy as np
from numpy.typing import NDArray

from cryoetgan.densities.simulation import gaussian_width
from cryoetgan.errors import UserError

HEAD_SD = 4.5
"""Angstrom; thickness of a head-group layer (Nagle 2000, doi 10.1016/S0304-4157(00)00016-2)."""
HEAD_DENSITY = 0.43
"""Electrons per cubic angstrom over the solvent's share, as protein's is counted here."""
TROUGH_DENSITY = -0.10
TROUGH_SD = 8.0
RIM = 0.12
"""Share of the box over which the patch fades out at its rim."""


def membrane(
    voxel_size: float,
    resolution: float,
    box: int,
    thickness: float = 40.0,
    radius: float = 600.0,
) -> NDArray[np.float32]:
    """Return a patch of lipid bilayer, bent like a sphere, its normal along z.

    Parameters
    ----------
    voxel_size, resolution : float
        Angstrom; units and blur are those of `cryoetgan.densities.simulate`.
    box : int
        Edge in voxels.
    thickness : float
        Angstrom between the head-group layers.
    radius : float
        Angstrom; radius of curvature of the mid-plane.

    Returns
    -------
    ndarray
        `(z, y, x)` float32; the mid-plane passes through voxel n // 2.

    Raises
    ------
    UserError
        Where the membrane is bent more tightly than it is thick.
    """
    if radius <= thickness:
        raise UserError(
            f"membrane_radius is {radius:g} A, not above membrane_thickness ({thickness:g} A)"
        )
    z, y, x = (np.indices((box, box, box)) - box // 2) * voxel_size
    depth = np.sqrt(x**2 + y**2 + (z + radius) ** 2) - radius
    width = gaussian_width(resolution)
    profile = sum(
        _layer(depth - side * thickness / 2, HEAD_SD, HEAD_DENSITY, width) for side in (-1, 1)
    )
    profile = profile + _layer(depth, TROUGH_SD, TROUGH_DENSITY, width)
    reach = (box // 2 - 1) * voxel_size
    soft = RIM * box * voxel_size
    distance = np.sqrt(x**2 + y**2 + z**2)
    rim = 0.5 * (1 + np.cos(np.pi * np.clip((distance - reach + soft) / soft, 0, 1)))
    return (profile * rim * np.pi**1.5 * width**3).astype(np.float32)


def _layer(
    depth: NDArray[np.floating], sd: float, density: float, width: float
) -> NDArray[np.floating]:
    """Return a Gaussian layer blurred by exp(-r^2 / width^2), which has variance width^2 / 2."""
    variance = sd**2 + width**2 / 2
    return density * sd / np.sqrt(variance) * np.exp(-(depth**2) / (2 * variance))

"""A membrane patch: two layers of head groups, a hydrophobic trough between them."""

import numpy as np
from numpy.typing import NDArray

from cryoetgan.densities.density_from_atoms import check_box, gaussian_width
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
    tilt: float = 0.0,
) -> NDArray[np.float32]:
    """Return a patch of lipid bilayer, bent like a sphere.

    Parameters
    ----------
    voxel_size, resolution : float
        Angstrom; units and blur are those of `cryoetgan.densities.simulate`.
    box : int
        Edge in voxels.
    thickness : float
        Angstrom between the head-group layers.
    radius : float
        Angstrom; radius of curvature of the mid-plane. The centre of curvature lies on
        the side of the normal's tail.
    tilt : float
        Degrees about y from z to the normal: the normal is (sin tilt, 0, cos tilt), xyz.

    Returns
    -------
    ndarray
        `(z, y, x)` float32; the mid-plane passes through voxel n // 2.

    Raises
    ------
    UserError
        Where the membrane is bent more tightly than it is thick, or a size is none.
    """
    check_box(box)
    if not 0 < thickness < radius < np.inf:
        raise UserError(
            f"membrane_thickness is {thickness:g} A and membrane_radius {radius:g} A; "
            "wanted both above zero, and the radius above the thickness"
        )
    if not np.isfinite(tilt):
        raise UserError(f"membrane_tilt is {tilt}; wanted degrees")
    z, y, x = (np.indices((box, box, box), np.float32) - box // 2) * np.float32(voxel_size)
    distance = np.sqrt(x**2 + y**2 + z**2)
    across = x * np.sin(np.radians(tilt)) + z * np.cos(np.radians(tilt))  # along the normal
    # |r + radius n| - radius, in a form that keeps its digits for a nearly flat membrane
    sphere = np.sqrt(np.maximum(distance**2 + 2 * radius * across + radius**2, 0))
    depth = (distance**2 + 2 * radius * across) / (sphere + radius)
    width = gaussian_width(resolution)
    profile = sum(
        _layer(depth - side * thickness / 2, HEAD_SD, HEAD_DENSITY, width) for side in (-1, 1)
    )
    profile = profile + _layer(depth, TROUGH_SD, TROUGH_DENSITY, width)
    reach = (box // 2 - 1) * voxel_size
    soft = RIM * box * voxel_size
    rim = 0.5 * (1 + np.cos(np.pi * np.clip((distance - reach + soft) / soft, 0, 1)))
    return (profile * rim * np.pi**1.5 * width**3).astype(np.float32)


def _layer(
    depth: NDArray[np.floating], sd: float, density: float, width: float
) -> NDArray[np.floating]:
    """Return a Gaussian layer blurred by exp(-r^2 / width^2), which has variance width^2 / 2."""
    variance = sd**2 + width**2 / 2
    return density * sd / np.sqrt(variance) * np.exp(-(depth**2) / (2 * variance))

"""A lipid bilayer: two layers of head groups and the hydrophobic trough between them."""

import numpy as np
from numpy.typing import NDArray

from cryoetgan.densities.density_from_atoms import check_box, gaussian_integral, gaussian_width
from cryoetgan.errors import UserError

Floats = NDArray[np.floating]
HEAD_SD_A = 4.5
"""Angstrom; thickness of a head-group layer (Nagle 2000, doi 10.1016/S0304-4157(00)00016-2)."""
HEAD_DENSITY = 0.43
"""Electrons per cubic angstrom more than the solvent, counted as for protein."""
TROUGH_DENSITY = -0.10
TROUGH_SD_A = 8.0
RIM_FRACTION = 0.12
"""Width of the patch's soft rim, as a fraction of the box."""


def simulate_membrane(
    voxel_size: float,
    resolution: float,
    box: int,
    thickness: float = 40.0,
    radius: float = 600.0,
    tilt: float = 0.0,
) -> NDArray[np.float32]:
    """Return the density map `(z, y, x)` float32 of a membrane patch, curved like a sphere.

    The mid-plane passes through voxel n // 2; units and blur as in `cryoetgan.densities.simulate`.

    Parameters
    ----------
    voxel_size, resolution : float
        Angstrom.
    box : int
        Edge in voxels.
    thickness : float
        Angstrom between the head-group layers.
    radius : float
        Angstrom; radius of curvature of the mid-plane, larger than the thickness. The normal points
        away from the centre of curvature.
    tilt : float
        Degrees about y from z to the normal: the normal is (sin tilt, 0, cos tilt), xyz.
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
    # |r + radius n| - radius, in a form that is also accurate for a nearly flat membrane
    sphere = np.sqrt(np.maximum(distance**2 + 2 * radius * across + radius**2, 0))
    depth = (distance**2 + 2 * radius * across) / (sphere + radius)
    width = gaussian_width(resolution)
    profile = bilayer_profile(depth, thickness, width)
    reach = (box // 2 - 1) * voxel_size
    soft = RIM_FRACTION * box * voxel_size
    rim = 0.5 * (1 + np.cos(np.pi * np.clip((distance - reach + soft) / soft, 0, 1)))
    return (profile * rim * gaussian_integral(width)).astype(np.float32)


def bilayer_profile(depth: Floats, thickness: float, width: float) -> Floats:
    """Return a bilayer's electrons per cubic angstrom at signed depths from the mid-plane.

    Each layer is a Gaussian blurred by exp(-r^2 / w^2): its variance grows by w^2 / 2. All
    lengths in angstrom, `width` is w. Times pi^1.5 w^3 the result has the units of `simulate`.
    """
    layers = (
        (thickness / 2, HEAD_SD_A, HEAD_DENSITY),
        (-thickness / 2, HEAD_SD_A, HEAD_DENSITY),
        (0.0, TROUGH_SD_A, TROUGH_DENSITY),
    )
    total = np.zeros_like(depth)
    for position, sd, density in layers:
        variance = sd**2 + width**2 / 2
        gaussian = np.exp(-((depth - position) ** 2) / (2 * variance))
        total += density * sd / np.sqrt(variance) * gaussian
    return total

"""Atoms to density: a Gaussian an atom, weighted by its atomic number.

The rule is that of EMAN2's e2pdb2mrc.py: density = sum Z exp(-r^2 / w^2) with
w = resolution / pi, nothing normalised, the origin of coordinates at voxel box // 2.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryoetgan.errors import UserError

Floats = NDArray[np.floating]
CUTOFF = 4.01473
"""Kernel radius in units of w: the Gaussian has fallen to 1e-7."""
BLOCK = 4
"""Voxels an edge: atoms of one block share one small matrix product."""
LARGEST_BOX = 1024
TABLE_STEPS = 1000
"""EMAN2 looks the Gaussian up in a table of this many steps a voxel."""


def simulate(
    positions: ArrayLike,
    atomic_numbers: ArrayLike,
    voxel_size: float,
    resolution: float,
    box: int,
    eman2_compatible: bool = False,
) -> NDArray[np.float32]:
    """Return the density of atoms.

    Parameters
    ----------
    positions : array_like
        `(N, 3)` x, y, z in angstrom; the origin lies at voxel `box // 2`.
    atomic_numbers : array_like
        `(N,)` Z.
    voxel_size : float
        Angstrom.
    resolution : float
        Angstrom; the Gaussian is exp(-r^2 / w^2), w = resolution / pi.
    box : int
        Edge in voxels.
    eman2_compatible : bool
        Use EMAN2's window, which is one voxel shorter on the upper side, and its
        table's steps.

    Returns
    -------
    ndarray
        `(z, y, x)` float32. Atoms outside the box add what reaches into it.

    Raises
    ------
    UserError
        Where a size is not positive, the box too large, or a coordinate not finite.

    Notes
    -----
    The Gaussian is separable, so the atoms of a block of voxels add up to one matrix
    product of their z factors with their y x factors.
    """
    atoms = np.asarray(positions, np.float64).reshape(-1, 3)
    weights = np.asarray(atomic_numbers, np.float64)
    _check(atoms, weights, voxel_size, resolution, box)
    width = resolution / np.pi / voxel_size  # voxels
    # EMAN2's window cuts the Gaussian up to a voxel early; ours holds all of it
    reach = max(1, int(CUTOFF * width)) if eman2_compatible else int(np.ceil(CUTOFF * width)) + 1
    centres = atoms / voxel_size + box // 2
    first = np.trunc(centres) if eman2_compatible else np.floor(centres)
    near = ((first + reach >= 0) & (first - reach < box)).all(axis=1)
    centres, first, weights = centres[near], first[near].astype(int), weights[near]
    density = np.zeros((box, box, box))
    blocks = (first + reach) // BLOCK
    order = np.lexsort(blocks.T)
    edges = np.flatnonzero((np.diff(blocks[order], axis=0) != 0).any(axis=1)) + 1
    for members in np.split(order, edges):
        if not len(members):
            continue
        low = np.maximum(first[members].min(axis=0) - reach, 0)
        high = np.minimum(first[members].max(axis=0) + reach + 1, box)
        x, y, z = (
            _factor(
                centres[members, axis],
                first[members, axis],
                low[axis],
                high[axis],
                width,
                reach,
                eman2_compatible,
            )
            for axis in range(3)
        )
        plane = (y[:, :, None] * x[:, None, :]).reshape(len(members), -1)
        part = (z * weights[members, None]).T @ plane
        density[low[2] : high[2], low[1] : high[1], low[0] : high[0]] += part.reshape(
            z.shape[1], y.shape[1], x.shape[1]
        )
    return density.astype(np.float32)


def _factor(
    centre: Floats,
    first: NDArray[np.int_],
    low: int,
    high: int,
    width: float,
    reach: int,
    eman2_compatible: bool,
) -> Floats:
    """Return `(atom, voxel)` one axis of the Gaussian on voxels low to high - 1."""
    voxels = np.arange(low, high)
    distance = np.abs(voxels - centre[:, None])
    if eman2_compatible:
        distance = np.floor(distance * TABLE_STEPS) / TABLE_STEPS
    factor = np.exp(-((distance / width) ** 2))
    last = first + reach - 1 if eman2_compatible else first + reach
    outside = (voxels < (first - reach)[:, None]) | (voxels > last[:, None])
    factor[outside] = 0
    return factor


def _check(atoms: Floats, weights: Floats, voxel_size: float, resolution: float, box: int) -> None:
    for name, value in (("voxel size", voxel_size), ("resolution", resolution), ("box", box)):
        if not 0 < value < np.inf:
            raise UserError(f"{name} is {value}; wanted a number above zero")
    if box > LARGEST_BOX:
        raise UserError(
            f"box is {box} voxels an edge, {4 * box**3 / 1e9:.3g} GB; wanted {LARGEST_BOX} or less"
        )
    if not len(atoms):
        raise UserError("there are no atoms to simulate a density from")
    if not (np.isfinite(atoms).all() and np.isfinite(weights).all()):
        raise UserError("an atom has a coordinate or weight that is not a number")


def gaussian_width(resolution: float) -> float:
    """Return w in angstrom of exp(-r^2 / w^2)."""
    return resolution / np.pi

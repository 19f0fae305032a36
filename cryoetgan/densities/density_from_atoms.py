"""Atoms to density: a Gaussian an atom, weighted by its atomic number.

The rule is that of EMAN2's e2pdb2mrc.py: density = sum Z exp(-r^2 / w^2) with
w = resolution / pi, nothing normalised, the origin of coordinates at voxel box // 2.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryoetgan.errors import UserError

Floats = NDArray[np.floating]
Factors = NDArray[np.float32]
CUTOFF = 4.01473
"""Kernel radius in units of w: the Gaussian has fallen to 1e-7."""
SMALLEST_BLOCK = 3
"""Voxels an edge: atoms of one block share one matrix product (measured optimum)."""
CHUNK = 1 << 16
"""Atoms whose Gaussian factors are held in memory at once."""
LARGEST_PRODUCT = 1 << 24
"""Numbers held at once for the factors of a chunk, and for one matrix product."""
WIDEST = 4
"""Resolution over the box's edge beyond which a map shows nothing but a slope."""
LARGEST_BOX = 512
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
    weights = np.asarray(atomic_numbers, np.float64).ravel()
    _check(atoms, weights, voxel_size, resolution, box)
    box = int(box)
    width = resolution / np.pi / voxel_size  # voxels
    if eman2_compatible:
        below = max(1, int(CUTOFF * width))
        above = below - 1
    else:
        below, above = int(np.floor(CUTOFF * width)), int(np.ceil(CUTOFF * width))
    centres = atoms / voxel_size + box // 2
    first = (np.trunc if eman2_compatible else np.floor)(centres)
    near = ((first + above >= 0) & (first - below < box)).all(axis=1)
    if not near.all():
        centres, first, weights = centres[near], first[near], weights[near]

    block = max(SMALLEST_BLOCK, above // 2)
    window = below + 1 + above + block - 1  # what the atoms of one block reach
    blocks = (first + above).astype(int) // block
    order = _by_block(blocks)
    low = (blocks * block - above - below)[order]  # first voxel of that reach
    centres, weights = centres[order], weights[order].astype(np.float32)
    density = np.zeros((box,) * 3)
    chunk = max(1, min(CHUNK, LARGEST_PRODUCT // (3 * window)))
    for start in range(0, len(order), chunk):
        chosen = slice(start, start + chunk)
        if eman2_compatible:
            factors = _factors_as_eman2(centres[chosen], low[chosen], window, width, below)
        else:
            factors = _factors(centres[chosen], low[chosen], window, width)
        factors[:, 2] *= weights[chosen, None]
        _add(density, factors, low[chosen])
    return density.astype(np.float32)


def _by_block(blocks: NDArray[np.int_]) -> NDArray[np.intp]:
    """Return the order that puts the atoms of one block side by side."""
    size = int(blocks.max(initial=0)) + 1
    keys = (blocks[:, 2] * size + blocks[:, 1]) * size + blocks[:, 0]
    if size**3 < 1 << 16:
        keys = keys.astype(np.uint16)  # sorted by radix, in a tenth of the time
    return np.argsort(keys, kind="stable")


def _factors(centres: Floats, low: NDArray[np.int_], window: int, width: float) -> Factors:
    """Return `(atom, axis, voxel)` one-dimensional Gaussians, from voxel `low` of each atom."""
    # relative to its window a coordinate is small: single precision is exact to 1e-6
    near = (centres - low).astype(np.float32)
    distance = np.arange(window, dtype=np.float32) - near[:, :, None]
    distance *= distance
    distance *= np.float32(-1 / width**2)
    return np.exp(distance, out=distance)


def _factors_as_eman2(
    centres: Floats, low: NDArray[np.int_], window: int, width: float, reach: int
) -> Factors:
    """Return what `_factors` does, distances floored to the table's steps, cut to its window."""
    # in double precision as EMAN2 has it: round coordinates fall on the steps
    exact = (low[:, :, None] + np.arange(window)) - centres[:, :, None]
    np.abs(exact, out=exact)
    exact *= TABLE_STEPS
    distance = np.floor(exact, out=exact).astype(np.float32)
    distance *= np.float32(1 / TABLE_STEPS)
    distance *= distance
    distance *= np.float32(-1 / width**2)
    factors = np.exp(distance, out=distance)
    # its window is [first - reach, first + reach)
    first = (np.trunc(centres) - low).astype(np.float32)
    voxels = np.arange(window, dtype=np.float32) - first[:, :, None]
    voxels += 0.5
    np.abs(voxels, out=voxels)
    np.copyto(factors, 0, where=voxels > reach)
    return factors


def _add(density: Floats, factors: Factors, low: NDArray[np.int_]) -> None:
    """Add the atoms of each run of equal `low` (x, y, z of the window) as one product."""
    window, box = factors.shape[2], len(density)
    edges = np.flatnonzero((low[1:] != low[:-1]).any(axis=1)) + 1
    starts = [0, *edges.tolist()]
    for start, end, corner in zip(
        starts, [*starts[1:], len(low)], low[starts].tolist(), strict=True
    ):
        x, y, z = factors[start:end].transpose(1, 0, 2)
        if min(corner) < 0 or max(corner) + window > box:
            # what reaches out of the box is not computed
            x, y, z = (
                axis[:, max(-at, 0) : box - at] for axis, at in zip((x, y, z), corner, strict=True)
            )
        i, j, k = (max(at, 0) for at in corner)
        into = density[k : k + z.shape[1], j : j + y.shape[1], i : i + x.shape[1]]
        most = max(1, LARGEST_PRODUCT // max(1, into[0].size))
        for some in range(0, end - start, most):
            of = slice(some, some + most)
            plane = (y[of, :, None] * x[of, None, :]).reshape(len(x[of]), -1)
            into += (z[of].T @ plane).reshape(into.shape)


def _check(atoms: Floats, weights: Floats, voxel_size: float, resolution: float, box: int) -> None:
    for name, value in (("voxel size", voxel_size), ("resolution", resolution), ("box", box)):
        if not 0 < value < np.inf:
            raise UserError(f"{name} is {value}; wanted a number above zero")
    check_box(box)
    if resolution > WIDEST * box * voxel_size:
        raise UserError(
            f"resolution is {resolution:g} A, but the box is {box * voxel_size:g} A wide: nothing "
            "can be seen in it; lower the resolution (30 to 40 A is usual) or enlarge the box"
        )
    if not len(atoms):
        raise UserError("there are no atoms to simulate a density from")
    if len(weights) != len(atoms):
        raise UserError(f"there are {len(atoms)} positions, but {len(weights)} atomic numbers")
    if not (np.isfinite(atoms).all() and np.isfinite(weights).all()):
        raise UserError("an atom has a coordinate or weight that is not a number")


def check_box(box: int, option: str = "box") -> None:
    """Raise a `UserError` where a box has no voxels or more than memory holds."""
    if box < 1 or box != int(box):
        raise UserError(f"{option}: got {box}, wanted a whole number of voxels above zero")
    if box > LARGEST_BOX:
        raise UserError(
            f"{option}: got {box} voxels an edge, {4 * box**3 / 1e9:.3g} GB; "
            f"wanted {LARGEST_BOX} or less (28 to 128 is usual)"
        )


def gaussian_width(resolution: float) -> float:
    """Return w in angstrom of exp(-r^2 / w^2)."""
    return resolution / np.pi

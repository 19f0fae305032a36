"""Atoms to density map: one Gaussian per atom, weighted by its atomic number.

The map is defined as in EMAN2's e2pdb2mrc.py, see `simulate`.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryoetgan.errors import UserError

Floats = NDArray[np.floating]
Factors = NDArray[np.float32]
CUTOFF_WIDTHS = 4.01473
"""Kernel radius in units of w: the Gaussian has fallen to 1e-7."""
MIN_BLOCK_VOXELS = 3
"""Edge of a block; the atoms of one block share one matrix product (measured optimum)."""
CHUNK_ATOMS = 1 << 16
"""Atoms whose Gaussian factors are held in memory together."""
MAX_PRODUCT_VALUES = 1 << 24
"""Values held in memory for the factors of a chunk, and for one matrix product."""
MAX_RESOLUTION_BOXES = 4
"""Resolution over the edge of the box, above which a map is only a slope."""
MAX_BOX = 512
HEAVY_ATOM_DENSITY = 0.38
"""Electrons per cubic angstrom of protein without hydrogens, as in maps of `simulate`."""
EMAN2_TABLE_STEPS = 1000
"""Steps per voxel of the table in which EMAN2 looks up the Gaussian."""


def simulate(
    positions: ArrayLike,
    atomic_numbers: ArrayLike,
    voxel_size: float,
    resolution: float,
    box: int,
    eman2_compatible: bool = False,
) -> NDArray[np.float32]:
    """Return the density map of atoms, `(z, y, x)` float32, not normalised.

    density(r) = sum over atoms of Z exp(-|r - r_atom|^2 / w^2), with w = resolution / pi, as in
    EMAN2's e2pdb2mrc.py. Atoms outside the box contribute the part that reaches into it.

    Parameters
    ----------
    positions : array_like
        `(N, 3)` xyz in angstrom; the origin lies at voxel `box // 2`.
    atomic_numbers : array_like
        `(N,)` the weights Z.
    voxel_size, resolution : float
        Angstrom.
    box : int
        Edge in voxels.
    eman2_compatible : bool
        Use EMAN2's window, which is one voxel shorter on the upper side, and the steps of
        its table.

    Notes
    -----
    The Gaussian is separable. The sum over the atoms of one block of voxels is therefore one
    matrix product of their z factors with their y x factors.

    Examples
    --------
    One carbon atom at the origin; the next voxel is one angstrom away:

    >>> density = simulate([[0, 0, 0]], [6], voxel_size=1.0, resolution=3.0, box=9)
    >>> float(density[4, 4, 4])
    6.0
    >>> round(float(density[4, 4, 5]), 4)
    2.004
    """
    atoms = np.asarray(positions, np.float64).reshape(-1, 3)
    weights = np.asarray(atomic_numbers, np.float64).ravel()
    _check(atoms, weights, voxel_size, resolution, box)
    box = int(box)
    width = gaussian_width(resolution) / voxel_size  # voxels
    if eman2_compatible:
        below = max(1, int(CUTOFF_WIDTHS * width))
        above = below - 1
    else:
        below, above = int(np.floor(CUTOFF_WIDTHS * width)), int(np.ceil(CUTOFF_WIDTHS * width))
    centres = atoms / voxel_size + box // 2
    first = (np.trunc if eman2_compatible else np.floor)(centres)
    near = ((first + above >= 0) & (first - below < box)).all(axis=1)
    if not near.all():
        centres, first, weights = centres[near], first[near], weights[near]

    block = max(MIN_BLOCK_VOXELS, above // 2)
    window = below + 1 + above + block - 1  # voxels that the atoms of one block reach
    blocks = (first + above).astype(int) // block
    order = _sort_by_block(blocks)
    low = (blocks * block - above - below)[order]  # first of these voxels
    centres, weights = centres[order], weights[order].astype(np.float32)
    density = np.zeros((box,) * 3)
    chunk = max(1, min(CHUNK_ATOMS, MAX_PRODUCT_VALUES // (3 * window)))
    for start in range(0, len(order), chunk):
        chosen = slice(start, start + chunk)
        if eman2_compatible:
            factors = _eman2_gaussian_factors(centres[chosen], low[chosen], window, width, below)
        else:
            factors = _gaussian_factors(centres[chosen], low[chosen], window, width)
        factors[:, 2] *= weights[chosen, None]
        _add_blocks(density, factors, low[chosen])
    return density.astype(np.float32)


def _sort_by_block(blocks: NDArray[np.int_]) -> NDArray[np.intp]:
    """Return the order in which the atoms of one block follow each other."""
    size = int(blocks.max(initial=0)) + 1
    keys = (blocks[:, 2] * size + blocks[:, 1]) * size + blocks[:, 0]
    if size**3 < 1 << 16:
        keys = keys.astype(np.uint16)  # radix sort takes a tenth of the time
    return np.argsort(keys, kind="stable")


def _gaussian_factors(centres: Floats, low: NDArray[np.int_], window: int, width: float) -> Factors:
    """Return the one-dimensional Gaussians `(atom, axis, voxel)`, from voxel `low` of each atom."""
    # relative to its window a coordinate is small, so float32 is exact to 1e-6
    near = (centres - low).astype(np.float32)
    distance = np.arange(window, dtype=np.float32) - near[:, :, None]
    distance *= distance
    distance *= np.float32(-1 / width**2)
    return np.exp(distance, out=distance)


def _eman2_gaussian_factors(
    centres: Floats, low: NDArray[np.int_], window: int, width: float, reach: int
) -> Factors:
    """Return `_gaussian_factors` with EMAN2's window, distances floored to its table's steps."""
    # double precision as in EMAN2: round coordinates lie on the steps
    exact = (low[:, :, None] + np.arange(window)) - centres[:, :, None]
    np.abs(exact, out=exact)
    exact *= EMAN2_TABLE_STEPS
    distance = np.floor(exact, out=exact).astype(np.float32)
    distance *= np.float32(1 / EMAN2_TABLE_STEPS)
    distance *= distance
    distance *= np.float32(-1 / width**2)
    factors = np.exp(distance, out=distance)
    # EMAN2's window is [first - reach, first + reach)
    first = (np.trunc(centres) - low).astype(np.float32)
    voxels = np.arange(window, dtype=np.float32) - first[:, :, None]
    voxels += 0.5
    np.abs(voxels, out=voxels)
    np.copyto(factors, 0, where=voxels > reach)
    return factors


def _add_blocks(density: Floats, factors: Factors, low: NDArray[np.int_]) -> None:
    """Add the atoms of each run of equal `low` (x, y, z of the window) as one product."""
    window, box = factors.shape[2], len(density)
    edges = np.flatnonzero((low[1:] != low[:-1]).any(axis=1)) + 1
    starts = [0, *edges.tolist()]
    for start, end, corner in zip(
        starts, [*starts[1:], len(low)], low[starts].tolist(), strict=True
    ):
        x, y, z = factors[start:end].transpose(1, 0, 2)
        if min(corner) < 0 or max(corner) + window > box:
            # voxels outside the box are not computed
            x, y, z = (
                axis[:, max(-at, 0) : box - at] for axis, at in zip((x, y, z), corner, strict=True)
            )
        i, j, k = (max(at, 0) for at in corner)
        into = density[k : k + z.shape[1], j : j + y.shape[1], i : i + x.shape[1]]
        batch = max(1, MAX_PRODUCT_VALUES // max(1, into[0].size))
        for at in range(0, end - start, batch):
            atoms = slice(at, at + batch)
            plane = (y[atoms, :, None] * x[atoms, None, :]).reshape(len(x[atoms]), -1)
            into += (z[atoms].T @ plane).reshape(into.shape)


def _check(atoms: Floats, weights: Floats, voxel_size: float, resolution: float, box: int) -> None:
    for name, value in (("voxel size", voxel_size), ("resolution", resolution), ("box", box)):
        if not 0 < value < np.inf:
            raise UserError(f"{name} is {value}; wanted a number above zero")
    check_box(box)
    if resolution > MAX_RESOLUTION_BOXES * box * voxel_size:
        raise UserError(
            f"resolution is {resolution:g} A, but the box is only {box * voxel_size:g} A wide; "
            "lower the resolution (30 to 40 A is usual) or enlarge the box"
        )
    if not len(atoms):
        raise UserError("got no atoms to simulate a density from")
    if len(weights) != len(atoms):
        raise UserError(f"got {len(atoms)} positions, but {len(weights)} atomic numbers")
    if not (np.isfinite(atoms).all() and np.isfinite(weights).all()):
        raise UserError("an atom has a coordinate or weight that is not a number")


def check_box(box: int, option: str = "box") -> None:
    """Raise `UserError` if a box has no voxels, or more than `MAX_BOX` along an edge."""
    if box < 1 or box != int(box):
        raise UserError(f"{option}: got {box}, wanted a whole number of voxels above zero")
    if box > MAX_BOX:
        raise UserError(
            f"{option}: got {box} voxels an edge, {4 * box**3 / 1e9:.3g} GB; "
            f"wanted {MAX_BOX} or less (28 to 128 is usual)"
        )


def gaussian_width(resolution: float) -> float:
    """Return w = resolution / pi in angstrom, of the Gaussian exp(-r^2 / w^2)."""
    return resolution / np.pi


def gaussian_integral(width: float) -> float:
    """Return pi^1.5 w^3 in cubic angstrom, the integral of exp(-r^2 / w^2).

    A map of `simulate` has this many times the electrons per cubic angstrom.
    """
    return float(np.pi**1.5 * width**3)


def protein_density(resolution: float) -> float:
    """Return the value of a map of `simulate` far inside protein."""
    return HEAVY_ATOM_DENSITY * gaussian_integral(gaussian_width(resolution))

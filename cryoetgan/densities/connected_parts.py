"""Split atoms into particles: parts that are separated, or joined only by a thin neck."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from cryoetgan.densities.density_from_atoms import simulate

Floats = NDArray[np.float64]
Labels = NDArray[np.int_]
GAP_A = 8.0
"""Angstrom without an atom that separate two parts."""
NECK_VOXEL_A = 8.0
"""Angstrom; voxel size of the map in which necks are found, at twice that resolution."""
NECK_NODES = 5000
"""Approximate number of filled voxels; a larger particle gets larger voxels."""
ATOM_VOLUME_A3 = 18.0
"""Cubic angstrom per heavy atom of a protein."""
MAX_NECK_BOX = 200
"""Voxels; in a larger box the atoms are too scattered to have a neck."""
MAX_NECK_THINNESS = 0.25
"""Cross-section of a neck over (volume of the smaller part)^(2/3).

Measured: two TRiC in crystal contact 0.18, a receptor dimer with Fabs 0.34, the rings of GroEL
0.69, all other complexes 0.8 or more.
"""
MIN_PART_FRACTION = 0.2
"""Smallest fraction of the mass on either side of a neck."""
MAX_GAP_CELLS = 1 << 27
"""Cells of the grid in which gaps are found."""


def split_at_gaps(positions: Floats) -> tuple[Labels, list[int]]:
    """Find the parts of atoms `(N, 3)`, xyz in angstrom, that are separated by gaps.

    Returns the number of each atom's part `(N,)`, 0 the largest, and the atoms of each part. Parts
    more than `GAP_A` apart along one axis get different numbers; parts closer than half of it
    never do.
    """
    cells = np.floor((positions - positions.min(axis=0)) / (GAP_A / 2)).astype(np.int64)
    shape = cells.max(axis=0) + 1
    if shape.prod() > MAX_GAP_CELLS:  # few atoms in a large space: a coarser grid will do
        cells //= int(np.ceil((shape.prod() / MAX_GAP_CELLS) ** (1 / 3)))
        shape = cells.max(axis=0) + 1
    occupied = np.zeros(shape, bool)
    occupied[tuple(cells.T)] = True
    labelled, _ = ndimage.label(occupied, structure=np.ones((3, 3, 3)))
    return rank_labels(labelled[tuple(cells.T)])


def rank_labels(labels: Labels) -> tuple[Labels, list[int]]:
    """Return labels renumbered by frequency, 0 the most frequent, and the frequencies.

    Examples
    --------
    >>> labels, sizes = rank_labels(np.array([7, 3, 3, 3, 7, 9]))
    >>> labels.tolist(), sizes
    ([1, 0, 0, 0, 1, 2], [3, 2, 1])
    """
    _, found, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty(len(sizes), int)
    rank[order] = np.arange(len(sizes))
    return rank[found], [int(size) for size in sizes[order]]


def split_at_neck(positions: Floats, atomic_numbers: Labels, chains: Labels) -> Labels | None:
    """Split a body at its thinnest neck; return 0 or 1 for each atom, or None without a neck.

    Parameters
    ----------
    positions : ndarray
        `(N, 3)` xyz in angstrom.
    atomic_numbers, chains : ndarray
        `(N,)` Z, and a number for each chain; chains are not split.

    Notes
    -----
    The voxels of a low-resolution map are the nodes of a graph. The edge between two neighbours
    has the lower of their densities as weight. The second eigenvector of the normalised
    Laplacian orders the nodes along the body, and the neck is the position in this order with
    the smallest cut (Shi and Malik 2000, doi 10.1109/34.868688).
    """
    size = max(NECK_VOXEL_A, (ATOM_VOLUME_A3 * len(positions) / NECK_NODES) ** (1 / 3))
    middle = (positions.max(axis=0) + positions.min(axis=0)) / 2
    box = int(np.ptp(positions, axis=0).max() / size) + 8
    if box > MAX_NECK_BOX:
        return None
    density = simulate(positions - middle, atomic_numbers, size, 2 * size, box).astype(float)
    typical = float(np.median(density[density > 0.05 * density.max()]))
    body, _ = ndimage.label(density > 0.02 * typical)
    body = body == np.argmax(np.bincount(body[body > 0]))
    order, cut = _ordered_cut(density, body)
    mass = np.cumsum(density[body][order])
    smaller = np.minimum(mass, mass[-1] - mass)
    allowed = smaller > MIN_PART_FRACTION * mass[-1]
    if not allowed.any():
        return None
    # both in voxels of typical density: an area over a volume to the 2/3
    thinness = (cut / typical)[allowed] / (smaller / typical)[allowed] ** (2 / 3)
    best = int(np.argmin(thinness))
    if thinness[best] > MAX_NECK_THINNESS:
        return None
    side = np.zeros(len(order), int)
    side[order[: np.flatnonzero(allowed)[best] + 1]] = 1
    sides = np.zeros(density.shape, int)
    sides[body] = 2 * side - 1
    voxel = np.rint((positions - middle)[:, ::-1] / size).astype(int) + box // 2
    votes = np.bincount(chains, sides[tuple(voxel.T)])
    return (votes > 0).astype(int)[chains]


def _ordered_cut(density: Floats, body: NDArray[np.bool_]) -> tuple[Labels, Floats]:
    """Return the nodes in the order of the second eigenvector, and the cut after each node."""
    from scipy.sparse.linalg import eigsh

    count = int(body.sum())
    index = np.full(density.shape, -1)
    index[body] = np.arange(count)
    pairs, weights = [], []
    for axis in range(3):
        near, far = (np.moveaxis(index, axis, 0)[part] for part in (slice(-1), slice(1, None)))
        lower = np.minimum(
            *(np.moveaxis(density, axis, 0)[part] for part in (slice(-1), slice(1, None)))
        )
        joined = (near >= 0) & (far >= 0)
        pairs.append(np.stack([near[joined], far[joined]]))
        weights.append(lower[joined])
    (one, other), weight = np.concatenate(pairs, axis=1), np.concatenate(weights)
    graph = sparse.coo_matrix((weight, (one, other)), shape=(count, count)).tocsr()
    graph = graph + graph.T
    degree = np.asarray(graph.sum(axis=1)).ravel()
    scale = sparse.diags(1 / np.sqrt(degree))
    # the largest eigenvalues of I - L are the smallest of L; a fixed start vector makes the
    # result reproducible
    _, vectors = eigsh((scale @ graph @ scale).tocsr(), 2, which="LA", v0=degree + 1, tol=1e-4)
    order = np.argsort(vectors[:, 0] / np.sqrt(degree), kind="stable")
    rank = np.empty(count, int)
    rank[order] = np.arange(count)
    change = np.bincount(np.minimum(rank[one], rank[other]), weight, count)
    change -= np.bincount(np.maximum(rank[one], rank[other]), weight, count)
    return order, np.cumsum(change)

"""Whether the atoms are one particle: parts that lie apart, or touch by a thin neck only."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from cryoetgan.densities.density_from_atoms import simulate

Floats = NDArray[np.float64]
Labels = NDArray[np.int_]
GAP = 8.0
"""Angstrom without an atom that separates two parts."""
NECK_VOXEL = 8.0
"""Angstrom; grid on which necks are looked for, at twice that resolution."""
NECK_NODES = 5000
"""Voxels filled by atoms, about: a larger particle gets a coarser grid."""
VOLUME_OF_ATOM = 18.0
"""Cubic angstrom that a heavy atom of a protein takes."""
NECK = 0.25
"""Cross-section of a neck over (volume of the smaller part)^(2/3). Of the complexes measured,
two TRiC in crystal contact come to 0.18, a receptor dimer with Fabs to 0.34, the rings of
GroEL to 0.69, all others to 0.8 and more."""
SMALLER_PART = 0.2
"""Least share of the mass that either side of a neck holds."""


def gaps(positions: Floats) -> tuple[Labels, list[int]]:
    """Find the parts that lie apart.

    Parameters
    ----------
    positions : ndarray
        `(N, 3)` angstrom.

    Returns
    -------
    labels : ndarray
        `(N,)` number of each atom's part, 0 the largest. Parts more than `GAP` apart on
        some axis are told apart, parts closer than half of it never.
    sizes : list of int
        Atoms of each part.
    """
    cells = np.floor((positions - positions.min(axis=0)) / (GAP / 2)).astype(np.int64)
    shape = cells.max(axis=0) + 1
    if shape.prod() > 1 << 27:  # few atoms strewn over a large space: a coarser grid will do
        cells //= int(np.ceil((shape.prod() / (1 << 27)) ** (1 / 3)))
        shape = cells.max(axis=0) + 1
    occupied = np.zeros(shape, bool)
    occupied[tuple(cells.T)] = True
    labelled, _ = ndimage.label(occupied, structure=np.ones((3, 3, 3)))
    return ranked(labelled[tuple(cells.T)])


def ranked(labels: Labels) -> tuple[Labels, list[int]]:
    """Return labels renamed so that 0 is the most frequent, and how often each occurs."""
    _, found, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty(len(sizes), int)
    rank[order] = np.arange(len(sizes))
    return rank[found], [int(size) for size in sizes[order]]


def neck(positions: Floats, atomic_numbers: Labels, chains: Labels) -> Labels | None:
    """Divide a body at its thinnest neck.

    Parameters
    ----------
    positions : ndarray
        `(N, 3)` angstrom.
    atomic_numbers, chains : ndarray
        `(N,)` Z, and a number for each chain; chains are kept whole.

    Returns
    -------
    ndarray or None
        `(N,)` 0 or 1; None where no neck is thinner than `NECK`.

    Notes
    -----
    Voxels of a low-resolution map are the nodes of a graph, neighbours joined by the lower
    of their densities. The second eigenvector of its normalised Laplacian orders the nodes
    along the body; the neck is where cutting them in this order cuts least (Shi and Malik
    2000, doi 10.1109/34.868688).
    """
    size = max(NECK_VOXEL, (VOLUME_OF_ATOM * len(positions) / NECK_NODES) ** (1 / 3))
    middle = (positions.max(axis=0) + positions.min(axis=0)) / 2
    box = int(np.ptp(positions, axis=0).max() / size) + 8
    if box > 200:
        return None  # strewn atoms: gaps have been looked for
    density = simulate(positions - middle, atomic_numbers, size, 2 * size, box).astype(float)
    typical = float(np.median(density[density > 0.05 * density.max()]))
    body, _ = ndimage.label(density > 0.02 * typical)
    body = body == np.argmax(np.bincount(body[body > 0]))
    order, cut = _ordered_cut(density, body)
    mass = np.cumsum(density[body][order])
    smaller = np.minimum(mass, mass[-1] - mass)
    allowed = smaller > SMALLER_PART * mass[-1]
    if not allowed.any():
        return None
    # both in voxels of typical density: an area over a volume to the 2/3
    thinness = (cut / typical)[allowed] / (smaller / typical)[allowed] ** (2 / 3)
    best = int(np.argmin(thinness))
    if thinness[best] > NECK:
        return None
    side = np.zeros(len(order), int)
    side[order[: np.flatnonzero(allowed)[best] + 1]] = 1
    sides = np.zeros(density.shape, int)
    sides[body] = 2 * side - 1
    voxel = np.rint((positions - middle)[:, ::-1] / size).astype(int) + box // 2
    votes = np.bincount(chains, sides[tuple(voxel.T)])
    return (votes > 0).astype(int)[chains]


def _ordered_cut(density: Floats, body: NDArray[np.bool_]) -> tuple[Labels, Floats]:
    """Return the nodes in the order of the second eigenvector, and the cut after each."""
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
    # the largest of I - L are the smallest of L; a fixed start: the same atoms, the same answer
    _, vectors = eigsh((scale @ graph @ scale).tocsr(), 2, which="LA", v0=degree + 1, tol=1e-4)
    order = np.argsort(vectors[:, 0] / np.sqrt(degree), kind="stable")
    rank = np.empty(count, int)
    rank[order] = np.arange(count)
    change = np.bincount(np.minimum(rank[one], rank[other]), weight, count)
    change -= np.bincount(np.maximum(rank[one], rank[other]), weight, count)
    return order, np.cumsum(change)

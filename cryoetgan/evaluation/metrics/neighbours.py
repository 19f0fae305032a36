"""Precision, recall, density, coverage: who lies in whose neighbourhood."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
BLOCK = 2048


def prdc(real_features: ArrayLike, generated_features: ArrayLike, k: int = 5) -> dict[str, float]:
    """Return precision, recall (arXiv 1904.06991), density and coverage (arXiv 2002.09797).

    Parameters
    ----------
    real_features, generated_features : array_like
        `(N, F)` and `(M, F)`, more than k rows each.
    k : int
        A sample's ball reaches to its k-th nearest neighbour in its own set.

    Returns
    -------
    dict
        precision, recall, coverage in [0, 1]; density in [0, N / k]. A density near N / k
        says that the generated samples vary too little, not that they are good.

    Notes
    -----
    Paper, equations 9 to 12. Distances are computed block by block: memory does not grow
    with N M.
    """
    # one origin for both: distances between large numbers lose digits in float32
    real = np.asarray(real_features, np.float32)
    fake = np.asarray(generated_features, np.float32)
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"prdc with k = {k} needs more than {k} samples of each set")
    centre = real.mean(axis=0)
    real, fake = real - centre, fake - centre
    real_radii, fake_radii = _radii(real, k), _radii(fake, k)
    inside_real = np.zeros(len(fake), np.int64)
    covered = np.zeros(len(real), bool)
    recalled = np.zeros(len(real), bool)
    for start in range(0, len(real), BLOCK):
        rows = slice(start, start + BLOCK)
        nearest = np.full(len(real[rows]), np.inf, np.float32)
        for first in range(0, len(fake), BLOCK):
            columns = slice(first, first + BLOCK)
            square = _squares(real[rows], fake[columns])
            inside_real[columns] += (square < real_radii[rows, None]).sum(axis=0)
            recalled[rows] |= (square < fake_radii[None, columns]).any(axis=1)
            nearest = np.minimum(nearest, square.min(axis=1))
        covered[rows] = nearest < real_radii[rows]
    return {
        "precision": float((inside_real > 0).mean()),
        "recall": float(recalled.mean()),
        "density": float(inside_real.sum() / (k * len(fake))),
        "coverage": float(covered.mean()),
    }


def _squares(a: Floats, b: Floats) -> Floats:
    """Return squared distances `(N, M)`."""
    square = a @ b.T
    square *= -2
    square += (a**2).sum(axis=1)[:, None]
    square += (b**2).sum(axis=1)[None]
    return np.maximum(square, 0, out=square)


def _radii(x: Floats, k: int) -> Floats:
    """Return the squared distance of each sample to its k-th nearest other one."""
    radii = np.empty(len(x), np.float32)
    for start in range(0, len(x), BLOCK):
        square = _squares(x[start : start + BLOCK], x)
        index = np.arange(len(square))
        square[index, start + index] = -1  # itself comes first, whatever rounding says
        radii[start : start + BLOCK] = np.partition(square, k, axis=1)[:, k]
    return radii

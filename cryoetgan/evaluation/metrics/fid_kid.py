"""Distances between two sets of features: FID and KID."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
BLOCK = 1024
ROUNDINGS, LARGEST_ERROR = 4, 1e-10
"""Of eigenvalues; the relative error allowed, a bound that is hundreds of times what it is."""


def fid(real_features: ArrayLike, generated_features: ArrayLike) -> float:
    """Return the Frechet distance of two Gaussians fitted to features (doi 10.48550/arXiv.1706.08500).

    Parameters
    ----------
    real_features, generated_features : array_like
        `(N, F)` and `(M, F)`, two rows or more each.

    Returns
    -------
    float
        Zero or more; lower is closer. Biased upwards at small N: compare at equal N, with
        the value of one half of the real set against the other.

    Notes
    -----
    tr sqrt(Sr Sg) is the nuclear norm of Xr Xg^T over sqrt((N - 1)(M - 1)), X centred: an
    N x M matrix instead of F x F square roots. Where F is smaller, that of the product of
    the two R factors is taken.

    Examples
    --------
    >>> fid([[0.0], [2.0]], [[3.0], [5.0]])
    9.0
    """
    real, fake = _centred(real_features), _centred(generated_features)
    (a, mean_a), (b, mean_b) = real, fake
    scale = np.sqrt((len(a) - 1) * (len(b) - 1))
    if a.shape[1] < min(len(a), len(b)):
        a_small = np.asarray(np.linalg.qr(a, mode="r"))
        b_small = np.asarray(np.linalg.qr(b, mode="r"))
        nuclear = nuclear_norm(a_small @ b_small.T)
    else:  # both are centred: one singular value is nought
        nuclear = nuclear_norm(a @ b.T, nought=1)
    trace = (a**2).sum() / (len(a) - 1) + (b**2).sum() / (len(b) - 1)
    value = ((mean_a - mean_b) ** 2).sum() + trace - 2 * nuclear / scale
    return float(max(value, 0.0))


def nuclear_norm(matrix: Floats, nought: int = 0) -> float:
    """Return the sum of a matrix's singular values.

    As roots of the eigenvalues of its square, in half the time of a decomposition, where their
    errors (four roundings of the largest, over twice the root) cannot matter; else, as for sets
    that hardly vary, of the matrix itself.

    Parameters
    ----------
    matrix : ndarray
        `(N, M)`.
    nought : int
        How many are known to be nought.
    """
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    squares = np.linalg.eigvalsh(short @ short.T)[nought:]
    if len(squares) and squares[-1] > 0:
        rounding = ROUNDINGS * np.finfo(float).eps * squares[-1]
        roots = np.sqrt(np.maximum(squares, 0))
        errors = np.sqrt(rounding) * np.minimum(np.sqrt(rounding) / (2 * roots + 1e-300), 1)
        if errors.sum() <= LARGEST_ERROR * roots.sum():
            return float(roots.sum())
    return float(np.linalg.svd(matrix, compute_uv=False).sum())


def _centred(features: ArrayLike) -> tuple[Floats, Floats]:
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"features have shape {x.shape}; wanted (N, F) with N of 2 or more")
    mean = x.mean(axis=0)
    return x - mean, mean


def kid(real_features: ArrayLike, generated_features: ArrayLike) -> float:
    """Return the kernel distance: unbiased squared MMD, kernel (x.y / F + 1)^3 (arXiv 1801.01401).

    Parameters
    ----------
    real_features, generated_features : array_like
        `(N, F)` and `(M, F)`, two rows or more each.

    Returns
    -------
    float
        About zero for equal distributions (it may be slightly negative); lower is closer.
    """
    x = np.asarray(real_features, np.float64)
    y = np.asarray(generated_features, np.float64)
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError("KID needs two features or more of each set")
    within_x = (_kernel_sum(x, x) - _kernel_trace(x)) / (n * (n - 1))
    within_y = (_kernel_sum(y, y) - _kernel_trace(y)) / (m * (m - 1))
    return float(within_x + within_y - 2 * _kernel_sum(x, y) / (n * m))


def _kernel_sum(a: Floats, b: Floats) -> float:
    """Return the sum of the kernel over all pairs, block by block."""
    total = 0.0
    for i in range(0, len(a), BLOCK):
        for j in range(0, len(b), BLOCK):
            total += float(((a[i : i + BLOCK] @ b[j : j + BLOCK].T / a.shape[1] + 1) ** 3).sum())
    return total


def _kernel_trace(a: Floats) -> float:
    return float(((np.einsum("ij,ij->i", a, a) / a.shape[1] + 1) ** 3).sum())

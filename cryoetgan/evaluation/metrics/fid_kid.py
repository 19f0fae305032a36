"""Distances between two sets of features: FID (paper, eq. 7) and KID."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def fid(real_features: ArrayLike, generated_features: ArrayLike) -> float:
    """Return the Frechet inception distance (doi 10.48550/arXiv.1706.08500).

    Paper, eq. 7: FID = |mu_r - mu_g|^2 + Tr(S_r + S_g - 2 (S_r S_g)^(1/2))

    mu and S are the mean and the covariance of the real (r) and generated (g) features.

    Parameters
    ----------
    real_features, generated_features : array_like
        `(N, F)` and `(M, F)`, at least two rows each.

    Returns
    -------
    float
        Zero or more; lower is closer. FID is biased upwards if N is small: compare only
        values of equal N, and with the FID between two halves of the real set.

    Notes
    -----
    Tr((S_r S_g)^(1/2)) is computed as the nuclear norm (sum of singular values) of
    X_r X_g^T / sqrt((N - 1)(M - 1)), where X are the centred features. This needs an
    N x M matrix instead of the square root of an F x F matrix. If F is smaller than N and
    M, the triangular factors R of the QR decompositions replace X: they have the same
    products.

    Examples
    --------
    >>> fid([[0.0], [2.0]], [[3.0], [5.0]])
    9.0
    """
    (x_r, mu_r), (x_g, mu_g) = _centre(real_features), _centre(generated_features)
    n, m = len(x_r) - 1, len(x_g) - 1
    if x_r.shape[1] < min(len(x_r), len(x_g)):
        r_r = np.asarray(np.linalg.qr(x_r, mode="r"))
        r_g = np.asarray(np.linalg.qr(x_g, mode="r"))
        norm = nuclear_norm(r_r @ r_g.T)
    else:  # both are centred, so one singular value is zero
        norm = nuclear_norm(x_r @ x_g.T, n_zero=1)
    trace_of_root = norm / np.sqrt(n * m)
    trace_of_sum = (x_r**2).sum() / n + (x_g**2).sum() / m
    value = ((mu_r - mu_g) ** 2).sum() + trace_of_sum - 2 * trace_of_root
    return float(max(value, 0.0))


def _centre(features: ArrayLike) -> tuple[Floats, Floats]:
    """Return features minus their mean `(N, F)`, and the mean `(F,)`."""
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"features have shape {x.shape}; wanted (N, F) with N of 2 or more")
    mean = x.mean(axis=0)
    return x - mean, mean


def nuclear_norm(matrix: Floats, n_zero: int = 0, largest_error: float = 1e-10) -> float:
    """Return the sum of the singular values of a matrix `(N, M)`.

    The singular values are the square roots of the eigenvalues of M M^T, which take half
    the time. The root of a small eigenvalue is inexact: its error is about four times the
    rounding of the largest eigenvalue, divided by twice the root. If the errors add up to
    more than the relative `largest_error`, as for sets with hardly any variance, the
    singular values of the matrix are computed. `n_zero` of them are known to be zero.
    """
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    eigenvalues = np.linalg.eigvalsh(short @ short.T)[n_zero:]
    if len(eigenvalues) and eigenvalues[-1] > 0:
        rounding = 4 * np.finfo(float).eps * eigenvalues[-1]
        roots = np.sqrt(np.maximum(eigenvalues, 0))
        errors = np.sqrt(rounding) * np.minimum(np.sqrt(rounding) / (2 * roots + 1e-300), 1)
        if errors.sum() <= largest_error * roots.sum():
            return float(roots.sum())
    return float(np.linalg.svd(matrix, compute_uv=False).sum())


def kid(real_features: ArrayLike, generated_features: ArrayLike, block: int = 1024) -> float:
    """Return the kernel inception distance (doi 10.48550/arXiv.1801.01401).

    KID is the unbiased squared maximum mean discrepancy with the kernel (x.y / F + 1)^3 of
    features `(N, F)` and `(M, F)`. It is about zero for equal distributions (it can be slightly
    negative); lower is closer. `block` rows and columns of the kernel matrix are in memory at a
    time.
    """
    x = np.asarray(real_features, np.float64)
    y = np.asarray(generated_features, np.float64)
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError("KID needs two features or more of each set")
    within_x = (_kernel_sum(x, x, block) - _kernel_trace(x)) / (n * (n - 1))
    within_y = (_kernel_sum(y, y, block) - _kernel_trace(y)) / (m * (m - 1))
    return float(within_x + within_y - 2 * _kernel_sum(x, y, block) / (n * m))


def _kernel_sum(a: Floats, b: Floats, block: int) -> float:
    """Return the sum of the kernel over all pairs."""
    total = 0.0
    for i in range(0, len(a), block):
        for j in range(0, len(b), block):
            total += float(((a[i : i + block] @ b[j : j + block].T / a.shape[1] + 1) ** 3).sum())
    return total


def _kernel_trace(a: Floats) -> float:
    return float(((np.einsum("ij,ij->i", a, a) / a.shape[1] + 1) ** 3).sum())

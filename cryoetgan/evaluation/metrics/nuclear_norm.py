"""The nuclear norm of a matrix, faster than by its singular value decomposition."""

import numpy as np
from numpy.typing import NDArray


def nuclear_norm(
    matrix: NDArray[np.float64], n_zero: int = 0, largest_error: float = 1e-10
) -> float:
    """Return the sum of the singular values of a matrix.

    The singular values are the square roots of the eigenvalues of M M^T, which take half
    the time. The root of a small eigenvalue is inexact: its error is about four times the
    rounding of the largest eigenvalue, divided by twice the root. If the errors add up to
    more than `largest_error`, as for sets with hardly any variance, the singular values of
    the matrix are computed.

    Parameters
    ----------
    matrix : ndarray
        `(N, M)`.
    n_zero : int
        Number of singular values known to be zero.
    largest_error : float
        Largest relative error; the actual error is hundreds of times smaller.
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

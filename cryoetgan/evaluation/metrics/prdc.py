"""Precision, recall, density and coverage of generated features (paper, eq. 8 to 12)."""

import numpy as np
from numpy.typing import ArrayLike

from cryoetgan.evaluation.metrics.neighbours import BLOCK, count_in_balls


def prdc(
    real_features: ArrayLike,
    generated_features: ArrayLike,
    k: int = 5,
    block: int = BLOCK,
) -> dict[str, float]:
    """Return precision, recall, density and coverage.

    X_i are the N real features, Y_j the M generated ones. B(X_i, NND_k(X_i)) is the ball
    around X_i that reaches to its k-th nearest neighbour among the real features.

    - Paper, eq. 8: manifold(X) = union over i of B(X_i, NND_k(X_i))
    - Paper, eq. 9: precision = 1/M sum_j 1[Y_j in manifold(X)]
    - Paper, eq. 10: recall = 1/N sum_i 1[X_i in manifold(Y)]
    - Paper, eq. 11: density = 1/(k M) sum_j sum_i 1[Y_j in B(X_i, NND_k(X_i))]
    - Paper, eq. 12: coverage = 1/N sum_i 1[there is a j with Y_j in B(X_i, NND_k(X_i))]

    Parameters
    ----------
    real_features, generated_features : array_like
        `(N, F)` and `(M, F)`, more than k rows each.
    k : int
        Rank of the neighbour that sets the radius of a ball.
    block : int
        Rows of the distance matrix held in memory at a time.

    Returns
    -------
    dict
        precision, recall, coverage in [0, 1]; density in [0, N / k]. A density near N / k
        does not mean high quality: the generated samples vary too little.

    References
    ----------
    Precision and recall: doi 10.48550/arXiv.1904.06991. Density and coverage:
    doi 10.48550/arXiv.2002.09797.

    Examples
    --------
    >>> found = prdc([[0.0], [1.0], [3.0]], [[0.5], [4.5], [9.0]], k=1)
    >>> {name: round(value, 2) for name, value in found.items()}
    {'precision': 0.67, 'recall': 1.0, 'density': 1.0, 'coverage': 1.0}
    """
    real, fake = np.asarray(real_features), np.asarray(generated_features)
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"features have shapes {real.shape} and {fake.shape}; wanted (N, F) (M, F)"
        )
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"prdc with k = {k} needs more than {k} samples of each set")
    found = count_in_balls(real, fake, k, block)
    return {
        "precision": float((found.real_balls_around_fake > 0).mean()),
        "recall": float(found.real_in_fake_manifold.mean()),
        "density": float(found.real_balls_around_fake.sum() / (k * len(fake))),
        "coverage": float(found.real_ball_has_fake.mean()),
    }

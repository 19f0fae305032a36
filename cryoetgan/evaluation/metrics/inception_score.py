"""The inception score (paper, eq. 6)."""

import numpy as np
from numpy.typing import ArrayLike


def inception_score(probabilities: ArrayLike) -> float:
    """Return the inception score (doi 10.48550/arXiv.1606.03498).

    Paper, eq. 6: IS = exp( E_x KL( p(y|x) || p(y) ) )

    x is a generated volume, p(y|x) its class probabilities, p(y) their mean over x.

    Parameters
    ----------
    probabilities : array_like
        `(N, K)` class probabilities p(y|x); rows sum to one.

    Returns
    -------
    float
        1 if all rows are equal, K if each row is certain and all classes are equally frequent.

    Examples
    --------
    >>> inception_score([[1.0, 0.0], [0.0, 1.0]])
    2.0
    """
    p = np.asarray(probabilities, np.float64)
    mean = p.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - np.log(mean)), 0.0)  # (N, K)
    divergence = terms.sum(axis=1)
    return float(np.exp(divergence.mean()))

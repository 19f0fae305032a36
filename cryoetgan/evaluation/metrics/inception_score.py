"""Metrics of classifier outputs: inception score and area under the ROC curve."""

import numpy as np
from numpy.typing import ArrayLike


def inception_score(probabilities: ArrayLike) -> float:
    """Return exp of the mean KL divergence from each row to the mean row (arXiv 1606.03498).

    Parameters
    ----------
    probabilities : array_like
        `(N, K)`, rows sum to one.

    Returns
    -------
    float
        1 (every row alike) to K (sure, and all classes equally often).

    Examples
    --------
    >>> inception_score([[1.0, 0.0], [0.0, 1.0]])
    2.0
    """
    p = np.asarray(probabilities, np.float64)
    mean = p.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - np.log(mean)), 0.0)
    return float(np.exp(terms.sum(axis=1).mean()))


def auc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Return the chance that a positive scores above a negative; ties count half.

    Parameters
    ----------
    scores : array_like
        `(N,)`.
    positive : array_like of bool
        `(N,)`.
    """
    from scipy.stats import rankdata

    values, wanted = np.asarray(scores, float), np.asarray(positive, bool)
    n, m = int(wanted.sum()), int((~wanted).sum())
    if not n or not m:
        raise ValueError("AUC needs positives and negatives")
    return float((rankdata(values)[wanted].sum() - n * (n + 1) / 2) / (n * m))

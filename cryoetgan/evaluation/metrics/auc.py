"""Area under the receiver operating characteristic curve (ROC AUC)."""

import numpy as np
from numpy.typing import ArrayLike


def auc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Return the probability that a positive scores above a negative; ties count half.

    Parameters
    ----------
    scores : array_like
        `(N,)`.
    positive : array_like of bool
        `(N,)`.

    Raises
    ------
    ValueError
        If all labels are equal.
    """
    from scipy.stats import rankdata

    values, labels = np.asarray(scores, float), np.asarray(positive, bool)
    n, m = int(labels.sum()), int((~labels).sum())
    if not n or not m:
        raise ValueError("AUC needs positives and negatives")
    return float((rankdata(values)[labels].sum() - n * (n + 1) / 2) / (n * m))

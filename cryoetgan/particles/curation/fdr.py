"""False discovery rate, estimated by decoys that compete with the classes.

Each pick has one winner: the class or decoy with the highest rank. If class c wins T_c picks above
a rank and its decoys win D_c, about as many of the T_c are wrong:

    FDR_c = (D_c + 1) / K / T_c

with K the number of the class's decoys (Elias & Gygi 2007, doi 10.1038/nmeth1019; the + 1 keeps
small sets honest). The q-value of a pick is the smallest FDR of all sets that hold it.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
MARGIN_WEIGHT = 1.0
"""Weight of the margin between map and decoy in the rank. Particles have a higher score and a
larger margin than look-alikes. With 0 the rank is the score: of hsp90 and insulin receptor in
dev_set2_2 with twice the noise along x, each named alone, 86 and 85 % are then found at FDR 5 %, and
95 and 99 % with 1."""


def rank_values(scores: Floats, decoy_scores: Floats) -> Floats:
    """Return `(N,)` max(s, d) + |s - d|, for scores s and decoy scores d; symmetric in both."""
    margin = np.abs(scores - decoy_scores)
    return np.maximum(scores, decoy_scores) + MARGIN_WEIGHT * margin


def rank_rows(scores: "pd.DataFrame") -> Floats:
    """Return the rank of each row of a table of scores: the score itself without decoys."""
    own = scores["cryoetganScore"].to_numpy(float)
    if "cryoetganDecoyScore" not in scores:
        return own
    return rank_values(own, scores["cryoetganDecoyScore"].to_numpy(float))


def q_values(ranks: Floats, is_target: NDArray[np.bool_], decoys: int) -> Floats:
    """Return `(N,)` q-values at most 1; a decoy's is the rate of the set that ends there.

    Parameters
    ----------
    ranks : ndarray
        `(N,)` of the winners of one class; equal ranks share their q-value.
    is_target : ndarray of bool
        `(N,)` whether the map won, not a decoy.
    decoys : int
        Number K of decoys that competed with the map.

    Examples
    --------
    >>> q_values(np.array([9.0, 8, 7, 6]), np.array([True, True, False, True]), 1)
    array([0.5       , 0.5       , 0.66666667, 0.66666667])
    """
    order = np.argsort(-ranks, kind="stable")
    targets, wrong = np.cumsum(is_target[order]), np.cumsum(~is_target[order])
    rate = np.minimum((wrong + 1) / decoys / np.maximum(targets, 1), 1.0)
    # the last of equal ranks stands for all of them
    falling = -ranks[order]
    last = np.searchsorted(falling, falling, side="right") - 1
    smallest = np.minimum.accumulate(rate[last][::-1])[::-1]
    found = np.empty(len(ranks))
    found[order] = smallest
    return found


def posterior(ranks: Floats, is_target: NDArray[np.bool_], decoys: int) -> Floats:
    """Return `(N,)` the probability that a winner with such a rank is right.

    Of the picks about a rank let a share r prefer the map; by `q_values`' argument the share
    ((K + 1) r - 1) / K is right. r is the isotonic regression on the rank (Kaell et al. 2008, doi
    10.1021/pr700739d), with one decoy more above all, the + 1 of `q_values`: a few picks alone are not
    likely right. The parameters have the meaning they have in `q_values`.

    Examples
    --------
    >>> posterior(np.arange(8.0), np.array([False, True, False, False, True, True, True, True]), 1)
    array([0. , 0. , 0. , 0. , 0.6, 0.6, 0.6, 0.6])
    """
    from scipy.optimize import isotonic_regression

    values, index, counts = np.unique(ranks, return_inverse=True, return_counts=True)
    share = np.bincount(index, is_target, len(values)) / counts
    share = isotonic_regression(np.append(share, 0.0), weights=np.append(counts, 1)).x[:-1]
    return np.clip(((decoys + 1) * share - 1) / decoys, 0, 1)[index]


def beats_decoys(rows: "pd.DataFrame") -> NDArray[np.bool_]:
    """Return `(N,)` whether the map of each row has a higher score than its decoys."""
    own = rows["cryoetganScore"].to_numpy(float)
    return own > rows["cryoetganDecoyScore"].to_numpy(float)


def count_decoys(winners: "pd.DataFrame") -> NDArray[np.int_]:
    """Return the number of decoys `(N,)` that competed with the map of each row."""
    return (winners["cryoetganDecoys"].str.count(",") + 1).to_numpy(int)


def add_q_values(winners: "pd.DataFrame", groups: NDArray[np.str_]) -> "pd.DataFrame":
    """Return the winners with cryoetganQValue, computed for each class and group of tomograms.

    `winners` has one row a pick, with the scores of its best class; `groups` is `(N,)`.
    """
    ranks, target = rank_rows(winners), beats_decoys(winners)
    counts = count_decoys(winners)
    found = np.ones(len(winners))
    for _, rows in winners.groupby(["cryoetganClass", groups], sort=False).indices.items():
        found[rows] = q_values(ranks[rows], target[rows], int(counts[rows[0]]))
    return winners.assign(cryoetganQValue=found)

"""False discovery rate, estimated by decoys that compete with the classes.

Each pick has one winner: the class or decoy with the highest rank. If class c wins T_c picks above
a rank and its decoys win D_c, about as many of the T_c are wrong:

    FDR_c = (D_c + 1) / K / T_c

with K the number of the class's decoys (Elias & Gygi 2007, doi 10.1038/nmeth1019; the + 1 keeps
small sets honest). The q-value of a pick is the smallest FDR of all sets that hold it.

Decoys do not count look-alikes: a species without a map of its own often prefers the map of a
similar class to its mirror image. But it ranks lower than the particles of the class: a pick whose
rank lies far below theirs has the q-value 1 (`far_below`).
"""

import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
log = logging.getLogger("cryoetgan")
MARGIN_WEIGHT = 1.0
"""Weight of the margin between map and decoy in the rank. Particles have a higher score and a
larger margin than look-alikes. With 0 the rank is the score: of hsp90 and insulin receptor in
dev_set2_2 with twice the noise along x, each named alone, 86 and 85 % are then found at FDR 5 %, and
95 and 99 % with 1."""
CONFIDENT = 0.05
"""q-value up to which picks show the ranks of the particles of their class."""
LEAST_CONFIDENT = 20
"""Fewest of them in a tomogram; of fewer, the standard deviation is too uncertain."""
UPPER = 0.8413
"""Share of a normal distribution up to one standard deviation above its mean."""
FAR = 2.75
"""Standard deviations below the median rank from which a pick is none of the class: 0.3 % of normal
ranks. A class of dev_set2_2 may hold a fifth of look-alikes; 3 then removes none of them."""


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


def far_below(ranks: Floats, confident: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return `(N,)` whether a rank lies far below the ranks of the class's confident picks.

    The limit is m - `FAR` s, with m the median of the confident ranks and s their standard deviation
    by the upper half, which holds no look-alikes. Confident picks below it are left out, and the limit
    is computed again until it stays.
    """
    far = np.zeros(len(ranks), bool)
    while True:
        kept = ranks[confident & ~far]
        if len(kept) < LEAST_CONFIDENT:
            return far
        middle, above = np.quantile(kept, (0.5, UPPER))
        now = far | (ranks < middle - FAR * (above - middle))
        if above == middle or np.array_equal(now, far):
            return far
        far = now


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

    `winners` has one row a pick, with the scores of its best class; `groups` is `(N,)`. Picks
    that are `far_below` the particles of their class in their tomogram get a q-value of 1.
    """
    ranks, target = rank_rows(winners), beats_decoys(winners)
    counts = count_decoys(winners)
    found = np.ones(len(winners))
    for _, rows in winners.groupby(["cryoetganClass", groups], sort=False).indices.items():
        found[rows] = q_values(ranks[rows], target[rows], int(counts[rows[0]]))
    tomograms = winners["rlnTomoName"].to_numpy() if "rlnTomoName" in winners else groups
    for name, rows in winners.groupby(["cryoetganClass", tomograms], sort=False).indices.items():
        confident = target[rows] & (found[rows] <= CONFIDENT)
        far = far_below(ranks[rows], confident)
        found[rows[far]] = 1.0
        if others := int((far & confident).sum()):
            log.info(
                "%s: %d of %d picks with a q-value up to %g rank far below the others, which may be "
                "another species; their q-value is 1",
                " in ".join(map(str, name)), others, int(confident.sum()), CONFIDENT,
            )  # fmt: skip
    return winners.assign(cryoetganQValue=found)

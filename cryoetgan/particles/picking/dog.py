"""Difference-of-Gaussians picking, as the paper does it.

Source: Paper, section 3.1 (method of Pei 2016, doi 10.1186/s12859-016-1283-3).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

Floats = NDArray[np.floating]
Span = tuple[int, int]
SIGMA_RATIO = 1.1
"""Width of the second Gaussian divided by the width of the first."""
TRUNCATE = 4.0
"""Reach of a Gaussian, in units of its sigma."""
THRESHOLD_STEPS = 20
"""Number of steps from the lowest to the highest peak value."""
PAPER_SIGMA = 7.0
"""Sigma of the first Gaussian in the paper, voxels."""
PEAKS_PER_QUERY = 512
QUARTILES = 3.0
"""The robust threshold, in units of the first quartile of the peaks."""
PAPER_THRESHOLD = 3.0
"""t of the paper."""


def difference_of_gaussians(
    volume: Floats, sigma: float, region: Sequence[Span] | None = None
) -> Floats:
    """Return G(sigma) * v - G(1.1 sigma) * v, where `*` is a convolution.

    A bright ball gives the highest value if sigma = radius / sqrt(3). As in AITom, the border
    reflects and the Gaussians end at 4 sigma.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)` float32, protein bright.
    sigma : float
        Voxels.
    region : sequence of (int, int), optional
        Start and stop of each axis, zyx, of the part to return. Each axis is cut as soon as it
        is filtered. Lines are filtered one by one, so the values do not depend on the region.
    """
    region = region or [(0, n) for n in volume.shape]
    blurred = []
    for width in (sigma, SIGMA_RATIO * sigma):
        data = volume
        for axis, (start, stop) in enumerate(region):
            data = ndimage.gaussian_filter1d(data, width, axis, mode="reflect", truncate=TRUNCATE)
            data = data[(slice(None),) * axis + (slice(start, stop),)]
        blurred.append(data)
    return blurred[0] - blurred[1]


def threshold(lowest: float, highest: float, t: float) -> float:
    """Return T = m + t (M - m) / 20, with m and M the lowest and highest peak value.

    >>> threshold(-1.0, 9.0, 3)
    0.5
    """
    return lowest + t * (highest - lowest) / THRESHOLD_STEPS


def robust_threshold(values: Floats) -> float:
    """Return T = 3 Q, with Q the first quartile of the values `(N,)` of all peaks.

    Most peaks of a tomogram are noise, so Q follows the noise, even if half of the peaks are
    particles. The paper's threshold follows the highest peak: one piece of contamination or gold
    then hides every particle. The shared simulated tomograms keep the recall of t = 3 with at most
    1.8 picks a particle, and a real cell has 475 picks in place of 3. If no peak is above T, as
    without noise, the paper's threshold with t = 3 is returned.

    >>> robust_threshold(np.array([1.0, 1.0, 1.5, 2.0, 9.0, 500.0]))
    3.375
    """
    if not len(values):
        return 0.0
    found = QUARTILES * float(np.percentile(values, 25))
    highest = float(values.max())
    return found if found < highest else threshold(float(values.min()), highest, PAPER_THRESHOLD)


def non_maximum_suppression(
    positions: Floats, scores: Floats, distances: Floats
) -> NDArray[np.int_]:
    """Keep peaks greedily, best first, and drop all others closer than a kept peak's distance.

    `positions` is `(N, 3)`, `scores` and `distances` (in units of the positions) are `(N,)`.
    Returns the indices of the kept peaks, best first.
    """
    order = np.argsort(-scores, kind="stable")
    tree = cKDTree(np.reshape(positions, (-1, 3)))
    dropped = np.zeros(len(positions), bool)
    kept: list[int] = []
    for start in range(0, len(order), PEAKS_PER_QUERY):
        part = order[start : start + PEAKS_PER_QUERY]
        part = part[~dropped[part]]
        reach = np.nextafter(distances[part], 0)
        neighbours = tree.query_ball_point(positions[part], reach, return_sorted=False)
        for index, near in zip(part.tolist(), neighbours, strict=True):
            if not dropped[index]:
                kept.append(index)
                dropped[near] = True
    return np.array(kept, int)

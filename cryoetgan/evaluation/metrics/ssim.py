"""Structural similarity in three dimensions."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

WINDOW = 7
K1, K2 = 0.01, 0.03


def ssim(first: ArrayLike, second: ArrayLike, data_range: float) -> float:
    """Return the mean structural similarity of two volumes (doi 10.1109/TIP.2003.819861).

    Parameters
    ----------
    first, second : array_like
        `(z, y, x)`.
    data_range : float
        Grey values from black to white. Equal ranges must be used for numbers that are
        compared: the value of anything depends on it.

    Returns
    -------
    float
        In [-1, 1]; 1 where equal. Uniform windows of 7^3, unbiased variances.
    """
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    unbiased = WINDOW**3 / (WINDOW**3 - 1)

    def mean(v: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(v, WINDOW)

    mx, my = mean(x), mean(y)
    vx, vy = unbiased * (mean(x * x) - mx * mx), unbiased * (mean(y * y) - my * my)
    cov = unbiased * (mean(x * y) - mx * my)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    values = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    rim = (WINDOW - 1) // 2
    return float(values[(slice(rim, -rim),) * 3].mean())

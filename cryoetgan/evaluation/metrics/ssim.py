"""Structural similarity in three dimensions."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage


def ssim(first: ArrayLike, second: ArrayLike, data_range: float, window: int = 7) -> float:
    """Return the mean structural similarity of two volumes (doi 10.1109/TIP.2003.819861).

    SSIM = (2 m_x m_y + c1)(2 s_xy + c2) / ((m_x^2 + m_y^2 + c1)(s_x^2 + s_y^2 + c2)), the
    mean over all windows that lie inside the volumes. m are means, s (co)variances in a
    window, c1 = (0.01 L)^2, c2 = (0.03 L)^2, and L is `data_range`.

    Parameters
    ----------
    first, second : array_like
        `(z, y, x)`.
    data_range : float
        Difference between the grey values of white and black. SSIM depends on it: compare
        only values with equal ranges.
    window : int
        Edge of the uniform windows, voxels.

    Returns
    -------
    float
        In [-1, 1]; 1 if the volumes are equal. Variances are unbiased.
    """
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    unbiased = window**3 / (window**3 - 1)

    def mean(v: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(v, window)

    mx, my = mean(x), mean(y)
    vx, vy = unbiased * (mean(x * x) - mx * mx), unbiased * (mean(y * y) - my * my)
    cov = unbiased * (mean(x * y) - mx * my)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    rim = (window - 1) // 2
    return float(values[(slice(rim, -rim),) * 3].mean())

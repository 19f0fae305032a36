"""Regions of a tomogram in which nothing is picked: carbon, ice, edges, gold."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cryoetgan.particles.picking.local_maxima import Peaks

Floats = NDArray[np.floating]


def outside(mask: NDArray[np.generic], positions: Floats) -> NDArray[np.bool_]:
    """Return which positions `(N, 3)` zyx, voxels, lie where a mask is zero."""
    last = np.array(mask.shape) - 1
    z, y, x = np.clip(np.floor(np.asarray(positions, float) + 0.5).astype(int), 0, last).T
    return np.asarray(mask[z, y, x] == 0)


def keep_outside(peaks: Peaks, mask: NDArray[np.generic]) -> Peaks:
    """Return the peaks where a mask is zero; the largest of them gives the threshold's M.

    A gold bead in the mask thus does not raise the threshold of what lies outside.
    """
    good = outside(mask, peaks.positions)
    values = peaks.values[good]
    return replace(
        peaks,
        positions=peaks.positions[good],
        values=values,
        highest=float(values.max()) if len(values) else peaks.lowest,
    )

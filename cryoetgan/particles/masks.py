"""Exclusion masks: regions of a tomogram without picks, such as carbon, ice, edges and gold."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cryoetgan.particles.picking.local_maxima import Peaks

Floats = NDArray[np.floating]


def outside_mask(mask: NDArray[np.generic], positions: Floats) -> NDArray[np.bool_]:
    """Return whether the mask is zero at each of the positions `(N, 3)` zyx, voxels."""
    last = np.array(mask.shape) - 1
    z, y, x = np.clip(np.floor(np.asarray(positions, float) + 0.5).astype(int), 0, last).T
    return np.asarray(mask[z, y, x] == 0)


def peaks_outside_mask(peaks: Peaks, mask: NDArray[np.generic]) -> Peaks:
    """Return the peaks at which the mask is zero.

    The largest of them becomes the M of the threshold, so that a masked gold bead does not
    raise the threshold of the particles.
    """
    good = outside_mask(mask, peaks.positions)
    values = peaks.values[good]
    return replace(
        peaks,
        positions=peaks.positions[good],
        values=values,
        highest=float(values.max()) if len(values) else peaks.lowest,
    )

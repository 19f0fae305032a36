"""Regions of a tomogram in which nothing is picked: carbon, ice, edges, gold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.particles.picking_peaks import Peaks
from cryoetgan.volumes import Volume, read_volume, same_voxel_size

Floats = NDArray[np.floating]


def read_mask(path: Path, volume: Volume, tomogram: Path) -> NDArray[np.generic]:
    """Return a mask `(z, y, x)` on the grid of its tomogram, memory-mapped.

    Parameters
    ----------
    path : Path
        MRC; what is not zero is left out (`tomograms import --mask` writes `T_mask.mrc`).
    volume : Volume
        The tomogram.
    tomogram : Path
        Its file, for messages.

    Raises
    ------
    UserError
        Where the grids differ.
    """
    mask = read_volume(path)
    if mask.data.shape != volume.data.shape:
        got, want = ("x".join(map(str, a.data.shape[::-1])) for a in (mask, volume))
        raise UserError(
            f"--mask: {path} has {got} voxels (x, y, z), {tomogram} has {want}; give the mask that "
            "`tomograms import --mask` wrote beside the tomogram"
        )
    same_voxel_size(volume.voxel_size, mask.voxel_size, tomogram, path)
    return mask.data


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

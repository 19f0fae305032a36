"""Maps of one's own, brought to the run's box and voxel size."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.errors import UserError


def fit_to_box(
    data: NDArray[np.floating], voxel_size: float, wanted: float, box: int
) -> NDArray[np.float32]:
    """Resample a map and cut or pad it to a cube; the centre n // 2 stays the centre.

    Parameters
    ----------
    data : ndarray
        `(z, y, x)`.
    voxel_size, wanted : float
        Angstrom, of the map and of the result.
    box : int
        Edge of the result in voxels.
    """
    if not np.isfinite(data).all():
        raise UserError("the map holds values that are not finite")
    step = wanted / voxel_size
    source = np.asarray(data, np.float64)
    if step > 1:  # what the coarser grid cannot hold is taken out first
        source = ndimage.gaussian_filter(source, 0.5 * np.sqrt(step**2 - 1), mode="constant")
    centre = np.array(source.shape) // 2
    return ndimage.affine_transform(
        source,
        np.full(3, step),
        offset=centre - step * (box // 2),
        output_shape=(box, box, box),
        order=3,
        mode="constant",
    ).astype(np.float32)


def share_outside(data: NDArray[np.floating], inside: NDArray[np.floating], factor: float) -> float:
    """Return the share of a map's positive mass that a smaller box leaves out."""
    total = float(np.clip(data, 0, None).sum(dtype=np.float64))
    kept = float(np.clip(inside, 0, None).sum(dtype=np.float64)) * factor
    return max(0.0, 1 - kept / total) if total > 0 else 0.0

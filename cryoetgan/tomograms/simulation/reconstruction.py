"""A tomogram from a tilt series: weighted back-projection or SIRT. Both are linear."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse

from cryoetgan.progress import track
from cryoetgan.tomograms.simulation.projection import (
    backprojection_matrix,
    projection_matrix,
    section_blocks,
    to_volume,
)

Floats = NDArray[np.floating]
RAMP_CUTOFF, RAMP_WIDTH = 0.40, 0.05
"""Cycles per pixel; above the cutoff the weight falls off as a Gaussian of this width."""
MIN_SUM_FRACTION = 0.3
"""Smallest sum of a row or column of the projection matrix, as a fraction of the usual sum."""


def weighted_back_projection(
    images: Floats, tilts: NDArray[np.floating], nz: int
) -> NDArray[np.float32]:
    """Return the tomogram `(z, y, x)` of a tilt series by weighted back-projection.

    v(x, y, z) = pi / N sum over N tilts of w_t(x cos t + z sin t, y), with w_t the image at tilt
    t filtered by |k_u| exp(-max(|k_u| - 0.40, 0)^2 / (2 0.05^2)), k_u in cycles per pixel
    (Radermacher 2006, doi 10.1007/978-0-387-69008-7_9). The filter acts on lines padded to twice
    their length, so that their ends do not wrap around.

    Parameters
    ----------
    images : ndarray
        `(tilt, u, y)`; aligned, tilt axis along y.
    tilts : ndarray
        Degrees.
    nz : int
        Thickness in voxels.
    """
    _, nx, ny = images.shape
    length = 2 * nx
    k = fft.rfftfreq(length)
    over = np.maximum(k - RAMP_CUTOFF, 0.0)
    ramp = (k * np.exp(-0.5 * (over / RAMP_WIDTH) ** 2)).astype(np.float32)
    ramp *= np.float32(np.pi / len(tilts))
    matrices = [backprojection_matrix(nz, nx, float(tilt)) for tilt in tilts]
    volume = np.empty((nz, ny, nx), np.float32)
    for rows in section_blocks(ny):
        sections = np.zeros((nz * nx, rows.stop - rows.start), np.float32)
        for image, matrix in zip(images, matrices, strict=True):
            spectrum = fft.rfft(image[:, rows], length, axis=0) * ramp[:, None]
            weighted = fft.irfft(spectrum, length, axis=0)[:nx]
            sections += matrix @ weighted.astype(np.float32)
        volume[:, rows] = to_volume(sections, (nz, rows.stop - rows.start, nx))
    return volume


def sirt(
    images: Floats, tilts: NDArray[np.floating], nz: int, iterations: int
) -> NDArray[np.float32]:
    """Return the tomogram `(z, y, x)` of a tilt series by simultaneous iterations (SIRT).

    x <- x + C P' R (b - P x), with P the projection matrix, b the images, and R and C one over the
    sums of the rows and columns of P (Gilbert 1972, doi 10.1016/0022-5193(72)90180-4). Negative
    values are kept, so that the result is linear in the images. More iterations sharpen signal and
    noise alike; 10 to 30 are usual. Images, tilts and nz: see `weighted_back_projection`.
    """
    _, nx, ny = images.shape
    matrices = [projection_matrix(nz, nx, float(tilt)) for tilt in tilts]
    rows = [_inverse_sums(matrix.sum(axis=1), nz) for matrix in matrices]
    columns = _inverse_sums(np.sum([matrix.sum(axis=0) for matrix in matrices], axis=0), len(tilts))
    transposed = [sparse.csr_array(matrix.T) for matrix in matrices]
    volume = np.empty((nz, ny, nx), np.float32)
    for part in track(section_blocks(ny), "SIRT"):
        sections = np.zeros((nz * nx, part.stop - part.start), np.float32)
        for _ in range(iterations):
            step = np.zeros_like(sections)
            for image, matrix, back, row in zip(images, matrices, transposed, rows, strict=True):
                step += back @ ((image[:, part] - matrix @ sections) * row[:, None])
            sections += columns[:, None] * step
        volume[:, part] = to_volume(sections, (nz, part.stop - part.start, nx))
    return volume


def _inverse_sums(sums: Floats, usual: float) -> NDArray[np.float32]:
    """Return one over sums, with sums below `MIN_SUM_FRACTION` of the usual one raised to it.

    Rays through a corner, and voxels seen only by them, would get huge weights otherwise.
    """
    flat = np.asarray(sums, np.float32).ravel()
    bounded = np.maximum(flat, np.float32(MIN_SUM_FRACTION * usual))
    return np.asarray(1 / bounded, np.float32)

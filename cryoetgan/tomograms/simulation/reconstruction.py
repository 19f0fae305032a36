"""A tomogram from a tilt series: weighted back-projection, or SIRT. Both are linear."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse

from cryoetgan.progress import track
from cryoetgan.tomograms.simulation.projection import as_volume, backprojector, blocks, projector

Floats = NDArray[np.floating]
RAMP_CUTOFF, RAMP_WIDTH = 0.40, 0.05
"""Cycles a pixel: beyond the first, the weighting falls off as a Gaussian of the second."""

SHORTEST = 0.3
"""Of the usual length of a ray, and of the number of tilts that see a voxel."""


def weighted_back_projection(
    images: Floats, tilts: NDArray[np.floating], nz: int
) -> NDArray[np.float32]:
    """Return the tomogram `(z, y, x)` of a tilt series.

    Parameters
    ----------
    images : ndarray
        `(tilt, u, y)`; aligned, tilt axis along y.
    tilts : ndarray
        Degrees.
    nz : int
        Thickness in voxels.

    Notes
    -----
    Each image is weighted by |k_u| with a Gaussian cut-off, on a line twice as long so
    that its ends do not meet (Radermacher 1992, in Electron Tomography, chapter 5).
    """
    _, nx, ny = images.shape
    length = 2 * nx
    k = fft.rfftfreq(length)
    over = np.maximum(k - RAMP_CUTOFF, 0.0)
    ramp = (k * np.exp(-0.5 * (over / RAMP_WIDTH) ** 2)).astype(np.float32)
    ramp *= np.float32(np.pi / len(tilts))
    matrices = [backprojector(nz, nx, float(tilt)) for tilt in tilts]
    volume = np.empty((nz, ny, nx), np.float32)
    for rows in blocks(ny):
        sections = np.zeros((nz * nx, rows.stop - rows.start), np.float32)
        for image, matrix in zip(images, matrices, strict=True):
            spectrum = fft.rfft(image[:, rows], length, axis=0) * ramp[:, None]
            weighted = fft.irfft(spectrum, length, axis=0)[:nx]
            sections += matrix @ weighted.astype(np.float32)
        volume[:, rows] = as_volume(sections, (nz, rows.stop - rows.start, nx))
    return volume


def sirt(
    images: Floats, tilts: NDArray[np.floating], nz: int, iterations: int
) -> NDArray[np.float32]:
    """Return the tomogram `(z, y, x)` of a tilt series by simultaneous iterations.

    Parameters
    ----------
    images, tilts, nz
        As in `weighted_back_projection`.
    iterations : int
        More of them sharpen, signal and noise alike; 10 to 30 are usual.

    Notes
    -----
    x <- x + C P' R (b - P x), with R and C one over the sums of the rows and columns of P
    (Gilbert 1972, doi 10.1016/0022-5193(72)90180-4). No positivity: it stays linear.
    """
    _, nx, ny = images.shape
    matrices = [projector(nz, nx, float(tilt)) for tilt in tilts]
    rows = [_inverse(matrix.sum(axis=1), nz) for matrix in matrices]
    columns = _inverse(np.sum([matrix.sum(axis=0) for matrix in matrices], axis=0), len(tilts))
    transposed = [sparse.csr_array(matrix.T) for matrix in matrices]
    volume = np.empty((nz, ny, nx), np.float32)
    for part in track(blocks(ny), "SIRT"):
        sections = np.zeros((nz * nx, part.stop - part.start), np.float32)
        for _ in range(iterations):
            step = np.zeros_like(sections)
            for image, matrix, back, row in zip(images, matrices, transposed, rows, strict=True):
                step += back @ ((image[:, part] - matrix @ sections) * row[:, None])
            sections += columns[:, None] * step
        volume[:, part] = as_volume(sections, (nz, part.stop - part.start, nx))
    return volume


def _inverse(sums: Floats, usual: float) -> NDArray[np.float32]:
    """Return one over sums, none counted as less than a share of what is usual.

    Rays that graze a corner, and the voxels they alone see, would blow up otherwise.
    """
    flat = np.asarray(sums, np.float32).ravel()
    longer = np.maximum(flat, np.float32(SHORTEST * usual))
    return np.asarray(1 / longer, np.float32)

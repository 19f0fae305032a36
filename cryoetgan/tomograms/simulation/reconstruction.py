"""Projection along the beam and reconstruction (back-projection, SIRT, SART); tilt axis y.

At tilt t the detector's axis across the tilt axis is u = x cos t + z sin t, from the volume's
centre n // 2. Every y section is projected by the same sparse matrix. All steps are linear.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse

from cryoetgan.progress import track

Floats = NDArray[np.floating]
BLOCK_SECTIONS = 64
"""Sections along y that are projected together."""


def projection_matrix(nz: int, nx: int, tilt: float) -> sparse.csr_array:
    """Return the matrix `(u, z * x)` that projects one y section at one tilt, in degrees.

    The detector has nx pixels of the voxel size. The volume is interpolated linearly across the
    ray, at every step along the ray's main direction (Joseph 1982, doi 10.1109/TMI.1982.4307572).
    """
    cos, sin = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    u, z, x = np.arange(nx)[:, None] - nx // 2, np.arange(nz), np.arange(nx)
    shape = (nx, nz * nx)
    if abs(cos) >= abs(sin):
        # one sample per z row: at depth z the ray of u passes x = (u - z sin) / cos
        across = (u - (z - nz // 2) * sin) / cos + nx // 2
        return _interpolation_matrix(across, nx, z * nx, 1, shape, 1 / abs(cos))
    across = (u - (x - nx // 2) * cos) / sin + nz // 2
    return _interpolation_matrix(across, nz, x, nx, shape, 1 / abs(sin))


def backprojection_matrix(nz: int, nx: int, tilt: float) -> sparse.csr_array:
    """Return the matrix `(z * x, u)` that back-projects one image to a y section.

    Every voxel takes the image's value at its own u, interpolated linearly. Unlike the transpose
    of `projection_matrix`, it back-projects a constant image to a constant at every tilt.
    """
    cos, sin = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    z, x = np.meshgrid(np.arange(nz) - nz // 2, np.arange(nx) - nx // 2, indexing="ij")
    across = (x * cos + z * sin + nx // 2).reshape(-1, 1)
    return _interpolation_matrix(across, nx, 0, 1, (nz * nx, nx))


def _interpolation_matrix(
    positions: Floats,
    limit: int,
    base: NDArray[np.int_] | int,
    stride: int,
    shape: tuple[int, int],
    weight: float = 1.0,
) -> sparse.csr_array:
    """Return the matrix whose row r sums linear interpolations at `positions[r]`, below `limit`.

    Position p is column base + stride p; `base` broadcasts over the positions `(r, sample)`.
    """
    low = np.floor(positions).astype(int)
    fraction = positions - low
    row = np.broadcast_to(np.arange(len(low))[:, None], low.shape)
    entries = []
    for index, part in ((low, 1 - fraction), (low + 1, fraction)):
        inside = (index >= 0) & (index < limit) & (part > 0)
        column = base + stride * index
        entries.append((part[inside] * weight, row[inside], column[inside]))
    values, rows, columns = (np.concatenate(items) for items in zip(*entries, strict=True))
    return sparse.csr_array((values, (rows, columns)), shape=shape, dtype=np.float32)


def project_tilt_series(volume: Floats, tilts: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the projections `(tilt, u, y)` of a volume `(z, y, x)`; tilts in degrees."""
    nz, ny, nx = volume.shape
    matrices = [projection_matrix(nz, nx, float(tilt)) for tilt in tilts]
    images = np.empty((len(tilts), nx, ny), np.float32)
    for rows in section_blocks(ny):
        sections = to_sections(np.asarray(volume[:, rows], np.float32))
        for image, matrix in zip(images, matrices, strict=True):
            image[:, rows] = matrix @ sections
    return images


def section_blocks(ny: int) -> list[slice]:
    """Return the blocks of y sections that are processed together, to save memory."""
    return [slice(start, min(start + BLOCK_SECTIONS, ny)) for start in range(0, ny, BLOCK_SECTIONS)]


def to_sections(volume: Floats) -> Floats:
    """Return a volume `(z, y, x)` as `(z * x, y)`, one column per y section."""
    nz, ny, nx = volume.shape
    return np.ascontiguousarray(volume.transpose(0, 2, 1)).reshape(nz * nx, ny)


def to_volume(sections: Floats, shape: tuple[int, int, int]) -> Floats:
    """Return sections `(z * x, y)` as a volume `(z, y, x)`; the inverse of `to_sections`."""
    nz, ny, nx = shape
    return np.ascontiguousarray(sections.reshape(nz, nx, ny).transpose(0, 2, 1))


RAMP_CUTOFF, RAMP_WIDTH = 0.40, 0.05
"""Cycles per pixel; above the cutoff the weight falls off as a Gaussian of this width."""
MIN_SUM_FRACTION = 0.3
"""Smallest sum of a row or column of the projection matrix, as a fraction of the usual sum."""


def weighted_back_projection(images: Floats, tilts: Floats, nz: int) -> NDArray[np.float32]:
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


def sirt(images: Floats, tilts: Floats, nz: int, iterations: int) -> NDArray[np.float32]:
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


SART_RELAXATION = 0.5
"""Fraction of the correction of each image that is applied."""


def tilt_order(count: int) -> list[int]:
    """Return the order of tilts in SART: far apart, by the bits of the index, reversed."""
    bits = max(1, int(np.ceil(np.log2(count))))
    reverse = [int(f"{index:0{bits}b}"[::-1], 2) for index in range(2**bits)]
    return [index for index in reverse if index < count]


def sart(images: Floats, tilts: Floats, nz: int, iterations: int) -> NDArray[np.float32]:
    """Return the tomogram `(z, y, x)` of a tilt series by SART, which corrects image by image.

    x <- x + 0.5 C_t P_t' R_t (b_t - P_t x) for one tilt t after the other, with C_t and R_t as in
    `sirt` for that image alone (Andersen and Kak 1984, doi 10.1016/0161-7346(84)90008-7). Tilts
    follow each other far apart. One to five iterations are usual; the result is linear in the
    images.
    """
    _, nx, ny = images.shape
    order = tilt_order(len(tilts))
    matrices = [projection_matrix(nz, nx, float(tilt)) for tilt in tilts]
    rows = [_inverse_sums(matrix.sum(axis=1), nz) for matrix in matrices]
    columns = [_inverse_sums(matrix.sum(axis=0), 1) for matrix in matrices]
    transposed = [sparse.csr_array(matrix.T) for matrix in matrices]
    volume = np.empty((nz, ny, nx), np.float32)
    for part in track(section_blocks(ny), "SART"):
        sections = np.zeros((nz * nx, part.stop - part.start), np.float32)
        for index in order * iterations:
            missing = images[index][:, part] - matrices[index] @ sections
            step = transposed[index] @ (missing * rows[index][:, None])
            sections += np.float32(SART_RELAXATION) * columns[index][:, None] * step
        volume[:, part] = to_volume(sections, (nz, part.stop - part.start, nx))
    return volume


Method = Literal["wbp", "sirt", "sart"]
ITERATIONS = {"wbp": 1, "sirt": 20, "sart": 3}
"""Iterations of each method, if none are given."""


def reconstruct(
    images: Floats, tilts: Floats, nz: int, method: Method = "wbp", iterations: int | None = None
) -> NDArray[np.float32]:
    """Return the tomogram `(z, y, x)` by weighted back-projection, SIRT or SART."""
    if method == "wbp":
        return weighted_back_projection(images, tilts, nz)
    solve = sirt if method == "sirt" else sart
    return solve(images, tilts, nz, iterations or ITERATIONS[method])


def _inverse_sums(sums: Floats, usual: float) -> NDArray[np.float32]:
    """Return one over sums, with sums below `MIN_SUM_FRACTION` of the usual one raised to it.

    Rays through a corner, and voxels seen only by them, would get huge weights otherwise.
    """
    flat = np.asarray(sums, np.float32).ravel()
    bounded = np.maximum(flat, np.float32(MIN_SUM_FRACTION * usual))
    return np.asarray(1 / bounded, np.float32)

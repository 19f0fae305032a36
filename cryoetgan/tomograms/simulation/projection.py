"""Projection along the beam and back-projection, for a tilt axis along y.

At tilt t the detector's axis across the tilt axis is u = x cos t + z sin t, from the volume's
centre n // 2. Every y section is projected by the same sparse matrix.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.floating]
BLOCK_SECTIONS = 64
"""Sections along y that are projected together."""


def projection_matrix(nz: int, nx: int, tilt: float) -> sparse.csr_array:
    """Return the matrix `(u, z * x)` that projects one y section at one tilt, in degrees.

    The detector has nx pixels of the voxel size. The volume is interpolated linearly across the
    ray, at every step along the ray's main direction (Joseph 1982, doi 10.1109/TMI.1982.4307572).
    """
    cos, sin = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    u = np.arange(nx) - nx // 2
    steep = abs(cos) >= abs(sin)
    if steep:
        # one sample per z row: at depth z the ray of u passes x = (u - z sin) / cos
        steps, limit, weight = np.arange(nz), nx, 1 / abs(cos)
        across = (u[:, None] - (steps - nz // 2)[None, :] * sin) / cos + nx // 2
    else:
        steps, limit, weight = np.arange(nx), nz, 1 / abs(sin)
        across = (u[:, None] - (steps - nx // 2)[None, :] * cos) / sin + nz // 2
    low = np.floor(across).astype(int)
    fraction = across - low
    detector = np.broadcast_to(np.arange(nx)[:, None], low.shape)
    along = np.broadcast_to(steps[None, :], low.shape)
    rows, columns, values = [], [], []
    for moving, part in ((low, 1 - fraction), (low + 1, fraction)):
        inside = (moving >= 0) & (moving < limit) & (part > 0)
        z, x = (along, moving) if steep else (moving, along)
        rows.append(detector[inside])
        columns.append((z * nx + x)[inside])
        values.append(part[inside] * weight)
    return _sparse(values, rows, columns, (nx, nz * nx))


def backprojection_matrix(nz: int, nx: int, tilt: float) -> sparse.csr_array:
    """Return the matrix `(z * x, u)` that back-projects one image to a y section.

    Every voxel takes the image's value at its own u, interpolated linearly. Unlike the transpose
    of `projection_matrix`, it back-projects a constant image to a constant at every tilt.
    """
    cos, sin = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    z, x = np.meshgrid(np.arange(nz) - nz // 2, np.arange(nx) - nx // 2, indexing="ij")
    across = (x * cos + z * sin + nx // 2).ravel()
    low = np.floor(across).astype(int)
    fraction = across - low
    voxel = np.arange(nz * nx)
    rows, columns, values = [], [], []
    for pixel, part in ((low, 1 - fraction), (low + 1, fraction)):
        inside = (pixel >= 0) & (pixel < nx) & (part > 0)
        rows.append(voxel[inside])
        columns.append(pixel[inside])
        values.append(part[inside])
    return _sparse(values, rows, columns, (nz * nx, nx))


def _sparse(
    values: list[Floats], rows: list[Floats], columns: list[Floats], shape: tuple[int, int]
) -> sparse.csr_array:
    indices = np.concatenate(rows), np.concatenate(columns)
    return sparse.csr_array((np.concatenate(values), indices), shape=shape, dtype=np.float32)


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

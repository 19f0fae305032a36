"""Projection along the beam and its transpose, for a tilt axis along y.

At tilt t the detector's axis across the tilt axis is u = x cos t + z sin t, about the
volume's centre n // 2; every y section is projected by the same matrix (Joseph 1982,
doi 10.1109/TMI.1982.4307572: linear interpolation along the main direction of the ray).
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.floating]


def projector(nz: int, nx: int, tilt: float) -> sparse.csr_array:
    """Return the matrix `(u, z * x)` that projects a y section at one tilt.

    Parameters
    ----------
    nz, nx : int
        Voxels; the detector has nx pixels of the same size.
    tilt : float
        Degrees.
    """
    cos, sin = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    u = np.arange(nx) - nx // 2
    if abs(cos) >= abs(sin):
        # one sample a z row: at depth z the ray of u passes x = (u - z sin) / cos
        rows = np.arange(nz) - nz // 2
        across = (u[:, None] - rows[None, :] * sin) / cos + nx // 2
        low = np.floor(across).astype(int)
        share = across - low
        entries = [
            (low + k, np.broadcast_to(np.arange(nz), low.shape), share if k else 1 - share)
            for k in (0, 1)
        ]
        weight, limit = 1 / abs(cos), nx
        index = [(z * nx + x, x, w) for x, z, w in entries]
    else:
        columns = np.arange(nx) - nx // 2
        across = (u[:, None] - columns[None, :] * cos) / sin + nz // 2
        low = np.floor(across).astype(int)
        share = across - low
        entries = [
            (low + k, np.broadcast_to(np.arange(nx), low.shape), share if k else 1 - share)
            for k in (0, 1)
        ]
        weight, limit = 1 / abs(sin), nz
        index = [(z * nx + x, z, w) for z, x, w in entries]
    detector = np.broadcast_to(np.arange(nx)[:, None], low.shape)
    rows_, columns_, values = [], [], []
    for flat, moving, w in index:
        inside = (moving >= 0) & (moving < limit) & (w > 0)
        rows_.append(detector[inside])
        columns_.append(flat[inside])
        values.append(w[inside] * weight)
    return sparse.csr_array(
        (np.concatenate(values), (np.concatenate(rows_), np.concatenate(columns_))),
        shape=(nx, nz * nx),
        dtype=np.float32,
    )


def project(sections: Floats, matrix: sparse.csr_array) -> Floats:
    """Return one projection `(u, y)` of sections `(z * x, y)`."""
    return matrix @ sections


def as_sections(volume: Floats) -> Floats:
    """Return a volume `(z, y, x)` as `(z * x, y)`, a column a y section."""
    nz, ny, nx = volume.shape
    return np.ascontiguousarray(volume.transpose(0, 2, 1)).reshape(nz * nx, ny)


def as_volume(sections: Floats, shape: tuple[int, int, int]) -> Floats:
    """Return sections `(z * x, y)` as a volume `(z, y, x)`."""
    nz, ny, nx = shape
    return np.ascontiguousarray(sections.reshape(nz, nx, ny).transpose(0, 2, 1))

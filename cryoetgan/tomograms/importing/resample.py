"""Another voxel size: separable Lanczos resampling, section by section."""

import math
import shutil
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cryoetgan.errors import UserError
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.progress import track
from cryoetgan.tomograms.importing.raw_tomogram import THINNEST

Floats = NDArray[np.floating]
LOBES = 3
"""Of the Lanczos kernel (Duchon 1979, doi 10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2)."""


def resampled_shape(shape: tuple[int, ...], step: float) -> tuple[int, int, int]:
    """Return the shape after resampling by `step` input voxels an output voxel."""
    z, y, x = (max(1, int(np.floor((n - 1) / step + 1e-6)) + 1) for n in shape)
    return z, y, x


def check_shape(
    shape: tuple[int, ...], wanted: float, item_size: int, folder: Path, named: object
) -> None:
    """Raise a `UserError` where a resampled tomogram is none, or more than the disk holds.

    Parameters
    ----------
    shape : tuple of int
        `(z, y, x)` after resampling.
    wanted : float
        Its voxel size in angstrom.
    item_size : int
        Bytes a voxel.
    folder : Path
        Where it will be written.
    named : object
        What messages call the tomogram.
    """
    size = "x".join(map(str, shape[::-1]))
    if min(shape) < THINNEST:
        raise UserError(
            f"{named}: has {size} voxels (x, y, z) at {wanted:g} A, fewer than {THINNEST} on an "
            "axis; lower --voxel-size (densities.voxel_size)"
        )
    needed, free = math.prod(shape) * item_size, shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{named}: has {size} voxels (x, y, z) at {wanted:g} A, {needed / 1e9:.3g} GB, but "
            f"{free / 1e9:.3g} GB are free; raise --voxel-size (densities.voxel_size), give "
            "--float16, or make room"
        )


def weights(count: int, made: int, step: float) -> sparse.csr_array:
    """Return the matrix `(made, count)` that resamples one axis.

    Rows sum to one. Where the grid gets coarser, the kernel is as much wider: what the
    coarser grid cannot hold is taken out, not folded back.
    """
    width = max(step, 1.0)
    places = np.arange(made) * step
    reach = int(np.ceil(LOBES * width))
    taps = np.floor(places)[:, None].astype(int) + np.arange(-reach, reach + 1)[None, :]
    distance = (taps - places[:, None]) / width
    kernel = np.where(abs(distance) < LOBES, np.sinc(distance) * np.sinc(distance / LOBES), 0.0)
    kernel[(taps < 0) | (taps >= count)] = 0
    kernel /= kernel.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(made)[:, None], taps.shape)
    used = kernel != 0
    return sparse.csr_array(
        (kernel[used], (rows[used], taps[used])), shape=(made, count), dtype=np.float32
    )


def resample_into(
    out: NDArray[np.floating],
    data: NDArray[np.generic],
    step: float,
    mean: float = 0.0,
    factor: float = 1.0,
) -> None:
    """Fill `out` with `(data - mean) * factor` on a grid of `step` input voxels.

    Voxel (0, 0, 0) stays where it is: an index becomes index / step.

    Parameters
    ----------
    out : ndarray
        `(z, y, x)` of `resampled_shape`.
    data : ndarray
        `(z, y, x)`, memory-mapped; each section is read once.
    step : float
        Output voxel size over input voxel size.
    mean, factor : float
        Applied on the way.

    Notes
    -----
    Memory: one input section and as many output sections as the kernel reaches.
    """
    along_z, along_y, along_x = (
        weights(count, made, step) for count, made in zip(data.shape, out.shape, strict=True)
    )
    held: deque[tuple[int, Floats]] = deque()
    following = 0  # the first section not read yet
    reading = iterate_sections(data)
    for index, made in enumerate(track(iterate_sections(out), "resampling", len(out))):
        taps = along_z.indices[along_z.indptr[index] : along_z.indptr[index + 1]]
        share = along_z.data[along_z.indptr[index] : along_z.indptr[index + 1]]
        first, last = int(taps.min()), int(taps.max())
        while held and held[0][0] < first:
            held.popleft()
        for number in range(following, last + 1):
            raw = next(reading)
            if number < first:
                continue
            section = (np.asarray(raw, np.float32) - mean) * factor
            held.append((number, (along_x @ (along_y @ section).T).T))
        following = max(following, last + 1)
        by_number = dict(held)
        made[:] = sum(w * by_number[int(tap)] for tap, w in zip(taps, share, strict=True))

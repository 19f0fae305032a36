"""Change of voxel size: separable Lanczos resampling, section by section."""

from collections import deque

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cryoetgan.io.memmap import iterate_sections
from cryoetgan.progress import track

Floats = NDArray[np.floating]
LANCZOS_LOBES = 3


def resampled_shape(shape: tuple[int, ...], step: float) -> tuple[int, int, int]:
    """Return the shape `(z, y, x)` after resampling by `step` input voxels per output voxel.

    Examples
    --------
    >>> resampled_shape((40, 100, 101), 2.0)
    (20, 50, 51)
    """
    z, y, x = (max(1, int(np.floor((n - 1) / step + 1e-6)) + 1) for n in shape)
    return z, y, x


def lanczos_weights(n_in: int, n_out: int, step: float, start: float = 0.0) -> sparse.csr_array:
    """Return the matrix `(n_out, n_in)` that resamples one axis; voxel 0 comes from `start`.

    L(x) = sinc(x) sinc(x / 3) for |x| < 3, otherwise 0 (Duchon 1979,
    doi 10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2). Each row is normalised to a sum of 1. If
    `step`, input voxels per output voxel, is above 1, the kernel is wider by this factor, so that
    frequencies above the new Nyquist limit are removed and not aliased.
    """
    width = max(step, 1.0)
    positions = start + np.arange(n_out) * step
    reach = int(np.ceil(LANCZOS_LOBES * width))
    taps = np.floor(positions)[:, None].astype(int) + np.arange(-reach, reach + 1)[None, :]
    distance = (taps - positions[:, None]) / width
    lobes = np.sinc(distance) * np.sinc(distance / LANCZOS_LOBES)
    kernel = np.where(abs(distance) < LANCZOS_LOBES, lobes, 0.0)
    kernel[(taps < 0) | (taps >= n_in)] = 0
    kernel /= kernel.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(n_out)[:, None], taps.shape)
    used = kernel != 0
    return sparse.csr_array(
        (kernel[used], (rows[used], taps[used])), shape=(n_out, n_in), dtype=np.float32
    )


def resample_into(
    out: Floats, data: NDArray[np.generic], step: float, mean: float = 0.0, factor: float = 1.0
) -> None:
    """Fill `out` with `(data - mean) * factor` on a grid of `step` input voxels.

    Voxel (0, 0, 0) keeps its position: an index becomes index / step. Both are `(z, y, x)`, `out`
    of `resampled_shape`. Each section of `data` is read once; memory holds one input section, and
    one resampled section per tap of the kernel along z.
    """
    along_z, along_y, along_x = (
        lanczos_weights(n_in, n_out, step)
        for n_in, n_out in zip(data.shape, out.shape, strict=True)
    )
    held: deque[tuple[int, Floats]] = deque()
    next_unread = 0
    reading = iterate_sections(data)
    writing = iterate_sections(out)
    for index, target in enumerate(track(writing, "resampling", len(out))):
        taps = along_z.indices[along_z.indptr[index] : along_z.indptr[index + 1]]
        weights = along_z.data[along_z.indptr[index] : along_z.indptr[index + 1]]
        first, last = int(taps.min()), int(taps.max())
        while held and held[0][0] < first:
            held.popleft()
        for number in range(next_unread, last + 1):
            raw = next(reading)
            if number < first:
                continue
            section = (np.asarray(raw, np.float32) - mean) * factor
            held.append((number, (along_x @ (along_y @ section).T).T))
        next_unread = max(next_unread, last + 1)
        by_number = dict(held)
        target[:] = sum(w * by_number[int(tap)] for tap, w in zip(taps, weights, strict=True))

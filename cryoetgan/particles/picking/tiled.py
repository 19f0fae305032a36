"""Difference of Gaussians out of core: tiles with a halo, equal to the whole volume."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.errors import UserError
from cryoetgan.io.memmap import read_region
from cryoetgan.particles.picking.local_maxima import (
    PeakList,
    Peaks,
    cubes,
    local_maxima,
    quadratic_offsets,
)
from cryoetgan.progress import track

Floats = NDArray[np.floating]
Span = tuple[int, int]
K = 1.1
"""Ratio of the two Gaussians' widths (Pei 2016)."""
TRUNCATE = 4.0
"""Gaussians end at so many sigmas."""
BYTES_A_VOXEL = 12
"""What a tile needs: its voxels and the two Gaussians, float32."""
LEAST_BYTES, MOST_BYTES = 128 << 20, 384 << 20
SHARE = 1 / 32
"""Of the tomogram's float32 size that a tile may take, between the two bounds."""
SMALLEST_CORE = 32


def response(volume: Floats, sigma: float) -> Floats:
    """Return G(sigma) * v - G(1.1 sigma) * v; a bright ball answers best at radius / sqrt 3.

    Float32, scipy's reflecting border and truncation at 4 sigma, as in AITom.
    """
    whole = [(0, n) for n in volume.shape]
    return _response(np.asarray(volume, np.float32), sigma, whole)


def _response(window: Floats, sigma: float, inner: Sequence[Span]) -> Floats:
    """Return the response of `inner` (start, stop an axis) of a window.

    Each axis is cut to what is wanted as soon as it is filtered: a third less work than
    filtering the whole halo, and the same numbers, since lines are filtered one by one.
    """
    filtered = []
    for width in (sigma, K * sigma):
        data = window
        for axis, (start, stop) in enumerate(inner):
            data = ndimage.gaussian_filter1d(data, width, axis, mode="reflect", truncate=TRUNCATE)
            data = data[(slice(None),) * axis + (slice(start, stop),)]
        filtered.append(data)
    return filtered[0] - filtered[1]


def find_peaks(
    volume: NDArray[np.generic],
    sigma: float,
    tile: int | None = None,
    named: object = "the tomogram",
) -> Peaks:
    """Return the local maxima of the response of a whole tomogram.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`, protein bright; memory-mapped is fine: it is read tile by tile.
    sigma : float
        Voxels.
    tile : int, optional
        Edge of a tile's core in voxels; by default as the tomogram's size allows. Each is
        read with a halo that covers the wider Gaussian and a peak's neighbours, and gives
        only the peaks of its core: the result is that of the whole volume at once.
    named : object
        What messages call the tomogram.

    Raises
    ------
    UserError
        Where a voxel is no finite number.
    """
    halo = halo_of(sigma)
    found = PeakList()
    edges = (tile,) * 3 if tile else core_of(volume.shape, halo)
    for core in track(list(tiles(volume.shape, edges)), f"picking at sigma {sigma:.3g}"):
        outer = [
            (max(0, a - halo), min(n, b + halo))
            for (a, b), n in zip(core, volume.shape, strict=True)
        ]
        window = read_region(volume, outer)
        low, high = float(window.min()), float(window.max())
        check_finite(high - low, named)
        if low != high:  # padded corners, which need no filter
            rimmed, first = _with_rim(window, sigma, core, outer, volume.shape)
            where = local_maxima(rimmed)
            near = cubes(rimmed, where)
            found.add(where + first + quadratic_offsets(near), near[:, 1, 1, 1])
    return found.peaks()


def halo_of(sigma: float) -> int:
    """Return how many voxels around a tile its response and its peaks depend on."""
    return int(np.ceil(TRUNCATE * K * sigma)) + 2


def check_finite(value: float, named: object) -> None:
    """Raise a `UserError` where a value that all voxels go into is no finite number."""
    if not np.isfinite(value):
        raise UserError(
            f"{named}: holds voxels that are not finite numbers (NaN or infinity); import it with "
            "'cryoetgan tomograms import', or mend it"
        )


def _with_rim(
    window: Floats, sigma: float, core: Sequence[Span], outer: Sequence[Span], shape: Sequence[int]
) -> tuple[Floats, NDArray[np.int_]]:
    """Return the core's response with a rim of one voxel (-inf outside), and its origin."""
    reach = [(max(0, a - 1), min(n, b + 1)) for (a, b), n in zip(core, shape, strict=True)]
    inner = [(a - start, b - start) for (a, b), (start, _) in zip(reach, outer, strict=True)]
    answer = _response(window, sigma, inner)
    rim = [
        (start - (a - 1), b + 1 - stop) for (a, b), (start, stop) in zip(core, reach, strict=True)
    ]
    if any(map(any, rim)):
        answer = np.pad(answer, rim, constant_values=-np.inf)
    return answer, np.array([a for a, _ in core])


def core_of(shape: Sequence[int], halo: int, voxels: float | None = None) -> tuple[int, ...]:
    """Return the edges zyx of a tile's core: with its halo, it has at most `voxels`.

    By default as many as a picker's memory allows.
    """
    if voxels is None:
        wanted = np.prod(shape, dtype=float) * 4 * SHARE
        voxels = float(np.clip(wanted, LEAST_BYTES, MOST_BYTES)) / BYTES_A_VOXEL
    edges = [0] * len(shape)
    # thin axes are taken whole and leave more to the others
    order = sorted(range(len(shape)), key=lambda axis: shape[axis])
    for place, axis in enumerate(order):
        share = voxels ** (1 / (len(shape) - place))
        if shape[axis] <= share:
            edges[axis] = shape[axis]
            voxels /= shape[axis]
        else:
            edges[axis] = max(SMALLEST_CORE, int(share) - 2 * halo)
            voxels /= share
    return tuple(edges)


def tiles(shape: Sequence[int], edges: Sequence[int]) -> Iterator[tuple[Span, ...]]:
    """Yield (start, stop) an axis of each tile's core, in order of place."""
    axes = [
        [(a, min(a + edge, n)) for a in range(0, n, edge)]
        for n, edge in zip(shape, edges, strict=True)
    ]
    yield from itertools.product(*axes)

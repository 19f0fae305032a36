"""Peaks of the Difference of Gaussians, tile by tile: exact, and in bounded memory."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.io.memmap import read_region
from cryoetgan.particles.picking import local_maxima as maxima
from cryoetgan.particles.picking.dog import SIGMA_RATIO, TRUNCATE, Span, difference_of_gaussians
from cryoetgan.progress import track

Floats = NDArray[np.floating]
BYTES_PER_VOXEL = 12
"""Memory of a tile: its voxels and the two Gaussians, float32."""
MIN_TILE_BYTES, MAX_TILE_BYTES = 128 << 20, 384 << 20
TILE_SHARE = 1 / 32
"""Memory of a tile divided by the size of the tomogram in float32, between the two limits."""
MIN_CORE_VOXELS = 32


def find_peaks(
    volume: NDArray[np.generic],
    sigma: float,
    tile: int | None = None,
    name: object = "the tomogram",
) -> maxima.Peaks:
    """Return the local maxima of the Difference of Gaussians of a whole tomogram `(z, y, x)`.

    `sigma` and `tile`, the edge of a tile's core, are in voxels; the default tile depends on the
    tomogram's size. Each tile is read with a halo that covers the wider Gaussian and the
    neighbours of a peak, and only peaks of the core count. The result is therefore equal to that
    for the whole volume. `name` is the tomogram in messages.
    """
    halo = halo_width(sigma)
    found = maxima.PeakList()
    edges = (tile,) * 3 if tile else tile_edges(volume.shape, halo)
    for core in track(list(tile_spans(volume.shape, edges)), f"picking at sigma {sigma:.3g}"):
        spans = zip(core, volume.shape, strict=True)
        outer = [(max(0, a - halo), min(n, b + halo)) for (a, b), n in spans]
        window = read_region(volume, outer)
        low, high = float(window.min()), float(window.max())
        check_finite(high - low, name)
        if low != high:  # constant padding needs no filter
            rimmed = _response_with_rim(window, sigma, core, outer, volume.shape)
            where = maxima.local_maxima(rimmed)
            near = maxima.neighbourhoods(rimmed, where)
            first = np.array([a for a, _ in core])
            found.add(where + first + maxima.quadratic_offsets(near), near[:, 1, 1, 1])
    return found.peaks()


def halo_width(sigma: float) -> int:
    """Return the number of voxels around a tile that its response and its peaks depend on."""
    return int(np.ceil(TRUNCATE * SIGMA_RATIO * sigma)) + 2


def check_finite(value: float, name: object) -> None:
    """Raise `UserError` if a sum over all voxels is not finite."""
    if not np.isfinite(value):
        raise UserError(
            f"{name}: holds voxels that are not finite numbers (NaN or infinity). Import it with "
            "'cryoetgan tomograms import', or repair the file"
        )


def _response_with_rim(
    window: Floats, sigma: float, core: Sequence[Span], outer: Sequence[Span], shape: Sequence[int]
) -> Floats:
    """Return the response of a tile's core with a rim of one voxel, -inf outside the volume."""
    reach = [(max(0, a - 1), min(n, b + 1)) for (a, b), n in zip(core, shape, strict=True)]
    inner = [(a - start, b - start) for (a, b), (start, _) in zip(reach, outer, strict=True)]
    response = difference_of_gaussians(window, sigma, inner)
    rim = [(a == 0, b == n) for (a, b), n in zip(core, shape, strict=True)]
    return (
        np.pad(response, np.array(rim, int), constant_values=-np.inf) if np.any(rim) else response
    )


def tile_edges(shape: Sequence[int], halo: int, max_voxels: float | None = None) -> tuple[int, ...]:
    """Return the edges zyx of a tile's core; a tile with its halo has at most `max_voxels`.

    The default is the memory limit of a picker.
    """
    if max_voxels is None:
        wanted = np.prod(shape, dtype=float) * 4 * TILE_SHARE
        max_voxels = float(np.clip(wanted, MIN_TILE_BYTES, MAX_TILE_BYTES)) / BYTES_PER_VOXEL
    edges = [0] * len(shape)
    # thin axes stay whole and leave more voxels to the others
    order = sorted(range(len(shape)), key=lambda axis: shape[axis])
    for place, axis in enumerate(order):
        share = max_voxels ** (1 / (len(shape) - place))
        if shape[axis] <= share:
            edges[axis] = shape[axis]
            max_voxels /= shape[axis]
        else:
            edges[axis] = max(MIN_CORE_VOXELS, int(share) - 2 * halo)
            max_voxels /= share
    return tuple(edges)


def tile_spans(shape: Sequence[int], edges: Sequence[int]) -> Iterator[tuple[Span, ...]]:
    """Yield (start, stop) of each axis of each tile's core, in the order of the voxels."""
    pairs = zip(shape, edges, strict=True)
    axes = [[(a, min(a + edge, n)) for a in range(0, n, edge)] for n, edge in pairs]
    yield from itertools.product(*axes)

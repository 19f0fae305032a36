"""Template matching over a whole tomogram, tile by tile (`tile_correlation`).

Coarse orientations are tried at every point, all orientations only at the best points. The peaks
are then aligned exactly (`refine`). A score is the correlation of a box and a template inside
wedge and band.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.devices import multiplies_bfloat16
from cryoetgan.particles.matching.low_rank import LowRankBank
from cryoetgan.particles.matching.template import SearchOptions, batches
from cryoetgan.particles.matching.tile_correlation import TileCorrelator, TilePoints, read_tile
from cryoetgan.particles.picking.tiled import check_finite, tile_edges, tile_spans
from cryoetgan.progress import track

Floats = NDArray[np.floating]
BEST_POINTS_SHARE = 0.02
"""Share of a tile's points at which all orientations are tried."""
GRID_MARGIN = 1.05
"""Nyquist frequency of the grid of correlations, relative to the low-pass."""
TILE_BYTES = 128 << 20
"""Memory for the components of a tile's points."""
POINTS_PER_PRODUCT = 4096
"""Points in one product of matrices, so that the result stays in the cache."""
FINE_SCORE_BYTES = 64 << 20
"""Memory for the scores of all fine orientations."""


@dataclass(frozen=True)
class Matches:
    """Local maxima of the score: the best over classes and orientations."""

    positions: Floats
    """`(N, 3)` x, y, z in voxels of the tomogram."""
    scores: Floats
    components: torch.Tensor
    """`(N, K)`: they give the scores of all classes and orientations."""
    mean: float
    standard_deviation: float
    """Statistics of the coarse score over all points of the tomogram."""


def search(
    volume: NDArray[np.generic],
    bank: LowRankBank,
    cutoff: float,
    options: SearchOptions,
    name: object = "the tomogram",
    core: int | None = None,
) -> Matches:
    """Return the local maxima of the best score over a tomogram `(z, y, x)`, protein bright.

    `options` give tilt range and high-pass; the low-pass is `cutoff`, in cycles per voxel, at
    most 0.5. `core` is the edge of a tile without its halo, in voxels; the default depends on the
    memory. `name` is the tomogram in messages.
    """
    halo = bank.box // 2 + 2
    dtype = torch.bfloat16 if multiplies_bfloat16(bank.kernels.device) else torch.float32
    grid = min(0.5, GRID_MARGIN * cutoff)
    voxels = TILE_BYTES / (len(bank.kernels) * dtype.itemsize) / (2 * grid) ** 3
    edges = (core,) * 3 if core else tile_edges(volume.shape, 0, voxels)
    # the same number of tiles, but of equal size
    edges = tuple(-(-n // -(-n // edge)) for n, edge in zip(volume.shape, edges, strict=True))
    low = options.highpass_radius / bank.box
    correlator: TileCorrelator | None = None
    nothing = np.zeros((0, 3)), np.zeros(0, np.float32), torch.zeros((0, len(bank.kernels)))
    found: list[tuple[Floats, Floats, torch.Tensor]] = [nothing]
    total, squares, count = 0.0, 0.0, 0
    coarse = bank.coarse.flatten(0, 1).to(dtype).T.contiguous()
    for place in track(list(tile_spans(volume.shape, edges)), "matching"):
        window, origin = read_tile(volume, place, halo)
        check_finite(float(window.max()) - float(window.min()), name)
        if window.min() == window.max():
            continue
        if correlator is None or correlator.lengths != window.shape:
            tilts = options.acquisition.tilts
            correlator = TileCorrelator(bank, window.shape, grid, tilts, (low, cutoff))
        points, norms, components = correlator.correlate(window, place, origin, dtype)
        best = _coarse_best(components, coarse) / norms
        total, squares = total + float(best.sum()), squares + float((best**2).sum())
        count += len(best)
        found.append(_fine_peaks(bank, best, norms, components, points))
    positions, scores, parts = zip(*found, strict=True)
    count = max(count, 1)
    mean = total / count
    return Matches(
        np.concatenate(positions),
        np.concatenate(scores),
        torch.cat(parts),
        mean,
        float(np.sqrt(max(squares / count - mean**2, 0.0))),
    )


def _coarse_best(components: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """Return `(V,)`: the best product of each point with the coarse bank `(K, C Rc)`."""
    best = torch.empty(components.shape[1], device=components.device)
    size = POINTS_PER_PRODUCT * (1 if components.device.type == "cpu" else 64)
    for part in batches(components.shape[1], size):
        best[part] = (components[:, part].T.contiguous() @ coarse).amax(dim=1)
    return best


def _fine_peaks(
    bank: LowRankBank,
    best: torch.Tensor,
    norms: torch.Tensor,
    components: torch.Tensor,
    points: TilePoints,
) -> tuple[Floats, Floats, torch.Tensor]:
    """Try all orientations at the best points; return their local maxima."""
    chosen = torch.topk(best, max(1, int(BEST_POINTS_SHARE * len(best)))).indices.sort().values
    vectors = components[:, chosen].T.float()
    scores = (class_products(bank, vectors).amax(dim=1) / norms[chosen]).cpu().numpy()
    index = chosen.cpu().numpy()
    field = np.full(len(best), -np.inf, np.float32)
    field[index] = scores
    field = field.reshape(points.shape)
    highest = ndimage.maximum_filter(field, 3, mode="constant", cval=-np.inf).reshape(-1)
    peak = scores >= highest[index]
    where = np.stack(np.unravel_index(index[peak], points.shape), axis=1)
    keep = torch.as_tensor(np.flatnonzero(peak)).to(vectors.device)
    return points.positions(where), scores[peak], vectors[keep].cpu()


def class_products(bank: LowRankBank, components: torch.Tensor) -> torch.Tensor:
    """Return `(N, C)`: the best product of components `(N, K)` over all orientations by class."""
    vectors = components.to(bank.fine.device)
    best = torch.full((len(vectors), len(bank.names)), -torch.inf, device=vectors.device)
    for number, coefficients in enumerate(bank.fine):
        for part in batches(len(vectors), _rows_per_product(bank)):
            best[part, number] = (vectors[part] @ coefficients.T).amax(dim=1)
    return best


def best_orientations(
    bank: LowRankBank, components: torch.Tensor, number: int, count: int
) -> NDArray[np.int_]:
    """Return `(N, count)`: indices of the best fine orientations of class `number`."""
    coefficients = bank.fine[number]
    found = []
    for part in batches(len(components), _rows_per_product(bank)):
        products = components[part].to(coefficients.device) @ coefficients.T
        best = torch.topk(products, min(count, products.shape[1]), dim=1).indices
        found.append(best.cpu().numpy())
    return np.concatenate(found)


def _rows_per_product(bank: LowRankBank) -> int:
    return max(64, FINE_SCORE_BYTES // 4 // bank.fine.shape[1])

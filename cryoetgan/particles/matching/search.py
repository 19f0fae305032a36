"""Template matching over a whole tomogram, tile by tile.

Each tile goes through one FFT; what lies above the low-pass is cut off there, so that the
correlations are computed on a coarser grid without loss. Coarse orientations are tried at
every point, all of them on the best points only; what is found is then aligned exactly
(`refinement`). Scores are correlations inside wedge and band of a box with the template.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.devices import multiplies_bfloat16
from cryoetgan.particles.matching.low_rank import LowRankBank
from cryoetgan.particles.matching.tile_correlation import Points, Tile, components_of, window_of
from cryoetgan.particles.picking.tiled import check_finite, core_of, tiles
from cryoetgan.progress import track

Floats = NDArray[np.floating]
BEST = 0.02
"""Share of a tile's points on which all orientations are tried."""
SPARE = 1.05
"""The grid of correlations resolves frequencies a little above the low-pass."""
BUDGET = 128 << 20
"""Bytes of the components of a tile's points."""
POINTS = 4096
"""Points in one product of matrices: the result stays in the cache."""
FINE_BYTES = 64 << 20


@dataclass(frozen=True)
class Matches:
    """Local maxima of the best score.

    Attributes
    ----------
    positions : ndarray
        `(N, 3)` x, y, z in voxels of the tomogram.
    scores : ndarray
        `(N,)`: the best over classes and orientations.
    components : torch.Tensor
        `(N, K)`: they give the scores of all classes and orientations.
    mean, deviation : float
        Of the coarse score over all points of the tomogram.
    """

    positions: Floats
    scores: Floats
    components: torch.Tensor
    mean: float
    deviation: float


def search(
    volume: NDArray[np.generic],
    bank: LowRankBank,
    tilts: tuple[float, float],
    shells: int,
    cutoff: float,
    named: object = "the tomogram",
    core: int | None = None,
) -> Matches:
    """Return where the templates fit.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`, protein bright; memory-mapped is fine: it is read tile by tile.
    bank : LowRankBank
        The templates.
    tilts : (float, float)
        Degrees.
    shells : int
        Lowest Fourier shells of a box left out.
    cutoff : float
        Low-pass in cycles a voxel, at most 0.5.
    named : object
        What messages call the tomogram.
    core : int, optional
        Edge of a tile without its halo; by default as the memory allows.
    """
    box = bank.kernels.shape[-1]
    halo = box // 2 + 2
    small = torch.bfloat16 if multiplies_bfloat16(bank.kernels.device) else torch.float32
    grid = min(0.5, SPARE * cutoff)
    voxels = BUDGET / (len(bank.kernels) * small.itemsize) / (2 * grid) ** 3
    edges = (core,) * 3 if core else core_of(volume.shape, 0, voxels)
    # as many tiles, but all of one size
    edges = tuple(-(-n // -(-n // edge)) for n, edge in zip(volume.shape, edges, strict=True))
    made: dict[tuple[int, ...], tuple[Tile, torch.Tensor]] = {}
    found: list[tuple[Floats, Floats, torch.Tensor]] = []
    total, squares, count = 0.0, 0.0, 0
    coarse = bank.coarse.flatten(0, 1).to(small).T.contiguous()
    for place in track(list(tiles(volume.shape, edges)), "matching"):
        window, origin = window_of(volume, place, halo)
        check_finite(float(window.max()) - float(window.min()), named)
        if window.min() == window.max():
            continue
        lengths = window.shape
        if lengths not in made:
            tile = Tile(bank, lengths, grid)
            low = (max(shells, 0.5) - 0.5) / box
            made = {lengths: (tile, tile.wedge_and_band(tilts, low, cutoff))}
        tile, inside = made[lengths]
        where, norms, components = components_of(tile, window, inside, place, origin, small)
        best = _coarse_best(components, coarse) / norms
        total, squares = total + float(best.sum()), squares + float((best**2).sum())
        count += len(best)
        found.append(_fine_peaks(bank, best, norms, components, where))
    if not found:
        none = torch.zeros((0, len(bank.kernels)))
        return Matches(np.zeros((0, 3)), np.zeros(0), none, 0.0, 0.0)
    positions, scores, parts = zip(*found, strict=True)
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
    many = POINTS if components.device.type == "cpu" else 64 * POINTS
    for start in range(0, components.shape[1], many):
        part = components[:, start : start + many].T.contiguous() @ coarse
        best[start : start + many] = part.amax(dim=1)
    return best


def _fine_peaks(
    bank: LowRankBank,
    best: torch.Tensor,
    norms: torch.Tensor,
    components: torch.Tensor,
    points: Points,
) -> tuple[Floats, Floats, torch.Tensor]:
    """Try all orientations on the best points; return their local maxima."""
    chosen = torch.topk(best, max(1, int(BEST * len(best)))).indices.sort().values
    vectors = components[:, chosen].T.float()
    scores = (best_of_all(bank, vectors).amax(dim=1) / norms[chosen]).cpu().numpy()
    index = chosen.cpu().numpy()
    field = np.full(len(best), -np.inf, np.float32)
    field[index] = scores
    field = field.reshape(points.shape)
    top = ndimage.maximum_filter(field, 3, mode="constant", cval=-np.inf).reshape(-1)
    peak = scores >= top[index]
    where = np.stack(np.unravel_index(index[peak], points.shape), axis=1)
    keep = torch.as_tensor(np.flatnonzero(peak)).to(vectors.device)
    return (
        points.positions(where),
        scores[peak],
        vectors[keep].cpu(),
    )


def best_of_all(bank: LowRankBank, vectors: torch.Tensor) -> torch.Tensor:
    """Return `(N, C)`: the best product of components `(N, K)` over fine orientations."""
    best = torch.full((len(vectors), len(bank.names)), -torch.inf, device=vectors.device)
    rows = max(64, FINE_BYTES // 4 // bank.fine.shape[1])
    for number, coefficients in enumerate(bank.fine):
        for start in range(0, len(vectors), rows):
            part = vectors[start : start + rows] @ coefficients.T
            best[start : start + rows, number] = part.amax(dim=1)
    return best


def scores_by_class(bank: LowRankBank, components: torch.Tensor) -> Floats:
    """Return `(N, C)` products of components `(N, K)` with each class's best orientation."""
    return best_of_all(bank, components.to(bank.fine.device)).cpu().numpy().astype(float)


def candidates(
    bank: LowRankBank, components: torch.Tensor, number: int, count: int
) -> NDArray[np.int_]:
    """Return `(N, count)`: the best fine orientations of class `number`."""
    coefficients = bank.fine[number]
    rows = max(64, FINE_BYTES // 4 // bank.fine.shape[1])
    found = []
    for start in range(0, len(components), rows):
        part = components[start : start + rows].to(coefficients.device) @ coefficients.T
        best = torch.topk(part, min(count, part.shape[1]), dim=1).indices
        found.append(best.cpu().numpy())
    return np.concatenate(found)

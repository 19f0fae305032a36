"""Template matching over a whole tomogram, tile by tile.

Each tile goes through one FFT; what lies above the low-pass is cut off there, so that the
correlations are computed on a coarser grid without loss. Coarse orientations are tried at
every point, all of them on the best points only; what is found is then aligned exactly
(`refinement`). Scores are correlations inside wedge and band of a box with the template.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage

from cryoetgan.particles.matching_bank import LowRankBank
from cryoetgan.particles.pages import release
from cryoetgan.particles.picking_tiles import Span, check_finite, core_of, tiles
from cryoetgan.progress import track

Floats = NDArray[np.floating]
BEST = 0.02
"""Share of a tile's points on which all orientations are tried."""
SPARE = 1.05
"""The grid of correlations resolves frequencies a little above the low-pass."""
BUDGET = 256 << 20
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
    classes : ndarray of int
        `(N,)` the best class.
    components : torch.Tensor
        `(N, K)`: they give the scores of all classes and orientations.
    mean, deviation : float
        Of the coarse score over all points of the tomogram.
    """

    positions: Floats
    scores: Floats
    classes: NDArray[np.int_]
    components: torch.Tensor
    mean: float
    deviation: float


@dataclass(frozen=True)
class _Axis:
    """One axis of a tile: `size` voxels, of whose frequencies `kept` make `points` points."""

    size: int
    points: int
    frequencies: NDArray[np.float64]
    kept: NDArray[np.int_]

    @property
    def step(self) -> float:
        return self.size / self.points


def _axis(length: int, cutoff: float, half: bool) -> _Axis:
    """Return the sizes for an axis of at least `length` voxels; `half` for the last one."""
    size = fft.next_fast_len(length + length % 2)
    while size % 2:
        size = fft.next_fast_len(size + 1)
    points = int(np.ceil(2 * cutoff * size)) + 2
    while points < size and (points % 2 or fft.next_fast_len(points) != points):
        points += 1
    points = min(points, size)
    count = np.arange(points // 2) if half else np.fft.fftfreq(points, 1 / points)
    # the highest frequency stands for two signs and is left out (never kept by `half`)
    count = np.round(count).astype(int)
    return _Axis(size, points, count / size, np.where(count < 0, count + size, count))


class _Tile:
    """Correlates tiles of one size with the kernels."""

    def __init__(self, bank: LowRankBank, lengths: Sequence[int], cutoff: float) -> None:
        self.bank = bank
        self.axes = [_axis(n, cutoff, half=axis == 2) for axis, n in enumerate(lengths)]
        self.shape = tuple(axis.points for axis in self.axes)
        self.device = bank.kernels.device
        box = bank.kernels.shape[-1]
        places = np.arange(box) - box // 2
        self.waves = [
            torch.as_tensor(
                np.exp(2j * np.pi * np.outer(axis.frequencies, places)), dtype=torch.complex64
            ).to(self.device)
            for axis in self.axes
        ]
        self.kept = [torch.as_tensor(axis.kept).to(self.device) for axis in self.axes]
        self.scale = 1 / float(np.prod([axis.size for axis in self.axes]))

    def spectrum(self, window: Floats) -> torch.Tensor:
        """Return the kept part of a window's transform."""
        whole = torch.zeros([axis.size for axis in self.axes], device=self.device)
        z, y, x = window.shape
        whole[:z, :y, :x] = torch.as_tensor(window, device=self.device)
        kz, ky, kx = self.kept
        found = torch.fft.rfftn(whole)[..., : len(kx)]
        return found[kz][:, ky].contiguous()

    def conjugate(self, kernel: torch.Tensor) -> torch.Tensor:
        """Return the conjugate transform of a kernel `(z, y, x)` at the kept frequencies."""
        z, y, x = self.waves
        values = kernel.to(torch.complex64) @ x.T  # (z, y, kx)
        values = torch.matmul(y, values)  # (z, ky, kx)
        return (z @ values.flatten(1)).reshape(len(z), len(y), len(x))

    def back(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Return the points of a kept spectrum."""
        padded = torch.nn.functional.pad(spectrum, (0, 1))
        return torch.fft.irfftn(padded, s=self.shape, norm="forward") * self.scale

    def box_energy(self, spectrum: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Return the energy, inside wedge and band, of the box around each point."""
        seen = self.back(spectrum * inside)
        powers = torch.fft.rfftn(seen**2)[..., : len(self.kept[2])]
        powers[self.shape[0] // 2] = 0
        powers[:, self.shape[1] // 2] = 0
        box = self.bank.kernels.shape[-1]
        ones = torch.ones((box, box, box), device=self.device)
        # n^3 sum of squares is the sum over the box's own transform (Parseval)
        total = self.back(powers * self.conjugate(ones)) / self.scale
        total = total * box**3 / float(np.prod(self.shape))
        return total.clamp_min(1e-3 * float(total.mean()) + 1e-30)

    def wedge_and_band(self, tilts: tuple[float, float], low: float, high: float) -> torch.Tensor:
        """Return 1 where a frequency was seen and lies in the band, at the kept frequencies."""
        kz, ky, kx = np.meshgrid(*[axis.frequencies for axis in self.axes], indexing="ij")
        radius = np.sqrt(kz**2 + ky**2 + kx**2)
        angle = np.degrees(np.arctan2(kz, np.maximum(kx, 1e-12)))
        seen = (angle >= tilts[0]) & (angle <= tilts[1]) | ((kz == 0) & (kx == 0))
        inside = seen & (radius > low) & (radius <= high)
        return torch.as_tensor(inside, dtype=torch.float32).to(self.device)


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
    small = _small_type(bank.kernels.device)
    grid = min(0.5, SPARE * cutoff)
    voxels = BUDGET / (len(bank.kernels) * small.itemsize) / (2 * grid) ** 3
    edges = (core,) * 3 if core else core_of(volume.shape, 0, voxels)
    # as many tiles, but all of one size
    edges = tuple(-(-n // -(-n // edge)) for n, edge in zip(volume.shape, edges, strict=True))
    made: dict[tuple[int, ...], tuple[_Tile, torch.Tensor]] = {}
    found: list[tuple[Floats, Floats, NDArray[np.int_], torch.Tensor]] = []
    total, squares, count = 0.0, 0.0, 0
    coarse = bank.coarse.flatten(0, 1).to(small).T.contiguous()
    for place in track(list(tiles(volume.shape, edges)), "matching"):
        window, origin = _window(volume, place, halo)
        release(volume)
        check_finite(float(window.max()) - float(window.min()), named)
        if window.min() == window.max():
            continue
        lengths = window.shape
        if lengths not in made:
            tile = _Tile(bank, lengths, grid)
            low = (max(shells, 0.5) - 0.5) / box
            made = {lengths: (tile, tile.wedge_and_band(tilts, low, cutoff))}
        tile, inside = made[lengths]
        where, norms, components = _components(tile, window, inside, place, origin, small)
        best = _coarse_best(components, coarse) / norms
        total, squares = total + float(best.sum()), squares + float((best**2).sum())
        count += len(best)
        found.append(_fine_peaks(bank, best, norms, components, where))
    if not found:
        none = torch.zeros((0, len(bank.kernels)))
        return Matches(np.zeros((0, 3)), np.zeros(0), np.zeros(0, int), none, 0.0, 0.0)
    positions, scores, classes, parts = zip(*found, strict=True)
    mean = total / count
    return Matches(
        np.concatenate(positions),
        np.concatenate(scores),
        np.concatenate(classes),
        torch.cat(parts),
        mean,
        float(np.sqrt(max(squares / count - mean**2, 0.0))),
    )


def _small_type(device: torch.device) -> torch.dtype:
    """Return the type of the large products: bfloat16 where the processor computes in it."""
    quick = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if quick else torch.float32


def _window(
    volume: NDArray[np.generic], core: Sequence[Span], halo: int
) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """Return a tile with its halo, less its mean, zero beyond the tomogram; and its origin."""
    low = np.array([a for a, _ in core]) - halo
    high = np.array([b for _, b in core]) + halo
    inner_low, inner_high = np.maximum(low, 0), np.minimum(high, volume.shape)
    part = volume[tuple(slice(a, b) for a, b in zip(inner_low, inner_high, strict=True))]
    window = np.asarray(part, np.float32)
    window = window - window.mean(dtype=np.float64).astype(np.float32)
    return np.pad(window, np.stack([inner_low - low, high - inner_high], axis=1)), low


@dataclass(frozen=True)
class _Points:
    """The points of a tile's core: their grid, and where it lies."""

    shape: tuple[int, ...]
    first: Floats
    step: Floats

    def positions(self, index: NDArray[np.int_]) -> Floats:
        """Return x, y, z of points given as `(N, 3)` zyx indices."""
        return (self.first + index * self.step)[:, ::-1]


def _components(
    tile: _Tile,
    window: Floats,
    inside: torch.Tensor,
    core: Sequence[Span],
    origin: NDArray[np.int_],
    small: torch.dtype,
) -> tuple[_Points, torch.Tensor, torch.Tensor]:
    """Return the core's points, their boxes' norms `(V,)` and components `(K, V)`."""
    cut, first = [], []
    for (a, b), start, axis in zip(core, origin, tile.axes, strict=True):
        low = int(np.ceil((a - start) / axis.step - 1e-9))
        high = int(np.ceil((b - start) / axis.step - 1e-9))
        cut.append(slice(low, high))
        first.append(start + low * axis.step)
    region = tuple(cut)
    spectrum = tile.spectrum(window)
    energy = tile.box_energy(spectrum, inside)[region]
    components = torch.empty(
        (len(tile.bank.kernels), energy.numel()), dtype=small, device=tile.device
    )
    for number, kernel in enumerate(tile.bank.kernels):
        answer = tile.back(spectrum * tile.conjugate(kernel))
        components[number] = answer[region].reshape(-1)
    points = _Points(
        tuple(energy.shape), np.array(first), np.array([axis.step for axis in tile.axes])
    )
    return points, energy.reshape(-1).sqrt(), components


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
    points: _Points,
) -> tuple[Floats, Floats, NDArray[np.int_], torch.Tensor]:
    """Try all orientations on the best points; return their local maxima."""
    chosen = torch.topk(best, max(1, int(BEST * len(best)))).indices.sort().values
    vectors = components[:, chosen].T.float()
    values, classes = best_of_all(bank, vectors)
    scores = (values / norms[chosen]).cpu().numpy()
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
        classes.cpu().numpy()[peak],
        vectors[keep].cpu(),
    )


def best_of_all(bank: LowRankBank, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `(N,)` best products over classes and fine orientations, and the classes."""
    best = torch.full((len(vectors), len(bank.names)), -torch.inf, device=vectors.device)
    rows = max(64, FINE_BYTES // 4 // bank.fine.shape[1])
    for number, coefficients in enumerate(bank.fine):
        for start in range(0, len(vectors), rows):
            part = vectors[start : start + rows] @ coefficients.T
            best[start : start + rows, number] = part.amax(dim=1)
    values, classes = best.max(dim=1)
    return values, classes


def candidates(
    bank: LowRankBank, vectors: torch.Tensor, number: int, count: int
) -> Iterator[NDArray[np.int_]]:
    """Yield, in parts of N, `(n, count)` best fine orientations of class `number`."""
    coefficients = bank.fine[number]
    rows = max(64, FINE_BYTES // 4 // bank.fine.shape[1])
    for start in range(0, len(vectors), rows):
        part = vectors[start : start + rows].to(coefficients.device) @ coefficients.T
        yield torch.topk(part, min(count, part.shape[1]), dim=1).indices.cpu().numpy()

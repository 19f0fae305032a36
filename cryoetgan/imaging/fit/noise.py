"""Measure the noise of a tomogram: its autocovariance in the voxels away from all particles.

In a crowded tomogram no whole box is free of particles, so none is cut out. The autocovariance
of a stationary noise n is estimated behind a mask m of free voxels instead (`Autocovariance`).
Fringes of particles (CTF, missing wedge) reach into free voxels; the fit subtracts the same
sum over the simulated signal.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan import seeds
from cryoetgan.errors import UserError
from cryoetgan.io.exclusion import ExclusionMask
from cryoetgan.physics.geometry import Corner, block_slices, clip_box, tiles
from cryoetgan.progress import track

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]
BLOCK_VOXELS = 128
"""Edge of the blocks in which tomograms are read."""
MAX_BLOCKS = 24
"""Blocks that are read, spread over the tomogram: twelve million voxels or more."""
MIN_PAIRS = 200.0
"""Voxel pairs below which a lag of the autocovariance is set to zero."""
MIN_FREE_FRACTION = 0.02
"""Fraction of the voxels that must be free of particles."""


@dataclass(frozen=True)
class FreeVoxels:
    """The voxels of a tomogram that are farther than a radius from all particles."""

    places: Floats
    """`(N, 3)` particles, x, y, z in voxels of the tomogram."""
    radius: float
    """Voxels."""
    excluded: ExclusionMask | None = None
    """Other voxels that are not free: carbon, ice, padding."""
    part: int | None = None
    """Edge of the boxes of a set, which are stacked along z; None: one tomogram."""

    def mask(self, corner: Corner, shape: Corner) -> Mask:
        """Return the free voxels of a block, from its corner and shape (zyx)."""
        free = np.ones(shape, bool)
        if self.excluded is not None:
            free &= ~self.excluded[block_slices(corner, shape)]
        reach = int(np.ceil(self.radius)) + 1
        axis = np.arange(-reach, reach + 1)
        near = in_part(self.places, corner, shape, self.part)
        for place in np.asarray(self.places, float)[near, ::-1] - np.array(corner):
            if (place < -reach).any() or (place > np.array(shape) - 1 + reach).any():
                continue
            nearest = np.rint(place).astype(int)
            z, y, x = (axis + w - p for w, p in zip(nearest, place, strict=True))
            square = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None] ** 2
            ball = square <= self.radius**2
            in_block, in_ball = clip_box(nearest - reach, ball.shape, shape)
            free[in_block] &= ~ball[in_ball]
        return free

    def fraction(self, shape: tuple[int, ...], seed: int) -> float:
        """Return the free fraction of a tomogram's sampled blocks."""
        masks = [self.mask(*block) for block in sample_blocks(shape, seed, self.part)]
        return sum(float(m.sum()) for m in masks) / sum(m.size for m in masks)


def in_part(places: Floats, corner: Sequence[int], shape: Sequence[int], part: int | None) -> Mask:
    """Return which places (xyz) lie in the box of a set that holds the middle of a block (zyx).

    The boxes of a set have nothing to do with each other. In a tomogram (`part` None) all are True.
    """
    places = np.asarray(places, float).reshape(-1, 3)
    if part is None:
        return np.ones(len(places), bool)
    middle = np.floor((corner[0] + (shape[0] - 1) / 2 + 0.5) / part)
    return np.asarray(np.floor((places[:, 2] + 0.5) / part) == middle)


def sample_blocks(
    shape: tuple[int, ...], seed: int, part: int | None = None
) -> Iterator[tuple[Corner, Corner]]:
    """Yield corner and shape (zyx) of blocks of a tomogram: all, or `MAX_BLOCKS` random ones.

    The blocks of a set are its boxes, of as many voxels in total.
    """
    if part is None:
        blocks, most = list(tiles(shape, BLOCK_VOXELS)), MAX_BLOCKS
    else:
        _, height, width = shape
        blocks = [((z, 0, 0), (part, height, width)) for z in range(0, shape[0], part)]
        most = max(MAX_BLOCKS, MAX_BLOCKS * BLOCK_VOXELS**3 // part**3)
    if len(blocks) > most:
        order = seeds.rng(seed, "imaging", "blocks").permutation(len(blocks))
        blocks = [blocks[i] for i in sorted(order[:most])]
    yield from blocks


class Autocovariance:
    """Accumulates the autocovariance of masked blocks.

        C(d) = sum over x of m(x) n(x) m(x + d) n(x + d) / sum over x of m(x) m(x + d)

    n are the values with mean 0, m is 1 in free voxels and 0 elsewhere, d is the lag. Both sums
    are computed by FFT, over all blocks. `lags` is the largest lag, voxels.
    """

    def __init__(self, lags: int) -> None:
        self.lags = lags
        self.pairs = np.zeros((2 * lags,) * 3)
        self.products = np.zeros((2 * lags,) * 3)

    def add(self, values: Floats, free: Mask) -> None:
        """Add a block `(z, y, x)` of values with mean 0 and its free voxels."""
        shape = [fft.next_fast_len(n + self.lags, real=True) for n in values.shape]
        masked = np.where(free, values, 0).astype(np.float32)
        for total, volume in ((self.products, masked), (self.pairs, free.astype(np.float32))):
            spectrum = fft.rfftn(volume, shape)
            product = fft.irfftn(spectrum.real**2 + spectrum.imag**2, shape)
            kept = [np.r_[0 : self.lags, n - self.lags : n] for n in product.shape]
            total += product[np.ix_(*kept)]

    def covariance(self) -> Floats:
        """Return C, `(2 lags,)^3`, lag 0 at index 0; zero at lags with fewer pairs than `MIN_PAIRS`."""
        enough = self.pairs > MIN_PAIRS
        return np.where(enough, self.products / np.maximum(self.pairs, 1), 0.0)


def power_density(covariance: Floats, voxel_size: float) -> NDArray[np.float64]:
    """Return the power spectral density `(n, n, n // 2 + 1)` in grey value^2 A^3.

    S(k) = voxel volume * FFT(C(d) * w(d))

    C is the autocovariance and w the square root of the Parzen window, a compromise between the
    window, which blurs S over about two modes, and none, which leaves S noisy.
    """
    n = covariance.shape[0]
    lag = np.minimum(np.arange(n), n - np.arange(n)) / (n / 2)
    parzen = np.where(lag < 0.5, 1 - 6 * lag**2 * (1 - lag), 2 * (1 - lag) ** 3)
    window = np.sqrt(parzen)
    tapered = covariance * window[:, None, None] * window[None, :, None] * window[None, None]
    return np.asarray(np.fft.rfftn(tapered).real * voxel_size**3)


def measure_autocovariance(
    data: NDArray[np.generic], free: FreeVoxels, lags: int, seed: int, path: object
) -> tuple[Autocovariance, float]:
    """Return the autocovariance of a tomogram's free voxels, and their fraction.

    The tomogram `(z, y, x)` is read block by block; `lags` are voxels, and `path` is its name in
    messages.
    """
    total = count = voxels = 0.0
    blocks = list(sample_blocks(data.shape, seed, free.part))
    for corner, shape in blocks:
        mask = free.mask(corner, shape)
        total += float(_read_block(data, corner, shape)[mask].sum(dtype=np.float64))
        count += int(mask.sum())
        voxels += mask.size
    if count < MIN_FREE_FRACTION * voxels:
        raise UserError(
            f"{path}: {100 * count / voxels:.1f} % of its voxels are farther than "
            f"{free.radius:.1f} voxels from all picks, wanted {100 * MIN_FREE_FRACTION:g} % to "
            "measure noise; fit with fewer picks (particles pick --top, or a higher --threshold)"
        )
    mean = total / count
    found = Autocovariance(lags)
    for corner, shape in track(blocks, "measuring noise"):
        values = _read_block(data, corner, shape) - np.float32(mean)
        found.add(values, free.mask(corner, shape))
    return found, count / voxels


def _read_block(data: NDArray[np.generic], corner: Corner, shape: Corner) -> NDArray[np.float32]:
    return np.asarray(data[block_slices(corner, shape)], np.float32)

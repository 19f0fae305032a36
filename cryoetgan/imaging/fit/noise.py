"""The noise of a tomogram: the autocovariance of what lies away from all particles.

In a crowded tomogram no whole box is free of particles, so no box is cut out: the
autocovariance of a stationary noise n behind a mask m is that of m n over that of m, at
every lag that two free voxels are apart. Particles' fringes (CTF, missing wedge) reach
beyond them: the same sum over a model of the signal alone is taken off.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.errors import UserError
from cryoetgan.imaging.fit.exclusion import LeftOut
from cryoetgan.physics.geometry import clip_box
from cryoetgan.progress import track
from cryoetgan.seeds import rng

Floats = NDArray[np.floating]
BLOCK = 128
"""Voxels: tomograms are read in blocks of this edge."""
MOST_BLOCKS = 24
"""Blocks looked at, drawn over the tomogram: twelve million voxels or more."""
LEAST_PAIRS = 200.0
LEAST_SHARE = 0.02
"""Of the voxels that must be free of particles."""

Signal = Callable[[tuple[int, int, int], tuple[int, int, int]], Floats]
"""From a block's corner and shape (zyx) to the signal in it."""


def free_of(
    places: Floats,
    radius: float,
    corner: tuple[int, ...],
    shape: tuple[int, ...],
    mask: LeftOut | None = None,
) -> NDArray[np.bool_]:
    """Return the voxels of a block that lie farther than `radius` from all places.

    Parameters
    ----------
    places : ndarray
        `(N, 3)` x, y, z in voxels of the tomogram.
    radius : float
        Voxels.
    corner, shape : tuple of int
        zyx.
    mask : LeftOut, optional
        Of the tomogram: what is left out (carbon, ice, padding) is not free either.
    """
    free = np.ones(shape, bool)
    if mask is not None:
        free &= ~mask[_slices(corner, shape)]
    reach = int(np.ceil(radius)) + 1
    axis = np.arange(-reach, reach + 1)
    for place in np.asarray(places, float)[:, ::-1] - np.array(corner):
        if (place < -reach).any() or (place > np.array(shape) - 1 + reach).any():
            continue
        whole = np.rint(place).astype(int)
        z, y, x = (axis + w - p for w, p in zip(whole, place, strict=True))
        ball = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None] ** 2 <= radius**2
        in_volume, in_ball = clip_box(whole - reach, ball.shape, shape)
        free[in_volume] &= ~ball[in_ball]
    return free


def blocks(
    shape: tuple[int, ...], seed: int
) -> Iterator[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """Yield corner and shape (zyx) of blocks that tile a tomogram, at most `MOST_BLOCKS`."""
    starts = [range(0, length, BLOCK) for length in shape]
    corners = list(itertools.product(*starts))
    if len(corners) > MOST_BLOCKS:
        chosen = rng(seed, "imaging", "blocks").permutation(len(corners))[:MOST_BLOCKS]
        corners = [corners[i] for i in sorted(chosen)]
    for z, y, x in corners:
        size = [min(BLOCK, s - c) for s, c in zip(shape, (z, y, x), strict=True)]
        yield (z, y, x), (size[0], size[1], size[2])


class Autocovariance:
    """Sums that give the autocovariance of what was seen behind masks.

    Parameters
    ----------
    lags : int
        Voxels; the result is `(2 lags,)^3`, lag 0 at index 0.
    """

    def __init__(self, lags: int) -> None:
        self.lags = lags
        self.pairs = np.zeros((2 * lags,) * 3)
        self.products = np.zeros((2 * lags,) * 3)

    def add(self, values: Floats, free: NDArray[np.bool_]) -> None:
        """Add a block `(z, y, x)` of mean-free values and where they count."""
        shape = [fft.next_fast_len(n + self.lags, real=True) for n in values.shape]
        masked = np.where(free, values, 0).astype(np.float32)
        for total, volume in ((self.products, masked), (self.pairs, free.astype(np.float32))):
            spectrum = fft.rfftn(volume, shape)
            both = fft.irfftn(spectrum.real**2 + spectrum.imag**2, shape)
            total += self._lags(both)

    def _lags(self, both: Floats) -> Floats:
        keep = [np.r_[0 : self.lags, n - self.lags : n] for n in both.shape]
        return both[np.ix_(*keep)]

    def covariance(self) -> Floats:
        """Return `(2 lags,)^3`; lags that too few pairs are apart are zero."""
        enough = self.pairs > LEAST_PAIRS
        return np.where(enough, self.products / np.maximum(self.pairs, 1), 0.0)


def density_of(covariance: Floats, voxel_size: float) -> NDArray[np.float64]:
    """Return the power spectral density `(n, n, n // 2 + 1)` in grey value^2 A^3.

    The window over the lags (Parzen's: no side lobes) blurs it over a mode or two, without
    which it would be mostly chance.
    """
    n = covariance.shape[0]
    lag = np.minimum(np.arange(n), n - np.arange(n)) / (n / 2)
    parzen = np.where(lag < 0.5, 1 - 6 * lag**2 * (1 - lag), 2 * (1 - lag) ** 3)
    # half way between Parzen's narrow window and none: noise is smooth but for the wedge
    window = np.sqrt(parzen)
    tapered = covariance * window[:, None, None] * window[None, :, None] * window[None, None]
    return np.asarray(np.fft.rfftn(tapered).real * voxel_size**3)


def background(
    data: NDArray[np.generic],
    places: Floats,
    radius: float,
    lags: int,
    seed: int,
    path: object,
    mask: LeftOut | None = None,
) -> tuple[Autocovariance, float]:
    """Return the autocovariance and the share of a tomogram's particle-free voxels.

    Parameters
    ----------
    data : ndarray
        `(z, y, x)`, memory-mapped; read block by block.
    places : ndarray
        `(N, 3)` x, y, z in voxels: all particles.
    radius : float
        Voxels around a place that do not count.
    lags : int
        Voxels.
    seed : int
        Of the choice of blocks in a large tomogram.
    path : object
        What messages call the tomogram.
    mask : LeftOut, optional
        Where nothing is measured.

    Raises
    ------
    UserError
        Where too little is free of particles.
    """
    total = count = voxels = 0.0
    chosen = list(blocks(data.shape, seed))
    for corner, shape in chosen:
        free = free_of(places, radius, corner, shape, mask)
        total += float(_block(data, corner, shape)[free].sum(dtype=np.float64))
        count += int(free.sum())
        voxels += free.size
    if count < LEAST_SHARE * voxels:
        raise UserError(
            f"{path}: {100 * count / voxels:.1f} % of it lie farther than {radius:.1f} voxels from "
            f"all picks, wanted {100 * LEAST_SHARE:g} % or more to measure noise on; fit with "
            "fewer picks (particles pick --top, or a higher --threshold)"
        )
    mean = total / count
    found = Autocovariance(lags)
    for corner, shape in track(chosen, "measuring noise"):
        free = free_of(places, radius, corner, shape, mask)
        found.add(_block(data, corner, shape) - np.float32(mean), free)
    return found, count / voxels


def _block(
    data: NDArray[np.generic], corner: tuple[int, ...], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    return np.asarray(data[_slices(corner, shape)], np.float32)


def _slices(corner: tuple[int, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(c, c + s) for c, s in zip(corner, shape, strict=True))

"""Find particles in a tomogram of any size: windows without seams, peaks, suppression."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from torch import nn

from cryoetgan.detection.grey import GreyValues
from cryoetgan.detection.network import ALIGN, BLOCK, HALO
from cryoetgan.devices import multiplies_bfloat16
from cryoetgan.particles.picking.dog import non_maximum_suppression
from cryoetgan.particles.picking.local_maxima import neighbourhoods, quadratic_offsets
from cryoetgan.progress import track

Floats = NDArray[np.floating]
LARGEST_WINDOW = 320**3
"""Voxels; the network then takes at most some 2 GB."""
SMOOTHING = 3
"""Edge of the cubes over which probabilities are averaged, positions at half resolution."""
RIM = 4
"""Positions around the core that smoothing and peaks need."""
MAX_PARTS = 24
"""Parts of an axis, at most."""
MARGIN = HALO + ALIGN * -(-RIM * BLOCK // ALIGN)
"""Voxels of a window around its core, the part whose peaks are kept."""
FLOOR = 0.02
"""Lowest score of a candidate."""


@dataclass(frozen=True)
class Detections:
    """Picks of a tomogram, best first."""

    places: Floats
    """`(N, 3)` zyx, voxels, subvoxel."""
    numbers: NDArray[np.int_]
    """`(N,)` number of the class from 1."""
    scores: Floats
    """`(N,)` in [0, 1]."""

    def take(self, index: NDArray[np.generic]) -> "Detections":
        """Return some picks."""
        return Detections(self.places[index], self.numbers[index], self.scores[index])


def split_sides(shape: Sequence[int], largest: int) -> tuple[int, ...]:
    """Return the sides of the cores (zyx, multiples of `ALIGN`) into which a tomogram is cut.

    Of all cuts whose windows, cores with their halo, have at most `largest` voxels, it is the one
    with the least voxels in all windows; without one, the windows are as small as possible.
    """
    cuts = [list(_cut(n)) for n in shape]
    best = min(
        itertools.product(*cuts),
        key=lambda cut: (
            max(largest, math.prod(axis.window for axis in cut)),
            math.prod(axis.computed for axis in cut),
        ),
    )
    return tuple(axis.core for axis in best)


class _Cut(NamedTuple):
    """A cut of one axis: sides in voxels."""

    core: int
    window: int
    """Of the largest window."""
    computed: int
    """Of all windows together."""


def _cut(size: int) -> Iterator[_Cut]:
    whole = -(-size // ALIGN)
    for parts in range(1, min(whole, MAX_PARTS) + 1):
        core = -(-whole // parts) * ALIGN
        spans = [
            min(whole * ALIGN, first + core + MARGIN) - max(0, first - MARGIN)
            for first in range(0, whole * ALIGN, core)
        ]
        yield _Cut(core, max(spans), sum(spans))


def windows(
    shape: Sequence[int], core: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Yield corner and shape of each window, and the corner of its core, zyx voxels.

    A window is its core and a halo; it ends at the faces of the tomogram, rounded up to multiples
    of `ALIGN`, as a window of the whole tomogram does.
    """
    whole = [-(-n // ALIGN) * ALIGN for n in shape]
    for corner in np.ndindex(*(-(-n // side) for n, side in zip(shape, core, strict=True))):
        first = [index * side for index, side in zip(corner, core, strict=True)]
        low = [max(0, a - MARGIN) for a in first]
        ends = zip(first, core, whole, strict=True)
        high = [min(n, a + side + MARGIN) for a, side, n in ends]
        size = tuple(b - a for a, b in zip(low, high, strict=True))
        yield tuple(low), size, tuple(first)


@torch.no_grad()
def probabilities(
    network: nn.Module, block: NDArray[np.float32], device: torch.device
) -> NDArray[np.float32]:
    """Return probabilities `(channels, z/2, y/2, x/2)` of a block `(z, y, x)`."""
    given = torch.from_numpy(block)[None, None].to(device)
    with torch.autocast(device.type, torch.bfloat16, multiplies_bfloat16(device)):
        logits = network(given)
    return torch.softmax(logits[0].float(), 0).cpu().numpy()


def find_peaks(
    shares: NDArray[np.float32], first: Sequence[int], last: Sequence[int]
) -> Detections:
    """Return the peaks between two corners (zyx, half resolution) of some classes' probabilities.

    The score is the probability of being any of them, averaged over `SMOOTHING`^3 positions; the
    class is the one with the highest average there. Places are positions of the window.
    """
    smooth = np.stack([ndimage.uniform_filter(one, SMOOTHING, mode="constant") for one in shares])
    total = smooth.sum(axis=0)
    peak = (total == ndimage.maximum_filter(total, 3, mode="constant")) & (total >= FLOOR)
    at = np.argwhere(peak)
    at = at[((at >= first) & (at < last)).all(axis=1)]
    wide = np.pad(total, 1, constant_values=-np.inf)
    offsets = quadratic_offsets(neighbourhoods(wide, at)) if len(at) else np.empty((0, 3))
    z, y, x = at.T
    numbers = smooth[:, z, y, x].argmax(axis=0) + 1
    return Detections(at + offsets, numbers, total[z, y, x].astype(float))


def detect(
    network: nn.Module,
    grey: GreyValues,
    radii: Floats,
    device: torch.device,
    with_other: bool = False,
    largest: int = LARGEST_WINDOW,
) -> Detections:
    """Return the particles of a tomogram, best first, in bounded memory.

    `radii` is `(C + 1,)` voxels: a pick suppresses all others closer than the radius of its class.
    Picks in voxels without data are dropped. A window has at most `largest` voxels, if that is
    possible.
    """
    network.eval()
    found: list[Detections] = []
    others: list[Detections] = []
    core = split_sides(grey.shape, largest)
    for low, size, first in track(list(windows(grey.shape, core)), "detecting"):
        shares = probabilities(network, grey.block(low, size), device)
        begin = [(a - b) // BLOCK for a, b in zip(first, low, strict=True)]
        end = [a + side // BLOCK for a, side in zip(begin, core, strict=True)]
        # background first, `other` last, whose picks change no others
        parts = [(found, shares[1:-1], 0), (others, shares[-1:], len(radii) - 1)]
        for picks, part, offset in parts[: 1 + with_other]:
            peaks = find_peaks(part, begin, end)
            places = BLOCK * peaks.places + (BLOCK - 1) / 2 + np.array(low)
            picks.append(Detections(places, peaks.numbers + offset, peaks.scores))
    named = suppress(found, grey, radii)
    if not with_other:
        return named
    free = suppress(others, grey, radii)
    if len(named.places) and len(free.places):
        far = cKDTree(named.places).query(free.places)[0] > radii[-1]
        free = free.take(far)
    both = merge([named, free])
    return both.take(np.argsort(-both.scores, kind="stable"))


def merge(found: Sequence[Detections]) -> Detections:
    """Return the picks of all parts."""
    return Detections(
        np.concatenate([one.places for one in found]),
        np.concatenate([one.numbers for one in found]),
        np.concatenate([one.scores for one in found]),
    )


def suppress(found: Sequence[Detections], grey: GreyValues, radii: Floats) -> Detections:
    """Return the picks of all windows, best first, without picks outside or near better ones."""
    merged = merge(found)
    inside = (merged.places <= np.array(grey.shape) - 1).all(axis=1)
    inside &= ~grey.excluded.holds(merged.places)
    merged = merged.take(inside)
    kept = non_maximum_suppression(merged.places, merged.scores, radii[merged.numbers - 1])
    return merged.take(kept)

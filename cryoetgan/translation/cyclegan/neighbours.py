"""Neighbours: other densities of the set, placed beside a density as particles lie in a tomogram.

Boxes cut out of a tomogram hold parts of other particles. Without them in domain D, a generator
would have to invent them.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

CLOSEST, FARTHEST = 0.45, 0.75
"""Distance from the centre, and distance along an axis, in boxes, between which centres lie."""


def draw_offsets(mean: float, box: int, rng: np.random.Generator) -> NDArray[np.int_]:
    """Return offsets `(N, 3)` zyx of neighbours in voxels: a Poisson process of `mean` members."""
    reach = int(FARTHEST * box)
    cube, ball = (2 * reach + 1) ** 3, 4 / 3 * np.pi * (CLOSEST * box) ** 3
    tries = rng.poisson(mean * cube / (cube - ball))
    offsets = rng.integers(-reach, reach + 1, (tries, 3))
    return offsets[np.linalg.norm(offsets, axis=1) > CLOSEST * box]


def add_neighbours(
    volumes: Tensor,
    mean: float,
    others: Callable[[NDArray[np.int_]], Tensor],
    count: int,
    rng: np.random.Generator,
) -> Tensor:
    """Return volumes `(B, 1, n, n, n)` with, on average, `mean` neighbours each.

    `others` returns volumes of that shape for indices below `count`. Empty space is 0.
    """
    box, out = volumes.shape[-1], volumes.clone()
    drawn = [
        (index, offset) for index in range(len(out)) for offset in draw_offsets(mean, box, rng)
    ]
    rows = rng.integers(count, size=len(drawn))
    for (index, offset), other in zip(drawn, others(rows) if len(drawn) else (), strict=True):
        target = tuple(slice(max(o, 0), box + min(o, 0)) for o in offset)
        source = tuple(slice(max(-o, 0), box - max(o, 0)) for o in offset)
        out[index, 0][target] += other[0][source]
    return out

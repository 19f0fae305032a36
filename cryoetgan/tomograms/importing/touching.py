"""Particles of one class that touch: their number from the volume, their voxels by the map's shape."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.errors import UserError
from cryoetgan.progress import log
from cryoetgan.tomograms.simulation.packing import MASK_LEVEL

Floats = NDArray[np.floating]
MIN_COMPONENT = 8
"""Voxels of the smallest particle that is found as a component of a label."""
MOST_PARTICLES = 200
"""In a component that is split; the memory grows as voxels times particles."""
SINGLE = (0.3, 3.0)
"""Volume of a component over the map's within which it may be one particle of the map's form."""
VOLUME_TOLERANCE, SPREAD_TOLERANCE = 0.3, 0.2
"""Largest relative difference of the volume, and of each spread, between a part and the map."""
STARTS, FEWEST_STARTS, ROUNDS, LAST_ROUNDS = 60, 3, 40, 5
"""Random starts of a split, over the number of particles, and the fewest; largest number of steps
of each; steps with all voxels."""
SAMPLED = 100
"""Voxels for each particle that the starts use, at most."""


@dataclass(frozen=True)
class MaskShape:
    """Size and shape of a particle's mask."""

    volume: float
    """Voxels."""
    spreads: Floats
    """`(3,)` standard deviations along the principal axes, ascending, voxels."""

    def scaled(self, factor: float) -> "MaskShape":
        """Return the shape with `factor` times the volume."""
        return MaskShape(self.volume * factor, self.spreads * factor ** (1 / 3))

    def agrees(self, other: "MaskShape") -> bool:
        """Return whether the other shape is the same within the tolerances."""
        return bool(
            abs(other.volume / self.volume - 1) <= VOLUME_TOLERANCE
            and (np.abs(other.spreads / self.spreads - 1) <= SPREAD_TOLERANCE).all()
        )


def mask_shape(voxels: NDArray[np.int_]) -> MaskShape:
    """Return the shape of the voxels `(N, 3)` of a particle; each counts as a cube."""
    moments = np.cov(voxels.T, bias=True) + np.eye(3) / 12
    return MaskShape(len(voxels), np.sqrt(np.linalg.eigvalsh(moments)))


def map_shape(density: Floats, name: str) -> MaskShape:
    """Return the shape of a map's mask, the voxels at 15 % of its maximum or above.

    `name` is its class; a mask of fewer than `MIN_COMPONENT` voxels is an error.
    """
    voxels = np.argwhere(density > MASK_LEVEL * density.max())
    if len(voxels) < MIN_COMPONENT:
        raise UserError(
            f"--template {name}: its mask has {len(voxels)} voxels, wanted {MIN_COMPONENT} or more; "
            "make the map with smaller voxels, or leave it out"
        )
    return mask_shape(voxels)


def split_touching(
    components: NDArray[np.integer],
    kept: NDArray[np.int_],
    volumes: Floats,
    shape: MaskShape,
    name: str,
) -> dict[int, list[tuple[NDArray[np.int_], bool]]]:
    """Return the parts of components that hold several particles of a shape.

    The number of particles is the volume over the one of a particle. Other simulators cut their
    labels at other levels, so the volume of a particle is the median of the components that have
    the map's form at another size; without such, the map's.

    Parameters
    ----------
    components : ndarray
        `(z, y, x)`, number of the component of each voxel.
    kept, volumes : ndarray
        Numbers of the components that count, and their voxels.
    shape : MaskShape
        Of the map, in voxels of `components`.
    name : str
        Of the class, for messages.

    Returns
    -------
    dict
        Index in `kept` to its parts: voxels `(N, 3)` zyx, and whether the part has the shape.
    """
    if shape.volume < MIN_COMPONENT:
        log.warning(
            "label %s: the map has %.1f voxels of the scene, wanted %d or more to split particles that "
            "touch; each component is one particle. Give --instances, or a smaller --voxel-size",
            name, shape.volume, MIN_COMPONENT,
        )  # fmt: skip
        return {}
    boxes = ndimage.find_objects(components)

    def voxels_of(number: int) -> NDArray[np.int_]:
        box = boxes[number - 1]
        return np.argwhere(components[box] == number) + [side.start for side in box]

    ratios = np.asarray(volumes) / shape.volume
    near = np.flatnonzero((ratios > SINGLE[0]) & (ratios < SINGLE[1]))
    pairs = zip(ratios[near], kept[near], strict=True)
    single = [r for r, n in pairs if shape.scaled(r).agrees(mask_shape(voxels_of(n)))]
    shape = shape.scaled(float(np.median(single)) if single else 1.0)
    counts = np.rint(np.asarray(volumes) / shape.volume).astype(int)
    found = {}
    _warn_of_many(counts[counts > MOST_PARTICLES], name)
    for index in np.flatnonzero((counts > 1) & (counts <= MOST_PARTICLES)):
        voxels = voxels_of(kept[index])
        parts = split_voxels(voxels, int(counts[index]), shape)
        own = [voxels[parts == part] for part in range(counts[index])]
        found[int(index)] = [
            (part, len(part) > 3 and shape.agrees(mask_shape(part))) for part in own if len(part)
        ]
    return found


def _warn_of_many(counts: NDArray[np.int_], name: str) -> None:
    for count in counts:
        log.warning(
            "label %s: a component has the volume of %d particles, and at most %d are split; it stays one "
            "particle. Give --instances, or a list of the particles",
            name, count, MOST_PARTICLES,
        )  # fmt: skip


def split_voxels(voxels: NDArray[np.int_], count: int, shape: MaskShape) -> NDArray[np.int_]:
    """Return the part `(N,)` of each voxel `(N, 3)`, of `count` particles of one shape.

    Each particle is an ellipsoid with the spreads of the shape, at any place and orientation; a
    voxel belongs to the nearest, in units of the spreads (a Gaussian mixture with known
    eigenvalues, by classification: Celeux and Govaert 1995, doi 10.1016/0031-3203(94)00125-6). Of
    several random starts, the one with the smallest sum of squared distances is taken.
    """
    rng = np.random.default_rng(len(voxels))
    step = max(1, len(voxels) // (SAMPLED * count))
    sample = rng.permutation(voxels)[::step].astype(float)
    best: float = np.inf
    kept: list[Floats] = []
    for _ in range(max(FEWEST_STARTS, STARTS // count)):
        middles = sample[_spread_out(sample, count, rng)]
        scales = np.tile(np.eye(3) / np.sqrt(np.mean(shape.spreads**2)), (count, 1, 1))
        total, *found = _iterate(sample, middles, scales, shape, ROUNDS)
        if total < best:
            best, kept = total, found
    # from the sample to all voxels
    middles, scales = kept
    _, *found = _iterate(voxels.astype(float), middles, scales, shape, LAST_ROUNDS)
    return _distances(voxels.astype(float), *found).argmin(axis=1)


def _spread_out(sample: Floats, count: int, rng: np.random.Generator) -> list[int]:
    """Return indices of `count` voxels, each drawn by its squared distance from those before."""
    chosen = [int(rng.integers(len(sample)))]
    nearest = np.full(len(sample), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, ((sample - sample[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(rng.choice(len(sample), p=nearest / nearest.sum())))
    return chosen


def _distances(voxels: Floats, middles: Floats, scales: Floats) -> Floats:
    """Return squared distances `(N, count)` from each ellipsoid, in units of its spreads."""
    out = np.empty((len(voxels), len(middles)))
    for part, (middle, scale) in enumerate(zip(middles, scales, strict=True)):
        out[:, part] = (((voxels - middle) @ scale) ** 2).sum(axis=1)
    return out


def _iterate(
    voxels: Floats, middles: Floats, scales: Floats, shape: MaskShape, rounds: int
) -> tuple[float, Floats, Floats]:
    """Return the sum of squared distances, middles `(count, 3)` and axes over spreads of the parts."""
    before, total = None, np.inf
    middles, scales = middles.copy(), scales.copy()
    for _ in range(rounds):
        far = _distances(voxels, middles, scales)
        parts, total = far.argmin(axis=1), float(far.min(axis=1).sum())
        if before is not None and (parts == before).all():
            break
        before = parts
        for part in range(len(middles)):
            own = voxels[parts == part]
            if len(own) > 3:
                middles[part] = own.mean(axis=0)
                scales[part] = np.linalg.eigh(np.cov(own.T, bias=True))[1] / shape.spreads
    return total, middles, scales

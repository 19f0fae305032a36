"""Density scenes: a particle in the middle, others around it as close as in the tomogram."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cryoetgan.densities.poses import Poser
from cryoetgan.imaging.pair_correlation import Crowding
from cryoetgan.physics.geometry import clip_box, random_rotations
from cryoetgan.seeds import rng

Floats = NDArray[np.floating]
SCENE = 2
"""Edge of a scene in boxes: the transfer reaches from beyond the box into it."""
BANK = 32
"""Orientations of each class that neighbours are drawn from."""


class Neighbours:
    """The particles that surround others: a bank of turned maps, and how often each occurs.

    Parameters
    ----------
    maps : mapping
        Class to density `(z, y, x)`, cubes.
    shares : mapping
        Class to its share of all particles; classes without a map do not count.
    seed : int
        Of the bank's orientations.
    """

    def __init__(
        self, maps: Mapping[str, Floats], shares: Mapping[str, float], seed: int = 0
    ) -> None:
        self.names = sorted(name for name in maps if shares.get(name, 0) > 0)
        weights = np.array([shares[name] for name in self.names], float)
        self.weights = weights / weights.sum() if len(weights) else weights
        self.bank: dict[str, NDArray[np.float32]] = {}
        self.maps, self.seed = maps, seed

    def one(self, numbers: np.random.Generator) -> NDArray[np.float32]:
        """Return one particle, turned at random."""
        name = self.names[int(numbers.choice(len(self.names), p=self.weights))]
        return self._turned(name)[int(numbers.integers(BANK))]

    def _turned(self, name: str) -> NDArray[np.float32]:
        if name not in self.bank:
            turned = Poser(np.asarray(self.maps[name]))
            rotations = random_rotations(BANK, rng(self.seed, "imaging", "bank", name))
            self.bank[name] = np.stack([turned(r, np.zeros(3)) for r in rotations])
        return self.bank[name]


def paste(scene: Floats, box: Floats, centre: Sequence[float] | Floats) -> None:
    """Add a box to a scene, its voxel n // 2 at the voxel nearest to `centre` (xyz)."""
    whole = np.rint(np.asarray(centre, float)[::-1]).astype(int)
    low = whole - np.array(box.shape) // 2
    in_scene, in_box = clip_box(low, box.shape, scene.shape)
    scene[in_scene] += box[in_box]


def scene_around(
    target: Floats | None,
    centre: Floats,
    size: int,
    voxel_size: float,
    crowding: Crowding | None,
    neighbours: Neighbours,
    numbers: np.random.Generator,
) -> NDArray[np.float32]:
    """Return a scene `(size, size, size)`: a target box in its middle, neighbours around.

    Parameters
    ----------
    target : ndarray or None
        Density box `(z, y, x)`; None for a scene without a particle in the middle, whose
        neighbours keep the same distances: what a false pick shows.
    centre : ndarray
        xyz in voxels: where in its box, from voxel n // 2, the target's particle lies.
    size : int
        Voxels.
    voxel_size : float
        Angstrom.
    crowding : Crowding or None
        None: no neighbours.
    neighbours : Neighbours
        What they are.
    numbers : numpy.random.Generator
        Source of chance.
    """
    scene = np.zeros((size,) * 3, np.float32)
    middle = np.full(3, size // 2)
    if target is not None:
        paste(scene, target, middle)
    if crowding is not None and neighbours.names:
        for place in crowding.draw(size * voxel_size, numbers):
            paste(scene, neighbours.one(numbers), middle + centre + place / voxel_size)
    return scene

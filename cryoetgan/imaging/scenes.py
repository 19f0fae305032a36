"""Parts of density scenes: the particles around others, and boxes added to a volume."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cryoetgan import seeds
from cryoetgan.densities.poses import Poser
from cryoetgan.physics.geometry import clip_box, random_rotations

Floats = NDArray[np.floating]
SCENE_BOXES = 2
"""Edge of a scene, in boxes: the transfer carries density from outside the box into it."""
BANK_ORIENTATIONS = 32
"""Orientations of each class from which neighbours are drawn."""


class NeighbourSampler:
    """Draws the particles around others from a bank of rotated maps.

    Maps are cubes `(z, y, x)` by class; class fractions are fractions of all particles. Classes
    without a map are ignored. The seed gives the orientations in the bank.
    """

    def __init__(
        self, maps: Mapping[str, Floats], class_fractions: Mapping[str, float], seed: int = 0
    ) -> None:
        self.names = sorted(name for name in maps if class_fractions.get(name, 0) > 0)
        weights = np.array([class_fractions[name] for name in self.names], float)
        self.weights = weights / weights.sum() if len(weights) else weights
        self._bank: dict[str, NDArray[np.float32]] = {}
        self.maps, self.seed = maps, seed

    def draw_class(self, rng: np.random.Generator) -> str:
        """Return a random class, by the class fractions."""
        return self.names[int(rng.choice(len(self.names), p=self.weights))]

    def draw(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the density of one particle in a random orientation."""
        name = self.draw_class(rng)
        return self.orientations(name)[int(rng.integers(BANK_ORIENTATIONS))]

    def orientations(self, name: str) -> NDArray[np.float32]:
        """Return the rotated maps of a class, `(N, z, y, x)`."""
        if name not in self._bank:
            pose = Poser(np.asarray(self.maps[name]))
            rng = seeds.rng(self.seed, "imaging", "bank", name)
            rotations = random_rotations(BANK_ORIENTATIONS, rng)
            self._bank[name] = np.stack([pose(r, np.zeros(3)) for r in rotations])
        return self._bank[name]


def add_box(scene: Floats, box: Floats, centre: Sequence[float] | Floats) -> None:
    """Add a box to a scene, its voxel n // 2 at the voxel nearest to `centre` (xyz)."""
    nearest = np.rint(np.asarray(centre, float)[::-1]).astype(int)
    in_scene, in_box = clip_box(nearest - np.array(box.shape) // 2, box.shape, scene.shape)
    scene[in_scene] += box[in_box]

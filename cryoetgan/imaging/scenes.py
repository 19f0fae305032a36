"""Density scenes: a particle in the centre, neighbours around it, as dense as in the tomogram."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cryoetgan import seeds
from cryoetgan.densities.poses import Poser
from cryoetgan.imaging.pair_correlation import PairCorrelation
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

    def draw(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the density of one particle in a random orientation."""
        name = self.names[int(rng.choice(len(self.names), p=self.weights))]
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


def build_scene(
    target: Floats | None,
    centre: Floats,
    size: int,
    voxel_size: float,
    pair_correlation: PairCorrelation | None,
    neighbours: NeighbourSampler,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return a scene `(size, size, size)` with a target box in its centre and neighbours around.

    Parameters
    ----------
    target : ndarray or None
        Density box `(z, y, x)`. None: no particle in the centre, but neighbours at the same
        distances from it; false picks show such scenes.
    centre : ndarray
        Centre of the target's particle, relative to voxel n // 2 of its box, xyz in voxels.
    size, voxel_size
        Edge of the scene, voxels; angstrom.
    pair_correlation : PairCorrelation or None
        Spacing of the neighbours; None for a scene without neighbours.
    neighbours : NeighbourSampler
        Densities of the neighbours.
    rng : numpy.random.Generator
    """
    scene = np.zeros((size,) * 3, np.float32)
    middle = np.full(3, size // 2)
    if target is not None:
        add_box(scene, target, middle)
    if pair_correlation is not None and neighbours.names:
        for place in pair_correlation.draw_neighbours(size * voxel_size, rng):
            add_box(scene, neighbours.draw(rng), middle + centre + place / voxel_size)
    return scene

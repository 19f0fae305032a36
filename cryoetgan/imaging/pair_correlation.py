"""Neighbours of a particle: number density and pair correlation, and their densities.

The pair correlation g(r) is the number of neighbours at distance r, relative to particles at
independent random positions: 0 if they exclude each other, above 1 if they cluster. It is
assumed to be the same at every depth.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoetgan import seeds
from cryoetgan.densities.poses import Poser
from cryoetgan.physics.geometry import distance_grid, random_rotations

Floats = NDArray[np.floating]
BANK_ORIENTATIONS = 32
"""Orientations of each class from which neighbours are drawn."""


@dataclass(frozen=True)
class PairCorrelation:
    """Number density and spacing of particles."""

    density: float
    """Particles per A^3."""
    step: float
    """Width of a bin of distance, angstrom."""
    values: NDArray[np.float64]
    """g(r) in bins from 0; 1 beyond the last."""
    acceptance_correction: float = 1.0
    """Factor on the number of trial positions, which makes up for rejected ones (`calibrate`)."""

    def evaluate(self, distance: Floats) -> Floats:
        """Return g at distances in angstrom."""
        index = (np.asarray(distance) / self.step).astype(int)
        known = np.append(self.values, 1.0)
        return known[np.minimum(index, len(known) - 1)]

    def draw_neighbours(self, extent: float, rng: np.random.Generator) -> Floats:
        """Draw the neighbours of a particle at 0, `(N, 3)` xyz, in a cube of edge `extent`, angstrom.

        Trial positions are a Poisson process of density `density * max(g)`, times the acceptance
        correction. Position i is accepted with probability

            g(|r_i|) / max(g) * product over accepted j of min(g(|r_i - r_j|), 1)
        """
        highest = max(float(self.values.max(initial=1.0)), 1.0)
        tries = rng.poisson(self.density * self.acceptance_correction * highest * extent**3)
        places = rng.uniform(-extent / 2, extent / 2, (tries, 3))
        threshold = rng.random(tries) * highest
        accepted: list[Floats] = []
        g = self.evaluate(np.linalg.norm(places, axis=1))
        likely = threshold < g
        for place, least, first in zip(places[likely], threshold[likely], g[likely], strict=True):
            gaps = np.linalg.norm(np.array(accepted) - place, axis=1) if accepted else np.empty(0)
            if least < first * np.prod(np.minimum(self.evaluate(gaps), 1)):
                accepted.append(place)
        return np.array(accepted).reshape(-1, 3)

    def expected_neighbours(self, extent: float) -> float:
        """Return the mean number of neighbours in a cube around a particle: density * sum of g."""
        n = 48
        axis = (np.arange(n) + 0.5) / n * extent - extent / 2
        r = distance_grid(axis, axis, axis)
        return float(self.density * self.evaluate(r).mean() * extent**3)

    def calibrate(
        self, extent: float, rng: np.random.Generator, rounds: int = 4, trials: int = 60
    ) -> "PairCorrelation":
        """Return a copy whose acceptance correction gives the expected number of neighbours."""
        found = self
        wanted = self.expected_neighbours(extent)
        for _ in range(rounds):
            mean = np.mean([len(found.draw_neighbours(extent, rng)) for _ in range(trials)])
            if mean <= 0 or wanted <= 0:
                return found
            factor = float(np.clip(found.acceptance_correction * wanted / mean, 1.0, 10.0))
            found = replace(self, acceptance_correction=factor)
        return found


def measure_pair_correlation(
    places: Floats,
    shape: tuple[int, ...],
    voxel_size: float,
    max_distance: float,
    seed: int,
    bins: int = 28,
) -> PairCorrelation:
    """Return the pair correlation of the particles of one tomogram.

    g(r) = n(r) / (N * density * V(r) * f(r))

    n(r) counts the ordered pairs in the shell at distance r, N the particles, V is the volume of
    the shell and f the fraction of it that lies inside the tomogram, estimated along random
    directions. Places are `(N, 3)` x, y, z in voxels; the tomogram's shape is zyx. Beyond
    `max_distance` (angstrom) positions are assumed independent.
    """
    size = np.array(shape[::-1], float) * voxel_size
    xyz = np.asarray(places, float) * voxel_size
    density = len(xyz) / float(np.prod(size))
    step = max_distance / bins
    pairs = cKDTree(xyz).query_pairs(max_distance, output_type="ndarray")
    distance = np.linalg.norm(xyz[pairs[:, 0]] - xyz[pairs[:, 1]], axis=1)
    counts = 2 * np.histogram(distance, bins, (0, max_distance))[0]
    inside = _inside_fractions(xyz, size, (np.arange(bins) + 0.5) * step, seed)
    edges = np.arange(bins + 1) * step
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    expected = density * shells * inside * len(xyz)
    return PairCorrelation(density, step, counts / np.maximum(expected, 1e-9))


def _inside_fractions(
    xyz: Floats, size: Floats, radii: Floats, seed: int, directions: int = 400
) -> Floats:
    """Return the fraction of each shell around the particles that lies inside the tomogram."""
    rng = seeds.rng(seed, "imaging", "faces")
    unit = rng.normal(size=(directions, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    centres = xyz[rng.integers(len(xyz), size=directions)]
    ends = (centres + r * unit for r in radii)
    return np.array([((end >= 0) & (end < size)).all(axis=1).mean() for end in ends])


class NeighbourSampler:
    """Draws the particles around others from a bank of rotated maps.

    Maps are cubes `(z, y, x)` by class; class fractions are fractions of all particles. Classes
    without a map are ignored. `orientations` replaces the number of orientations of some classes.
    """

    def __init__(
        self,
        maps: Mapping[str, Floats],
        class_fractions: Mapping[str, float],
        orientations: Mapping[str, int] | None = None,
    ) -> None:
        self._counts = orientations or {}
        self.names = sorted(name for name in maps if class_fractions.get(name, 0) > 0)
        weights = np.array([class_fractions[name] for name in self.names], float)
        self.weights = weights / weights.sum() if len(weights) else weights
        self._bank: dict[str, NDArray[np.float32]] = {}
        self.maps = maps

    def draw_class(self, rng: np.random.Generator) -> str:
        """Return a random class, by the class fractions."""
        return self.names[int(rng.choice(len(self.names), p=self.weights))]

    def draw(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the density of one particle in a random orientation."""
        name = self.draw_class(rng)
        bank = self.orientations(name)
        return bank[int(rng.integers(len(bank)))]

    def orientations(self, name: str) -> NDArray[np.float32]:
        """Return the rotated maps of a class, `(N, z, y, x)`."""
        if name not in self._bank:
            pose = Poser(np.asarray(self.maps[name]))
            rng = seeds.rng(0, "imaging", "bank", name)
            rotations = random_rotations(self._counts.get(name, BANK_ORIENTATIONS), rng)
            self._bank[name] = np.stack([pose(r, np.zeros(3)) for r in rotations])
        return self._bank[name]

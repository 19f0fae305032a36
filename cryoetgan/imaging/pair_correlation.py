"""How close particles lie: their number in a volume and their pair correlation.

The pair correlation g(r) is how many neighbours a particle has at distance r, over how many it
would have if particles lay anywhere: 0 where they exclude each other, above 1 where they
cluster. It is taken to be the same at every depth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.floating]
BINS = 28
SHELL_POINTS = 400
"""Directions tried per distance, to see how much of a shell lies inside the tomogram."""
ROUNDS, TRIALS = 4, 60


@dataclass(frozen=True)
class Crowding:
    """Number and spacing of particles.

    Attributes
    ----------
    density : float
        Particles per A^3.
    step : float
        Angstrom; width of a bin of distance.
    correlation : ndarray
        g(r) in bins from 0; 1 beyond.
    boost : float
        Factor on the number of tries that makes up for tries that hit each other.
    """

    density: float
    step: float
    correlation: NDArray[np.float64]
    boost: float = 1.0

    def at(self, distance: Floats) -> Floats:
        """Return g at distances in angstrom."""
        index = (np.asarray(distance) / self.step).astype(int)
        known = np.append(self.correlation, 1.0)
        return known[np.minimum(index, len(known) - 1)]

    def draw(self, extent: float, numbers: np.random.Generator) -> Floats:
        """Return `(N, 3)` neighbours (xyz, angstrom) of a particle at 0, in a cube about it.

        Parameters
        ----------
        extent : float
            Angstrom; edge of the cube.
        numbers : numpy.random.Generator
            Source of chance.
        """
        highest = max(float(self.correlation.max(initial=1.0)), 1.0)
        tries = numbers.poisson(self.density * self.boost * highest * extent**3)
        places = numbers.uniform(-extent / 2, extent / 2, (tries, 3))
        luck = numbers.random(tries) * highest
        kept: list[Floats] = []
        wanted = self.at(np.linalg.norm(places, axis=1))
        likely = luck < wanted
        for place, chance, first in zip(places[likely], luck[likely], wanted[likely], strict=True):
            others = np.linalg.norm(np.array(kept) - place, axis=1) if kept else np.empty(0)
            if chance < first * np.prod(np.minimum(self.at(others), 1)):
                kept.append(place)
        return np.array(kept).reshape(-1, 3)

    def expected(self, extent: float) -> float:
        """Return how many neighbours a cube about a particle holds on average."""
        n = 48
        axis = (np.arange(n) + 0.5) / n * extent - extent / 2
        r = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2)
        return float(self.density * self.at(r).mean() * extent**3)

    def calibrated(self, extent: float, numbers: np.random.Generator) -> "Crowding":
        """Return the same with the boost that gives the expected number of neighbours."""
        found = self
        wanted = self.expected(extent)
        for _ in range(ROUNDS):
            mean = np.mean([len(found.draw(extent, numbers)) for _ in range(TRIALS)])
            if mean <= 0 or wanted <= 0:
                return found
            boost = float(np.clip(found.boost * wanted / mean, 1.0, 10.0))
            found = Crowding(self.density, self.step, self.correlation, boost)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return a mapping for the model's file."""
        return {
            "particles_per_A3": self.density,
            "distance_step_A": self.step,
            "pair_correlation": [round(float(g), 5) for g in self.correlation],
            "boost": self.boost,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Crowding":
        """Read what `to_json` wrote."""
        return cls(
            float(content["particles_per_A3"]),
            float(content["distance_step_A"]),
            np.array(content["pair_correlation"], float),
            float(content["boost"]),
        )


def measured_crowding(
    places: Floats, shape: tuple[int, ...], voxel_size: float, reach: float, seed: int
) -> Crowding:
    """Return the crowding of the particles of one tomogram.

    Parameters
    ----------
    places : ndarray
        `(N, 3)` x, y, z in voxels.
    shape : tuple of int
        zyx, of the tomogram.
    voxel_size : float
        Angstrom.
    reach : float
        Angstrom; beyond it particles are taken not to know of each other.
    seed : int
        Of the directions that correct for the tomogram's faces.
    """
    size = np.array(shape[::-1], float) * voxel_size
    xyz = np.asarray(places, float) * voxel_size
    density = len(xyz) / float(np.prod(size))
    step = reach / BINS
    if len(xyz) < 2:
        return Crowding(density, step, np.ones(BINS))
    pairs = cKDTree(xyz).query_pairs(reach, output_type="ndarray")
    distance = np.linalg.norm(xyz[pairs[:, 0]] - xyz[pairs[:, 1]], axis=1)
    counts = 2 * np.histogram(distance, BINS, (0, reach))[0]
    inside = _inside(xyz, size, (np.arange(BINS) + 0.5) * step, seed)
    edges = np.arange(BINS + 1) * step
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    expected = density * shells * inside * len(xyz)
    return Crowding(density, step, counts / np.maximum(expected, 1e-9))


def _inside(xyz: Floats, size: Floats, radii: Floats, seed: int) -> Floats:
    """Return the share of each shell about the particles that lies inside the tomogram."""
    from cryoetgan.seeds import rng

    numbers = rng(seed, "imaging", "faces")
    directions = numbers.normal(size=(SHELL_POINTS, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    about = xyz[numbers.integers(len(xyz), size=SHELL_POINTS)]
    return np.array(
        [
            ((about + r * directions >= 0) & (about + r * directions < size)).all(axis=1).mean()
            for r in radii
        ]
    )

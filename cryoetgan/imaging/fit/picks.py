"""Picks of a tomogram with class and orientation, and the densities at their positions."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan import seeds
from cryoetgan.densities.poses import Poser
from cryoetgan.imaging.scenes import add_box
from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.particles.picking.dog import non_maximum_suppression
from cryoetgan.physics.geometry import random_rotations, rotation_from_relion

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Picks:
    """Positions of particles, with class and orientation from template matching."""

    places: Floats
    """`(N, 3)` x, y, z in voxels."""
    names: NDArray[np.str_]
    """`(N,)` classes, each with a map."""
    rotations: Rotation
    """N of them, reference to particle."""
    aligned: bool = False
    """Whether classes and rotations were measured; otherwise they are random."""

    def __len__(self) -> int:
        return len(self.places)

    def subset(self, chosen: NDArray[np.int_]) -> "Picks":
        """Return the picks of these indices."""
        return Picks(self.places[chosen], self.names[chosen], self.rotations[chosen], self.aligned)


def picks_from_table(
    table: "pd.DataFrame", classes: list[str], seed: int, min_distance: float = 0.0
) -> Picks:
    """Return one entry a pick: its best-scoring class, or a random class if it has none.

    Picks that were aligned to the same position are one particle; the best-scoring one is kept.

    The table holds scores (one row a pick and class), picks, or any coordinates; `classes` have a
    map. The seed gives the class and orientation that the table lacks. `min_distance` is the
    smallest distance between two particles, voxels.
    """
    if "cryoetganClass" in table:
        known = table[table["cryoetganClass"].isin(classes)]
        table = known if len(known) else table.drop(columns="cryoetganClass")
    if "cryoetganScore" in table and "cryoetganId" in table:
        table = table.sort_values("cryoetganScore", ascending=False, kind="stable")
        table = table.drop_duplicates("cryoetganId").reset_index(drop=True)
        if min_distance > 0:
            places, scores = table[COORDINATES].to_numpy(float), table["cryoetganScore"]
            distances = np.full(len(table), min_distance)
            kept = non_maximum_suppression(places, scores.to_numpy(float), distances)
            table = table.iloc[np.sort(kept)]
    rng = seeds.rng(seed, "imaging", "picks")
    names = np.array(classes)[rng.integers(len(classes), size=len(table))]
    has_class = "cryoetganClass" in table
    if has_class:
        names = table["cryoetganClass"].to_numpy(str)
    quaternions, aligned = random_rotations(len(table), rng).as_quat(), False
    if set(ANGLES) <= set(table):
        angles = table[ANGLES].to_numpy(float)
        measured = np.isfinite(angles).all(axis=1)
        if measured.any():
            quaternions[measured] = rotation_from_relion(angles[measured]).as_quat()
        aligned = bool(measured.all()) and has_class
    rotations = Rotation.from_quat(quaternions)
    return Picks(table[COORDINATES].to_numpy(float), names, rotations, aligned)


class PosedPicks:
    """Densities of a tomogram's picks, placed in blocks of the tomogram.

    `maps` gives each class its density `(z, y, x)`, cubes of one size. Up to `max_cached` rotated
    densities are kept in memory.
    """

    def __init__(self, picks: Picks, maps: Mapping[str, Floats], max_cached: int = 2000) -> None:
        self.picks = picks
        self.box = next(iter(maps.values())).shape[0]
        self.active = np.ones(len(picks), bool)
        self._posers = {name: Poser(np.asarray(maps[name])) for name in maps}
        self._density = lru_cache(max_cached)(self._rotate)

    def _rotate(self, index: int) -> NDArray[np.float32]:
        place = self.picks.places[index]
        pose = self._posers[str(self.picks.names[index])]
        return pose(self.picks.rotations[index], place - np.rint(place))

    def density_block(self, corner: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the densities of the active picks in a block; corner and shape zyx, voxels."""
        scene = np.zeros(shape, np.float32)
        low, high = np.array(corner)[::-1], (np.array(corner) + shape)[::-1]
        places = self.picks.places
        near = ((places > low - self.box) & (places < high + self.box)).all(axis=1) & self.active
        for index in np.flatnonzero(near):
            add_box(scene, self._density(int(index)), np.rint(self.picks.places[index]) - low)
        return scene

    def density_around(self, place: Floats, size: int) -> NDArray[np.float32]:
        """Return the densities `(size, size, size)` around the voxel nearest to a place (xyz)."""
        corner = np.rint(place)[::-1].astype(int) - size // 2
        return self.density_block(tuple(int(c) for c in corner), (size,) * 3)

"""The densities at a tomogram's own picks: what its signal is measured against."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.densities.poses import Poser
from cryoetgan.imaging.scenes import paste
from cryoetgan.io.star import ANGLES, COORDINATES
from cryoetgan.particles.picking.dog import non_maximum_suppression
from cryoetgan.physics.geometry import random_rotations, rotation_from_relion
from cryoetgan.seeds import rng

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
KEPT = 2000
"""Turned densities kept in memory."""


@dataclass(frozen=True)
class Picks:
    """Where particles are and what template matching takes them for.

    Attributes
    ----------
    places : ndarray
        `(N, 3)` x, y, z in voxels.
    names : ndarray of str
        `(N,)`; one of the maps' each.
    rotations : scipy.spatial.transform.Rotation
        N of them, reference to particle.
    aligned : bool
        Whether names and rotations were found on the tomogram; else they are drawn.
    """

    places: Floats
    names: NDArray[np.str_]
    rotations: Rotation
    aligned: bool = False

    def __len__(self) -> int:
        return len(self.places)

    def of(self, chosen: NDArray[np.int_]) -> "Picks":
        """Return some of them."""
        return Picks(self.places[chosen], self.names[chosen], self.rotations[chosen], self.aligned)


def best_rows(table: "pd.DataFrame", classes: list[str], seed: int, closest: float = 0.0) -> Picks:
    """Return one entry a pick: its best-scoring class, or a random one where none is given.

    Picks that aligned to one place are one particle: the best-scoring one is kept.

    Parameters
    ----------
    table : pandas.DataFrame
        Scores (one row a pick and class), picks, or anything with coordinates.
    classes : list of str
        Those of the maps.
    seed : int
        Of what the table does not say.
    closest : float
        Voxels; no two particles lie closer.
    """
    if "cryoetganClass" in table:
        known = table[table["cryoetganClass"].isin(classes)]
        table = known if len(known) else table.drop(columns="cryoetganClass")
    if "cryoetganScore" in table and "cryoetganId" in table:
        table = table.sort_values("cryoetganScore", ascending=False, kind="stable")
        table = table.drop_duplicates("cryoetganId").reset_index(drop=True)
        if closest > 0:
            places, scores = table[COORDINATES].to_numpy(float), table["cryoetganScore"]
            distances = np.full(len(table), closest)
            table = table.iloc[
                np.sort(non_maximum_suppression(places, scores.to_numpy(float), distances))
            ]
    numbers = rng(seed, "imaging", "picks")
    count = len(table)
    drawn = np.array(classes)[numbers.integers(len(classes), size=count)]
    names = table["cryoetganClass"].to_numpy(str) if "cryoetganClass" in table else drawn
    turns, aligned = random_rotations(count, numbers), False
    if set(ANGLES) <= set(table):
        angles = table[ANGLES].to_numpy(float)
        known_angles = np.isfinite(angles).all(axis=1)
        quaternions = turns.as_quat()
        if known_angles.any():
            quaternions[known_angles] = rotation_from_relion(angles[known_angles]).as_quat()
        turns = Rotation.from_quat(quaternions)
        aligned = bool(known_angles.all()) and "cryoetganClass" in table
    return Picks(table[COORDINATES].to_numpy(float), names, turns, aligned)


class PosedPicks:
    """Density scenes around any place of the tomogram, made of its picks."""

    def __init__(self, picks: Picks, maps: Mapping[str, Floats]) -> None:
        self.picks = picks
        self.box = next(iter(maps.values())).shape[0]
        self._posers = {name: Poser(np.asarray(maps[name])) for name in maps}
        self.active = np.ones(len(picks), bool)
        self._turned: dict[int, NDArray[np.float32]] = {}

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Leave out all picks but these, `(N,)`."""
        self.active = chosen

    def _density(self, index: int) -> NDArray[np.float32]:
        if index not in self._turned:
            if len(self._turned) >= KEPT:
                self._turned.pop(next(iter(self._turned)))
            place = self.picks.places[index]
            self._turned[index] = self._posers[str(self.picks.names[index])](
                self.picks.rotations[index], place - np.rint(place)
            )
        return self._turned[index]

    def block(self, corner: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the densities in a block of the tomogram, corner and shape zyx."""
        scene = np.zeros(shape, np.float32)
        low, high = np.array(corner)[::-1], (np.array(corner) + shape)[::-1]
        places = self.picks.places
        near = ((places > low - self.box) & (places < high + self.box)).all(axis=1) & self.active
        for index in np.flatnonzero(near):
            paste(scene, self._density(int(index)), np.rint(self.picks.places[index]) - low)
        return scene

    def scene_about(self, place: Floats, size: int) -> NDArray[np.float32]:
        """Return the scene `(size, size, size)` about the voxel nearest to a place (xyz)."""
        corner = np.rint(place)[::-1].astype(int) - size // 2
        return self.block(tuple(int(c) for c in corner), (size,) * 3)

"""What an imaging model is fitted to: a tomogram, its picks, the maps of its classes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoetgan.imaging.fit.exclusion import LeftOut
from cryoetgan.imaging.fit.picks import Picks
from cryoetgan.physics.acquisition import Acquisition

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Data:
    """What a model is fitted to.

    Attributes
    ----------
    volume : ndarray
        `(z, y, x)`, memory-mapped; protein bright.
    voxel_size : float
        Angstrom.
    picks : Picks
        Where particles are, and what they are taken for.
    maps : mapping
        Class to density `(z, y, x)`, cubes of one size.
    acquisition : Acquisition
        Tilts, optics, CTF state.
    path : object
        What messages call the tomogram.
    mask : LeftOut, optional
        Where nothing is measured (carbon, ice, gold, padding).
    """

    volume: NDArray[np.generic]
    voxel_size: float
    picks: Picks
    maps: Mapping[str, Floats]
    acquisition: Acquisition
    path: object
    mask: LeftOut | None = None

    @property
    def box(self) -> int:
        """Voxels; edge of the maps."""
        return next(iter(self.maps.values())).shape[0]


def particle_radius(maps: Mapping[str, Floats], share: float = 0.95) -> float:
    """Return the radius in voxels within which the largest map holds `share` of its mass."""
    largest = 0.0
    for density in maps.values():
        density = np.maximum(density, 0)
        axis = np.arange(density.shape[0]) - density.shape[0] // 2
        r = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2)
        order = np.argsort(r, axis=None)
        mass = np.cumsum(density.ravel()[order], dtype=np.float64)
        index = int(np.searchsorted(mass, share * mass[-1]))
        largest = max(largest, float(r.ravel()[order][min(index, mass.size - 1)]))
    return largest


def closest(maps: Mapping[str, Floats]) -> float:
    """Return how close two particles' centres may lie, voxels: half the smallest one's radius."""
    return min(particle_radius({name: density}) for name, density in maps.items()) / 2


def inside(places: Floats, shape: tuple[int, ...], box: int) -> NDArray[np.int_]:
    """Return which places' boxes, cut at the nearest voxel, lie inside a tomogram."""
    low = np.rint(places)[:, ::-1] - box // 2
    return np.flatnonzero(((low >= 0) & (low + box <= np.array(shape))).all(axis=1))


def cut(volume: NDArray[np.generic], place: Floats, box: int) -> NDArray[np.float32]:
    """Return the box about the voxel nearest to a place: no interpolation blurs it."""
    low = np.rint(place)[::-1].astype(int) - box // 2
    return np.asarray(volume[tuple(slice(a, a + box) for a in low)], np.float32)

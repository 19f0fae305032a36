"""A density scene, and particles packed into it without overlap, by their masks."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count as count_from
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryoetgan.io.memmap import release_pages
from cryoetgan.io.star import ANGLES, COORDINATES, particle_id
from cryoetgan.physics.geometry import (
    clip_box,
    random_rotations,
    relion_from_rotation,
)
from cryoetgan.progress import track
from cryoetgan.seeds import rng as generator_for
from cryoetgan.tomograms.simulation.waiting_parts import WaitingParts

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]


RELEASE_EVERY = 16
"""Boxes after which the pages of memory-mapped arrays are released."""
ADDED_VOXELS = 1 << 16
"""Voxels of an object that are written at a time."""
WAITING_VOXELS = 1 << 27
"""Voxels of parts of objects that wait in a file; it takes 8 bytes for each."""


@dataclass
class Scene:
    """A packed volume; its arrays may be memory-mapped files."""

    density: NDArray[np.float32]
    """`(z, y, x)` float32, the sum of all objects except gold."""
    labels: NDArray[np.int16]
    """`(z, y, x)` int16: 0, or the number of a name in `names`."""
    instances: NDArray[np.float32]
    """`(z, y, x)` float32: 0, or the number of an object, in the order of placing."""
    occupied: Mask
    """`(z, y, x)` bool, True if a voxel is not free for another object."""
    names: dict[str, int] = field(default_factory=dict)
    """Name to its number in `labels`."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """One row per particle, in the order of placing."""
    missing: dict[str, int] = field(default_factory=dict)
    """Name to the number of copies that did not fit."""
    filled: int = 0
    """Number of occupied voxels."""
    objects: int = 0
    """Number of objects."""
    changes: int = 0
    """Additions since the last release of pages, for `release`."""
    waiting: WaitingParts | None = None
    """Parts of objects that only `occupied` has, until `write_parts`."""
    folder: Path | None = None
    """Of the file in which they wait; None: of temporary files."""
    target: float = 1.0
    """Wanted fraction of occupied voxels, before the crowders."""
    reached: float = 0.0
    """Occupied fraction before the crowders."""
    crowders: float = 1.0
    """Fraction of the wanted unnamed crowders that have a place."""
    membrane_area: float = 0.0
    """Square angstrom of all membranes."""
    filament_lengths: dict[str, float] = field(default_factory=dict)
    """Name to angstrom."""
    beads: NDArray[np.float32] | None = None
    """`(z, y, x)`, density of gold in the units of the maps; may be `density`."""

    def label(self, name: str) -> int:
        """Return the label number of a name; a new name gets the next number."""
        return self.names.setdefault(name, len(self.names) + 1)

    def label_names(self) -> dict[str, str]:
        """Return the name of each label number, for the record beside the labels."""
        return {str(number): name for name, number in self.names.items()}

    def about(self) -> dict[str, Any]:
        """Return the entries of the record: names of the labels, filling, membranes, filaments."""
        found: dict[str, Any] = {
            "labels": self.label_names(),
            "filled": self.filled / self.occupied.size,
        }
        if self.membrane_area:
            found["membrane_area_um2"] = self.membrane_area / 1e8
        if self.filament_lengths:
            found["filament_um"] = {name: a / 1e4 for name, a in self.filament_lengths.items()}
        return found

    def new_object(self) -> int:
        """Return the number of a new object."""
        self.objects += 1
        return self.objects

    def add(self, density: Floats, mask: Mask, centre: NDArray[np.int_], name: str) -> int:
        """Add an object in a box `(z, y, x)`, its voxel n // 2 at `centre` (zyx); return its number."""
        corner = centre - np.array(mask.shape) // 2
        in_scene, in_box = clip_box(corner, mask.shape, self.labels.shape)
        inside, number = mask[in_box], self.new_object()
        self.density[in_scene] += density[in_box]
        self.labels[in_scene][inside] = self.label(name)
        self.instances[in_scene][inside] = number
        self.occupied[in_scene] |= inside
        self.filled += int(inside.sum())
        self.release()
        return number

    def add_voxels(self, voxels: NDArray[np.int_], density: Floats, inside: Mask, name: str) -> int:
        """Add an object by the flat indices `(N,)` of its voxels; return its number.

        `density` `(N,)` is added; the voxels of `inside` `(N,)` belong to the object.
        """
        number, label = self.new_object(), self.label(name)
        for start in range(0, len(voxels), ADDED_VOXELS):
            part = slice(start, start + ADDED_VOXELS)
            own = voxels[part][inside[part]]
            self.density.reshape(-1)[voxels[part]] += density[part]
            self.labels.reshape(-1)[own] = label
            self.instances.reshape(-1)[own] = number
            self.occupied.reshape(-1)[own] = True
            self.filled += len(own)
            self.release(RELEASE_EVERY)
        return number

    def add_part(
        self, voxels: NDArray[np.int_], density: Floats, inside: Mask, name: str, number: int
    ) -> None:
        """Add a part of an object by the flat indices `(N,)` of its voxels, in ascending order.

        The free voxels of `inside` `(N,)` become the object's and are occupied at once. The other
        volumes get the part with `write_parts`.
        """
        own = inside & ~self.occupied.reshape(-1)[voxels]
        self.occupied.reshape(-1)[voxels[own]] = True
        self.filled += int(own.sum())
        if self.waiting is None:
            self.waiting = WaitingParts(math.prod(self.labels.shape[1:]), self.folder)
        self.waiting.add(voxels, density, own, self.label(name), number)
        self.release()
        if self.waiting.count > min(WAITING_VOXELS, self.labels.size):
            self.write_parts()

    def write_parts(self) -> None:
        """Write the parts that wait."""
        if self.waiting is not None:
            self.waiting.write(self.density, self.labels, self.instances)
            self.waiting = None
            self.release(RELEASE_EVERY)

    def release(self, changes: int = 1) -> None:
        """Return the pages of memory-mapped arrays to the system, if there were enough changes."""
        self.changes += changes
        if self.changes >= RELEASE_EVERY:
            self.changes = 0
            for array in (self.density, self.labels, self.instances, self.occupied):
                release_pages(array)


def empty_scene(
    shape: tuple[int, int, int], names: Sequence[str] = (), folder: Path | None = None
) -> Scene:
    """Return a scene without objects; `names` are numbered from 1 in their order.

    Parts of objects wait in a file in `folder`, by default the one of temporary files.
    """
    density, instances = np.zeros((2, *shape), np.float32)
    labels, occupied = np.zeros(shape, np.int16), np.zeros(shape, bool)
    scene = Scene(density, labels, instances, occupied, folder=folder)
    for name in names:
        scene.label(name)
    return scene


MASK_LEVEL = 0.15
"""Fraction of a map's maximum above which a voxel belongs to the particle."""
SUPPORT_LEVEL = 0.005
"""Fraction of a map's maximum below which density at its border is cut off."""
OVERSAMPLING = 2
"""Voxels of the grid of linear interpolation in a voxel of a map, along an axis."""
CUBIC_AT = [1 / 6, 4 / 6, 1 / 6]
"""Cubic B-spline at -1, 0, 1."""
CUBIC_BETWEEN = [1 / 48, 23 / 48, 23 / 48, 1 / 48]
"""Cubic B-spline at -1.5, -0.5, 0.5, 1.5."""
MAX_MISSES = 3
"""Orientations of a class that find no place in a block, after which it is full for the class."""
BLOCK = 48
"""Edge in voxels of the blocks in which all positions are searched."""
RANDOM_TRIES = 256
"""Random positions in the whole scene that are tried before blocks are searched."""
PROBES = 24
"""Voxels of a mask that are tested at all positions; the others where these are free."""
CANDIDATES, LOOKUPS = 2048, 1 << 17
"""Positions that are tested at a time, and voxels looked up at a time."""


@dataclass(frozen=True)
class Species:
    """A map, cut to its support; rotated copies of it are placed."""

    name: str
    fine: NDArray[np.float32]
    """The density `(z, y, x)` on a grid `OVERSAMPLING` times as fine, from the cube's first voxel."""
    box: int
    """Voxels along an edge of a copy."""
    level: float
    """Density above which a voxel belongs to the particle."""
    volume: int
    """Voxels of the mask."""
    radius: float
    """Voxels from voxel n // 2 to the farthest voxel of the mask."""

    def rotate(self, matrix: Floats, shift: Floats) -> tuple[Floats, Mask]:
        """Return a rotated copy `(z, y, x)`, shifted by x, y, z voxels, and its mask.

        `matrix` `(3, 3)` takes reference vectors (xyz) to particle vectors.

        Linear interpolation on the fine grid differs by less than 1 % (root mean square) from the cubic
        spline of `rotate_volume`, in less than half of its time.
        """
        backward = matrix.T[::-1, ::-1]
        centre = np.full(3, self.box // 2)
        offset = centre - backward @ (centre + np.asarray(shift, float)[::-1])
        density = ndimage.affine_transform(
            self.fine,
            OVERSAMPLING * backward,
            OVERSAMPLING * offset,
            (self.box,) * 3,
            order=1,
            mode="constant",
        )
        return density, density > self.level

    def random_copy(self, rng: np.random.Generator) -> tuple[Floats, Mask, Rotation, Floats]:
        """Return a copy with its mask, rotation and subvoxel shift (xyz)."""
        rotation, shift = random_rotations(1, rng)[0], rng.uniform(-0.5, 0.5, 3)
        return *self.rotate(rotation.as_matrix(), shift), rotation, shift


def make_species(name: str, density: Floats) -> Species:
    """Return a species in a cube that holds its density in every orientation."""
    highest = float(density.max())
    centre, box = np.array(density.shape) // 2, int(max(density.shape))
    places = np.argwhere(np.abs(density) > SUPPORT_LEVEL * highest)
    # one voxel for the subvoxel shift, one for the interpolation
    half = int(np.ceil(np.sqrt(((places - centre) ** 2).sum(axis=1)).max(initial=0))) + 2
    if half < min(centre):
        box = 2 * half + 1
    fine = oversample(density, centre - box // 2, (box,) * 3)
    level = MASK_LEVEL * highest
    own = np.argwhere(density > level) - centre
    radius = float(np.sqrt((own**2).sum(axis=1)).max(initial=0))
    return Species(name, fine, box, level, len(own), radius)


def oversample(
    density: Floats, first: NDArray[np.int_], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return a map `(z, y, x)` on a grid `OVERSAMPLING` times as fine, for linear interpolation.

    `first` and `shape` (zyx) are the voxels that it covers; they may lie beyond the map.
    """
    splines = ndimage.spline_filter(np.asarray(density, np.float64), order=3)
    for axis in range(3):
        # the cubic spline at voxels and half-way between them
        at = ndimage.correlate1d(splines, CUBIC_AT, axis, mode="mirror")
        between = ndimage.correlate1d(splines, CUBIC_BETWEEN, axis, mode="mirror", origin=-1)
        np.moveaxis(between, axis, 0)[-1] = 0  # beyond the map
        splines = np.stack([at, between], axis + 1).reshape(
            [n * (1 + (a == axis)) for a, n in enumerate(at.shape)]
        )
    fine = np.zeros([OVERSAMPLING * n for n in shape], np.float32)
    in_map, in_fine = clip_box(OVERSAMPLING * first, fine.shape, splines.shape)
    fine[in_fine] = splines[in_map]
    # linear interpolation adds f'' / 12 along each axis, on the mean over positions
    fine -= ndimage.laplace(fine, mode="constant") / 12
    return fine


def pack(
    scene: Scene,
    maps: Mapping[str, Floats],
    copies: Mapping[str, int | None],
    tomogram: str,
    seed: int,
    fill: float = 1.0,
    label: str | None = None,
) -> None:
    """Fill a scene with randomly rotated particles, in place.

    The classes take turns, the largest first. If not all copies fit, every class therefore gets
    its share. Positions are subvoxel. No two masks (map above 15 % of its maximum) share a voxel,
    and every mask lies inside the volume.

    Parameters
    ----------
    scene : Scene
        Changed in place.
    maps, copies : mapping
        Class to density `(z, y, x)`, the particle's centre at n // 2; to copies, None: any number.
    tomogram, seed
        Name, for seeds and ids; the run's seed.
    fill : float
        Fraction of occupied voxels, other objects included, at which packing stops.
    label : str, optional
        Name of the labels; the default is the class.
    """
    species = [make_species(name, density) for name, density in maps.items()]
    species.sort(key=lambda one: -one.volume)
    places = {one.name: FreePlaces(scene.occupied) for one in species}
    placed = dict.fromkeys(maps, 0)
    target = fill * scene.occupied.size

    def wanted(name: str) -> float:
        count = copies[name]
        return np.inf if count is None else count

    def turns() -> Iterator[tuple[int, Species]]:
        for index in count_from():
            ready = [
                one for one in species if places[one.name].any_left and index < wanted(one.name)
            ]
            for one in ready:
                if scene.filled >= target:
                    return
                yield index, one
            if not ready:
                return

    def done() -> float:
        shares = [
            placed[name] / wanted(name) if wanted(name) and places[name].any_left else 1.0
            for name in copies
        ]
        return max(float(np.mean(shares)), scene.filled / target)

    for index, one in track(turns(), f"placing particles in {tomogram}", fraction=done):
        rng = generator_for(seed, "pack", tomogram, one.name, index)
        density, mask, rotation, shift = one.random_copy(rng)
        centre = places[one.name].find(mask, rng)
        if centre is not None:
            placed[one.name] += 1
            number = scene.add(density, mask, centre, label or one.name)
            place = centre[::-1] + shift
            scene.rows.append(
                particle_row(tomogram, one.name, place, relion_from_rotation(rotation), number)
            )
    missing = {name: (count or 0) - placed[name] for name, count in copies.items()}
    scene.missing |= {name: number for name, number in missing.items() if number > 0}


def particle_row(
    tomogram: str, name: str, centre: Iterable[float], angles: Iterable[float], number: int
) -> dict[str, Any]:
    """Return the row of a particle: centre (xyz, voxels), angles (RELION's), number of instance."""
    x, y, z = map(float, centre)
    return {
        "rlnTomoName": tomogram,
        **dict(zip(COORDINATES, (x, y, z), strict=True)),
        **dict(zip(ANGLES, map(float, angles), strict=True)),
        "cryoetganClass": name,
        "cryoetganSource": "simulated",
        "cryoetganId": particle_id(tomogram, x, y, z),
        "cryoetganInstance": number,
    }


class FreePlaces:
    """Free positions for the masks of one class in a volume that only gets fuller.

    `occupied` is `(z, y, x)` bool and may be memory-mapped. A block in which `MAX_MISSES` masks
    found no place is not searched again.
    """

    def __init__(self, occupied: Mask) -> None:
        self.occupied = occupied
        self.corners = np.array(list(product(*(range(0, n, BLOCK) for n in occupied.shape))))
        self.misses = np.zeros(len(self.corners), int)

    @property
    def any_left(self) -> bool:
        """Whether a block is left that may have a place."""
        return bool((self.misses < MAX_MISSES).any())

    def find(self, mask: Mask, rng: np.random.Generator) -> NDArray[np.int_] | None:
        """Return a zyx voxel for the box centre n // 2 at which the mask overlaps nothing, or None.

        `mask` is the object in its box `(z, y, x)`. The mask, not the box, lies in the volume.
        """
        filled = np.argwhere(mask)
        if not len(filled):
            return None
        half = np.array(mask.shape) // 2
        first, last = filled.min(axis=0), filled.max(axis=0)
        low, high = half - first, np.array(self.occupied.shape) - 1 - (last - half)
        if (low > high).any():
            self.misses[:] += 1
            return None
        offsets = rng.permutation(filled - half)
        tried = rng.integers(low, high + 1, (RANDOM_TRIES, 3))
        for centre in tried[self._probably_free(tried, offsets[:PROBES])]:
            in_scene, in_box = clip_box(centre - half, mask.shape, self.occupied.shape)
            if not (self.occupied[in_scene] & mask[in_box]).any():
                return centre
        for index in rng.permutation(np.flatnonzero(self.misses < MAX_MISSES)):
            start = np.maximum(self.corners[index], low)
            stop = np.minimum(self.corners[index] + BLOCK, high + 1)
            if (start < stop).all():
                found = self._search(start, stop, offsets, rng)
                if found is not None:
                    return found
            self.misses[index] += 1
        return None

    def _probably_free(self, centres: NDArray[np.int_], offsets: NDArray[np.int_]) -> Mask:
        """Return whether the voxels at `offsets` from each centre are free."""
        z, y, x = (centres[:, None] + offsets).transpose(2, 0, 1)
        return ~self.occupied[z, y, x].any(axis=1)

    def _search(
        self,
        start: NDArray[np.int_],
        stop: NDArray[np.int_],
        offsets: NDArray[np.int_],
        rng: np.random.Generator,
    ) -> NDArray[np.int_] | None:
        """Return a random free centre from `start` to below `stop`, or None."""
        least, most = offsets.min(axis=0), offsets.max(axis=0)
        part = self.occupied[tuple(map(slice, start + least, stop + most))]
        free = np.logical_not(part, order="C")
        strides = np.array([free.shape[1] * free.shape[2], free.shape[2], 1])
        steps, flat = (offsets - least) @ strides, free.ravel()
        # in the flat array all positions are tested at once; those across an edge are cut off
        length = flat.size - int(steps.max())
        alive = np.zeros(flat.size, bool)
        alive[:length] = True
        for step in steps[:PROBES]:
            alive[:length] &= flat[step : step + length]
        inside = tuple(slice(0, n) for n in stop - start)
        candidates = np.argwhere(alive.reshape(free.shape)[inside])
        if not len(candidates):
            return None
        candidates = rng.permutation(candidates)
        for group in np.array_split(candidates, -(-len(candidates) // CANDIDATES)):
            left, tested = group @ strides, PROBES
            while len(left) and tested < len(steps):
                more = max(PROBES, LOOKUPS // len(left))
                tests = left[:, None] + steps[tested : tested + more]
                left, tested = left[flat[tests].all(axis=1)], tested + more
            if len(left):
                return start + np.array(np.unravel_index(left[0], free.shape))
        return None

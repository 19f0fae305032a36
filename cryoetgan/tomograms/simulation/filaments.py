"""Filaments as worm-like chains of monomers: actin, microtubules, any helix."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.io.memmap import expect_random_access
from cryoetgan.physics.geometry import clip_box, relion_from_rotation, rotate_volume
from cryoetgan.progress import log
from cryoetgan.seeds import rng as generator_for
from cryoetgan.tomograms.simulation.helices import Helix, about_z
from cryoetgan.tomograms.simulation.packing import (
    OVERSAMPLING,
    RELEASE_EVERY,
    SUPPORT_LEVEL,
    Scene,
    Species,
    make_species,
    oversample,
    particle_row,
)

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]
TRIES = 250
"""Random starts and directions of a filament before the rest of its length is missing."""
MAX_TILT_DEG = 25.0
"""Standard deviation of the angle between a filament and the plane of the film, degrees."""
FROM_FACE = 0.7
"""Fraction of the filaments that begin at a face of the volume; the others begin inside."""
MIN_LENGTH_A = 500.0
"""Angstrom of the shortest filament, unless less is wanted."""
BEND_A = 0.5
"""Angstrom, root mean square, by which a straight stretch of density leaves its filament."""
INTERPOLATED = 1 << 14
"""Places that are interpolated at a time: they stay in the processor's cache."""
RING = 8
"""Points around the axis that must be free, at each step."""
RINGS = about_z(360 * np.arange(RING) / RING)[:, :, 0]
OFFSETS = np.concatenate([[[0.0, 0, 0]], 0.5 * RINGS, RINGS])
"""Points that must be free: the axis, and rings at half and at all of a filament's radius."""


def worm_like_chain(
    start: Floats,
    direction: Floats,
    step: float,
    persistence: float,
    count: int,
    rng: np.random.Generator,
) -> tuple[Floats, NDArray[np.float64]]:
    """Return `(N, 3)` points and `(N, 3, 3)` frames of a worm-like chain; lengths of one unit.

    The columns of a frame are two transverse vectors and the tangent; it turns without twist. The
    tangents decorrelate as <t(0) t(s)> = exp(-s / P) (Kratky and Porod 1949,
    doi 10.1002/recl.19490681203).
    """
    return _chain(start, direction, step, _bends(step, persistence, count, rng))


def _bends(step: float, persistence: float, count: int, rng: np.random.Generator) -> Floats:
    """Return the two angles `(N, 2)`, radians, by which the tangent turns at each step."""
    return rng.normal(0, np.sqrt(step / persistence), (count, 2))


def _chain(
    start: Floats, direction: Floats, step: float, bends: Floats
) -> tuple[Floats, NDArray[np.float64]]:
    """Return the points and frames of the chain with these bends; the first ones need no others."""
    tangent = direction / np.linalg.norm(direction)
    x, y, z = (float(value) for value in tangent)
    p, q, r = (y, -x, 0.0) if abs(z) < 0.9 else (0.0, z, -y)
    columns = np.empty((len(bends), 9))
    # plain numbers: arrays of three cost ten times as much
    for index, (a, b) in enumerate(bends.tolist()):
        along = p * x + q * y + r * z
        p, q, r = p - along * x, q - along * y, r - along * z
        length = math.sqrt(p * p + q * q + r * r)
        p, q, r = p / length, q / length, r / length
        i, j, k = y * r - z * q, z * p - x * r, x * q - y * p
        columns[index] = p, q, r, i, j, k, x, y, z
        x, y, z = x + a * p + b * i, y + a * q + b * j, z + a * r + b * k
        length = math.sqrt(x * x + y * y + z * z)
        x, y, z = x / length, y / length, z / length
    frames = columns.reshape(len(bends), 3, 3).transpose(0, 2, 1)
    steps = np.concatenate([np.zeros((1, 3)), step * frames[:-1, :, 2]])
    return np.asarray(start, float) + np.cumsum(steps, axis=0), frames


def add_filaments(
    scene: Scene,
    maps: Mapping[str, Floats],
    helices: Mapping[str, Helix],
    length: float,
    voxel_size: float,
    tomogram: str,
    seed: int,
) -> dict[str, float]:
    """Place filaments of each class to a total length (angstrom); return the lengths placed.

    A filament starts at a face or inside and ends at a face or at another object. Each monomer
    has a row; a filament has one number of the instances, rlnHelicalTubeID.
    """
    placed = {}
    expect_random_access(scene.occupied)
    for name, density in maps.items():
        helix, species = helices[name], make_species(name, density)
        stretches = Stretches(species, density, helix, voxel_size)
        rng = generator_for(seed, "filaments", tomogram, name)
        total, tries, shortest = 0.0, 0, min(MIN_LENGTH_A, length)
        while length - total >= shortest and tries < TRIES:
            path = _free_path(scene, helix, species, voxel_size, length - total, shortest, rng)
            if path is None:
                tries += 1
                scene.release(RELEASE_EVERY if tries % 128 == 0 else 0)
                continue
            tries = 0
            _add_filament(scene, stretches, *path, tomogram, rng)
            total += len(path[0]) * helix.rise
            log.debug(
                "%s: %.2f of %.2f micrometres of %s", tomogram, total / 1e4, length / 1e4, name
            )
        placed[name] = total
    expect_random_access(scene.occupied, False)
    scene.write_parts()
    return placed


def _free_path(
    scene: Scene,
    helix: Helix,
    species: Species,
    voxel_size: float,
    longest: float,
    shortest: float,
    rng: np.random.Generator,
) -> tuple[Floats, NDArray[np.float64]] | None:
    """Return points (voxels) and frames of a chain that meets no other object, or None."""
    size = np.array(scene.labels.shape[::-1], float)
    azimuth, tilt = rng.uniform(0, 2 * np.pi), np.radians(rng.normal(0, MAX_TILT_DEG))
    flat = np.array([np.cos(azimuth), np.sin(azimuth)]) * np.cos(tilt)
    direction = np.array([*flat, np.sin(tilt)])
    start, step = rng.uniform(0, size - 1), helix.rise / voxel_size
    if rng.random() < FROM_FACE:
        with np.errstate(divide="ignore"):
            back = np.where(direction > 0, start, start - size + 1) / direction
        start = start - direction * (back.min() - 1e-6)
    reach = helix.radius / voxel_size + species.radius
    # the staggered monomers of the ends reach beyond their points on the axis
    beyond = abs(helix.stagger) * (helix.protofilaments - 1) + species.radius * voxel_size
    cut = int(np.ceil(beyond / helix.rise))
    turns = np.ceil(longest / helix.rise - 1e-6) + 2 * np.ceil(4 * reach / step)
    count = int(min(turns, float(np.linalg.norm(size)) / step))
    bends = _bends(step, helix.persistence / voxel_size, count, rng)
    # most starts lie in other objects, and most others soon meet one: a few points tell
    latest = int(4 * reach / step) + 1
    for tested in (latest, latest + 2 * cut + int(np.ceil(shortest / helix.rise)), count):
        points, frames = _chain(start, direction, step, bends[:tested])
        free = _free_points(scene, points, frames, reach)
        # a filament from a face begins at the first point with all of its ring inside
        first = int(free[:latest].argmax())
        if not free[first]:
            return None
        last = first + int((~free[first:]).argmax()) if not free[first:].all() else len(free)
        if last < len(free):
            break
    first, last = first + cut, last - cut
    if (last - first) * helix.rise < shortest:
        return None
    last = min(last, first + int(np.ceil(longest / helix.rise - 1e-6)))
    return points[first:last], frames[first:last]


def _free_points(scene: Scene, points: Floats, frames: NDArray[np.float64], reach: float) -> Mask:
    """Return `(N,)`, whether the axis and the rings about a point are inside and free."""
    size = scene.labels.shape[::-1]
    tested = points[:, None] + (reach * OFFSETS) @ frames.transpose(0, 2, 1)
    x, y, z = np.rint(tested).astype(int).transpose(2, 0, 1)
    within = [(axis >= 0) & (axis < n) for axis, n in zip((x, y, z), size, strict=True)]
    free = (within[0] & within[1] & within[2]).all(axis=1)
    free[free] = ~scene.occupied[z[free], y[free], x[free]].any(axis=1)
    return free


class Stretches:
    """Maps of straight stretches of a filament, with the rings before and after them.

    Where several rings overlap, the density of a voxel is read once, from their sum. At the ends
    of a filament the sum has fewer rings. The maps have the middle of the first ring at `first`.
    """

    def __init__(self, species: Species, density: Floats, helix: Helix, voxel_size: float) -> None:
        self.density, self.helix, self.voxel_size = density, helix, voxel_size
        self.name, self.level = species.name, species.level
        self.rise = helix.rise / voxel_size
        self.rings = max(1, int(longest_stretch(helix.persistence) / helix.rise))
        """Rings of a stretch, at most."""
        _, offsets = helix.ring()
        along = np.abs(offsets[:, 2] - helix.middle).max() / voxel_size + species.box / 2
        across = helix.radius / voxel_size + species.box / 2
        self.first = np.ceil([along, across, across]).astype(int) + 1
        """z, y, x of the middle of the first ring in a map, voxels."""
        ring = self._ring(0, 0.0)
        z, y, x = np.nonzero(ring > SUPPORT_LEVEL * ring.max()) - self.first[:, None]
        # one voxel for the interpolation
        self.radius, self.hollow = np.hypot(x, y).max() + 1, np.hypot(x, y).min() - 1
        """Voxels from the axis between which all density lies."""
        self.reach = np.abs(z).max() + 1
        """Voxels along the axis from the middle of a ring beyond which it has no density."""
        self.overlapping = int(np.ceil(0.5 + self.reach / self.rise))
        """Rings on each side that may reach into a stretch."""
        self.first = np.ceil([self.reach, self.radius, self.radius]).astype(int) + 1
        self._fine: dict[int, NDArray[np.float32]] = {}
        self._maps: dict[tuple[int, int, int], NDArray[np.float32]] = {}

    def __call__(self, count: int, before: int, after: int) -> NDArray[np.float32]:
        """Return the sum of `count` rings, and of those around them, on the fine grid."""
        if (count, before, after) not in self._maps:
            longer = int(np.ceil((count - 1) * self.rise))
            whole = np.zeros(OVERSAMPLING * (2 * self.first + 1 + [longer, 0, 0]), np.float32)
            for turn in range(-before, count + after):
                ring = self._fine_ring(turn)
                low = OVERSAMPLING * int(np.rint(turn * self.rise))
                a, b = max(low, 0), min(low + len(ring), len(whole))
                if a < b:
                    whole[a:b] += ring[a - low : b - low]
            self._maps[count, before, after] = whole
        return self._maps[count, before, after]

    def _fine_ring(self, turn: int) -> NDArray[np.float32]:
        """Return a ring on a grid `OVERSAMPLING` times as fine, about the voxel nearest to it."""
        if turn not in self._fine:
            place = turn * self.rise
            whole = self._ring(turn, place - np.rint(place))
            self._fine[turn] = oversample(whole, np.zeros(3, int), whole.shape)
        return self._fine[turn]

    def _ring(self, turn: int, shift: float) -> Floats:
        """Return ring `turn` of a filament, its middle at `first` and `shift` voxels along z."""
        strands, offsets = self.helix.ring()
        about = about_z(np.array([self.helix.twist * turn]))[0]
        whole = np.zeros(2 * self.first + 1)
        for matrix, offset in zip(strands, offsets - [0, 0, self.helix.middle], strict=True):
            place = about @ offset / self.voxel_size + [0, 0, shift]
            nearest = np.rint(place).astype(int)
            monomer = rotate_volume(
                self.density, Rotation.from_matrix(about @ matrix), place - nearest
            )
            corner = self.first + nearest[::-1] - np.array(monomer.shape) // 2
            in_whole, in_monomer = clip_box(corner, monomer.shape, whole.shape)
            whole[in_whole] += monomer[in_monomer]
        return whole


def longest_stretch(persistence: float) -> float:
    """Return the angstrom of a chain that leaves a straight line by `BEND_A`, root mean square.

    The line goes through the mean of the chain, along its middle. The mean square distance of a
    chain of length L, far below the persistence length P, from it is 7 L^3 / (480 P).
    """
    return float(np.cbrt(480 / 7 * persistence * BEND_A**2))


def _add_filament(
    scene: Scene,
    stretches: Stretches,
    points: Floats,
    frames: NDArray[np.float64],
    tomogram: str,
    rng: np.random.Generator,
) -> None:
    """Add the rings of a filament along a chain, and a row for each monomer."""
    helix, voxel_size, number = stretches.helix, stretches.voxel_size, scene.new_object()
    phase, polarity = rng.uniform(0, 360), rng.random() < 0.5
    if polarity:
        points, frames = points[::-1], frames[::-1] * np.array([1.0, -1, -1])
    turned = frames @ about_z(phase + helix.twist * np.arange(len(points)))
    centres = points + turned @ [0, 0, helix.middle / voxel_size]
    _add_stretches(scene, stretches, centres, turned, number)
    strands, offsets = helix.ring()
    matrices = np.einsum("nij,pjk->npik", turned, strands).reshape(-1, 3, 3)
    places = (points[:, None] + np.einsum("nij,pj->npi", turned, offsets / voxel_size)).reshape(
        -1, 3
    )
    angles = relion_from_rotation(Rotation.from_matrix(matrices))
    for place, own in zip(places.tolist(), angles.tolist(), strict=True):
        row = particle_row(tomogram, stretches.name, place, own, number)
        scene.rows.append(row | {"rlnHelicalTubeID": number})


def _add_stretches(
    scene: Scene,
    stretches: Stretches,
    centres: Floats,
    turned: NDArray[np.float64],
    number: int,
) -> None:
    """Add the density of a chain of rings with middles `(N, 3)` xyz in voxels and rotations.

    A voxel belongs to one stretch, between the planes half-way to the rings before and after it.
    """
    count, rise, shape = len(centres), stretches.rise, scene.labels.shape
    tangents = turned[:, :, 2]
    normals = tangents[1:] + tangents[:-1]
    # signed distance, up to a factor, of the plane between two rings: normal . x - level
    levels = ((centres[1:] + centres[:-1]) / 2 * normals).sum(axis=1)
    for part in np.array_split(np.arange(count), -(-count // stretches.rings)):
        start, stop, middle = part[0], part[-1] + 1, (part[0] + part[-1]) // 2
        near = min(stretches.overlapping, start), min(stretches.overlapping, count - stop)
        back = about_z(np.array([-stretches.helix.twist * (middle - start)]))[0]
        matrix, half = turned[middle] @ back, (len(part) - 1) * rise / 2
        centre = centres[start:stop].mean(axis=0)
        more = stretches.reach if start == 0 or stop == count else rise / 2 + 1
        tangent = np.abs(matrix[:, 2])
        reach = stretches.radius * np.sqrt(np.maximum(1 - tangent**2, 0)) + (half + more) * tangent
        low = np.maximum(np.floor(centre - reach - 1), 0).astype(int)
        high = np.minimum(np.ceil(centre + reach + 1) + 1, shape[::-1]).astype(int)
        if (low >= high).any():
            continue
        first = centre - half * matrix[:, 2]
        axes = [
            np.arange(n, dtype=np.float32) + np.float32(a)
            for a, n in zip(low - first, high - low, strict=True)
        ]
        along = _project(axes, matrix[:, 2])
        across = _project([axis**2 for axis in axes], np.ones(3)) - along**2
        kept = (across < stretches.radius**2) & (across >= max(stretches.hollow, 0) ** 2)
        kept &= np.abs(along - np.float32(half)) < half + stretches.reach
        # a voxel has the same distance from a plane in both of its stretches, to the last bit
        places = [np.arange(a, b, dtype=np.float32) for a, b in zip(low, high, strict=True)]
        if start:
            kept &= _project(places, normals[start - 1]) >= levels[start - 1]
        if stop < count:
            kept &= _project(places, normals[stop - 1]) < levels[stop - 1]
        at = np.flatnonzero(kept)
        voxels = np.unravel_index(at, kept.shape)
        own = np.stack([axis[index] for axis, index in zip(axes[::-1], voxels, strict=True)])
        own = matrix.T[::-1, ::-1].astype(np.float32) @ own
        own = OVERSAMPLING * (own + stretches.first[:, None].astype(np.float32))
        flat = np.ravel_multi_index(
            tuple(index + a for index, a in zip(voxels, low[::-1], strict=True)), shape
        )
        density = interpolate(stretches(len(part), *near), own)
        scene.add_part(flat, density, density > stretches.level, stretches.name, number)


def interpolate(volume: NDArray[np.float32], places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a volume `(z, y, x)` at places `(3, N)`, zyx in voxels, by linear interpolation.

    All places lie inside. It takes a fifth of the time of `scipy.ndimage.map_coordinates`.
    """
    _, height, width = volume.shape
    flat, out = volume.ravel(), np.empty(places.shape[1], np.float32)
    # corner (0, 0, 0) of a cell to corner (1, 1, 1)
    corners = [z * height * width + y * width + x for z in (0, 1) for y in (0, 1) for x in (0, 1)]
    memory = np.empty((len(corners), INTERPOLATED), np.float32)
    for start in range(0, len(out), INTERPOLATED):
        part = places[:, start : start + INTERPOLATED]
        whole = np.floor(part)
        fractions = part - whole
        z, y, x = whole.astype(np.intp)
        first = (z * height + y) * width + x
        values = memory[:, : len(first)]
        for row, corner in zip(values, corners, strict=True):
            # into given memory without a check of the indices: a quarter of the time
            np.take(flat[corner:], first, out=row, mode="clip")
        for fraction in fractions[::-1]:
            lower, upper = values[::2], values[1::2]
            upper -= lower
            upper *= fraction
            values = upper + lower
        out[start : start + INTERPOLATED] = values[0]
    return out


def _project(axes: Sequence[NDArray[np.float32]], vector: Floats) -> NDArray[np.float32]:
    """Return v . x `(z, y, x)` of a vector v (xyz) and the grid of three axes x, y, z."""
    x, y, z = (np.float32(a) * axis for a, axis in zip(vector, axes, strict=True))
    flat: NDArray[np.float32] = x + y[:, None]
    return flat + z[:, None, None]

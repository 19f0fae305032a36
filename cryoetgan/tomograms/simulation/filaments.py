"""Filaments as worm-like chains of monomers: actin, microtubules, any helix."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.physics.geometry import clip_box, relion_from_rotation, rotate_volume
from cryoetgan.progress import log
from cryoetgan.seeds import rng as generator_for
from cryoetgan.tomograms.simulation.packing import Scene, Species, make_species, particle_row

Floats = NDArray[np.floating]
TRIES = 60
"""Random starts and directions of a filament before the rest of its length is missing."""
MAX_TILT_DEG = 25.0
"""Standard deviation of the angle between a filament and the plane of the film, degrees."""
FROM_FACE = 0.7
"""Fraction of the filaments that begin at a face of the volume; the others begin inside."""
MIN_LENGTH_A = 500.0
"""Angstrom of the shortest filament, unless less is wanted."""
RING = 8
"""Points around the axis that must be free, at each step."""


@dataclass(frozen=True)
class Helix:
    """Lattice of a filament. Monomers have z along the axis and x away from it."""

    rise: float
    """Angstrom along the axis from one turn of monomers to the next."""
    twist: float = 0.0
    """Degrees about the axis with each rise."""
    radius: float = 0.0
    """Angstrom from the axis to voxel n // 2 of the monomer's map."""
    protofilaments: int = 1
    stagger: float = 0.0
    """Angstrom along the axis from one protofilament to the next, counter-clockwise seen from the
    plus end (+z); the seam is where they close."""
    persistence: float = 1e5
    """Persistence length, angstrom."""

    @property
    def middle(self) -> float:
        """Angstrom along the axis from the first protofilament's monomer to the middle of a ring."""
        return self.stagger * (self.protofilaments - 1) / 2

    def ring(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return rotations `(N, 3, 3)` and positions `(N, 3)`, angstrom, of a ring's monomers.

        The axis is z; the first monomer lies at x = radius.
        """
        index = np.arange(self.protofilaments)
        strands = _about_z(360 * index / self.protofilaments)
        along = np.stack([0 * index, 0 * index, self.stagger * index], axis=1)
        return strands, strands @ [self.radius, 0, 0] + along


HELICES = {
    # Dominguez and Holmes 2011, doi 10.1146/annurev-biophys-042910-155359; Gittes 1993,
    # doi 10.1083/jcb.120.4.923: persistence lengths of 17.7 and 5,200 micrometres
    "actin": Helix(27.5, -166.6, 0.0, persistence=1.77e5),
    # 13 protofilaments of dimers, left-handed three-start helix of monomers of 40.6 A: 3 * 40.6 / 13
    "microtubule": Helix(81.2, 0.0, 112.0, 13, -9.37, 5.2e7),
}
"""Lattices of names that a class begins with. An actin monomer's map is centred on the axis."""


def parse_helices(names: Sequence[str], items: Sequence[str]) -> dict[str, Helix]:
    """Return the lattice of each class, from NAME=RISE,TWIST,RADIUS[,N,STAGGER[,PERSISTENCE]]."""
    found: dict[str, Helix] = {
        name: helix
        for name in names
        for prefix, helix in HELICES.items()
        if name.lower().startswith(prefix)
    }
    for item in items:
        name, _, values = item.partition("=")
        try:
            numbers = [float(value) for value in values.split(",")]
            if name not in names or len(numbers) not in (3, 5, 6):
                raise ValueError
            numbers += [1.0, 0.0, 1e5][len(numbers) - 3 :]
            rise, twist, radius, count, stagger, persistence = numbers
            if rise <= 0 or radius < 0 or count < 1 or persistence <= 0:
                raise ValueError
        except ValueError:
            raise UserError(
                f"--helix: got '{item}', wanted NAME=RISE,TWIST,RADIUS[,N,STAGGER[,PERSISTENCE]], "
                f"angstrom and degrees, with NAME of {', '.join(names) or 'a --filament'}"
            ) from None
        found[name] = Helix(rise, twist, radius, int(count), stagger, persistence)
    if unknown := [name for name in names if name not in found]:
        raise UserError(
            f"--filament: the lattice of {unknown[0]} is not known ({', '.join(HELICES)} are); give "
            f"--helix {unknown[0]}=RISE,TWIST,RADIUS"
        )
    return found


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
    tangent = direction / np.linalg.norm(direction)
    x, y, z = (float(value) for value in tangent)
    p, q, r = np.cross(tangent, [0.0, 0, 1] if abs(z) < 0.9 else [1.0, 0, 0])
    bends = rng.normal(0, np.sqrt(step / persistence), (count, 2)).tolist()
    columns = np.empty((count, 9))
    # plain numbers: arrays of three cost ten times as much
    for index, (a, b) in enumerate(bends):
        along = p * x + q * y + r * z
        p, q, r = p - along * x, q - along * y, r - along * z
        length = math.sqrt(p * p + q * q + r * r)
        p, q, r = p / length, q / length, r / length
        i, j, k = y * r - z * q, z * p - x * r, x * q - y * p
        columns[index] = p, q, r, i, j, k, x, y, z
        x, y, z = x + a * p + b * i, y + a * q + b * j, z + a * r + b * k
        length = math.sqrt(x * x + y * y + z * z)
        x, y, z = x / length, y / length, z / length
    frames = columns.reshape(count, 3, 3).transpose(0, 2, 1)
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
    for name, density in maps.items():
        helix, species = helices[name], make_species(name, density)
        ring = make_ring(species, density, helix, voxel_size)
        rng = generator_for(seed, "filaments", tomogram, name)
        total, tries, shortest = 0.0, 0, min(MIN_LENGTH_A, length)
        while length - total >= shortest and tries < TRIES:
            path = _free_path(scene, helix, species, voxel_size, length - total, shortest, rng)
            if path is None:
                tries += 1
                continue
            tries = 0
            _add_filament(scene, ring, helix, *path, voxel_size, tomogram, rng)
            total += len(path[0]) * helix.rise
            log.debug(
                "%s: %.2f of %.2f micrometres of %s", tomogram, total / 1e4, length / 1e4, name
            )
        placed[name] = total
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
    turns = np.ceil(longest / helix.rise - 1e-6) + 2 * np.ceil(4 * reach / step)
    count = int(min(turns, float(np.linalg.norm(size)) / step))
    persistence = helix.persistence / voxel_size
    points, frames = worm_like_chain(start, direction, step, persistence, count, rng)
    angles = np.arange(RING) * 2 * np.pi / RING
    ring = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    offsets = np.concatenate([[[0.0, 0, 0]], 0.5 * reach * ring, reach * ring])
    tested = np.rint(points[:, None] + np.einsum("nij,mj->nmi", frames, offsets)).astype(int)
    inside = ((tested >= 0) & (tested < size)).all(axis=2)
    x, y, z = np.where(inside[..., None], tested, 0).transpose(2, 0, 1)
    free = (inside & ~scene.occupied[z, y, x]).all(axis=1)
    # a filament from a face begins at the first point with all of its ring inside
    first = int(free.argmax())
    last = first + int((~free[first:]).argmax()) if not free[first:].all() else count
    if not free.any() or first * step > 4 * reach:
        return None
    # the staggered monomers of the ends reach beyond their points on the axis
    beyond = abs(helix.stagger) * (helix.protofilaments - 1) + species.radius * voxel_size
    cut = int(np.ceil(beyond / helix.rise))
    first, last = first + cut, last - cut
    if (last - first) * helix.rise < shortest:
        return None
    last = min(last, first + int(np.ceil(longest / helix.rise - 1e-6)))
    return points[first:last], frames[first:last]


def _add_filament(
    scene: Scene,
    ring: Species,
    helix: Helix,
    points: Floats,
    frames: NDArray[np.float64],
    voxel_size: float,
    tomogram: str,
    rng: np.random.Generator,
) -> None:
    """Add the rings of a filament along a chain, and a row for each monomer."""
    number = scene.new_object()
    phase, polarity = rng.uniform(0, 360), rng.random() < 0.5
    if polarity:
        points, frames = points[::-1], frames[::-1] * np.array([1.0, -1, -1])
    turned = frames @ _about_z(phase + helix.twist * np.arange(len(points)))
    centres = points + turned @ [0, 0, helix.middle / voxel_size]
    for matrix, centre in zip(turned, centres, strict=True):
        whole = np.rint(centre).astype(int)
        density, mask = ring.rotate(matrix, centre - whole)
        scene.add(density, mask, whole[::-1], ring.name, number)
    strands, offsets = helix.ring()
    matrices = np.einsum("nij,pjk->npik", turned, strands).reshape(-1, 3, 3)
    places = (points[:, None] + np.einsum("nij,pj->npi", turned, offsets / voxel_size)).reshape(
        -1, 3
    )
    angles = relion_from_rotation(Rotation.from_matrix(matrices))
    for place, own in zip(places, angles, strict=True):
        row = particle_row(tomogram, ring.name, place, own, number)
        scene.rows.append(row | {"rlnHelicalTubeID": number})


def _about_z(degrees: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the matrices `(N, 3, 3)` of turns about z."""
    return Rotation.from_euler("z", degrees[:, None], degrees=True).as_matrix()


def make_ring(species: Species, density: Floats, helix: Helix, voxel_size: float) -> Species:
    """Return the monomers of all protofilaments at one rise as one map, for placing them at once.

    Its voxel n // 2 lies on the axis, in the middle of their staggered positions.
    """
    if helix.protofilaments == 1 and helix.radius == 0:
        return species
    strands, offsets = helix.ring()
    offsets = (offsets - [0, 0, helix.middle]) / voxel_size
    half = int(np.ceil(np.linalg.norm(offsets, axis=1).max() + species.box / 2 * np.sqrt(3))) + 1
    whole = np.zeros((2 * half + 1,) * 3)
    for matrix, offset in zip(strands, offsets, strict=True):
        nearest = np.rint(offset).astype(int)
        monomer = rotate_volume(density, Rotation.from_matrix(matrix), offset - nearest)
        corner = half + nearest[::-1] - np.array(monomer.shape) // 2
        in_whole, in_monomer = clip_box(corner, monomer.shape, whole.shape)
        whole[in_whole] += monomer[in_monomer]
    # a voxel belongs to the filament if it belongs to a monomer
    return replace(make_species(species.name, whole), level=species.level)

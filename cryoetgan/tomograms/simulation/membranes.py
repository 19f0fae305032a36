"""Membranes of smooth shapes, as signed distance fields, and the proteins on them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.densities.density_from_atoms import gaussian_integral
from cryoetgan.densities.membrane import bilayer_profile
from cryoetgan.io.memmap import expect_random_access
from cryoetgan.physics.geometry import clip_box, random_rotations, relion_from_rotation
from cryoetgan.progress import track
from cryoetgan.seeds import rng as generator_for
from cryoetgan.tomograms.simulation.packing import RELEASE_EVERY, Scene, make_species, particle_row

Floats = NDArray[np.floating]
Field = Callable[[Floats, Floats, Floats], Floats]
"""From x, y, z in angstrom, which broadcast, to a signed distance near its zero, angstrom."""
THICKNESS_A = 40.0
"""Angstrom between the head-group layers."""
EXCLUDED_HALF_WIDTH_A = 38.0
"""Angstrom from the mid-plane within which no other object may lie."""
PROFILE_REACH_A = 60.0
"""Angstrom from the mid-plane beyond which a bilayer has no density."""
TRIES = 20
"""Random shapes and positions of a membrane before it is counted as missing."""
GAP_A = (120.0, 300.0)
"""Angstrom between the mid-planes of a double membrane."""
TUBE_RADIUS_A = (120.0, 400.0)
WAVES, WAVELENGTH_A = 4, (600.0, 2500.0)
"""Number and wavelengths of the waves of a surface."""
SLOPES = {"vesicle": 0.15, "torus": 0.08, "tube": 0.2, "fold": 0.6}
"""Root mean square of the slope of the waves."""
STRIDE = 3
"""Voxels between the points at which most surfaces that meet another object are found."""
TILE, STEEPEST = 32, 2.0
"""Edge in voxels of the tiles in which a field is evaluated, and its steepest slope."""
MAX_POINTS = 50_000
"""Points of a membrane's mid-plane that are kept for its proteins."""
PROTEIN_TRIES = 6
"""Tried positions for each wanted membrane protein."""


@dataclass(frozen=True)
class WantedMembranes:
    """Membranes to place under one label."""

    label: str
    count: int
    shapes: Sequence[str]
    radii: tuple[float, float]
    """Angstrom; bounds of the longest half axis of closed shapes."""


@dataclass(frozen=True)
class Membrane:
    """A placed membrane."""

    number: int
    """Of the instances."""
    area: float
    """Square angstrom of the mid-plane."""
    points: Floats
    """`(N, 3)` x, y, z in voxels, on the mid-plane."""
    normals: Floats
    """`(N, 3)` unit vectors; outwards for closed shapes."""

    def within(self, scene: Scene) -> "Membrane":
        """Return the rest of the membrane in a scene that was cut off (`Film.cut`)."""
        x, y, z = np.rint(self.points).astype(int).T
        expect_random_access(scene.instances)
        left = scene.instances[z, y, x] == self.number
        expect_random_access(scene.instances, random=False)
        scene.release(RELEASE_EVERY)
        area = self.area * float(left.mean())
        return replace(self, area=area, points=self.points[left], normals=self.normals[left])


def make_waves(rng: np.random.Generator, axes: int, slope: float) -> Callable[..., Floats]:
    """Return a smooth random function of `axes` coordinates (angstrom) with this rms slope."""
    lengths = rng.uniform(*WAVELENGTH_A, WAVES)
    directions = rng.normal(size=(WAVES, axes))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    k = 2 * np.pi * directions / lengths[:, None]
    phases = rng.uniform(0, 2 * np.pi, WAVES)
    # each wave of amplitude a and wave number k has an rms slope of a k / sqrt(2)
    amplitudes = slope * np.sqrt(2 / WAVES) * lengths / (2 * np.pi)

    def waves(*coordinates: Floats) -> Floats:
        total: Floats = np.zeros(1, np.float32)
        for wave, phase, amplitude in zip(k, phases, amplitudes, strict=True):
            along = sum(np.float32(f) * c for f, c in zip(wave, coordinates, strict=True))
            total = total + np.float32(amplitude) * np.cos(along + np.float32(phase))
        return total

    return waves


def make_field(
    shape: str, radii: tuple[float, float], rng: np.random.Generator
) -> tuple[Field, float]:
    """Return the field of a random surface about 0, and its extent in angstrom (inf: open).

    `radii` bound the longest half axis of closed shapes.
    """
    if shape == "double":
        inner, extent = make_field(str(rng.choice(["vesicle", "fold"])), radii, rng)
        gap = np.float32(rng.uniform(*GAP_A) / 2)
        return lambda x, y, z: abs(inner(x, y, z)) - gap, extent + float(gap)
    rotation = random_rotations(1, rng)[0].as_matrix().astype(np.float32)
    if shape == "fold":
        # membranes of cells are seen edge-on: their normals lie near the plane of the film
        rotation = Rotation.from_euler("ZY", [rng.uniform(0, 360), rng.normal(0, 15)], degrees=True)
        rotation = rotation.inv().as_matrix().astype(np.float32)
    waves = make_waves(rng, {"tube": 1, "fold": 2}.get(shape, 3), SLOPES[shape])
    others = make_waves(rng, 1, SLOPES["tube"])
    longest = np.float32(rng.uniform(*radii))
    axes = longest * np.append(rng.uniform(0.6, 1, 2), 1.0).astype(np.float32)
    thin = np.float32(min(rng.uniform(*TUBE_RADIUS_A), float(longest) / 2))

    def turned(x: Floats, y: Floats, z: Floats) -> list[Floats]:
        return [row[0] * x + row[1] * y + row[2] * z for row in rotation]

    def vesicle(x: Floats, y: Floats, z: Floats) -> Floats:
        own = turned(x, y, z)
        level = np.sqrt(sum((c / axis) ** 2 for c, axis in zip(own, axes, strict=True)))
        return axes.mean() * (level - 1) + waves(*own)

    def torus(x: Floats, y: Floats, z: Floats) -> Floats:
        a, b, c = turned(x, y, z)
        return (
            np.sqrt((np.sqrt(a**2 + b**2) - (longest - thin)) ** 2 + c**2) - thin + waves(a, b, c)
        )

    def tube(x: Floats, y: Floats, z: Floats) -> Floats:
        a, b, c = turned(x, y, z)
        return np.sqrt((a - waves(c)) ** 2 + (b - others(c)) ** 2) - thin

    def fold(x: Floats, y: Floats, z: Floats) -> Floats:
        a, b, c = turned(x, y, z)
        return a - waves(b, c)

    fields = {"vesicle": vesicle, "torus": torus, "tube": tube, "fold": fold}
    # the waves of a closed surface reach a few times their rms height beyond it
    height = SLOPES[shape] * WAVELENGTH_A[1] / np.pi
    return fields[shape], np.inf if shape in ("tube", "fold") else float(longest + height)


@dataclass(frozen=True)
class _Surface:
    """The voxels near a surface; flat indices of the scene."""

    voxels: NDArray[np.int_]
    depth: NDArray[np.float32]
    middle: NDArray[np.int_]
    """Positions in `voxels` of the voxels on the mid-plane."""
    normals: Floats
    """`(M, 3)` x, y, z, of the voxels on the mid-plane."""


def meets_another(
    field: Field, centre: Floats, extent: float, scene: Scene, voxel_size: float
) -> bool:
    """Return whether a surface meets an object on a grid of every `STRIDE` voxels: most do."""
    for low, high in _tiles_near(field, centre, extent, scene.labels.shape, voxel_size):
        axes = [np.arange(a, b, STRIDE) for a, b in zip(low, high, strict=True)]
        near = abs(_evaluate(field, axes, centre, voxel_size)) < EXCLUDED_HALF_WIDTH_A / 2
        if (scene.occupied[np.ix_(*axes)] & near).any():
            return True
    return False


def _evaluate(
    field: Field,
    axes: Sequence[NDArray[np.floating] | NDArray[np.int_]],
    centre: Floats,
    voxel_size: float,
) -> Floats:
    """Return the field `(z, y, x)` at positions along z, y, x in voxels, about `centre` (xyz)."""
    z, y, x = (
        ((axis - c) * voxel_size).astype(np.float32)
        for axis, c in zip(axes, centre[::-1], strict=True)
    )
    return field(x[None, None], y[None, :, None], z[:, None, None])


def find_surface(
    field: Field, centre: Floats, extent: float, scene: Scene, voxel_size: float
) -> _Surface | None:
    """Return the voxels within `PROFILE_REACH_A` of a surface, or None if it meets another object.

    The distance is the field over the length of its gradient, to first order. `centre` is x, y,
    z in voxels, `extent` in angstrom.
    """
    parts = []
    for low, high in _tiles_near(field, centre, extent, scene.labels.shape, voxel_size):
        # one more voxel on each side, for the gradient
        axes = [np.arange(a - 1, b + 1) for a, b in zip(low, high, strict=True)]
        values = _evaluate(field, axes, centre, voxel_size)
        near = abs(values) < 2 * (PROFILE_REACH_A + voxel_size)
        near[[0, -1]] = near[:, [0, -1]] = near[:, :, [0, -1]] = False
        at = np.nonzero(near)
        gradient = np.stack([_slope(values, at, axis) for axis in (2, 1, 0)], axis=1) / voxel_size
        length = np.maximum(np.linalg.norm(gradient, axis=1), 1e-6)
        depth = values[at] / length
        kept = abs(depth) < PROFILE_REACH_A
        places = np.stack(at, axis=1)[kept] + low - 1
        flat = np.ravel_multi_index(tuple(places.T), scene.labels.shape)
        own = abs(depth[kept]) <= EXCLUDED_HALF_WIDTH_A + voxel_size / 2
        if scene.occupied.reshape(-1)[flat[own]].any():
            return None
        parts.append((flat, depth[kept], (gradient / length[:, None])[kept]))
    if not parts:
        return None
    voxels, depth, normals = (np.concatenate(part) for part in zip(*parts, strict=True))
    middle = np.flatnonzero(abs(depth) < voxel_size / 2)
    return _Surface(voxels, depth, middle, normals[middle]) if len(middle) else None


def _slope(values: Floats, at: tuple[NDArray[np.int_], ...], axis: int) -> Floats:
    """Return half the difference of the two neighbours along an axis."""
    before, after = list(at), list(at)
    before[axis], after[axis] = at[axis] - 1, at[axis] + 1
    found: Floats = (values[tuple(after)] - values[tuple(before)]) / 2
    return found


def _tiles_near(
    field: Field, centre: Floats, extent: float, shape: tuple[int, ...], voxel_size: float
) -> Iterator[tuple[NDArray[np.int_], NDArray[np.int_]]]:
    """Yield first and last-plus-one voxel (zyx) of the tiles that a surface passes.

    A field changes by at most `STEEPEST` per angstrom.
    """
    reach = (extent + PROFILE_REACH_A) / voxel_size
    low = np.floor(np.maximum(centre[::-1] - reach, 0)).astype(int)
    high = np.ceil(np.minimum(centre[::-1] + reach + 1, shape)).astype(int)
    starts = [np.arange(a, b, TILE) for a, b in zip(low, high, strict=True)]
    if not all(map(len, starts)):
        return
    values = _evaluate(field, [start + TILE / 2 for start in starts], centre, voxel_size)
    radius = np.sqrt(3) / 2 * TILE * voxel_size
    for index in np.argwhere(abs(values) < STEEPEST * (radius + PROFILE_REACH_A)):
        start = np.array([axis[i] for axis, i in zip(starts, index, strict=True)])
        yield start, np.minimum(start + TILE, high)


def add_membranes(
    scene: Scene,
    wanted: WantedMembranes,
    width: float,
    voxel_size: float,
    tomogram: str,
    seed: int,
) -> list[Membrane]:
    """Place membranes of random shapes; return them.

    Faces of the volume cut them off. `width` is w of the blur exp(-r^2 / w^2), angstrom.
    """
    placed = []
    for index in track(range(wanted.count), f"placing {wanted.label}s in {tomogram}"):
        rng = generator_for(seed, wanted.label, tomogram, index)
        for _ in range(TRIES):
            shape = str(rng.choice(list(wanted.shapes)))
            field, extent = make_field(shape, wanted.radii, rng)
            centre = rng.uniform(0, np.array(scene.labels.shape[::-1]) - 1)
            if meets_another(field, centre, extent, scene, voxel_size):
                continue
            surface = find_surface(field, centre, extent, scene, voxel_size)
            if surface is not None:
                placed.append(_add(scene, surface, wanted.label, width, voxel_size, rng))
                break
    if len(placed) < wanted.count:
        scene.missing[wanted.label] = wanted.count - len(placed)
    return placed


def _add(
    scene: Scene,
    surface: _Surface,
    label: str,
    width: float,
    voxel_size: float,
    rng: np.random.Generator,
) -> Membrane:
    density = bilayer_profile(surface.depth, THICKNESS_A, width) * gaussian_integral(width)
    inside = abs(surface.depth) <= EXCLUDED_HALF_WIDTH_A
    number = scene.add_voxels(surface.voxels, density.astype(np.float32), inside, label)
    # voxels within half a voxel of the mid-plane fill a layer of that thickness
    area = len(surface.middle) * voxel_size**2
    kept = np.sort(rng.permutation(len(surface.middle))[:MAX_POINTS])
    normals, middle = surface.normals[kept], surface.middle[kept]
    voxels = np.array(np.unravel_index(surface.voxels[middle], scene.labels.shape))[::-1].T
    points = voxels - surface.depth[middle, None] / voxel_size * normals
    return Membrane(number, area, points, normals)


def add_membrane_proteins(
    scene: Scene,
    maps: Mapping[str, Floats],
    membranes: Sequence[Membrane],
    per_area: float,
    inverted: float,
    tomogram: str,
    seed: int,
) -> None:
    """Place proteins on membranes: z of the map along the normal, voxel n // 2 on the mid-plane.

    `per_area` is the number of each class on a square angstrom, `inverted` the fraction whose z
    points inwards. Within its mask a protein replaces the bilayer.
    """
    for name, density in maps.items():
        species, missing = make_species(name, density), 0
        for membrane in membranes:
            rng = generator_for(seed, "membrane protein", tomogram, name, membrane.number)
            wanted = int(np.floor(membrane.area * per_area + rng.random()))
            order = rng.permutation(len(membrane.points))[: PROTEIN_TRIES * wanted]
            for index in order:
                if wanted == 0:
                    break
                sign = -1 if rng.random() < inverted else 1
                rotation = align_z(sign * membrane.normals[index], rng.uniform(0, 360))
                place = membrane.points[index]
                whole = np.rint(place).astype(int)
                copy, mask = species.rotate(rotation.as_matrix(), place - whole)
                corner = whole[::-1] - species.box // 2
                in_scene, in_box = clip_box(corner, mask.shape, scene.labels.shape)
                met = scene.instances[in_scene][mask[in_box]]
                taken = scene.occupied[in_scene][mask[in_box]] & (met != membrane.number)
                if len(met) < mask.sum() or taken.any():
                    continue
                inside = np.minimum(np.maximum(copy, 0) / species.level, 1)[in_box]
                scene.density[in_scene] *= 1 - inside.astype(np.float32)
                scene.filled -= int((met == membrane.number).sum())
                number = scene.add(copy, mask, whole[::-1], name)
                angles = relion_from_rotation(rotation)
                scene.rows.append(particle_row(tomogram, name, place, angles, number))
                wanted -= 1
            missing += wanted
        if missing:
            scene.missing[name] = missing


def align_z(normal: Floats, spin: float) -> Rotation:
    """Return a rotation that takes z to a unit vector, after a turn about z by `spin` degrees."""
    tilt = np.degrees(np.arccos(np.clip(normal[2], -1, 1)))
    azimuth = np.degrees(np.arctan2(normal[1], normal[0]))
    return Rotation.from_euler("ZYZ", [azimuth, tilt, spin], degrees=True)

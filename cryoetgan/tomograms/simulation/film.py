"""The film: ice of varying thickness, the carbon at its edge, ice contamination on its faces."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.densities.density_from_atoms import gaussian_integral
from cryoetgan.errors import UserError
from cryoetgan.physics.geometry import clip_box
from cryoetgan.seeds import rng as generator_for
from cryoetgan.tomograms.simulation.membranes import make_waves
from cryoetgan.tomograms.simulation.packing import Scene

Floats = NDArray[np.floating]
CARBON, CONTAMINATION = "carbon", "contamination"
"""Labels."""
ICE_SLOPE, CARBON_SLOPE, LUMP_SLOPE = 0.05, 0.15, 0.3
"""Root mean square of the slopes of a face of the ice, the edge of the carbon, amorphous ice."""
CARBON_THICKNESS_A = 150.0
"""Angstrom; support films have 100 to 200."""
HOLE_RADIUS_A = 6000.0
"""Angstrom; of the common 1.2 micrometre holes."""
CARBON_ELECTRON_DENSITY = 0.6
"""Electrons per cubic angstrom: amorphous carbon of 2.0 g/ml."""
CARBON_ATOMS = 0.1
"""Atoms per cubic angstrom; their number in a voxel varies as Poisson's."""
ICE_ELECTRON_DENSITY = 0.31
"""Electrons per cubic angstrom: ice of 0.93 g/ml, where vacuum is elsewhere."""
CONTAMINATION_RADIUS_A = (150.0, 600.0)
CRYSTAL_FRACTION = 0.5
"""Fraction of the contamination that is crystals with facets; the others are lumps."""
FACETS = 12
TRIES = 30
"""Positions of a piece of contamination before it is counted as missing."""


@dataclass(frozen=True)
class Film:
    """The faces of the ice, `(y, x)` z in voxels; voxels from low to high hold ice."""

    low: Floats
    high: Floats
    outside: float
    """Fraction of the volume."""

    def beyond(self, depth: int) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """Yield each z of a volume of `depth` voxels, and its voxels outside the ice, a mask `(y, x)`."""
        for z in range(depth):
            yield z, (z > self.high) | (z < self.low)

    def cut(self, scene: Scene) -> None:
        """Remove from a scene all outside the ice, and occupy it: no object lies there."""
        if not self.outside:
            return
        for z, outside in self.beyond(len(scene.labels)):
            scene.filled -= int(np.count_nonzero(scene.instances[z][outside]))
            for array in (scene.density, scene.labels, scene.instances):
                array[z][outside] = 0
            scene.occupied[z] |= outside
            scene.release()


def make_film(
    shape: tuple[int, int, int],
    limits: tuple[float, float] | None,
    voxel_size: float,
    tomogram: str,
    seed: int,
) -> Film:
    """Return ice whose thickness varies within `limits` (angstrom) about the middle of a volume.

    The faces are smooth surfaces. None: the ice fills the volume. The shape is zyx.
    """
    nz, ny, nx = shape
    if limits is None:
        return Film(np.zeros((ny, nx)), np.full((ny, nx), nz - 1.0), 0.0)
    rng = generator_for(seed, "thickness", tomogram)
    y, x = (np.arange(n, dtype=np.float32) * voxel_size for n in (ny, nx))
    halves = []
    for _ in range(2):
        waves = make_waves(rng, 2, ICE_SLOPE)(x[None], y[:, None])
        least, most = float(waves.min()), float(waves.max())
        share = (waves - least) / max(most - least, 1e-6)
        halves.append((limits[0] + share * (limits[1] - limits[0])) / 2 / voxel_size)
    # ice thicker than the volume ends at its faces
    low, high = (nz - 1) / 2 - halves[1], (nz - 1) / 2 + halves[0]
    film = Film(np.maximum(low, 0), np.minimum(high, nz - 1), 0.0)
    outside = sum(int(beyond.sum()) for _, beyond in film.beyond(nz)) / (nz * ny * nx)
    if outside == 1:
        raise UserError(
            f"--thickness: no voxel of {voxel_size:g} A lies in ice of {limits[0]:g} to {limits[1]:g} A; "
            "give a thickness of several voxels"
        )
    return Film(film.low, film.high, outside)


def add_carbon(
    scene: Scene,
    film: Film,
    fraction: float,
    width: float,
    voxel_size: float,
    tomogram: str,
    seed: int,
) -> None:
    """Cover a fraction of the area with the carbon around a hole, on one face of the film.

    `width` is w of the blur exp(-r^2 / w^2), angstrom, as in `cryoetgan.densities.simulate`.
    """
    rng = generator_for(seed, "carbon", tomogram)
    nz, ny, nx = scene.labels.shape
    y, x = (np.arange(n, dtype=np.float32) * voxel_size for n in (ny, nx))
    azimuth = rng.uniform(0, 2 * np.pi)
    from_hole = np.hypot(
        x[None] - x.mean() - HOLE_RADIUS_A * np.cos(azimuth),
        y[:, None] - y.mean() - HOLE_RADIUS_A * np.sin(azimuth),
    )
    from_hole = from_hole + make_waves(rng, 2, CARBON_SLOPE)(x[None], y[:, None])
    covered = from_hole > np.quantile(from_hole, 1 - fraction)
    depth = CARBON_THICKNESS_A / voxel_size
    if rng.random() < 0.5:
        low, high = film.low, film.low + depth
    else:
        low, high = film.high - depth, film.high
    margin = int(np.ceil(2 * width / voxel_size)) + 1
    first = max(int(np.floor(low.min())) - margin, 0)
    last = min(int(np.ceil(high.max())) + margin + 1, nz)
    z = np.arange(first, last)[:, None, None]
    inside = covered & (z >= low) & (z <= high)
    grains = 1 + rng.standard_normal(inside.shape, np.float32) / np.sqrt(
        CARBON_ATOMS * voxel_size**3
    )
    scale = CARBON_ELECTRON_DENSITY * gaussian_integral(width)
    blur = width / np.sqrt(2) / voxel_size
    density = ndimage.gaussian_filter(np.float32(scale) * inside * grains, blur, mode="nearest")
    scene.density[first:last] += density
    number = scene.new_object()
    scene.labels[first:last][inside] = scene.label(CARBON)
    scene.instances[first:last][inside] = number
    scene.occupied[first:last] |= inside
    scene.filled += int(inside.sum())


def add_contamination(
    scene: Scene,
    film: Film,
    count: int,
    width: float,
    voxel_size: float,
    tomogram: str,
    seed: int,
) -> None:
    """Place ice on the faces of a film that was cut: crystals with facets, and amorphous lumps.

    Ice in ice has no contrast, so that only the part beyond the film has density and a label.
    """
    blur, missing = width / np.sqrt(2) / voxel_size, 0
    scale = np.float32(ICE_ELECTRON_DENSITY * gaussian_integral(width))
    for index in range(count):
        rng = generator_for(seed, "contamination", tomogram, index)
        depth = _lump(rng, voxel_size)
        for _ in range(TRIES):
            y, x = (int(rng.integers(n)) for n in scene.labels.shape[1:])
            face = film.high[y, x] if rng.random() < 0.5 else film.low[y, x]
            corner = np.array([round(float(face)), y, x]) - np.array(depth.shape) // 2
            in_scene, in_box = clip_box(corner, depth.shape, scene.labels.shape)
            z = np.arange(in_scene[0].start, in_scene[0].stop)[:, None, None]
            low, high = film.low[in_scene[1:]], film.high[in_scene[1:]]
            outside = (z < low) | (z > high)
            own = (depth[in_box] < 0) & outside
            if own.any() and not scene.instances[in_scene][own].any():
                ball = ndimage.gaussian_filter(
                    np.clip(0.5 - depth / voxel_size, 0, 1).astype(np.float32), blur
                )
                scene.density[in_scene] += np.where(outside, scale * ball[in_box], np.float32(0))
                scene.labels[in_scene][own] = scene.label(CONTAMINATION)
                scene.instances[in_scene][own] = scene.new_object()
                scene.filled += int(own.sum())
                break
        else:
            missing += 1
    if missing:
        scene.missing[CONTAMINATION] = missing


def _lump(rng: np.random.Generator, voxel_size: float) -> NDArray[np.float32]:
    """Return about the distance from the surface of a piece of ice, angstrom `(z, y, x)`."""
    radius = rng.uniform(*CONTAMINATION_RADIUS_A)
    half = int(np.ceil(1.5 * radius / voxel_size)) + 2
    z, y, x = (np.indices((2 * half + 1,) * 3, np.float32) - half) * np.float32(voxel_size)
    if rng.random() >= CRYSTAL_FRACTION:
        waves = make_waves(rng, 3, LUMP_SLOPE)(x, y, z)
        limit = 0.4 * radius
        return np.asarray(np.sqrt(x**2 + y**2 + z**2) - radius + np.clip(waves, -limit, limit))
    normals = rng.normal(size=(FACETS // 2, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    depth = np.asarray(np.sqrt(x**2 + y**2 + z**2) - np.float32(1.4 * radius))
    # the opposite of each facet is a facet as well
    for a, b, c in normals.astype(np.float32):
        offset = np.float32(radius * rng.uniform(0.7, 1.1))
        np.maximum(depth, np.abs(a * x + b * y + c * z) - offset, out=depth)
    return depth

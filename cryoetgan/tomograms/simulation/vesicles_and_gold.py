"""Objects between the particles: membrane vesicles and gold beads."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.densities.density_from_atoms import gaussian_width
from cryoetgan.densities.membrane import bilayer_profile
from cryoetgan.physics.geometry import clip_box, random_rotations
from cryoetgan.seeds import rng as generator_for
from cryoetgan.tomograms.options import VesiclesAndGold
from cryoetgan.tomograms.simulation.packing import FreePlaces, Scene, find_place_across_faces

Floats = NDArray[np.floating]
THICKNESS_A = 40.0
"""Angstrom between the head-group layers of a vesicle's membrane."""
EXCLUDED_HALF_WIDTH_A = 38.0
"""Angstrom from the mid-plane of a membrane within which no particle may lie."""
MIN_AXIS_RATIO = 0.7
"""Shortest axis of a vesicle over its longest."""
GOLD_ELECTRON_DENSITY = 4.66
"""Electrons per cubic angstrom: 59 atoms per cubic nanometre of 79 electrons each."""
BEAD_DIAMETER_SPREAD = 0.1
"""Standard deviation of a bead's diameter over its mean."""
BLUR_REACH_SD = 4.0
"""Standard deviations at which the blur of a bead is cut off."""


def blur_width(objects: VesiclesAndGold, voxel_size: float) -> float:
    """Return w in angstrom of the blur exp(-r^2 / w^2), as in `cryoetgan.densities.simulate`."""
    return gaussian_width(3 * voxel_size if objects.resolution is None else objects.resolution)


def add_vesicles(
    scene: Scene, objects: VesiclesAndGold, voxel_size: float, tomogram: str, seed: int
) -> None:
    """Place vesicles with the label `vesicle`.

    Only the membrane is occupied, so particles may lie inside. Vesicles are ellipsoids with
    random axes and orientations. Their centre lies in the volume, and its faces cut them off as
    the faces of a thin film do. `tomogram` and `seed` determine the random numbers.
    """
    width, placed = blur_width(objects, voxel_size), 0
    for index in range(objects.vesicles):
        rng = generator_for(seed, "vesicle", tomogram, index)
        longest = rng.uniform(*objects.vesicle_radii())
        axes = longest * np.append(rng.uniform(MIN_AXIS_RATIO, 1, 2), 1.0)
        depth = _ellipsoid_depth(axes, random_rotations(1, rng)[0].as_matrix(), voxel_size)
        mask = abs(depth) <= EXCLUDED_HALF_WIDTH_A + voxel_size / 2
        centre = find_place_across_faces(mask, scene.occupied, rng)
        if centre is not None:
            density = bilayer_profile(depth, THICKNESS_A, width) * np.pi**1.5 * width**3
            scene.add(density, mask, centre, "vesicle")
            placed += 1
    if placed < objects.vesicles:
        scene.missing["vesicle"] = objects.vesicles - placed


def _ellipsoid_depth(axes: Floats, rotation: Floats, voxel_size: float) -> NDArray[np.float32]:
    """Return the distance from an ellipsoid's surface in angstrom `(z, y, x)`, near the surface.

    To first order: (level - 1) over the length of the gradient of level.
    """
    half = int(np.ceil((axes.max() + EXCLUDED_HALF_WIDTH_A) / voxel_size)) + 2
    grid = (np.indices((2 * half + 1,) * 3) - half).astype(np.float32) * voxel_size
    own = np.tensordot(rotation.T, grid[::-1], 1) / axes[:, None, None, None]
    level = np.sqrt((own**2).sum(axis=0))
    slope = np.sqrt(((own / axes[:, None, None, None]) ** 2).sum(axis=0))
    return ((level - 1) * level / np.maximum(slope, 1e-9)).astype(np.float32)


def add_beads(
    scene: Scene, objects: VesiclesAndGold, voxel_size: float, tomogram: str, seed: int
) -> None:
    """Place gold beads with the label `bead`; their density is added to `scene.beads`."""
    if scene.beads is None:
        scene.beads = np.zeros(scene.density.shape, np.float32)
    width, placed = blur_width(objects, voxel_size), 0
    blur, places = width / np.sqrt(2) / voxel_size, FreePlaces(scene.occupied)
    for index in range(objects.beads):
        rng = generator_for(seed, "bead", tomogram, index)
        diameter = objects.bead_diameter * max(0.5, rng.normal(1, BEAD_DIAMETER_SPREAD))
        radius, offset = diameter / 2 / voxel_size, rng.uniform(-0.5, 0.5, 3)
        ball = _ball(radius, offset, margin=int(np.ceil(BLUR_REACH_SD * blur)))
        mask = ball > 0
        centre = places.find(mask, rng)
        if centre is not None:
            scene.add(np.zeros_like(ball), mask, centre, "bead")
            corner = centre - np.array(ball.shape) // 2
            in_scene, in_box = clip_box(corner, ball.shape, scene.beads.shape)
            gold = ndimage.gaussian_filter(ball, blur, mode="constant", truncate=BLUR_REACH_SD)
            scale = np.float32(GOLD_ELECTRON_DENSITY * np.pi**1.5 * width**3)
            scene.beads[in_scene] += gold[in_box] * scale
            placed += 1
    if placed < objects.beads:
        scene.missing["bead"] = objects.beads - placed


def _ball(radius: float, offset: Floats, margin: int) -> Floats:
    """Return the fraction of each voxel `(z, y, x)` that a ball fills; radius in voxels."""
    half = int(np.ceil(radius)) + 2 + margin
    grid = np.indices((2 * half + 1,) * 3) - half - offset[:, None, None, None]
    return np.clip(radius + 0.5 - np.sqrt((grid**2).sum(axis=0)), 0, 1).astype(np.float32)

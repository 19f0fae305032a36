"""Gold beads between the particles."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.densities.density_from_atoms import gaussian_width
from cryoetgan.physics.geometry import clip_box
from cryoetgan.seeds import rng as generator_for
from cryoetgan.tomograms.options import VesiclesAndGold
from cryoetgan.tomograms.simulation.packing import FreePlaces, Scene

Floats = NDArray[np.floating]
GOLD_ELECTRON_DENSITY = 4.66
"""Electrons per cubic angstrom: 59 atoms per cubic nanometre of 79 electrons each."""
BEAD_DIAMETER_SPREAD = 0.1
"""Standard deviation of a bead's diameter over its mean."""
BLUR_REACH_SD = 4.0
"""Standard deviations at which the blur of a bead is cut off."""


def blur_width(objects: VesiclesAndGold, voxel_size: float) -> float:
    """Return w in angstrom of the blur exp(-r^2 / w^2), as in `cryoetgan.densities.simulate`."""
    return gaussian_width(3 * voxel_size if objects.resolution is None else objects.resolution)


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

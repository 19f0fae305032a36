"""Gold beads between the particles: placed, or split from the density of a scene."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.densities.crowders import BLUR_VOXELS
from cryoetgan.densities.density_from_atoms import gaussian_integral, gaussian_width
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
BLUR_END = 0.002
"""Fraction of the density of gold at which the blur of beads in a scene ends."""
BIN_WIDTH = 0.5
"""Voxels; width of the bins of distance from a bead."""


def blur_resolution(objects: VesiclesAndGold, voxel_size: float) -> float:
    """Return the resolution in angstrom of objects without a map: given, or `BLUR_VOXELS`."""
    return BLUR_VOXELS * voxel_size if objects.resolution is None else objects.resolution


def blur_width(objects: VesiclesAndGold, voxel_size: float) -> float:
    """Return w in angstrom of the blur exp(-r^2 / w^2), as in `cryoetgan.densities.simulate`."""
    return gaussian_width(blur_resolution(objects, voxel_size))


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
            scale = np.float32(GOLD_ELECTRON_DENSITY * gaussian_integral(width))
            scene.beads[in_scene] += gold[in_box] * scale
            placed += 1
    if placed < objects.beads:
        scene.missing["bead"] = objects.beads - placed


def _ball(radius: float, offset: Floats, margin: int) -> Floats:
    """Return the fraction of each voxel `(z, y, x)` that a ball fills; radius in voxels."""
    half = int(np.ceil(radius)) + 2 + margin
    grid = np.indices((2 * half + 1,) * 3) - half - offset[:, None, None, None]
    return np.clip(radius + 0.5 - np.sqrt((grid**2).sum(axis=0)), 0, 1).astype(np.float32)


def split_gold(
    density: NDArray[np.generic], labels: NDArray[np.generic], bead: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the density `(z, y, x)` of a scene without gold, and its gold; `bead` is gold's label.

    The blur of gold is measured: the median of unlabelled voxels by their distance from the label,
    up to the diameter of a bead, above its level in the outer half. Above that level, all of gold's
    label and of unlabelled voxels in the blur's reach is gold, and as much of other labels as the blur.
    """
    values, gold = np.asarray(density, np.float32), np.zeros(density.shape, np.float32)
    is_gold, free = np.asarray(labels) == bead, np.asarray(labels) == 0
    boxes = [_widen(box, is_gold.shape) for box in ndimage.find_objects(ndimage.label(is_gold)[0])]
    if not boxes:
        return values, gold
    distances = [ndimage.distance_transform_edt(~is_gold[box]) for box in boxes]
    at, blur, level = _measure_blur(
        np.concatenate([far[free[box]] for box, far in zip(boxes, distances, strict=True)]),
        np.concatenate([values[box][free[box]] for box in boxes]),
        float(np.median(values[is_gold])),
    )
    for box, far in zip(boxes, distances, strict=True):
        excess = np.maximum(values[box] - level, 0)
        whole = (far == 0) | (free[box] & (far < at[-1]))
        part = np.where(whole, excess, np.minimum(np.interp(far, at, blur), excess))
        # the box of another bead may hold a part of this one
        gold[box] = np.maximum(gold[box], part)
    return values - gold, gold


def _widen(box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the box of a bead, wider by its diameter on each side."""
    diameter = max(one.stop - one.start for one in box)
    return tuple(
        slice(max(one.start - diameter, 0), min(one.stop + diameter, size))
        for one, size in zip(box, shape, strict=True)
    )


def _measure_blur(
    distances: Floats, values: Floats, density: float
) -> tuple[Floats, Floats, float]:
    """Return distances from a bead in voxels, the blur there, and the level that it stands on.

    The blur is the median of `values` above the level, their median in the outer half. The last blur
    is 0, at the first distance with less than `BLUR_END` of the `density` of gold.
    """
    if not len(distances):
        return np.zeros(1), np.zeros(1), 0.0
    level = float(np.median(values[distances >= distances.max() / 2]))
    bins, at, blur = np.ceil(distances / BIN_WIDTH), [], []
    for number in np.unique(bins):
        at.append(float(distances[bins == number].mean()))
        blur.append(max(float(np.median(values[bins == number])) - level, 0.0))
        if blur[-1] < BLUR_END * density:
            break
    return np.array(at), np.array([*blur[:-1], 0.0]), level

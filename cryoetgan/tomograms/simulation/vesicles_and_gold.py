"""What lies between particles: vesicles, gold beads."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.densities.density_from_atoms import gaussian_width
from cryoetgan.densities.membrane import HEAD_DENSITY, HEAD_SD, TROUGH_DENSITY, TROUGH_SD
from cryoetgan.errors import UserError
from cryoetgan.physics.geometry import clip_box, random_rotations
from cryoetgan.seeds import rng
from cryoetgan.tomograms.simulation.packing import Scene, add, find_place

Floats = NDArray[np.floating]
THICKNESS = 40.0
"""Angstrom between the head-group layers of a vesicle's membrane."""
HALF_WIDTH = 38.0
"""Angstrom from the mid-plane of a membrane to where particles may lie."""
FLATTEST = 0.7
"""Shortest axis of a vesicle over its longest."""
GOLD = 4.66
"""Electrons per cubic angstrom: 79 of each of 59 atoms per cubic nanometre."""
BEAD_SPREAD = 0.1
"""Standard deviation of a bead's diameter over the diameter."""
BLUR_REACH = 4.0
"""Standard deviations of the blur, beyond which nothing of a bead is left."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is put around the particles.

    Attributes
    ----------
    resolution : float
        Angstrom; units and blur are those of `cryoetgan.densities`.
    vesicles : int
        How many.
    vesicle_radii : (float, float)
        Angstrom; the longest half axes are drawn between them.
    beads : int
        How many, of gold.
    bead_diameter : float
        Angstrom, of the average bead.
    """

    resolution: float
    vesicles: int = 0
    vesicle_radii: tuple[float, float] = (200.0, 500.0)
    beads: int = 0
    bead_diameter: float = 100.0

    def __post_init__(self) -> None:
        low, high = self.vesicle_radii
        if not 0 < low <= high < np.inf:
            raise UserError(f"--vesicle-radius: got {low:g},{high:g}, wanted 0 < LO <= HI")
        for option, value in (
            ("--bead-diameter", self.bead_diameter),
            ("--resolution", self.resolution),
        ):
            if not 0 < value < np.inf:
                raise UserError(f"{option}: got {value:g} A, wanted a number above zero")


def add_vesicles(
    scene: Scene, wanted: Surroundings, voxel_size: float, tomogram: str, seed: int
) -> None:
    """Place vesicles, label `vesicle`; only the membrane is taken, particles may lie inside.

    Parameters
    ----------
    scene : Scene
        Changed in place.
    wanted : Surroundings
        How many, how large.
    voxel_size : float
        Angstrom.
    tomogram : str
        Name, for seeds.
    seed : int
        The run's.

    Notes
    -----
    Ellipsoids with random axes and turns. Their middle lies in the volume; what reaches
    beyond its faces is cut, as in a thin film.
    """
    placed = 0
    for index in range(wanted.vesicles):
        numbers = rng(seed, "vesicle", tomogram, index)
        longest = numbers.uniform(*wanted.vesicle_radii)
        axes = longest * np.append(numbers.uniform(FLATTEST, 1, 2), 1.0)
        depth = _depth(axes, random_rotations(1, numbers)[0].as_matrix(), voxel_size)
        mask = abs(depth) <= HALF_WIDTH + voxel_size / 2
        place = find_place(mask, scene.taken, numbers, inside=False)
        if place is not None:
            add(scene, bilayer(depth, wanted.resolution), mask, place, "vesicle")
            placed += 1
    if placed < wanted.vesicles:
        scene.missing["vesicle"] = wanted.vesicles - placed


def _depth(axes: Floats, turn: Floats, voxel_size: float) -> NDArray[np.float32]:
    """Return the distance from an ellipsoid's surface in angstrom, near it, in its own box."""
    half = int(np.ceil((axes.max() + HALF_WIDTH) / voxel_size)) + 2
    grid = (np.indices((2 * half + 1,) * 3) - half).astype(np.float32) * voxel_size
    own = np.tensordot(turn.T, grid[::-1], 1) / axes[:, None, None, None]
    level = np.sqrt((own**2).sum(axis=0))
    # first order: level - 1 over the length of its gradient
    slope = np.sqrt(((own / axes[:, None, None, None]) ** 2).sum(axis=0))
    return ((level - 1) * level / np.maximum(slope, 1e-9)).astype(np.float32)


def bilayer(depth: Floats, resolution: float) -> Floats:
    """Return the density of a membrane at a distance in angstrom from its mid-plane."""
    width = gaussian_width(resolution)
    parts = (
        (THICKNESS / 2, HEAD_SD, HEAD_DENSITY),
        (-THICKNESS / 2, HEAD_SD, HEAD_DENSITY),
        (0.0, TROUGH_SD, TROUGH_DENSITY),
    )
    total = np.zeros_like(depth)
    for where, sd, density in parts:
        variance = sd**2 + width**2 / 2
        total += density * sd / np.sqrt(variance) * np.exp(-((depth - where) ** 2) / (2 * variance))
    return total * np.pi**1.5 * width**3


def add_beads(
    scene: Scene, wanted: Surroundings, voxel_size: float, tomogram: str, seed: int
) -> None:
    """Place gold beads, label `bead`; `scene.beads` holds their density.

    Parameters
    ----------
    scene : Scene
        Changed in place.
    wanted : Surroundings
        How many, how large.
    voxel_size : float
        Angstrom.
    tomogram : str
        Name, for seeds.
    seed : int
        The run's.
    """
    if scene.beads is None:
        scene.beads = np.zeros(scene.density.shape, np.float32)
    width = gaussian_width(wanted.resolution)
    blur = width / np.sqrt(2) / voxel_size
    placed = 0
    for index in range(wanted.beads):
        numbers = rng(seed, "bead", tomogram, index)
        diameter = wanted.bead_diameter * max(0.5, numbers.normal(1, BEAD_SPREAD))
        radius, centre = diameter / 2 / voxel_size, numbers.uniform(-0.5, 0.5, 3)
        ball = _ball(radius, centre, margin=int(np.ceil(BLUR_REACH * blur)))
        mask = ball > 0
        place = find_place(mask, scene.taken, numbers)
        if place is not None:
            add(scene, np.zeros_like(ball), mask, place, "bead")
            whole, part = clip_box(place - np.array(ball.shape) // 2, ball.shape, scene.beads.shape)
            gold = ndimage.gaussian_filter(ball, blur, mode="constant", truncate=BLUR_REACH)
            scene.beads[whole] += gold[part] * np.float32(GOLD * np.pi**1.5 * width**3)
            placed += 1
    if placed < wanted.beads:
        scene.missing["bead"] = wanted.beads - placed


def _ball(radius: float, centre: Floats, margin: int) -> Floats:
    """Return how much of each voxel a ball fills."""
    half = int(np.ceil(radius)) + 2 + margin
    grid = np.indices((2 * half + 1,) * 3) - half - centre[:, None, None, None]
    return np.clip(radius + 0.5 - np.sqrt((grid**2).sum(axis=0)), 0, 1).astype(np.float32)

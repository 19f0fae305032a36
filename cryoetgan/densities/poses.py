"""Random poses of density maps, the density domain D, uniform or drawn from a STAR file.

Real orientations are not uniform, because particles adhere to the air-water interface. Offsets
of picks are larger along the beam than across it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.io.star import ANGLES, ORIGINS, read_star
from cryoetgan.physics.coordinates import compose_poses, to_finite
from cryoetgan.physics.geometry import (
    random_rotations,
    relion_from_rotation,
    rotate_volume,
    rotation_from_relion,
)
from cryoetgan.seeds import rng as generator_for

OFFSET_JITTER_SD = 0.25
"""Voxels; standard deviation added to a drawn offset, so that no two are equal."""
MIN_CLASS_ROWS = 10
"""A class with fewer rows draws from the rows of all classes."""


@dataclass(frozen=True)
class PosePrior:
    """Orientations and offsets of observed particles by class; key `""` holds all classes."""

    rotations: dict[str, Rotation]
    """From reference to particle; empty if the file has no angles."""
    offsets: dict[str, NDArray[np.float64]]
    """`(N, 3)` xyz in angstrom from box centre to particle; empty if the file has no origins."""
    spread: float
    """Degrees per axis, standard deviation of the random vector that rotates an orientation."""

    def __post_init__(self) -> None:
        if not 0 <= self.spread <= 180:
            raise UserError(f"--prior-spread: got {self.spread:g} degrees, wanted 0 to 180")

    def draw(
        self,
        name: str,
        rotation: Rotation,
        shift: NDArray[np.float64],
        voxel_size: float,
        rng: np.random.Generator,
    ) -> tuple[Rotation, NDArray[np.float64]]:
        """Return an orientation and a shift (xyz, angstrom) for one particle of class `name`.

        `rotation` and `shift` are returned unchanged if the file has no such columns.
        """
        rotations = self.rotations.get(name, self.rotations.get(""))
        if rotations is not None:
            jitter = Rotation.from_rotvec(rng.normal(0, self.spread, 3), degrees=True)
            rotation = jitter * rotations[int(rng.integers(len(rotations)))]
        offsets = self.offsets.get(name, self.offsets.get(""))
        if offsets is not None:
            shift = offsets[int(rng.integers(len(offsets)))]
            shift = shift + rng.normal(0, OFFSET_JITTER_SD * voxel_size, 3)
        return rotation, shift


def read_pose_prior(path: Path, spread: float) -> PosePrior:
    """Read orientations and offsets from a STAR file.

    It has rlnAngleRot/Tilt/Psi, rlnOriginX/Y/ZAngst, or both; poses of RELION 4 and 5 are composed
    first. If it has cryoetganClass, a class
    with at least ten rows draws from its own rows. `spread` in degrees; see `PosePrior`.
    """
    table = compose_poses(read_star(path).particles, path)
    if not len(table):
        raise UserError(f"{path}: has no rows, so no pose can be drawn from it")
    has_angles, has_origins = (set(columns) <= set(table) for columns in (ANGLES, ORIGINS))
    if not (has_angles or has_origins):
        raise UserError(
            f"{path}: has neither {', '.join(ANGLES)} nor {', '.join(ORIGINS)}; "
            "a prior needs one of the two"
        )
    groups = {"": np.arange(len(table))}
    if "cryoetganClass" in table:
        for name, rows in table.groupby("cryoetganClass").indices.items():
            if len(rows) >= MIN_CLASS_ROWS:
                groups[str(name)] = rows
    rotations, offsets = {}, {}
    if has_angles:
        all_rotations = rotation_from_relion(to_finite(table[ANGLES], path))
        rotations = {name: all_rotations[rows] for name, rows in groups.items()}
    if has_origins:
        all_offsets = -to_finite(table[ORIGINS], path)
        offsets = {name: all_offsets[rows] for name, rows in groups.items()}
    return PosePrior(rotations, offsets, spread)


SUPPORT_LEVEL = 1e-5
"""Fraction of a map's maximum below which a voxel is empty."""
SPLINE_REACH = 2
"""Voxels beyond the support that a cubic spline fills."""
FULL_BOX_FRACTION = 0.8
"""Fraction of the box above which rotating the whole box is faster than rotating the ball."""


class Poser:
    """Rotates and shifts one map; the spline is filtered once, and empty voxels are skipped.

    The map is a cube `(z, y, x)` with the particle's centre at n // 2.
    """

    def __init__(self, density: NDArray[np.floating]) -> None:
        density = np.asarray(density, np.float64)
        self.box = density.shape[0]
        self.coefficients = ndimage.spline_filter(density, order=3)
        full = np.argwhere(np.abs(density) > SUPPORT_LEVEL * np.abs(density).max(initial=0))
        far = np.linalg.norm(full - self.box // 2, axis=1).max(initial=0) + SPLINE_REACH
        self.radius = float(far)
        # half a voxel more: the centre of the ball is the voxel nearest to the shifted centre
        reach = int(np.ceil(min(far + 1, 2 * self.box)))
        axis = np.arange(-reach, reach + 1)
        ball = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        self.ball = ball[(ball**2).sum(axis=1) <= (far + 0.9) ** 2]
        self.fills_box = len(self.ball) > FULL_BOX_FRACTION * self.box**3

    def __call__(self, rotation: Rotation, shift: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the map `(z, y, x)` rotated about voxel n // 2, then shifted.

        `rotation` maps reference vectors (xyz) to particle vectors; `shift` is xyz in voxels.
        Equal to `geometry.rotate_volume` of order 3.
        """
        if self.fills_box:
            return rotate_volume(self.coefficients, rotation, shift, prefilter=False).astype(
                np.float32
            )
        centre = self.box // 2 + np.asarray(shift, float)[::-1]
        voxels = self.ball + np.rint(centre).astype(int)
        voxels = voxels[((voxels >= 0) & (voxels < self.box)).all(axis=1)]
        backward = rotation.inv().as_matrix()[::-1, ::-1]  # xyz to zyx
        source = (voxels - centre) @ backward.T + self.box // 2
        values = ndimage.map_coordinates(
            self.coefficients, source.T, order=3, mode="constant", prefilter=False
        )
        volume = np.zeros((self.box,) * 3, np.float32)
        volume[tuple(voxels.T)] = values
        return volume


def draw_poses(
    name: str,
    density: NDArray[np.floating],
    count: int,
    max_shift: float,
    voxel_size: float,
    seed: int,
    prior: PosePrior | None = None,
) -> Iterator[tuple[NDArray[np.float32], dict[str, Any]]]:
    """Yield the volume `(z, y, x)`, float32, and the STAR row of each random pose of one class.

    Parameters
    ----------
    name : str
        The class.
    density : ndarray
        `(z, y, x)`, a cube; the particle's centre at n // 2.
    count : int
        Number of poses; pose i is the same for any `count`.
    max_shift : float
        Angstrom; shifts are uniform on [-max_shift, max_shift] along each axis.
    voxel_size : float
        Angstrom.
    seed : int
        The run's seed.
    prior : PosePrior, optional
        Source of orientations and shifts. Without it, orientations are uniform on SO(3).
    """
    poser = Poser(density)
    for index in range(count):
        rng = generator_for(seed, "pose", name, index)
        rotation = random_rotations(1, rng)[0]
        shift = rng.uniform(-max_shift, max_shift, 3)  # xyz, angstrom
        if prior is not None:
            rotation, shift = prior.draw(name, rotation, shift, voxel_size, rng)
        row = {"cryoetganClass": name}
        row |= dict(zip(ANGLES, relion_from_rotation(rotation), strict=True))
        row |= dict(zip(ORIGINS, -shift, strict=True))
        row["cryoetganSource"] = "density"
        yield poser(rotation, shift / voxel_size), row

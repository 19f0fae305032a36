"""Pose prior: orientations and offsets drawn from the rows of a STAR file.

Real orientations are not uniform, because particles adhere to the air-water interface. Offsets
of picks are larger along the beam than across it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.io.star import ANGLES, ORIGINS, read_star
from cryoetgan.physics.geometry import rotation_from_relion

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

    It has rlnAngleRot/Tilt/Psi, rlnOriginX/Y/ZAngst, or both. If it has cryoetganClass, a class
    with at least ten rows draws from its own rows. `spread` in degrees; see `PosePrior`.
    """
    table = read_star(path).particles
    if not len(table):
        raise UserError(f"{path}: has no rows, so no pose can be drawn from it")
    has = {
        kind: all(column in table for column in columns)
        for kind, columns in (("angles", ANGLES), ("origins", ORIGINS))
    }
    if not any(has.values()):
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
    if has["angles"]:
        all_rotations = rotation_from_relion(_to_finite(table[ANGLES], path))
        rotations = {name: all_rotations[rows] for name, rows in groups.items()}
    if has["origins"]:
        all_offsets = -_to_finite(table[ORIGINS], path)
        offsets = {name: all_offsets[rows] for name, rows in groups.items()}
    return PosePrior(rotations, offsets, spread)


def _to_finite(table: "NDArray[np.float64]", path: Path) -> NDArray[np.float64]:
    try:
        values = np.asarray(table, float)
    except ValueError as error:
        raise UserError(f"{path}: a pose is not a number ({error})") from error
    if not np.isfinite(values).all():
        raise UserError(f"{path}: holds poses that are not finite numbers")
    return values

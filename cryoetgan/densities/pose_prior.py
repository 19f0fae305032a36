"""Poses as real particles have them: drawn from the rows of a STAR file.

Real orientations are not uniform (particles stick to the air-water interface), and picks
lie off centre by more along the beam than across it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.io.star import ANGLES, ORIGINS, read_star
from cryoetgan.physics.geometry import rotation_from_relion

OFFSET_SPREAD = 0.25
"""Voxels; standard deviation of what is added to a drawn offset, so that none comes twice."""
FEWEST = 10
"""Rows of a class below which those of all classes are drawn from."""


@dataclass(frozen=True)
class Prior:
    """Orientations and offsets of observed particles.

    Attributes
    ----------
    rotations : dict
        By class, and `""` for all: reference to particle; empty where the file has none.
    offsets : dict
        By class, and `""` for all: `(N, 3)` xyz in angstrom from the box centre to the
        particle; empty where the file has none.
    spread : float
        Degrees; each drawn orientation is turned by a random vector of this standard
        deviation an axis.
    """

    rotations: dict[str, Rotation]
    offsets: dict[str, NDArray[np.float64]]
    spread: float

    def draw(
        self,
        name: str,
        rotation: Rotation,
        shift: NDArray[np.float64],
        voxel_size: float,
        rng: np.random.Generator,
    ) -> tuple[Rotation, NDArray[np.float64]]:
        """Return an orientation and a shift (xyz, angstrom) for one particle of class `name`.

        `rotation` and `shift` are kept where the file has no such columns.
        """
        rotations = self.rotations.get(name, self.rotations.get(""))
        if rotations is not None:
            jitter = Rotation.from_rotvec(rng.normal(0, self.spread, 3), degrees=True)
            rotation = jitter * rotations[int(rng.integers(len(rotations)))]
        offsets = self.offsets.get(name, self.offsets.get(""))
        if offsets is not None:
            shift = offsets[int(rng.integers(len(offsets)))]
            shift = shift + rng.normal(0, OFFSET_SPREAD * voxel_size, 3)
        return rotation, shift


def read_prior(path: Path, spread: float) -> Prior:
    """Read orientations and offsets from a STAR file.

    Parameters
    ----------
    path : Path
        With rlnAngleRot/Tilt/Psi, rlnOriginX/Y/ZAngst, or both. Where cryoetganClass is
        there, a class with at least ten rows draws from its own.
    spread : float
        Degrees.

    Raises
    ------
    UserError
        Where the file has neither angles nor origins, no rows, or values that are no
        numbers.
    """
    table = read_star(path).particles
    if not len(table):
        raise UserError(f"{path}: is empty: no pose can be drawn from it")
    has = {
        what: all(column in table for column in columns)
        for what, columns in (("angles", ANGLES), ("origins", ORIGINS))
    }
    if not any(has.values()):
        raise UserError(
            f"{path}: has neither {', '.join(ANGLES)} nor {', '.join(ORIGINS)}; "
            "a prior needs one of the two"
        )
    groups = {"": np.arange(len(table))}
    if "cryoetganClass" in table:
        for name, rows in table.groupby("cryoetganClass").indices.items():
            if len(rows) >= FEWEST:
                groups[str(name)] = rows
    rotations, offsets = {}, {}
    if has["angles"]:
        turned = rotation_from_relion(_numbers(table[ANGLES], path))
        rotations = {name: turned[rows] for name, rows in groups.items()}
    if has["origins"]:
        origins = -_numbers(table[ORIGINS], path)
        offsets = {name: origins[rows] for name, rows in groups.items()}
    return Prior(rotations, offsets, spread)


def _numbers(table: "NDArray[np.float64]", path: Path) -> NDArray[np.float64]:
    try:
        values = np.asarray(table, float)
    except ValueError as error:
        raise UserError(f"{path}: a pose is not a number ({error})") from error
    if not np.isfinite(values).all():
        raise UserError(f"{path}: holds poses that are not finite numbers")
    return values

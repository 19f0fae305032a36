"""Subtomograms with their poses: from a volume set to averaging, and back to STAR rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.io.star import ANGLES, COORDINATES, ORIGINS
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.coordinates import centre_offset
from cryoetgan.physics.geometry import relion_from_rotation, rotation_from_relion

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Particle:
    """A subtomogram and the pose of the particle in it."""

    box: Floats
    """`(z, y, x)`, protein bright."""
    rotation: Rotation
    """Turns the reference (xyz) into the particle."""
    shift: Floats
    """From voxel n // 2 to the particle's centre, xyz voxels."""
    record: Acquisition
    """Tilt range and contrast transfer of its tomogram."""


def rows_of_class(volumes: VolumeSet, class_name: str | None) -> list[int]:
    """Return the rows of a volume set to average: two or more, of one class."""
    path, table = volumes.path, volumes.table
    classes = volumes.classes() if "cryoetganClass" in table else []
    if class_name is not None and class_name not in classes:
        raise UserError(f"--class: '{class_name}' is not in {path}; it has {', '.join(classes)}")
    if class_name is None and len(classes) > 1:
        raise UserError(
            f"{path}: holds {len(classes)} classes ({', '.join(classes[:5])}), which must not be "
            "averaged together; choose one with --class"
        )
    chosen = np.ones(len(volumes), bool)
    if class_name is not None:
        chosen = (table["cryoetganClass"] == class_name).to_numpy()
    rows: list[int] = np.flatnonzero(chosen).tolist()
    if len(rows) < 2:
        raise UserError(f"{path}: has {len(rows)} particle; two halves need two or more")
    return rows


def has_angles(volumes: VolumeSet, rows: Sequence[int]) -> bool:
    """Return whether some of the rows have angles; a class without angles has empty ones."""
    table = volumes.table.iloc[list(rows)]
    return set(ANGLES) <= set(table) and bool(np.isfinite(table[ANGLES].to_numpy(float)).any())


def read_particles(
    volumes: VolumeSet, rows: Sequence[int], tilts: tuple[float, float] | None = None
) -> list[Particle]:
    """Return the particles of some rows; raise `UserError` if a volume or angle is not finite.

    Without angles, all rotations are the identity and all shifts zero. `tilts` (degrees) replaces
    the tilt range of the optics groups.
    """
    path, optics, is_posed = volumes.path, volumes.optics, has_angles(volumes, rows)
    particles = []
    for row in rows:
        values, box = volumes.table.iloc[row], np.asarray(volumes.volumes[row])
        if not np.isfinite(box).all():
            raise UserError(
                f"{path}: volume {row + 1} holds voxels that are not finite numbers; remove it"
            )
        record = Acquisition()
        if "rlnOpticsGroup" in optics and "rlnOpticsGroup" in values:
            group = optics[optics["rlnOpticsGroup"] == values["rlnOpticsGroup"]]
            if len(group):
                record = Acquisition.from_optics(group.iloc[0].to_dict())
        if tilts is not None:
            record = replace(record, tilt_low=tilts[0], tilt_high=tilts[1])
        rotation, shift = Rotation.identity(), np.zeros(3)
        if is_posed:
            angles = values[ANGLES].to_numpy(float)
            if not np.isfinite(angles).all():
                raise UserError(
                    f"{path}: row {row + 1} has no angles; give angles to all rows or to none"
                )
            rotation, shift = (
                rotation_from_relion(angles),
                centre_offset(values, volumes.voxel_size),
            )
        particles.append(Particle(box, rotation, shift, record))
    return particles


def posed_table(
    volumes: VolumeSet, rows: Sequence[int], particles: Sequence[Particle], scores: Floats
) -> "pd.DataFrame":
    """Return rows of a volume set with new angles, positions and, if not all zero, scores.

    Rows without coordinates keep their boxes and get origins (rlnOriginX/Y/ZAngst).
    """
    table = volumes.table.iloc[list(rows)].reset_index(drop=True)
    rotations = Rotation.concatenate([particle.rotation for particle in particles])
    shifts = np.array([particle.shift for particle in particles])
    table[ANGLES] = relion_from_rotation(rotations)
    if set(COORDINATES) <= set(table.columns):
        table[COORDINATES] = table[COORDINATES].to_numpy(float) + shifts
        table = table.drop(columns=["rlnImageName", *ORIGINS], errors="ignore")
    else:
        table[ORIGINS] = -shifts * volumes.voxel_size
    if scores.any():
        table["cryoetganScore"] = scores
    return table

"""Coordinate systems: the tomogram and the file that it was imported from; box and particle."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.io.files import read_json, sidecar
from cryoetgan.io.mrc import VOXEL_SIZE_TOLERANCE, Volume
from cryoetgan.io.mrc_header import read_header
from cryoetgan.io.star import ANGLES, BOX_ANGLES, ORIGINS, VOXEL_ORIGINS
from cryoetgan.physics.geometry import relion_from_rotation, rotation_from_relion

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("cryoetgan")
Floats = NDArray[np.floating]
TILT_AXES = {"y": np.eye(3), "x": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])}
BEAM_AXES = {"z": np.eye(3), "y": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])}
"""Rotations (xyz) that take the axis of the file to y (tilt) and z (beam).

They are the matrices of `orient_axes`.
"""


MIRROR_Z = np.diag([1.0, 1.0, -1.0])
"""Reflection (xyz) that gives a tomogram the other hand."""


def orient_axes(
    data: NDArray[Any], tilt_axis: str, beam_axis: str, flip_hand: bool = False
) -> NDArray[Any]:
    """Return a tomogram `(z, y, x)` with its tilt axis along y and the beam along z.

    `tilt_axis` in the file: `y`, or `x` (then x, y become y, -x). `beam_axis` in the file: `z`,
    or `y` (IMOD before trimvol, with the tilt axis along z; then x, y, z become x, -z, y). The hand
    is kept unless `flip_hand` mirrors the result along z.
    """
    if beam_axis == "y":
        data = data[::-1].transpose(1, 0, 2)
    if tilt_axis == "x":
        data = data[:, :, ::-1].transpose(0, 2, 1)
    return data[::-1] if flip_hand else data


def resampling_step(voxel_size: float, file_voxel_size: float) -> float:
    """Return voxels of a file in one voxel of the result; 1 (not resampled) if they nearly agree."""
    step = voxel_size / file_voxel_size
    return 1.0 if abs(step - 1) < VOXEL_SIZE_TOLERANCE else step


@dataclass(frozen=True)
class ImportTransform:
    """The transform from a file to the tomogram, or box, that was imported from it."""

    shape: tuple[int, ...]
    """zyx of the file's grid, after its rotation."""
    voxel_size: float
    """Voxel size of the file, angstrom."""
    step: float
    """Voxel size of the tomogram over `voxel_size`; 1 if it was not resampled."""
    tilt_axis: str = "y"
    beam_axis: str = "z"
    """Axes of the file that became y and z."""
    stated_voxel_size: float | None = None
    """Voxel size in the tomogram's header, angstrom; `step` is 1 if it differs by less than 1 %."""

    file_origin: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Place of the file's first voxel in its header, x, y, z in angstrom (`Header.origin`)."""
    flip_hand: bool = False
    """Whether the tomogram was mirrored along z, after the rotation of its axes."""

    @property
    def tomogram_voxel_size(self) -> float:
        """Voxel size of the tomogram, angstrom."""
        return self.stated_voxel_size or self.voxel_size * self.step

    @property
    def matrix(self) -> Floats:
        """The orthogonal matrix from file to tomogram, `(3, 3)`, xyz; -1 is its determinant if flipped."""
        rotation = TILT_AXES[self.tilt_axis] @ BEAM_AXES[self.beam_axis]
        return np.asarray(MIRROR_Z @ rotation if self.flip_hand else rotation)

    def orient(self, data: NDArray[Any]) -> NDArray[Any]:
        """Return a volume `(z, y, x)` of the file's grid with the axes of the tomogram."""
        return orient_axes(data, self.tilt_axis, self.beam_axis, self.flip_hand)

    def to_tomogram_poses(self, rotations: Rotation) -> Rotation:
        """Convert rotations of a map from the file to the tomogram.

        A file of the wrong hand shows the mirror image (along z) of the map, rotated; the
        tomogram shows the map: R' = M R Z, with M the matrix and Z the reflection.
        """
        matrices = self.matrix @ rotations.as_matrix()
        return Rotation.from_matrix(matrices @ MIRROR_Z if self.flip_hand else matrices)

    def to_file_poses(self, rotations: Rotation) -> Rotation:
        """Convert rotations of a map from the tomogram to the file; see `to_tomogram_poses`."""
        matrices = self.matrix.T @ rotations.as_matrix()
        return Rotation.from_matrix(matrices @ MIRROR_Z if self.flip_hand else matrices)

    @property
    def file_shape(self) -> NDArray[np.int_]:
        """The shape of the file before its rotation: voxels along x, y, z."""
        return np.asarray(np.abs(self.matrix.T) @ np.array(self.shape[::-1])).astype(int)

    def to_tomogram(self, coordinates: Floats) -> Floats:
        """Convert coordinates `(N, 3)` xyz from voxels of the file to voxels of the tomogram."""
        matrix = self.matrix
        return np.asarray(
            (np.asarray(coordinates, float) @ matrix.T + self._origin(matrix)) / self.step
        )

    def to_file(self, coordinates: Floats) -> Floats:
        """Convert coordinates `(N, 3)` xyz from voxels of the tomogram to voxels of the file."""
        matrix = self.matrix
        return np.asarray(
            (np.asarray(coordinates, float) * self.step - self._origin(matrix)) @ matrix
        )

    def _origin(self, matrix: Floats) -> NDArray[np.int_]:
        """Return the rotated position of the file's first voxel: an inverted axis ends there."""
        return np.where(matrix.sum(axis=1) < 0, np.array(self.shape[::-1]) - 1, 0)


def read_import_transform(tomogram: Path, volume: Volume) -> ImportTransform:
    """Read the transform from the record beside a tomogram (`T.mrc.json`).

    It is the identity if the tomogram has no record or was simulated.
    """
    record = sidecar(tomogram)
    content = read_json(record) if record.exists() else {}
    made = content.get("provenance") if isinstance(content, dict) else None
    if not isinstance(made, dict) or made.get("command") != "tomograms import":
        origin = read_header(tomogram).origin
        return ImportTransform(volume.data.shape, volume.voxel_size, 1.0, file_origin=origin)
    try:
        was = made["parameters"]
        step = resampling_step(was["voxel_size"], was["input_voxel_size"])
        axes = was["tilt_axis"], was["beam_axis"]
        shape = tuple(was["input_shape"][::-1])
        origin = tuple(was.get("input_origin", (0.0, 0.0, 0.0)))
        size, flipped = was["input_voxel_size"], bool(was.get("flip_hand"))
        return ImportTransform(shape, size, step, *axes, volume.voxel_size, origin, flipped)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{record}: has unexpected content ({error!r}); import {tomogram} again"
        ) from error


def compose_poses(table: "pd.DataFrame", path: Path) -> "pd.DataFrame":
    """Return a table in which angles and origins refer to the tomogram, not to a rotated box.

    RELION 4 and 5 write a particle's orientation in two parts. With A the matrix of three angles
    (see `rotation_from_relion`), a particle is rotated by A(rlnTomoSubtomogramRot/Tilt/Psi)
    A(rlnAngleRot/Tilt/Psi), and its origin is a vector of the rotated box. The composed angles
    replace rlnAngleRot/Tilt/Psi, and the columns of the box are removed. A table without them is
    returned as it is. Only coordinates in a tomogram need this: an extracted box is already
    rotated.

    References: RELION, `ParticleSet::getMatrix3x3`; Zivanov 2022, doi 10.7554/eLife.83724.
    """
    present = [name for name in BOX_ANGLES if name in table]
    if not present or not len(table):
        return table.drop(columns=present)
    box_rotations = rotation_from_relion(to_finite(table[BOX_ANGLES], path))
    rotations = box_rotations
    if set(ANGLES) <= set(table):
        rotations = box_rotations * rotation_from_relion(to_finite(table[ANGLES], path))
    composed = table.drop(columns=present)
    composed[ANGLES] = relion_from_rotation(rotations)
    for origins in (ORIGINS, VOXEL_ORIGINS):
        if set(origins) <= set(table):
            composed[origins] = box_rotations.apply(to_finite(table[origins], path))
    return composed


def to_finite(table: "pd.DataFrame", path: Path) -> NDArray[np.float64]:
    """Return the numbers of some columns; raise `UserError` if one is not finite."""
    try:
        values = np.array(table, float)
    except ValueError as error:
        raise UserError(f"{path}: a pose is not a number ({error})") from error
    if not np.isfinite(values).all():
        raise UserError(f"{path}: holds poses that are not finite numbers")
    return values


def centre_offset(row: Mapping[Any, Any], voxel_size: float) -> NDArray[np.float64]:
    """Return the vector from voxel n // 2 of a box to its particle's centre, xyz, voxels.

    `row` maps columns to values; without the columns of the origin the offset is zero.
    """
    return -np.array([float(row.get(name, 0.0)) for name in ORIGINS]) / voxel_size


def centre_offsets(table: "pd.DataFrame", voxel_size: float) -> NDArray[np.float64]:
    """Return `centre_offset` of each row, `(N, 3)`."""
    if not set(ORIGINS) <= set(table):
        return np.zeros((len(table), 3))
    return -table[ORIGINS].to_numpy(float) / voxel_size


def warn_of_picks_outside(
    places: Floats, shape: tuple[int, ...], picks: Path, tomogram: Path, tolerated: float = 0.0
) -> None:
    """Warn if more than a tolerated fraction of picks lie outside a tomogram.

    Places are `(N, 3)` x, y, z in voxels; the tomogram's shape is zyx.
    """
    size = shape[::-1]
    outside = int(((places < -0.5) | (places > np.array(size) - 0.5)).any(axis=1).sum())
    if outside > tolerated * len(places):
        log.warning(
            "%s: %d of %d picks lie outside %s (%d x %d x %d voxels). Check that they belong to it, "
            "that their unit is the voxel, and that they do not have another binning",
            picks, outside, len(places), tomogram, *size,
        )  # fmt: skip

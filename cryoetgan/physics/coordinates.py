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
from cryoetgan.io.star import ORIGINS

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("cryoetgan")
Floats = NDArray[np.floating]
TILT_AXES = {"y": np.eye(3), "x": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])}
BEAM_AXES = {"z": np.eye(3), "y": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])}
"""Rotations (xyz) that take the axis of the file to y (tilt) and z (beam).

They are the matrices of `orient_axes`.
"""


def orient_axes(data: NDArray[Any], tilt_axis: str, beam_axis: str) -> NDArray[Any]:
    """Return a tomogram `(z, y, x)` with its tilt axis along y and the beam along z, hand kept.

    `tilt_axis` in the file: `y`, or `x` (then x, y become y, -x). `beam_axis` in the file: `z`,
    or `y` (IMOD before trimvol, with the tilt axis along z; then x, y, z become x, -z, y).
    """
    if beam_axis == "y":
        data = data[::-1].transpose(1, 0, 2)
    if tilt_axis == "x":
        data = data[:, :, ::-1].transpose(0, 2, 1)
    return data


@dataclass(frozen=True)
class ImportTransform:
    """The transform from a file to the tomogram that was imported from it."""

    shape: tuple[int, ...]
    """zyx of the file's grid, after its rotation."""
    voxel_size: float
    """Voxel size of the file, angstrom."""
    step: float
    """Voxel size of the tomogram over `voxel_size`; 1 if it was not resampled."""
    tilt_axis: str = "y"
    beam_axis: str = "z"
    """Axes of the file that became y and z."""

    @property
    def matrix(self) -> Floats:
        """The rotation from file to tomogram, `(3, 3)`, xyz."""
        return np.asarray(TILT_AXES[self.tilt_axis] @ BEAM_AXES[self.beam_axis])

    @property
    def rotation(self) -> Rotation:
        """The rotation from file to tomogram."""
        return Rotation.from_matrix(self.matrix)

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
        return ImportTransform(volume.data.shape, volume.voxel_size, 1.0)
    try:
        was = made["parameters"]
        step = was["voxel_size"] / was["input_voxel_size"]
        step = 1.0 if abs(step - 1) < VOXEL_SIZE_TOLERANCE else step
        axes = was["tilt_axis"], was["beam_axis"]
        shape = tuple(was["input_shape"][::-1])
        return ImportTransform(shape, was["input_voxel_size"], step, *axes)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{record}: has unexpected content ({error!r}); import {tomogram} again"
        ) from error


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

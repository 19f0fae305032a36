"""Where a place in a tomogram's own file lies in the tomogram that was imported from it."""

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

Floats = NDArray[np.floating]
TILT_AXES = {"y": np.eye(3), "x": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])}
BEAM_AXES = {"z": np.eye(3), "y": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])}
"""From xyz in the file to xyz in ours: `tomograms.reading.turn` as matrices."""


@dataclass(frozen=True)
class ImportTransform:
    """How a tomogram was brought in.

    Attributes
    ----------
    shape : tuple of int
        zyx of the file's grid, turned.
    voxel_size : float
        Angstrom, of the file.
    step : float
        Imported voxel size over the file's; 1 left the grid alone.
    tilt_axis, beam_axis : str
        Where they lie in the file.
    """

    shape: tuple[int, ...]
    voxel_size: float
    step: float
    tilt_axis: str = "y"
    beam_axis: str = "z"

    @property
    def matrix(self) -> Floats:
        """Return the turn from file to imported tomogram, `(3, 3)`, xyz."""
        return np.asarray(TILT_AXES[self.tilt_axis] @ BEAM_AXES[self.beam_axis])

    @property
    def rotation(self) -> Rotation:
        """Return the same as a rotation."""
        return Rotation.from_matrix(self.matrix)

    @property
    def file_shape(self) -> NDArray[np.int_]:
        """Return the voxels of the file along x, y, z, before it is turned."""
        return np.asarray(np.abs(self.matrix.T) @ np.array(self.shape[::-1])).astype(int)

    def to_tomogram(self, file: Floats) -> Floats:
        """Return places `(N, 3)` xyz, 0-based voxels of the file, in imported voxels."""
        matrix = self.matrix
        ends = np.where(matrix.sum(axis=1) < 0, np.array(self.shape[::-1]) - 1, 0)
        return np.asarray((np.asarray(file, float) @ matrix.T + ends) / self.step)

    def to_file(self, places: Floats) -> Floats:
        """Return the inverse of `to_tomogram`: imported voxels `(N, 3)` xyz in voxels of the file."""
        matrix = self.matrix
        ends = np.where(matrix.sum(axis=1) < 0, np.array(self.shape[::-1]) - 1, 0)
        return np.asarray((np.asarray(places, float) * self.step - ends) @ matrix)


def read_import_transform(tomogram: Path, volume: Volume) -> ImportTransform:
    """Return how a tomogram was brought in, from the record beside it (`T.mrc.json`).

    One without a record, or that was simulated, is its own file.

    Raises
    ------
    UserError
        Where the record is of another version.
    """
    record = sidecar(tomogram)
    about = read_json(record) if record.exists() else {}
    made = about.get("provenance") if isinstance(about, dict) else None
    if not isinstance(made, dict) or made.get("command") != "tomograms import":
        return ImportTransform(volume.data.shape, volume.voxel_size, 1.0)
    try:
        was = made["parameters"]
        step = was["voxel_size"] / was["input_voxel_size"]
        step = 1.0 if abs(step - 1) < VOXEL_SIZE_TOLERANCE else step
        axes = was["tilt_axis"], was["beam_axis"]
        return ImportTransform(
            tuple(was["input_shape"][::-1]), was["input_voxel_size"], step, *axes
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{record}: is of another version ({error!r}); import {tomogram} again"
        ) from error


def centre_offset(row: Mapping[Any, Any], voxel_size: float) -> NDArray[np.float64]:
    """Return where a particle lies from voxel n // 2 of its box, xyz, voxels.

    Parameters
    ----------
    row : mapping
        Column to value; without origins it lies there.
    voxel_size : float
        Angstrom.
    """
    return -np.array([float(row.get(name, 0.0)) for name in ORIGINS]) / voxel_size


def centre_offsets(table: "pd.DataFrame", voxel_size: float) -> NDArray[np.float64]:
    """Return `centre_offset` of every row, `(N, 3)`."""
    if not set(ORIGINS) <= set(table):
        return np.zeros((len(table), 3))
    return -table[ORIGINS].to_numpy(float) / voxel_size

"""Conventions of another program's file: tilt and beam axes, contrast, voxel size."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cryoetgan.errors import UserError, format_shape
from cryoetgan.io.mrc import PROTEIN_BRIGHT
from cryoetgan.io.raw_mrc import RawVolume

MIN_THICKNESS = 8
"""Voxels along the shortest axis of a tomogram."""
MIN_VOXEL_SIZE_A, MAX_VOXEL_SIZE_A = 0.1, 1000.0
"""Angstrom; a header value outside this range has another unit."""
VOXEL_SIZE_ADVICE = "give --input-voxel-size (column voxel_size of the table of tomograms)"


def check_thickness(shape: Sequence[int], name: object, advice: str) -> None:
    """Raise `UserError` if a tomogram `(z, y, x)` is thinner than `MIN_THICKNESS` voxels."""
    if min(shape) < MIN_THICKNESS:
        raise UserError(
            f"{name}: has {format_shape(shape)} voxels (x, y, z), fewer than {MIN_THICKNESS} "
            f"along an axis; {advice}"
        )


def orient_axes(tomogram: RawVolume, tilt_axis: str, beam_axis: str) -> RawVolume:
    """Return the tomogram with its tilt axis along y and the beam along z, hand kept.

    `tilt_axis` in the file: `y`, or `x` (then x, y become y, -x). `beam_axis` in the file: `z`,
    or `y` (IMOD before trimvol, with the tilt axis along z; then x, y, z become x, -z, y).
    """
    data = tomogram.data
    if beam_axis == "y":
        data = data[::-1].transpose(1, 0, 2)
    if tilt_axis == "x":
        data = data[:, :, ::-1].transpose(0, 2, 1)
    return replace(tomogram, data=data)


def check_contrast(tomogram: RawVolume, contrast: str, name: object) -> None:
    """Raise `UserError` if protein is bright already and would be inverted again."""
    if contrast == "dark" and tomogram.is_bright:
        raise UserError(
            f"{name}: its label says '{PROTEIN_BRIGHT}', so it must not be inverted again; give "
            "--contrast bright (column contrast of the table of tomograms), or remove the label "
            "if it is wrong"
        )


def choose_voxel_size(tomogram: RawVolume, given: float | None, name: object) -> float:
    """Return the voxel size in angstrom: the given one, or the header's.

    Programs that do not know the voxel size write 0 or 1, so these header values are refused.
    """
    if given is not None:
        if not 0 < given < np.inf:
            raise UserError(f"--input-voxel-size: got {given}, wanted a number above zero")
        return given
    size = tomogram.voxel_size
    if np.isnan(size):
        raise UserError(f"{name}: the header says that voxels are not cubes; {VOXEL_SIZE_ADVICE}")
    if not np.isfinite(size) or size <= 0 or abs(size - 1) < 1e-3:
        raise UserError(
            f"{name}: the header's voxel size is {size:g} A, which programs write if they do "
            f"not know it; {VOXEL_SIZE_ADVICE}"
        )
    if not MIN_VOXEL_SIZE_A <= size <= MAX_VOXEL_SIZE_A:
        raise UserError(
            f"{name}: the header's voxel size is {size:g} A, wanted {MIN_VOXEL_SIZE_A:g} to "
            f"{MAX_VOXEL_SIZE_A:g}; {VOXEL_SIZE_ADVICE}"
        )
    return size

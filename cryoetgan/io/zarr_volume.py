"""OME-Zarr volumes, copied to files that are memory-mapped."""

from pathlib import Path
from typing import Any

import numpy as np

from cryoetgan.errors import UserError, shown
from cryoetgan.io.memmap import release_pages, scratch_array
from cryoetgan.io.mrc import Volume

UNITS_A = {"angstrom": 1.0, "nanometer": 10.0, "micrometer": 1e4}
"""Angstrom."""


def read_zarr(path: Path, scratch: Path | None, channel: int = 0) -> Volume:
    """Return the finest level of an OME-Zarr volume `(z, y, x)`, and its voxel size.

    It is copied to a file without a name in `scratch`. `channel` is taken if there are four axes.
    """
    array, voxel_size = _open_finest(path)
    if array.ndim == 4:
        shape = array.shape[1:]
    elif array.ndim == 3:
        shape = array.shape
    else:
        raise UserError(f"{path}: has {array.ndim} axes, wanted z, y, x")
    copy = scratch_array(scratch, np.dtype(array.dtype).newbyteorder("=").type, shape)
    thickness = array.chunks[-3]
    for start in range(0, len(copy), thickness):
        part = slice(start, start + thickness)
        copy[part] = array[channel, part] if array.ndim == 4 else array[part]
        release_pages(copy)
    return Volume(copy, voxel_size)


def _open_finest(path: Path) -> tuple[Any, float]:
    try:
        import zarr
    except ImportError as error:
        raise UserError(
            f"{path}: zarr is not installed; pip install 'cryoetgan[export]'"
        ) from error
    try:
        group = zarr.open_group(str(path), mode="r")
        about = dict(group.attrs)
        scales = (about.get("ome") or about)["multiscales"][0]
        level = scales["datasets"][0]
        scale = next(t["scale"] for t in level["coordinateTransformations"] if "scale" in t)
        unit = (scales.get("axes") or [{}])[-1].get("unit", "angstrom")
        array = group[level["path"]]
    except (LookupError, TypeError, ValueError, StopIteration, AttributeError, OSError) as error:
        raise UserError(f"{path}: is not an OME-Zarr volume ({error!r})") from error
    if unit not in UNITS_A:
        raise UserError(f"{path}: its unit is {shown(unit)}, wanted {', '.join(UNITS_A)}")
    sizes = UNITS_A[unit] * np.array(scale[-3:], float)
    if not sizes.min() > 0 or sizes.max() > 1.01 * sizes.min():
        raise UserError(f"{path}: its voxels are {sizes.tolist()} A, wanted cubes")
    return array, float(sizes[-1])

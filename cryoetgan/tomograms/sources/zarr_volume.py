"""OME-Zarr volumes, copied to files that are memory-mapped."""

from pathlib import Path
from typing import Any

import numpy as np

from cryoetgan.errors import UserError, shown
from cryoetgan.io.memmap import release_pages, scratch_array
from cryoetgan.io.mrc import Volume

UNITS_A = {"angstrom": 1.0, "nanometer": 10.0, "micrometer": 1e4}
"""Angstrom."""
BROKEN = (
    LookupError, TypeError, ValueError, StopIteration, AttributeError, OSError, OverflowError,
)  # fmt: skip
"""Errors of metadata that have another structure, and of a level that is a group."""


def read_zarr(path: Path, scratch: Path | None, channel: int = 0) -> Volume:
    """Return the finest level of an OME-Zarr volume `(z, y, x)`, and its voxel size.

    It is copied to a file without a name in `scratch`. `channel` is taken if there are four axes.
    """
    array, voxel_size = _open_finest(path)
    shape = array.shape[-3:]
    if array.ndim == 4 and channel >= array.shape[0]:
        raise UserError(f"{path}: has {array.shape[0]} channels, wanted {channel + 1} or more")
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
        sizes = np.array(scale, float)
        known = UNITS_A.get(unit) if isinstance(unit, str) else None
        kind, ndim, size = array.dtype.kind, array.ndim, array.size
    except BROKEN as error:
        raise UserError(f"{path}: is not an OME-Zarr volume ({error!r})") from error
    if known is None:
        raise UserError(f"{path}: its unit is {shown(unit)}, wanted {', '.join(UNITS_A)}")
    if ndim not in (3, 4) or not size:
        raise UserError(f"{path}: has the shape {array.shape}, wanted voxels with axes z, y, x")
    if kind not in "biuf":
        raise UserError(f"{path}: holds values of type {array.dtype}, wanted real numbers")
    if sizes.shape != (ndim,):
        raise UserError(f"{path}: its scale is {shown(scale)}, wanted {ndim} numbers, one by axis")
    sizes = known * sizes[-3:]
    if not sizes.min() > 0 or not sizes.max() <= 1.01 * sizes.min() < np.inf:
        raise UserError(f"{path}: its voxels are {sizes.tolist()} A, wanted cubes")
    return array, float(sizes[-1])

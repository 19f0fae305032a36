"""Density maps from files: check them, and bring them to the run's box and voxel size."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.densities.density_from_atoms import protein_density
from cryoetgan.errors import UserError, format_shape
from cryoetgan.io.mrc import check_map, check_same_voxel_size, read_map, resolve_voxel_size
from cryoetgan.io.raw_mrc import open_raw_volume
from cryoetgan.io.star import paths_by_class

log = logging.getLogger("cryoetgan")
Floats = NDArray[np.floating]
DARK_SKEWNESS = -1.0
"""Skewness of a map below which its protein is dark: averages of real particles have 3, maps of
structures more."""


INSIDE = 0.5
"""Grey level of a particle over the density far inside protein: 0.43 to 0.60 in seven structures
of 0.2 to 0.8 MDa at 30 A."""
SAME_SCALE = 3.0
"""Ratio of grey levels up to which two maps may have the same scale."""


def import_map(
    path: Path,
    voxel_size: float,
    box: int,
    input_voxel_size: float | None = None,
    resolution: float | None = None,
) -> tuple[NDArray[np.float32], float, float]:
    """Read a density map of any program at a voxel size (angstrom) and box (voxels).

    A map of another grey scale is scaled to the values of `simulate` at a resolution (angstrom; default: of
    three voxels), because scenes and other classes have it.

    Returns the density `(z, y, x)` float32, the file's voxel size (`input_voxel_size`, or the
    header's if that is None), and the fraction of the map's positive mass that the box cuts off.
    """
    with open_raw_volume(path) as raw:
        size = resolve_voxel_size(path, raw.voxel_size, input_voxel_size)
        check_map(raw.data, path)
        data = np.asarray(raw.data, np.float64)
    if (value := skewness(data)) < DARK_SKEWNESS:
        log.warning(
            "%s: protein seems dark in this map (skewness %.1f; a density map has protein "
            "positive): multiply it by -1", path, value,
        )  # fmt: skip
    density = resample_to_box(data, size, voxel_size, box)
    factor = protein_scale(density, resolution or 3 * voxel_size)
    if is_other_scale(factor):
        log.info("%s: multiplied by %.4g, to the grey scale of protein", path, factor)
        density *= np.float32(factor)
        data = data * factor
    return density, size, fraction_outside(data, density, (voxel_size / size) ** 3)


def grey_level(density: Floats) -> float:
    """Return the grey level of a particle `(z, y, x)`: the mean of its voxels.

    These are the voxels above a quarter of the highest mean of 3^3 voxels, which noise hardly raises.
    """
    highest = float(ndimage.uniform_filter(np.asarray(density, np.float32), 3).max())
    return float(density[density > highest / 4].mean()) if highest > 0 else 0.0


def protein_scale(density: Floats, resolution: float) -> float:
    """Return the factor that brings a map to the grey scale of `simulate`; 1 without a particle."""
    level = grey_level(density)
    return INSIDE * protein_density(resolution) / level if level > 0 else 1.0


def is_other_scale(factor: float) -> bool:
    """Return whether a `protein_scale` is too far from 1 to be a difference of particles."""
    return not 1 / SAME_SCALE < factor < SAME_SCALE


def skewness(values: Floats) -> float:
    """Return the third moment about the mean over the cube of the standard deviation.

    Examples
    --------
    >>> skewness(np.array([0.0, 0.0, 0.0, 0.0, 1.0]))
    1.5
    """
    centred = values - values.mean()
    return float(round((centred**3).mean() / (centred**2).mean() ** 1.5, 6))


def read_pose_maps(paths: Sequence[Path]) -> tuple[dict[str, NDArray[Any]], float]:
    """Return the maps of classes by name, `(z, y, x)`, and their common voxel size in angstrom.

    The maps must be cubes of one size.
    """
    named = paths_by_class(paths)
    volumes = {name: read_map(path) for name, path in named.items()}
    first_name, first = next(iter(volumes.items()))
    for name, volume in volumes.items():
        check_same_voxel_size(first.voxel_size, volume.voxel_size, named[first_name], named[name])
        if volume.data.shape != first.data.shape or len(set(volume.data.shape)) != 1:
            raise UserError(
                f"{named[name]}: has {format_shape(volume.data.shape)} voxels, but "
                f"{named[first_name]} has {format_shape(first.data.shape)}; maps of one set are "
                "cubes of one size (densities.box)"
            )
    return {name: volume.data for name, volume in volumes.items()}, first.voxel_size


def resample_to_box(
    data: Floats, voxel_size: float, wanted: float, box: int
) -> NDArray[np.float32]:
    """Resample a map `(z, y, x)` from `voxel_size` to `wanted` angstrom, in a cube of `box` voxels.

    It is cropped or padded; the centre n // 2 stays the centre.
    """
    step = wanted / voxel_size
    source = np.asarray(data, np.float64)
    if step > 1:  # remove frequencies above the coarser grid's Nyquist limit first
        source = ndimage.gaussian_filter(source, 0.5 * np.sqrt(step**2 - 1), mode="constant")
    centre = np.array(source.shape) // 2
    return ndimage.affine_transform(
        source,
        np.full(3, step),
        offset=centre - step * (box // 2),
        output_shape=(box, box, box),
        order=3,
        mode="constant",
    ).astype(np.float32)


def fraction_outside(data: Floats, inside: Floats, factor: float) -> float:
    """Return the fraction of a map's positive mass that lies outside the box `inside`.

    `factor` is the voxel volume of `inside` over the voxel volume of `data`.
    """
    total = float(np.clip(data, 0, None).sum(dtype=np.float64))
    kept = float(np.clip(inside, 0, None).sum(dtype=np.float64)) * factor
    return max(0.0, 1 - kept / total) if total > 0 else 0.0

"""Density maps from files: check them, and bring them to the run's box and voxel size."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
KEPT_SCALE = 3.0
"""Ratio to protein's grey level up to which an imported map keeps its values."""
SAME_SCALE = 10.0
"""Ratio of grey levels up to which maps of a scene may have one scale: 15 kDa in voxels of 20 A has
a seventh of the level of a large particle."""
MAX_BACKGROUND = 0.1
"""Median at the faces of a map, over its particle's grey level, above which it has an offset."""


class ImportedMap(NamedTuple):
    """A density map of another program at the run's voxel size and box."""

    density: NDArray[np.float32]
    """`(z, y, x)`."""
    voxel_size: float
    """Angstrom, of the file."""
    outside: float
    """Fraction of the map's positive mass that the box cuts off."""
    factor: float
    """Number by which the values were multiplied."""


def import_map(
    path: Path,
    voxel_size: float,
    box: int,
    input_voxel_size: float | None = None,
    resolution: float | None = None,
) -> ImportedMap:
    """Read a density map of any program at a voxel size (angstrom) and box (voxels).

    The file's voxel size is `input_voxel_size`, or the header's if that is None. Scenes and other
    classes have the grey scale of `simulate` at a resolution (angstrom; default: of three voxels), so
    a map whose particle differs from protein by more than `KEPT_SCALE` is multiplied to it.
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
    outside = fraction_outside(data, density, (voxel_size / size) ** 3)
    level, background = grey_level(density), face_median(data)
    if abs(background) > MAX_BACKGROUND * level:
        log.warning(
            "%s: its background is %.4g where its particle has %.4g; subtract it, or it becomes a "
            "bright box", path, background, level,
        )  # fmt: skip
    factor = protein_scale(level, resolution or 3 * voxel_size)
    if 1 / KEPT_SCALE < factor < KEPT_SCALE:
        factor = 1.0
    else:
        log.info("%s: multiplied by %.4g, to the grey scale of protein", path, factor)
    return ImportedMap(density * np.float32(factor), size, outside, factor)


def grey_level(density: Floats) -> float:
    """Return the grey level of a particle `(z, y, x)`, the mean of its voxels.

    These are the voxels above a quarter of the highest mean of 3^3 voxels: noise hardly raises it.
    """
    highest = float(ndimage.uniform_filter(np.asarray(density, np.float32), 3).max())
    return float(density[density > highest / 4].mean()) if highest > 0 else 0.0


def face_median(density: Floats) -> float:
    """Return the median of the voxels on the six faces of a map `(z, y, x)`."""
    faces = [np.take(density, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    return float(np.median(np.concatenate(faces)))


def protein_scale(level: float, resolution: float) -> float:
    """Return the factor from a `grey_level` to protein's in `simulate`; 1 without a particle."""
    return INSIDE * protein_density(resolution) / level if level > 0 else 1.0


def is_other_scale(ratio: float) -> bool:
    """Return whether a ratio of grey levels is too far from 1 to be one of two particles."""
    return not 1 / SAME_SCALE < ratio < SAME_SCALE


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

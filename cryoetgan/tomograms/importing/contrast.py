"""Measure the contrast of a tomogram: whether protein is darker or brighter than its surroundings.

Dense bodies fill the smaller part of a tomogram. The grey values, band-passed to the size of large
complexes, are therefore skewed towards protein, membranes and gold; noise is not skewed.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoetgan.io.exclusion import ExclusionMask
from cryoetgan.io.memmap import RELEASE_EVERY_BYTES, release_pages
from cryoetgan.io.raw_mrc import open_raw_volume
from cryoetgan.physics.geometry import block_slices

log = logging.getLogger("cryoetgan")
Floats = NDArray[np.floating]
SIGMA_A, SIGMA_RATIO = 55.0, 1.6
"""Width of the narrower Gaussian, angstrom, and of the wider one over it: half of the band's
energy lies between 130 and 320 angstrom."""
COARSE_A = 20.0
"""Voxel size up to which finer tomograms are averaged, angstrom."""
TILE, MAX_TILES = 96, 10
"""Edge of a tile in coarse voxels, and the number of tiles, spread evenly over the tomogram."""
BLOCK = 24
"""Edge of the blocks over which the error is estimated, coarse voxels."""
MIN_BLOCKS = 8
CLIP = 10.0
"""Grey value at which coarse voxels (gold, X-ray hits) are clipped, in medians of its magnitude."""
MAX_SKEWNESS = 2.0
"""Largest skewness of a block; a larger one is clipped."""
SURE, LEAST_SKEWNESS = 4.0, 0.1
"""Skewness over its standard error, and absolute skewness, from which the contrast is measured:
noise reached 2.4 and 0.09, and tomograms with particles 4.3 and 0.4 or more."""
UNKNOWN_SIZE_A = 10.0
"""Voxel size that is assumed if the header has none; the result depends little on it."""


@dataclass(frozen=True)
class MeasuredContrast:
    """Skewness of the band-passed grey values: below zero if protein is dark."""

    overall: float
    """Over all voxels; the densest bodies determine it."""
    overall_error: float
    """Standard error, by the jackknife over blocks."""
    typical: float
    """Mean over blocks of the skewness in each; no single body determines it."""
    typical_error: float

    @property
    def contrast(self) -> Literal["dark", "bright"] | None:
        """`dark` or `bright`; None if the skewness is not significant, or both differ in sign."""
        pairs = (self.overall, self.overall_error), (self.typical, self.typical_error)
        signs = {
            bool(value > 0)
            for value, error in pairs
            if abs(value) >= LEAST_SKEWNESS and abs(value) >= SURE * error
        }
        if len(signs) != 1:
            return None
        return "bright" if signs.pop() else "dark"

    def __str__(self) -> str:
        if np.isnan(self.typical):
            return "the contrast cannot be measured: the tomogram is too small or too empty"
        pairs = (self.overall, self.overall_error), (self.typical, self.typical_error)
        skewness, error = max(pairs, key=lambda pair: abs(pair[0]) / max(pair[1], 1e-30))
        value = f"skewness {skewness:.2f} +- {error:.2f}"
        if self.contrast is None:
            return f"the contrast is uncertain ({value})"
        return f"protein is {self.contrast} by the grey values ({value})"

    def to_json(self) -> dict[str, Any]:
        """Return the record: contrast, skewness and errors; None if they were not measurable."""
        values = {key: None if np.isnan(v) else round(v, 4) for key, v in vars(self).items()}
        return {"contrast": self.contrast, **values}


UNMEASURED = MeasuredContrast(*(float("nan"),) * 4)


def measured_contrast(path: Path, voxel_size: float | None = None) -> MeasuredContrast:
    """Return the contrast of protein in a tomogram's file, MRC of any program.

    `voxel_size` in angstrom replaces the header's. Some tiles are read, so it takes seconds.
    """
    with open_raw_volume(path) as raw:
        return measure_contrast(raw.data, voxel_size or raw.voxel_size)


def measure_contrast(
    data: NDArray[np.generic], voxel_size: float, excluded: ExclusionMask | None = None
) -> MeasuredContrast:
    """Return the contrast of a tomogram `(z, y, x)`, voxel size in angstrom.

    Excluded voxels do not count (default: padding), nor do voxels that are not finite.
    """
    size = voxel_size if voxel_size > 0 else UNKNOWN_SIZE_A
    step = max(1, int(COARSE_A / size))
    if excluded is None:
        excluded = ExclusionMask(data[::step, ::step, ::step], margin=1)
    else:
        excluded = excluded.every(step)
    sums = [
        row
        for tile, seen in _coarse_tiles(data, excluded, step)
        for row in _block_moments(tile, seen, SIGMA_A / (size * step))
    ]
    if len(sums) < MIN_BLOCKS:
        return UNMEASURED
    count, first, second, third = np.array(sums).T
    whole = np.array([v.sum() for v in (count, first, second, third)])
    left = whole[:, None] - np.array([count, first, second, third])
    overall, without = _skewness(*whole), _skewness(*left)
    n = len(count)
    jackknife = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    each = np.clip(_skewness(count, first, second, third), -MAX_SKEWNESS, MAX_SKEWNESS)
    error = each.std(ddof=1) / np.sqrt(n)
    return MeasuredContrast(float(overall), float(jackknife), float(each.mean()), float(error))


def _skewness(count: Any, first: Any, second: Any, third: Any) -> Any:
    """Return the skewness of values from the sums of their powers."""
    mean, square, cube = first / count, second / count, third / count
    variance = np.maximum(square - mean**2, 1e-30)
    return (cube - 3 * mean * square + 2 * mean**3) / variance**1.5


def _coarse_tiles(
    data: NDArray[np.generic], excluded: ExclusionMask, step: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Yield tiles of coarse voxels, mean 0 and clipped, and which of them hold data.

    A coarse voxel is the mean over `step` voxels along x and y, and over two sections of `step`.
    """
    shape = [n // step for n in data.shape]
    edges = [min(n, TILE) for n in shape]
    if min(edges) < 1:
        return
    lines = [
        np.linspace(0, n - e, max(1, round(n / e))).astype(int)
        for n, e in zip(shape, edges, strict=True)
    ]
    corners = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3)
    chosen = np.linspace(0, len(corners) - 1, min(len(corners), MAX_TILES)).astype(int)
    for corner in corners[chosen]:
        tile = _average(data, corner * step, edges, step)
        seen = np.isfinite(tile)
        if excluded:
            seen &= ~excluded[block_slices(corner, edges)]
        if not seen.any():
            continue
        tile = np.where(seen, tile - tile[seen].mean(dtype=np.float64), 0).astype(np.float32)
        limit = CLIP * float(np.median(np.abs(tile[seen])))
        yield np.clip(tile, -limit, limit) if limit > 0 else tile, seen


def _average(
    data: NDArray[np.generic], corner: NDArray[np.int_], edges: list[int], step: int
) -> NDArray[np.float32]:
    """Return a tile of coarse voxels, `edges` zyx, from the voxel `corner` on."""
    tile = np.empty(edges, np.float32)
    z, y, x = corner
    height, width = edges[1] * step, edges[2] * step
    period = max(1, RELEASE_EVERY_BYTES // (16 * height * data[0, 0].nbytes))
    for index in range(edges[0]):
        first = z + index * step
        planes = data[first : first + step : max(1, step // 2), y : y + height, x : x + width]
        mean = np.asarray(planes[:2], np.float32).mean(axis=0)
        tile[index] = mean.reshape(edges[1], step, edges[2], step).mean(axis=(1, 3))
        if index % period == period - 1:
            release_pages(data)
    release_pages(data)
    return tile


def _block_moments(
    tile: NDArray[np.float32], seen: NDArray[np.bool_], sigma: float
) -> Iterator[tuple[float, ...]]:
    """Yield the sums of the powers 0 to 3 of the band-passed values in each block of a tile."""
    narrow, wide = (
        ndimage.gaussian_filter(tile, width, truncate=3.0) for width in (sigma, SIGMA_RATIO * sigma)
    )
    band = (narrow - wide).astype(np.float64)
    spread = band[seen].std()
    if not spread > 0:
        return
    band /= spread
    parts = [np.array_split(np.arange(n), max(1, n // BLOCK)) for n in tile.shape]
    for z in parts[0]:
        for y in parts[1]:
            for x in parts[2]:
                block = tuple(slice(part[0], part[-1] + 1) for part in (z, y, x))
                values = band[block][seen[block]]
                if values.size >= band[block].size / 2:
                    yield (values.size, *(float((values**power).sum()) for power in (1, 2, 3)))


def warn_of_contrast(measured: MeasuredContrast, given: str, name: object) -> None:
    """Warn if a tomogram shows another contrast than the `given` one, dark or bright."""
    if measured.contrast is None:
        log.info("%s: %s; contrast %s is taken as given", name, measured, given)
    elif measured.contrast != given:
        log.warning(
            "%s: wrong contrast? %s, but %s was given. Inspect a section; import it with "
            "--contrast %s (column contrast of the table of tomograms)",
            name, measured, given, measured.contrast,
        )  # fmt: skip

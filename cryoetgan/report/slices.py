"""Slices of volumes and tomograms as images for the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan import images
from cryoetgan.io.mrc import Volume
from cryoetgan.io.star import ANGLES, COORDINATES, ORIGINS
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.report import plots
from cryoetgan.seeds import rng

MIN_TILE_PIXELS = 112
"""Smallest edge of an enlarged slice, pixels."""
DENSITIES = ("density", "cycle")
"""Sets with a grey scale from zero to the maximum; other sets are scaled about their mean."""
DENSITY_GAP_GREY = 110
"""Grey value between the tiles of densities, whose background is black."""
POSE_COLUMNS = (*ANGLES, *ORIGINS)
# Okabe and Ito's colour-blind safe palette; bright colours first, since they lie on grey
COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#FFFFFF")


@dataclass(frozen=True)
class Slices:
    """Slices of volumes, the length of the scale bar, and the limits of the grey values."""

    name: str
    image: str
    bar: str
    low: float
    high: float
    colour_bar: str = ""
    is_zero: bool = False


@dataclass(frozen=True)
class Circle:
    """A particle in a tomogram slice; position in pixels from the left and top."""

    x: float
    y: float
    colour: str
    dashed: bool
    name: str


@dataclass(frozen=True)
class TomogramSlice:
    """A slice of a tomogram with its particles; sizes in pixels."""

    name: str
    image: str
    width: int
    height: int
    radius: float
    circles: list[Circle]
    legend: list[tuple[str, str, int]]
    bar: str
    depth: str


def draw_panels(
    sets: Mapping[str, VolumeSet], class_name: str, sample: int, seed: int = 0
) -> list[Slices]:
    """Return one image per set with `sample` volumes of a class: rows are planes.

    Sets that have poses of densities show the same poses, so that a column is one particle.
    """
    shown, wanted = [], None
    for name, volumes in sets.items():
        rows = rows_of_class(volumes, class_name)
        poses = None if name == "real" else poses_of(volumes)
        if not len(rows):
            continue
        if wanted and poses:
            row_of = {poses[row]: row for row in rows[::-1]}
            chosen = [row_of[pose] for pose in wanted if pose in row_of]
        else:
            stream = "physics" if poses else name
            generator = rng(seed, "report", stream, class_name)
            chosen = list(np.sort(generator.permutation(rows)[:sample]))
            if poses:
                wanted = [poses[row] for row in chosen]
        if chosen:
            data = np.asarray(volumes.volumes[np.array(chosen)], np.float32)
            shown.append(_draw_panel(name, data, volumes.voxel_size))
    return shown


def rows_of_class(volumes: VolumeSet, class_name: str) -> NDArray[np.intp]:
    """Return the rows of one class."""
    return np.flatnonzero(volumes.table["cryoetganClass"].to_numpy(str) == class_name)


def poses_of(volumes: VolumeSet) -> list[tuple[Any, ...]] | None:
    """Return angles and origin of each row; None if the set has none."""
    if not set(POSE_COLUMNS) <= set(volumes.table.columns):
        return None
    table = volumes.table[list(POSE_COLUMNS)].astype(float).round(4)
    return [tuple(row) for row in table.to_numpy()]


def draw_slice_grid(sets: Mapping[str, NDArray[np.float32]], voxel_size: float) -> tuple[str, str]:
    """Return an image of the central xy planes, a row for each set, and the length of its bar.

    All sets have as many volumes `(N, z, y, x)`. Each row has its own grey scale.
    """
    tiles, factor = [], 1
    for name, data in sets.items():
        limits = _range_from_zero(data) if name in DENSITIES else images.grey_range(data)
        factor = -(-MIN_TILE_PIXELS // data.shape[-1])
        planes = [images.scale_grey(images.central_planes(volume)[0], *limits) for volume in data]
        tiles.append([images.enlarge(plane, factor) for plane in planes])
    tiles[-1][0], bar = _add_bar(tiles[-1][0], data.shape[-1], voxel_size, factor)
    return _encode(images.montage(tiles, fill=DENSITY_GAP_GREY)), bar


def _draw_panel(name: str, data: NDArray[np.float32], voxel_size: float) -> Slices:
    """Return the central planes of `data` `(N, z, y, x)`, a column per volume."""
    is_density = name in DENSITIES
    limits = _range_from_zero(data) if is_density else images.grey_range(data)
    factor = -(-MIN_TILE_PIXELS // data.shape[-1])
    planes = [_enlarged_planes(volume, *limits, factor) for volume in data]
    tiles = [list(row) for row in zip(*planes, strict=True)]
    tiles[-1][0], bar = _add_bar(tiles[-1][0], data.shape[-1], voxel_size, factor)
    image = images.montage(tiles, fill=DENSITY_GAP_GREY if is_density else 0)
    return Slices(name, _encode(image), bar, *limits)


def _range_from_zero(data: NDArray[np.float32]) -> tuple[float, float]:
    return 0.0, float(np.percentile(data, 99.8)) or 1.0


def _enlarged_planes(
    volume: NDArray[Any], low: float, high: float, factor: int
) -> list[images.Bytes]:
    planes = images.central_planes(volume)
    return [images.enlarge(images.scale_grey(plane, low, high), factor) for plane in planes]


def _add_bar(
    tile: images.Bytes, box: int, voxel_size: float, factor: int
) -> tuple[images.Bytes, str]:
    """Return an enlarged slice with a scale bar, and the length of the bar."""
    length = images.scale_bar_length(box * voxel_size)
    return images.add_scale_bar(tile, length / voxel_size * factor), f"{length / 10:g} nm"


def _encode(image: images.Bytes) -> str:
    return images.data_uri(images.encode_png(image))


def draw_uncertainty(
    sets: Mapping[str, VolumeSet], class_name: str, count: int = 7
) -> list[Slices]:
    """Return `count` slices of a generated volume and of its SD maps (Paper, figure 4).

    The colour map of the standard deviation is viridis, from zero to the 99.8th percentile. It
    is perceptually uniform, also for colour-blind readers.
    """
    shown: list[Slices] = []
    for name, title in (("dropout_sd", "dropout SD"), ("noise_sd", "noise SD")):
        if name not in sets:
            continue
        rows = rows_of_class(sets[name], class_name)
        if not len(rows):
            continue
        if not shown and "generated" in sets:
            poses = poses_of(sets[name])
            row_of = {pose: row for row, pose in enumerate(poses_of(sets["generated"]) or [])}
            row = row_of.get(poses[rows[0]]) if poses else None
            if row is not None:
                shown.append(_draw_strip("generated", sets["generated"], row, count))
        shown.append(_draw_strip(title, sets[name], rows[0], count, plots.viridis()))
    return shown


def _draw_strip(
    name: str, volumes: VolumeSet, row: int, count: int, colours: images.Bytes | None = None
) -> Slices:
    """Return slices of one volume side by side, in grey or from zero in colours."""
    data = np.asarray(volumes.volumes[row], np.float32)
    limits = images.grey_range(data) if colours is None else _range_from_zero(data)
    size = data.shape[0]
    chosen = np.unique(np.linspace(size * 0.2, size * 0.8, count).astype(int))
    factor = -(-MIN_TILE_PIXELS // size)
    tiles = [images.enlarge(images.scale_grey(data[z][::-1], *limits), factor) for z in chosen]
    tiles[0], bar = _add_bar(tiles[0], size, volumes.voxel_size, factor)
    image, colour_bar = images.montage([tiles]), ""
    if colours is not None:
        image, colour_bar = colours[image], _encode(colours[np.arange(256)[None]])
    return Slices(name, _encode(image), bar, *limits, colour_bar, not data.any())


def draw_planes(volume: NDArray[Any], low: float, high: float) -> str:
    """Return the three central planes of one volume side by side, enlarged three times."""
    return _encode(images.montage([_enlarged_planes(volume, low, high, 3)]))


def draw_tomogram(
    name: str,
    volume: Volume,
    selected: Any,
    annotated: Any = None,
    *,
    box: int,
    thickness: int = 5,
    max_pixels: int = 900,
) -> TomogramSlice:
    """Return the slice of a tomogram that shows most of its particles.

    The tomogram is memory-mapped: only `thickness` slices are read and averaged. `selected` and
    `annotated` are tables with coordinates in voxels and cryoetganClass, or None; circles of
    annotations are dashed. `box` is the edge of a particle in voxels. An image that is larger than
    `max_pixels` is binned.
    """
    tables = [table for table in (selected, annotated) if table is not None and len(table)]
    depths = np.concatenate([t["rlnCoordinateZ"].to_numpy(float) for t in tables] or [np.zeros(0)])
    reach = max(thickness, box // 6)
    middle = _densest_slice(depths, volume.data.shape[0], reach)
    low, high = max(middle - thickness // 2, 0), middle + thickness // 2 + 1
    image = np.asarray(volume.data[low:high], np.float32).mean(axis=0)
    step = -(-max(image.shape) // max_pixels)
    image = _bin(image, step)
    black, white = np.percentile(image, [0.5, 99.5])
    pixels = images.scale_grey(image[::-1], float(black), float(white))
    length = images.scale_bar_length(image.shape[1] * step * volume.voxel_size / 2)
    pixels = images.add_scale_bar(pixels, length / volume.voxel_size / step, fraction=80)
    names = sorted({str(c) for table in tables for c in table["cryoetganClass"]})
    colours = {c: COLOURS[i % len(COLOURS)] for i, c in enumerate(names)}
    circles: list[Circle] = []
    for table, dashed in ((selected, False), (annotated, True)):
        if table is not None and len(table):
            near = table[(table["rlnCoordinateZ"].astype(float) - middle).abs() <= reach]
            circles += _circles(near, step, image.shape[0], colours, dashed)
    solid = [circle.name for circle in circles if not circle.dashed]
    return TomogramSlice(
        name,
        _encode(pixels),
        image.shape[1],
        image.shape[0],
        0.3 * box / step,
        circles,
        [(kind, colours[kind], solid.count(kind)) for kind in names],
        f"{length / 10:g} nm",
        f"z = {middle}, particles within {reach} voxels",
    )


def _circles(
    table: Any, step: int, height: int, colours: Mapping[str, str], dashed: bool
) -> Sequence[Circle]:
    """Return a circle per row; `step` is the binning, `height` the image's in pixels."""
    columns = (table["cryoetganClass"].astype(str), table[COORDINATES[0]], table[COORDINATES[1]])
    return [
        Circle((float(x) + 0.5) / step, height - (float(y) + 0.5) / step, colours[c], dashed, c)
        for c, x, y in zip(*columns, strict=True)
    ]


def _densest_slice(depths: NDArray[np.float64], size: int, reach: int) -> int:
    """Return the z with most particles within `reach` voxels; the middle if there are none."""
    if not len(depths):
        return size // 2
    # near particles have more weight: a central slice shows a particle best
    weights = [np.clip(reach + 1 - np.abs(depths - z), 0, None).sum() for z in range(size)]
    best = np.flatnonzero(weights >= np.max(weights) - 1e-9)
    return int(best[np.argmin(np.abs(best - size // 2))])


def _bin(image: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Return the mean of blocks of `step` x `step` pixels."""
    rows, columns = (n // step * step for n in image.shape)
    blocks = image[:rows, :columns].reshape(rows // step, step, columns // step, step)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)

"""Slices of volumes and tomograms as images for the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan import images
from cryoetgan.io.star import ANGLES, COORDINATES, ORIGINS
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.report import plots
from cryoetgan.seeds import rng

TILE = 112
"""Pixels a slice is enlarged to, at least."""
WIDEST = 900
"""Pixels of a tomogram section; larger ones are binned."""
THICKNESS = 5
ZERO_BASED = ("density", "back")
"""Sets shown from zero to their brightest; the others about their mean."""
BETWEEN = 110
"""Grey between the tiles of densities, which are black; noise has black lines."""
STRIP = 7
"""Slices shown of one volume, from its bottom to its top."""
SAME = (*ANGLES, *ORIGINS)
# Okabe and Ito's colours, told apart by the colour-blind; bright ones first: they lie on grey
COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#FFFFFF")


@dataclass(frozen=True)
class Panel:
    """An image of the page and what it shows."""

    name: str
    image: str
    bar: str


@dataclass(frozen=True)
class Circle:
    """A particle over a section: pixels from the left and top."""

    x: float
    y: float
    colour: str
    dashed: bool
    name: str


@dataclass(frozen=True)
class Section:
    """A section of a tomogram with particles."""

    name: str
    image: str
    width: int
    height: int
    radius: float
    circles: list[Circle]
    legend: list[tuple[str, str, int]]
    bar: str
    depth: str


def panels(sets: Mapping[str, VolumeSet], name: str, sample: int, seed: int = 0) -> list[Panel]:
    """Return one image a set of volumes of class `name`: planes in rows, volumes in columns.

    Sets that carry a density's pose show the same poses: generated, physics and density of
    one column belong together.
    """
    shown, wanted = [], None
    for label, volumes in sets.items():
        rows = np.flatnonzero(volumes.table["cryoetganClass"].to_numpy(str) == name)
        keys = None if label == "real" else _poses(volumes)
        if not len(rows):
            continue
        if wanted and keys:
            where = {keys[row]: row for row in rows[::-1]}
            chosen = [where[key] for key in wanted if key in where]
        else:
            chosen = list(np.sort(rng(seed, "report", label, name).permutation(rows)[:sample]))
            if keys:
                wanted = [keys[row] for row in chosen]
        if chosen:
            data = np.asarray(volumes.volumes[np.array(chosen)], np.float32)
            shown.append(_panel(label, data, volumes.voxel_size))
    return shown


def _poses(volumes: VolumeSet) -> list[tuple[Any, ...]] | None:
    if not set(SAME) <= set(volumes.table.columns):
        return None
    return [tuple(row) for row in volumes.table[list(SAME)].astype(float).round(4).to_numpy()]


def _range(label: str, data: NDArray[np.float32]) -> tuple[float, float]:
    if label in ZERO_BASED:
        return 0.0, float(np.percentile(data, 99.8)) or 1.0
    return images.grey_range(data)


def _panel(label: str, data: NDArray[np.float32], voxel_size: float) -> Panel:
    low, high = _range(label, data)
    factor = -(-TILE // data.shape[-1])
    planes = [[images.grey(p, low, high) for p in images.planes(volume)] for volume in data]
    tiles = [[images.enlarge(volume[axis], factor) for volume in planes] for axis in range(3)]
    length = images.bar_length(data.shape[-1] * voxel_size)
    tiles[-1][0] = images.with_bar(tiles[-1][0], length / voxel_size * factor)
    fill = BETWEEN if label in ZERO_BASED else 0
    image = images.data_uri(images.png(images.montage(tiles, fill=fill)))
    return Panel(label, image, f"{length / 10:g} nm")


@dataclass(frozen=True)
class Strip:
    """Slices of one volume side by side, and what the colours mean."""

    name: str
    image: str
    bar: str
    low: float
    high: float
    ramp: str
    flat: bool = False


def uncertainty(sets: Mapping[str, VolumeSet], name: str) -> list[Strip]:
    """Return slices of one generated volume and of its SD maps (the paper's Figure 4).

    The SD is drawn in viridis, from zero to its 99.8th percentile: even steps look even,
    also to the colour-blind.
    """
    maps = {label: sets[label] for label in ("dropout SD", "noise SD") if label in sets}
    shown: list[Strip] = []
    for label, volumes in maps.items():
        rows = np.flatnonzero(volumes.table["cryoetganClass"].to_numpy(str) == name)
        if not len(rows):
            continue
        if not shown and "generated" in sets:
            made, keys = sets["generated"], _poses(volumes)
            where = {key: row for row, key in enumerate(_poses(made) or [])}
            row = where.get(keys[rows[0]]) if keys else None
            if row is not None:
                data = np.asarray(made.volumes[row], np.float32)
                low, high = images.grey_range(data)
                shown.append(_strip("generated", data, made.voxel_size, low, high, None))
        data = np.asarray(volumes.volumes[rows[0]], np.float32)
        high = float(np.percentile(data, 99.8)) or 1.0
        shown.append(_strip(label, data, volumes.voxel_size, 0.0, high, plots.viridis()))
    return shown


def _strip(
    label: str,
    data: NDArray[np.float32],
    voxel_size: float,
    low: float,
    high: float,
    colours: NDArray[np.uint8] | None,
) -> Strip:
    size = data.shape[0]
    chosen = np.unique(np.linspace(size * 0.2, size * 0.8, STRIP).astype(int))
    factor = -(-TILE // size)
    tiles = [images.enlarge(images.grey(data[z][::-1], low, high), factor) for z in chosen]
    length = images.bar_length(size * voxel_size)
    tiles[0] = images.with_bar(tiles[0], length / voxel_size * factor)
    image = images.montage([tiles])
    ramp = ""
    if colours is not None:
        image = colours[image]
        ramp = images.data_uri(images.png(colours[np.arange(256)[None]]))
    shown = images.data_uri(images.png(image))
    return Strip(label, shown, f"{length / 10:g} nm", low, high, ramp, not data.any())


def single(volume: NDArray[Any], low: float, high: float) -> str:
    """Return the three planes of one volume side by side."""
    planes = [images.enlarge(images.grey(p, low, high), 3) for p in images.planes(volume)]
    return images.data_uri(images.png(images.montage([planes])))


def section(
    name: str, data: NDArray[Any], voxel_size: float, picked: Any, marked: Any, box: int
) -> Section:
    """Return the section of a tomogram in which most of the particles lie.

    Parameters
    ----------
    data : ndarray
        `(z, y, x)`, memory-mapped: only a slab is read.
    voxel_size : float
        Angstrom.
    picked, marked : pandas.DataFrame or None
        Coordinates in voxels and cryoetganClass; marked ones are dashed and larger.
    box : int
        Edge of a particle's box, voxels.
    """
    tables = [table for table in (picked, marked) if table is not None and len(table)]
    depths = np.concatenate([t["rlnCoordinateZ"].to_numpy(float) for t in tables] or [np.zeros(0)])
    reach = max(THICKNESS, box // 6)
    middle = _busiest(depths, data.shape[0], reach)
    low, high = max(middle - THICKNESS // 2, 0), middle + THICKNESS // 2 + 1
    image = np.asarray(data[low:high], np.float32).mean(axis=0)
    step = -(-max(image.shape) // WIDEST)
    image = _binned(image, step)
    black, white = np.percentile(image, [0.5, 99.5])
    pixels = images.grey(image[::-1], float(black), float(white))
    length = images.bar_length(image.shape[1] * step * voxel_size / 2)
    pixels = images.with_bar(pixels, length / voxel_size / step, thin=80)
    names = sorted({str(c) for table in tables for c in table["cryoetganClass"]})
    colour = {c: COLOURS[i % len(COLOURS)] for i, c in enumerate(names)}
    circles = []
    for table, dashed in ((picked, False), (marked, True)):
        if table is None or not len(table):
            continue
        near = table[(table["rlnCoordinateZ"].astype(float) - middle).abs() <= reach]
        for kind, x, y in zip(
            near["cryoetganClass"].astype(str),
            near[COORDINATES[0]],
            near[COORDINATES[1]],
            strict=True,
        ):
            place = ((float(x) + 0.5) / step, image.shape[0] - (float(y) + 0.5) / step)
            circles.append(Circle(*place, colour[kind], dashed, kind))
    solid = [circle.name for circle in circles if not circle.dashed]
    return Section(
        name,
        images.data_uri(images.png(pixels)),
        image.shape[1],
        image.shape[0],
        0.3 * box / step,
        circles,
        [(kind, colour[kind], solid.count(kind)) for kind in names],
        f"{length / 10:g} nm",
        f"z = {middle}, particles within {reach} voxels",
    )


def _busiest(depths: NDArray[np.float64], size: int, reach: int) -> int:
    if not len(depths):
        return size // 2
    # near ones count for more: a particle is best seen through its middle
    near = [np.clip(reach + 1 - np.abs(depths - z), 0, None).sum() for z in range(size)]
    best = np.flatnonzero(near >= np.max(near) - 1e-9)
    return int(best[np.argmin(np.abs(best - size // 2))])


def _binned(image: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    if step == 1:
        return image
    rows, columns = (n // step * step for n in image.shape)
    cut = image[:rows, :columns].reshape(rows // step, step, columns // step, step)
    return np.asarray(cut.mean(axis=(1, 3)), np.float32)

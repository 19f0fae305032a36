"""Extract boxes from tomograms, at the nearest voxels or between voxels."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.errors import UserError, suggest
from cryoetgan.io.exclusion import ExclusionMask, excluded_voxels
from cryoetgan.io.memmap import release_pages
from cryoetgan.io.mrc import Volume
from cryoetgan.io.star import COORDINATES, ORIGINS
from cryoetgan.io.volume_set import VolumeSetWriter, write_empty_volume_set
from cryoetgan.physics.acquisition import Acquisition, optics_row
from cryoetgan.physics.coordinates import centre_offsets
from cryoetgan.physics.geometry import centres_inside, clip_box, own_part
from cryoetgan.progress import log, track
from cryoetgan.seeds import rng

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
RIM = 10
"""Voxels around a box that fade to the mean before a Fourier shift, which assumes a periodic box.
Waves of up to 0.4 cycles per voxel are then right to 0.02 of their amplitude (tested)."""
MAX_UNSEEN = 0.01
"""Largest fraction of an extracted box without data."""
BOXES_PER_RELEASE = 16
"""Boxes between two releases of pages; each box touches a page for every row, megabytes."""


def box_fits(coordinate: Floats, shape: tuple[int, ...], box: int) -> bool:
    """Return whether the box at a coordinate (x, y, z) lies inside a tomogram of `shape` zyx."""
    low = np.asarray(coordinate, float)[::-1] - box // 2
    return bool((low >= 0).all() and (low + box - 1 <= np.array(shape) - 1).all())


def round_coordinates(table: "pd.DataFrame", voxel_size: float) -> "pd.DataFrame":
    """Return rows with coordinates at the nearest voxel; rlnOriginX/Y/ZAngst keep the rest.

    A shift between voxels changes everything that is not a wave. The constant regions and edges
    that a denoiser leaves ring after a Fourier shift, and blur after a spline.
    """
    places = table[COORDINATES].to_numpy(float)
    whole = np.floor(places + 0.5)
    rounded = table.copy()
    rounded[ORIGINS] = -(places - whole + centre_offsets(table, voxel_size)) * voxel_size
    rounded[COORDINATES] = whole
    return rounded


def extract_box(volume: NDArray[np.generic], coordinate: Floats, box: int) -> NDArray[np.float32]:
    """Return the box `(z, y, x)` whose voxel n // 2 lies at a coordinate (x, y, z, 0-based voxels).

    Coordinates between voxels are reached by a shift in Fourier space, which keeps the power of
    every shell; a cubic spline leaves a third of the highest one. Only the box and a rim are
    read. Voxels outside the tomogram get the mean of those inside.
    """
    start = np.asarray(coordinate, float)[::-1] - box // 2
    whole = np.floor(start + 0.5).astype(int)
    rest = start - whole
    shifted = bool(np.abs(rest).max() >= 1e-3)
    rim = RIM * shifted
    # an odd edge has no highest frequency of unknown phase
    edge = box + 2 * rim + (shifted and (box + 1) % 2)
    in_volume, in_part = clip_box(whole - rim, (edge,) * 3, volume.shape)
    part = np.asarray(volume[in_volume], np.float32)
    if part.size == 0:
        return np.zeros((box, box, box), np.float32)
    if part.shape != (edge,) * 3:
        padding = [(inside.start, edge - inside.stop) for inside in in_part]
        if box_fits(coordinate, volume.shape, box):  # only the rim is outside: no step there
            part = np.pad(part, padding, mode="symmetric")
        else:
            part = np.pad(part, padding, constant_values=float(part.mean()))
    if not shifted:
        return part
    inner = slice(RIM, RIM + box)
    return np.ascontiguousarray(fourier_shift(part, rest)[inner, inner, inner])


def cut_seen_box(
    volume: NDArray[np.generic],
    excluded: ExclusionMask,
    centre: Floats,
    box: int,
    part: int | None = None,
) -> tuple[NDArray[np.float32], float]:
    """Return a box `(z, y, x)` at whole voxels, and the fraction of it that holds data.

    Voxels outside the tomogram, in padding or in the mask get the mean of the others. `centre` is
    voxel n // 2 of the box, x, y, z. `part` is the edge of the boxes of a set (`io.mrc.Volume`).
    """
    first, depth = own_part(centre[2], volume.shape[0], part)
    corner = np.asarray(centre, int)[::-1] - box // 2 - (first, 0, 0)
    in_volume, in_box = clip_box(corner, (box,) * 3, (depth, *volume.shape[1:]))
    in_volume = (slice(in_volume[0].start + first, in_volume[0].stop + first), *in_volume[1:])
    values = np.asarray(volume[in_volume], np.float32)
    seen = ~excluded[in_volume] if excluded else np.ones(values.shape, bool)
    if not seen.any():
        return np.zeros((box, box, box), np.float32), 0.0
    if seen.sum() == box**3:
        return values, 1.0
    mean = values[seen].mean()
    whole = np.full((box, box, box), mean, np.float32)
    whole[in_box] = np.where(seen, values, mean)
    return whole, float(seen.sum()) / box**3


def fourier_shift(volume: Floats, shift: Floats) -> NDArray[np.float32]:
    """Return a cube sampled at every voxel plus `shift` (z, y, x voxels), after its rim faded."""
    edge = len(volume)
    window, phases = _window(edge), []
    for axis, frequency in enumerate((fft.fftfreq(edge), fft.fftfreq(edge), fft.rfftfreq(edge))):
        shape = [1, 1, 1]
        shape[axis] = -1
        phases.append(np.exp(2j * np.pi * frequency * shift[axis]).reshape(shape))
    mean = volume.mean(dtype=np.float64)
    spectrum = fft.rfftn((volume - np.float32(mean)) * window)
    for phase in phases:
        spectrum *= phase.astype(np.complex64)
    return fft.irfftn(spectrum, s=volume.shape) + np.float32(mean)


@cache
def _window(edge: int) -> NDArray[np.float32]:
    """Return 1 inside, falling as a cosine to 0 over the outer `RIM` voxels of each face."""
    line = np.ones(edge)
    fade = 0.5 - 0.5 * np.cos(np.pi * (np.arange(RIM) + 0.5) / RIM)
    line[:RIM], line[-RIM:] = fade, fade[::-1]
    return (line[:, None, None] * line[:, None] * line).astype(np.float32)


def randomise_phases(box: Floats, random: np.random.Generator) -> NDArray[np.float32]:
    """Return noise `(z, y, x)` with the power spectrum and the mean of a box."""
    noise = fft.rfftn(random.standard_normal(box.shape))
    amplitude = np.abs(fft.rfftn(np.asarray(box, float)))
    spectrum = noise / np.maximum(np.abs(noise), 1e-30) * amplitude
    spectrum[0, 0, 0] = box.sum(dtype=float)
    return np.asarray(fft.irfftn(spectrum, box.shape), np.float32)


def extract_boxes(
    volume: NDArray[np.generic], coordinates: Floats, box: int
) -> Iterator[NDArray[np.float32]]:
    """Yield the box at each of the coordinates `(N, 3)`; pages are released on the way."""
    for number, coordinate in enumerate(coordinates, start=1):
        yield extract_box(volume, coordinate, box)
        if number % BOXES_PER_RELEASE == 0:
            release_pages(volume)


def move_inside_parts(
    table: "pd.DataFrame", tomograms: Mapping[str, Volume], box: int
) -> "pd.DataFrame":
    """Return rows of sets with boxes moved inside the boxes they are cut from.

    rlnOriginX/Y/ZAngst keep the particle's place. Rows of tomograms are returned as they are.
    """
    table = table.copy()
    for name, rows in table.groupby("rlnTomoName", sort=True):
        volume = tomograms.get(str(name))
        if volume is None or volume.part is None:
            continue
        places = rows[COORDINATES].to_numpy(float)
        inside = centres_inside(places, volume.data.shape, box, volume.part)
        offsets = places - inside + centre_offsets(rows, volume.voxel_size)
        if not set(ORIGINS) <= set(table):
            table[ORIGINS] = 0.0
        table.loc[rows.index, ORIGINS] = -offsets * volume.voxel_size
        table.loc[rows.index, COORDINATES] = inside.astype(float)
        off = int((np.abs(offsets).max(axis=1) > box / 8).sum())
        if off:
            log.info(
                "%s: the particles of %d of %d boxes lie an eighth of a box from its centre, or "
                "farther: boxes of %d voxels leave no room for more",
                name, off, len(rows), volume.part,
            )  # fmt: skip
    return table


def rows_inside(
    table: "pd.DataFrame", tomograms: Mapping[str, Volume], box: int, allow_empty: bool = False
) -> "pd.DataFrame":
    """Return the rows whose boxes lie inside their tomogram and outside its padding.

    Up to `MAX_UNSEEN` of a box may be padding. The other rows are counted and dropped. Raises
    `UserError` if none is left; a table without rows may be allowed.
    """
    for name in table["rlnTomoName"].unique():
        if name not in tomograms:
            raise UserError(
                f"particles lie in tomogram '{name}', which is not given{suggest(name, tomograms)}; "
                f"add --tomogram {name}.mrc"
            )
    if not len(table) and not allow_empty:
        raise UserError(
            "the files hold no particle to extract; pick again with a lower threshold (of a detector: "
            "detection.threshold, or more detection.steps)"
        )
    places = table[COORDINATES].to_numpy(float)
    excluded = {name: excluded_voxels(tomograms[name]) for name in table["rlnTomoName"].unique()}
    inside = [
        (tomograms[name].part is not None or box_fits(place, tomograms[name].data.shape, box))
        and excluded[name].fraction_of_box(np.floor(place + 0.5).astype(int), box) <= MAX_UNSEEN
        for place, name in zip(places, table["rlnTomoName"], strict=True)
    ]
    dropped = len(table) - sum(inside)
    if dropped:
        log.warning(
            "%d of %d boxes reach beyond their tomogram or into padding and are dropped",
            dropped, len(table),
        )  # fmt: skip
    if dropped and dropped == len(table):
        raise UserError(f"no box of {box} voxels lies inside its tomogram; use a smaller --box")
    return table[np.array(inside, bool)].reset_index(drop=True)


def write_boxes(
    star: Path,
    table: "pd.DataFrame",
    tomograms: Mapping[str, Volume],
    records: Mapping[str, Acquisition | None],
    box: int,
) -> None:
    """Extract the boxes of all rows and write them as a volume set, `star` and its stack.

    The tomograms have one voxel size, and one optics group each, from their `records` (None if
    unknown). rlnOpticsGroup and cryoetganSource of the table are set here.
    """
    import pandas as pd

    names = list(tomograms)
    optics = [optics_row(records[name], number, name) for number, name in enumerate(names, start=1)]
    table["rlnOpticsGroup"] = [names.index(name) + 1 for name in table["rlnTomoName"]]
    table["cryoetganSource"] = "real"
    voxel_size = tomograms[names[0]].voxel_size
    if not len(table):
        write_empty_volume_set(star, table, box, voxel_size, pd.DataFrame(optics))
        return
    with VolumeSetWriter(star, len(table), box, voxel_size, pd.DataFrame(optics)) as writer:
        rows = table.to_dict("records")
        for number, row in enumerate(track(rows, "extracting"), start=1):
            place = np.array([row[column] for column in COORDINATES])
            data = tomograms[row["rlnTomoName"]].data
            boxed = extract_box(data, place, box)
            if not np.isfinite(boxed).all():
                raise UserError(
                    f"{row['rlnTomoName']}: the box at {place} holds voxels that are not finite "
                    "numbers. Import the tomogram with 'cryoetgan tomograms import', or repair it"
                )
            if row.get("cryoetganPhases") == "random":
                boxed = randomise_phases(boxed, rng(0, "particles", "phases", row["cryoetganId"]))
            writer.add(boxed, row)
            if number % BOXES_PER_RELEASE == 0:
                release_pages(data)

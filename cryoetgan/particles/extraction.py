"""Extract boxes from tomograms, at the nearest voxels or between voxels."""

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.io.memmap import release_pages
from cryoetgan.io.star import COORDINATES, ORIGINS
from cryoetgan.physics.coordinates import centre_offsets
from cryoetgan.physics.geometry import clip_box

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
RIM = 10
"""Voxels around a box that fade to the mean before a Fourier shift, which assumes a periodic box.
Waves of up to 0.4 cycles per voxel are then right to 0.02 of their amplitude (tested)."""
BOXES_PER_RELEASE = 16
"""Boxes between two releases of pages; each box touches a page for every row, megabytes."""


def box_fits(coordinate: Floats, shape: tuple[int, ...], box: int) -> bool:
    """Return whether a box lies inside a tomogram.

    Parameters
    ----------
    coordinate : ndarray
        x, y, z in voxels, 0-based; it becomes voxel n // 2 of the box.
    shape : tuple of int
        Shape of the tomogram, zyx.
    box : int
        Voxels.
    """
    low = np.asarray(coordinate, float)[::-1] - box // 2
    return bool((low >= 0).all() and (low + box - 1 <= np.array(shape) - 1).all())


def round_coordinates(table: "pd.DataFrame", voxel_size: float) -> "pd.DataFrame":
    """Return rows with coordinates at the nearest voxel; rlnOriginX/Y/ZAngst keep the rest.

    A shift between voxels changes everything that is not a wave. The constant regions and edges
    that a denoiser leaves ring after a Fourier shift, and blur after a spline.

    Parameters
    ----------
    table : pandas.DataFrame
        Particles; their origins, if any, are added.
    voxel_size : float
        Angstrom.
    """
    places = table[COORDINATES].to_numpy(float)
    whole = np.floor(places + 0.5)
    rounded = table.copy()
    rounded[ORIGINS] = -(places - whole + centre_offsets(table, voxel_size)) * voxel_size
    rounded[COORDINATES] = whole
    return rounded


def extract_box(
    volume: NDArray[np.generic], coordinate: Floats, box: int
) -> NDArray[np.float32]:
    """Return the box `(z, y, x)` whose voxel n // 2 lies at a coordinate.

    Coordinates between voxels are reached by a shift in Fourier space, which keeps the power of
    every shell; a cubic spline leaves a third of the highest one. Only the box and a rim are
    read. Voxels outside the tomogram get the mean of those inside.

    Parameters
    ----------
    volume : ndarray
        `(z, y, x)`.
    coordinate : ndarray
        x, y, z in voxels, 0-based.
    box : int
        Voxels.
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


def extract_boxes(
    volume: NDArray[np.generic], coordinates: Floats, box: int
) -> Iterator[NDArray[np.float32]]:
    """Yield the box at each of the coordinates `(N, 3)`; pages are released on the way."""
    for number, coordinate in enumerate(coordinates, start=1):
        yield extract_box(volume, coordinate, box)
        if number % BOXES_PER_RELEASE == 0:
            release_pages(volume)

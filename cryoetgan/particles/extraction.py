"""Cut boxes out of tomograms, subvoxel or at whole voxels."""

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.io.memmap import release_pages
from cryoetgan.io.star import COORDINATES, ORIGINS
from cryoetgan.physics.coordinates import centre_offsets

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
RIM = 10
"""Voxels read around a box; they fade to the mean, as a Fourier shift takes a box to be periodic.

Waves of up to 0.4 a voxel are then right to 0.02 of their height (tested)."""

SEVERAL = 16
"""Boxes after which a tomogram's pages are given back: each touches a page a row, megabytes."""


def fits(coordinate: Floats, shape: tuple[int, ...], box: int) -> bool:
    """Whether a box lies inside a tomogram.

    Parameters
    ----------
    coordinate : ndarray
        x, y, z in voxels, 0-based; it becomes voxel n // 2 of the box.
    shape : tuple of int
        zyx.
    box : int
        Voxels.
    """
    low = np.asarray(coordinate, float)[::-1] - box // 2
    return bool((low >= 0).all() and (low + box - 1 <= np.array(shape) - 1).all())


def at_whole_voxels(table: "pd.DataFrame", voxel_size: float) -> "pd.DataFrame":
    """Return rows whose coordinates are the nearest voxels; the rest goes into the origins.

    Between voxels every way to shift a box changes what is no wave in it: the flats and edges a
    denoiser leaves ring after a Fourier shift, and blur after a spline.

    Parameters
    ----------
    table : pandas.DataFrame
        Particles; origins that are there count.
    voxel_size : float
        Angstrom.
    """
    places = table[COORDINATES].to_numpy(float)
    whole = np.floor(places + 0.5)
    moved = table.copy()
    moved[ORIGINS] = -(places - whole + centre_offsets(table, voxel_size)) * voxel_size
    moved[COORDINATES] = whole
    return moved


def extract(volume: NDArray[np.generic], coordinate: Floats, box: int) -> NDArray[np.float32]:
    """Return the box `(z, y, x)` whose voxel n // 2 lies at `coordinate`.

    Between voxels by a shift in Fourier space, which keeps the power of every shell (a cubic
    spline leaves a third of the highest). Only the box and a rim are read. Where the box reaches
    beyond the tomogram, it holds the mean of what is inside.
    """
    start = np.asarray(coordinate, float)[::-1] - box // 2
    whole = np.floor(start + 0.5).astype(int)
    rest = start - whole
    shifted = bool(np.abs(rest).max() >= 1e-3)
    low, high = whole - RIM * shifted, whole + box + RIM * shifted
    if shifted:
        high += (box + 1) % 2  # an odd edge has no highest frequency of unknown phase
    inside_low = np.clip(low, 0, volume.shape)
    inside_high = np.clip(high, 0, volume.shape)
    part = np.asarray(
        volume[tuple(slice(a, b) for a, b in zip(inside_low, inside_high, strict=True))],
        np.float32,
    )
    if part.size == 0:
        return np.zeros((box, box, box), np.float32)
    if part.shape != tuple(high - low):
        padding = np.stack([inside_low - low, high - inside_high], axis=1)
        if fits(coordinate, volume.shape, box):  # the rim alone lies outside: no step there
            part = np.pad(part, padding, mode="symmetric")
        else:
            part = np.pad(part, padding, constant_values=float(part.mean()))
    if not shifted:
        return part
    inner = slice(RIM, RIM + box)
    return np.ascontiguousarray(fourier_shift(part, rest)[inner, inner, inner])


def fourier_shift(volume: Floats, shift: Floats) -> NDArray[np.float32]:
    """Return a cube sampled at every voxel plus `shift` (z, y, x voxels); its rim fades first."""
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


def boxes(
    volume: NDArray[np.generic], coordinates: Floats, box: int
) -> Iterator[NDArray[np.float32]]:
    """Yield the box at each of the coordinates `(N, 3)`, giving pages back on the way."""
    for number, coordinate in enumerate(coordinates, start=1):
        yield extract(volume, coordinate, box)
        if number % SEVERAL == 0:
            release_pages(volume)

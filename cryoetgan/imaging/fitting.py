"""Fit an imaging model to a tomogram and its own picks, without labels.

Noise where no particle is, gain where picks are, in turns: what the fitted signal leaves
between the particles is taken off the noise, and the gain is fitted to what the noise leaves
of the picks' power.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.acquisition import Acquisition
from cryoetgan.errors import UserError
from cryoetgan.imaging.background import (
    LEAST_SHARE,
    Autocovariance,
    background,
    blocks,
    density_of,
    free_of,
)
from cryoetgan.imaging.crowding import Crowding, measured_crowding
from cryoetgan.imaging.gains import Bins, fitted_gain, flat_gain
from cryoetgan.imaging.model import EMPTY, ImagingModel, crop
from cryoetgan.imaging.scenes import SCENE
from cryoetgan.imaging.spectra import tabulated
from cryoetgan.imaging.surroundings import Picks, PosedPicks
from cryoetgan.progress import track
from cryoetgan.seeds import rng

log = logging.getLogger("cryoetgan")
Floats = NDArray[np.floating]
ROUNDS = 3
MOST_BOXES = 400
"""Picks whose power is looked at; more would not make the mean better by much."""
NOISE_BOXES = 150
LEAST_PICKS, FEW_PICKS = 8, 50
MARGIN = 1.5
"""Voxels between a particle's surface and what counts as noise."""
REACH = 2.0
"""Boxes: beyond this distance particles are taken not to know of each other."""


@dataclass(frozen=True)
class Data:
    """What a model is fitted to.

    Attributes
    ----------
    volume : ndarray
        `(z, y, x)`, memory-mapped; protein bright.
    voxel_size : float
        Angstrom.
    picks : Picks
        Where particles are, and what they are taken for.
    maps : mapping
        Class to density `(z, y, x)`, cubes of one size.
    acquisition : Acquisition
        Tilts, optics, CTF state.
    path : object
        What messages call the tomogram.
    """

    volume: NDArray[np.generic]
    voxel_size: float
    picks: Picks
    maps: Mapping[str, Floats]
    acquisition: Acquisition
    path: object

    @property
    def box(self) -> int:
        """Voxels; edge of the maps."""
        return next(iter(self.maps.values())).shape[0]


def particle_radius(maps: Mapping[str, Floats], share: float = 0.95) -> float:
    """Return the radius in voxels within which the largest map holds `share` of its mass."""
    largest = 0.0
    for density in maps.values():
        density = np.maximum(density, 0)
        axis = np.arange(density.shape[0]) - density.shape[0] // 2
        r = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2)
        order = np.argsort(r, axis=None)
        mass = np.cumsum(density.ravel()[order], dtype=np.float64)
        index = int(np.searchsorted(mass, share * mass[-1]))
        largest = max(largest, float(r.ravel()[order][min(index, mass.size - 1)]))
    return largest


def inside(places: Floats, shape: tuple[int, ...], box: int) -> NDArray[np.int_]:
    """Return which places' boxes, cut at the nearest voxel, lie inside a tomogram."""
    low = np.rint(places)[:, ::-1] - box // 2
    return np.flatnonzero(((low >= 0) & (low + box <= np.array(shape))).all(axis=1))


def cut(volume: NDArray[np.generic], place: Floats, box: int) -> NDArray[np.float32]:
    """Return the box about the voxel nearest to a place: no interpolation blurs it."""
    low = np.rint(place)[::-1].astype(int) - box // 2
    return np.asarray(volume[tuple(slice(a, a + box) for a in low)], np.float32)


def fit(data: Data, seed: int) -> ImagingModel:
    """Return the imaging model of one tomogram.

    Raises
    ------
    UserError
        Where picks are too few, boxes do not fit, or particles leave no room for noise.
    """
    chosen = _usable(data, seed)
    lags = min(data.box, int(0.7 * min(data.volume.shape)))
    radius, found, mean, share = _background(data, lags, seed)
    bins = Bins.of(data.box, data.acquisition.tilts)
    real = [cut(data.volume, data.picks.places[i], data.box) for i in chosen]
    power, error = bins.power(real)
    posed = PosedPicks(data.picks, data.maps)
    scenes = [posed.scene(int(i), SCENE * data.box) for i in chosen]
    reach = REACH * data.box * data.voxel_size
    model = ImagingModel(
        voxel_size=data.voxel_size,
        box=data.box,
        acquisition=data.acquisition,
        gain=flat_gain(data.acquisition.tilts, data.box, data.voxel_size),
        noise_spectrum=_spectrum(found.covariance(), data),
        crowding=measured_crowding(
            data.picks.places, data.volume.shape, data.voxel_size, reach, seed
        ),
        shares=_counted(data.picks),
        maps={name: np.asarray(m, np.float32) for name, m in data.maps.items()},
    )
    for turn in track(range(ROUNDS), "fitting"):
        if turn:
            leaked = signal_between(data, posed, model, radius, lags, seed)
            model = replace(
                model, noise_spectrum=_spectrum(found.covariance() - leaked.covariance(), data)
            )
        noise, _ = bins.power(_noise_boxes(model, seed))
        signal, _ = bins.power(crop(model.signal(scene), data.box) for scene in scenes)
        model = replace(model, gain=fitted_gain(model.gain, bins, power, error, noise, signal))
    model = replace(model, crowding=_calibrated(model, seed))
    shown = [crop(model.signal(scene), data.box) for scene in scenes]
    offset = float(np.mean([b.mean() for b in real]) - np.mean([b.mean() for b in shown]))
    about = {
        "picks": len(data.picks),
        "picks_used": len(chosen),
        "free_radius_A": radius * data.voxel_size,
        "free_share": share,
        "background_mean": mean,
    }
    return replace(model, offset=offset, about=about)


def _usable(data: Data, seed: int) -> NDArray[np.int_]:
    """Return the picks whose power is looked at."""
    shape = data.volume.shape
    if min(shape) < data.box:
        raise UserError(
            f"{data.path}: is {min(shape)} voxels thin, less than one box of {data.box}; give maps "
            "of a smaller box (densities.box)"
        )
    chosen = inside(data.picks.places, shape, data.box)
    if len(chosen) < LEAST_PICKS:
        raise UserError(
            f"{data.path}: {len(chosen)} of {len(data.picks)} picks lie a whole box of {data.box} "
            f"voxels inside it, wanted {LEAST_PICKS} or more to fit physics to; pick more "
            "(particles.threshold, particles.max_picks), or type physics in (imaging simulate --snr)"
        )
    if len(chosen) < FEW_PICKS:
        log.warning(
            "%s: only %d picks to fit physics to: transfer and shares are uncertain",
            data.path,
            len(chosen),
        )
    order = rng(seed, "imaging", "power").permutation(len(chosen))[:MOST_BOXES]
    return chosen[np.sort(order)]


def _background(data: Data, lags: int, seed: int) -> tuple[float, Autocovariance, float, float]:
    """Return radius, autocovariance, mean and share of the voxels that are free of particles.

    Where picks are so dense that nothing is free, the radius gives way, not below half.
    """
    whole = min(particle_radius(data.maps) + MARGIN, data.box / 2)
    for radius in (whole, 0.75 * whole):
        if _free_share(data, radius, seed) >= 5 * LEAST_SHARE:
            break
    else:
        radius = 0.5 * whole
    found, mean, share = background(data.volume, data.picks.places, radius, lags, seed, data.path)
    return radius, found, mean, share


def _free_share(data: Data, radius: float, seed: int) -> float:
    free = [
        free_of(data.picks.places, radius, corner, shape)
        for corner, shape in blocks(data.volume.shape, seed)
    ]
    return sum(float(f.sum()) for f in free) / sum(f.size for f in free)


def signal_between(
    data: Data, posed: PosedPicks, model: ImagingModel, radius: float, lags: int, seed: int
) -> Autocovariance:
    """Return the autocovariance of the model's signal where no particle is: fringes alone."""
    found = Autocovariance(lags)
    margin = data.box // 2
    for corner, shape in blocks(data.volume.shape, seed):
        around = tuple(fft.next_fast_len(n + 2 * margin, real=True) for n in shape)
        start = tuple(c - margin for c in corner)
        scene = posed.block(start, around)
        part = tuple(slice(margin, margin + n) for n in shape)
        signal = model.signal(scene)[part]
        free = free_of(data.picks.places, radius, corner, shape)
        found.add(signal - np.float32(signal[free].mean() if free.any() else 0), free)
    return found


def _spectrum(covariance: Floats, data: Data) -> Any:
    return tabulated(
        density_of(covariance, data.voxel_size), data.voxel_size, data.acquisition.tilts
    )


def _noise_boxes(model: ImagingModel, seed: int) -> Any:
    size = (SCENE * model.box,) * 3
    for index in range(NOISE_BOXES):
        yield crop(model.noise(size, rng(seed, "imaging", "noise", index)), model.box)


def _counted(picks: Picks) -> dict[str, float]:
    names, counts = np.unique(picks.names, return_counts=True)
    shares = {str(n): float(c) / len(picks) for n, c in zip(names, counts, strict=True)}
    return {**shares, EMPTY: 0.0}


def _calibrated(model: ImagingModel, seed: int) -> Crowding:
    extent = SCENE * model.box * model.voxel_size
    return model.crowding.calibrated(extent, rng(seed, "imaging", "crowding"))

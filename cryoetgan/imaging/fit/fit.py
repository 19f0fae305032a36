"""Fit an imaging model to a tomogram and its own picks, without labels.

Noise where no particle is, gain where picks are, in turns: what the fitted signal leaves
between the particles is taken off the noise, and the gain is fitted to what the noise leaves
of the picks' power.
"""

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan.densities.poses import Poser
from cryoetgan.errors import UserError
from cryoetgan.imaging.fit.class_agreement import warned
from cryoetgan.imaging.fit.class_fractions import EACH, estimated, simulated_picks
from cryoetgan.imaging.fit.features import Features
from cryoetgan.imaging.fit.gain import Bins, fitted_gain, flat_gain
from cryoetgan.imaging.fit.inputs import Data, cut, inside, particle_radius
from cryoetgan.imaging.fit.noise import (
    LEAST_SHARE,
    Autocovariance,
    background,
    blocks,
    density_of,
    free_of,
)
from cryoetgan.imaging.fit.picks import Picks, PosedPicks
from cryoetgan.imaging.fit.tilt_range import checked
from cryoetgan.imaging.model import EMPTY, ImagingModel, crop
from cryoetgan.imaging.noise_spectrum import Spectrum, both_halves, tabulated
from cryoetgan.imaging.pair_correlation import Crowding, measured_crowding
from cryoetgan.imaging.scenes import SCENE
from cryoetgan.physics.geometry import random_rotations
from cryoetgan.progress import track
from cryoetgan.seeds import rng

log = logging.getLogger("cryoetgan")
Floats = NDArray[np.floating]
ROUNDS = 2
MOST_BOXES = 300
"""Picks whose power is looked at; more would not make the mean better by much."""
NOISE_BOXES = 80
LEAST_PICKS, FEW_PICKS = 8, 50
SHOWN = 160
"""Boxes made to compare with the picks."""
MARGIN = 1.5
"""Voxels between a particle's surface and what counts as noise."""
REACH = 2.0
"""Boxes: beyond this distance particles are taken not to know of each other."""


def fit(data: Data, seed: int) -> ImagingModel:
    """Return the imaging model of one tomogram.

    Once with all picks, then without those that this first model takes for false: they would
    dilute the particles' power, and the crowding.

    Raises
    ------
    UserError
        Where picks are too few, boxes do not fit, or particles leave no room for noise.
    """
    lags = min(data.box, int(0.7 * min(data.volume.shape)))
    usable = _usable(data)
    measured = _background(data, lags, seed)
    posed = PosedPicks(data.picks, data.maps)
    model = _fitted(data, usable, measured, posed, None, seed)
    shares, empty = _shares(data, model, usable, seed)
    kept = usable[~empty] if (~empty).sum() >= LEAST_PICKS else usable
    posed.keep(~np.isin(np.arange(len(data.picks)), np.setdiff1d(usable, kept)))
    model = _fitted(data, kept, measured, posed, model, seed)
    extent = SCENE * model.box * model.voxel_size
    crowding = model.crowding.calibrated(extent, rng(seed, "imaging", "crowding"))
    model = replace(model, crowding=crowding, shares=shares["shares"])
    bins = Bins.of(data.box, data.acquisition.tilts)
    real = [cut(data.volume, data.picks.places[i], data.box) for i in _some(kept, seed)]
    # last, the gain that makes the model's own scenes, neighbours and all, as strong as the picks
    signals, noises = generated(model, seed)
    power, error = bins.power(real)
    gain = fitted_gain(
        model.gain, bins, power, error, bins.power(noises)[0], bins.power(signals)[0]
    )
    model = replace(model, gain=gain)
    signals, noises = generated(model, seed)
    sums = [s + n for s, n in zip(signals, noises, strict=True)]
    compared = {
        name: [float(v) for v in bins.mean(bins.power(boxes)[0])]
        for name, boxes in (
            ("real", real),
            ("simulated", sums),
            ("signal", signals),
            ("noise", noises),
        )
    }
    about = {
        "picks": len(data.picks),
        "picks_used": len(kept),
        "picks_taken_for_false": int(empty.sum()),
        "free_radius_A": measured.radius * data.voxel_size,
        "free_share": measured.share,
        "share_errors": shares["errors"],
        "confusion": shares["confusion"],
        "wedge": _wedge(data, seed),
        "power": compared,
        "agreement": warned(data, model, kept),
    }
    offset = float(np.mean([b.mean() for b in real]) - np.mean([b.mean() for b in sums]))
    return replace(model, offset=offset, about=about)


@dataclass(frozen=True)
class Measured:
    """The background: radius about particles, autocovariance, share of voxels."""

    radius: float
    found: Autocovariance
    share: float
    lags: int


def _fitted(
    data: Data,
    chosen: NDArray[np.int_],
    measured: Measured,
    posed: PosedPicks,
    before: ImagingModel | None,
    seed: int,
) -> ImagingModel:
    """Return noise and gain, fitted in turns to the picks that are taken for particles.

    `before` is a first fit to go on from.
    """
    looked_at = _some(chosen, seed)
    bins = Bins.of(data.box, data.acquisition.tilts)
    power, error = bins.power(cut(data.volume, data.picks.places[i], data.box) for i in looked_at)
    scenes = [posed.scene_about(data.picks.places[i], SCENE * data.box) for i in looked_at]
    covariance = measured.found.covariance()
    model = before or ImagingModel(
        voxel_size=data.voxel_size,
        box=data.box,
        acquisition=data.acquisition,
        gain=flat_gain(data.acquisition.tilts, data.box, data.voxel_size),
        noise_spectrum=_spectrum(covariance, data),
        crowding=_crowding(data, np.ones(len(data.picks), bool), seed),
        shares=_counted(data.picks),
        maps={name: np.asarray(m, np.float32) for name, m in data.maps.items()},
    )
    if before is not None:
        model = replace(model, crowding=_crowding(data, posed.active, seed))
    for turn in track(range(ROUNDS), "fitting"):
        if turn or before is not None:
            leaked = signal_between(data, posed, model, measured, seed)
            spectrum = _spectrum(covariance - leaked.covariance(), data)
            model = replace(model, noise_spectrum=spectrum)
        noise, _ = bins.power(_noise_boxes(model, seed))
        signal, _ = bins.power(crop(model.signal(scene), data.box) for scene in scenes)
        model = replace(model, gain=fitted_gain(model.gain, bins, power, error, noise, signal))
    return model


def _some(chosen: NDArray[np.int_], seed: int) -> NDArray[np.int_]:
    order = rng(seed, "imaging", "power").permutation(len(chosen))[:MOST_BOXES]
    return chosen[np.sort(order)]


def _crowding(data: Data, active: NDArray[np.bool_], seed: int) -> Crowding:
    reach = REACH * data.box * data.voxel_size
    places = data.picks.places[active]
    return measured_crowding(places, data.volume.shape, data.voxel_size, reach, seed)


def _shares(
    data: Data, model: ImagingModel, chosen: NDArray[np.int_], seed: int
) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """Return shares for the model's file, and which of the chosen picks are taken for false."""
    radius = particle_radius(data.maps)
    sigma = max(1.0, radius / np.sqrt(3))
    features = Features(data.box, radius)
    names = [*sorted(model.maps), EMPTY]
    made = list(track(simulated_picks(model, sigma, seed), "simulating picks", EACH * len(names)))
    labels = np.array([names.index(name) for _, name in made])
    simulated = features.table(volume for volume, _ in made)
    real = features.table(cut(data.volume, data.picks.places[i], data.box) for i in chosen)
    named = np.searchsorted(names[:-1], data.picks.names[chosen]) if data.picks.aligned else None
    found = estimated(simulated, labels, real, names, seed, named)
    content = {
        "shares": dict(zip(names, map(float, found.shares), strict=True)),
        "errors": dict(zip(names, (round(float(e), 4) for e in found.errors), strict=True)),
        "confusion": {
            a: {b: round(float(v), 3) for b, v in zip(names, row, strict=True)}
            for a, row in zip(names, found.confusion, strict=True)
        },
    }
    return content, found.posterior[:, -1] > 0.5


def generated(
    model: ImagingModel, seed: int
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Return signal and noise of boxes as the model makes them, classes by their shares."""
    posers = {name: Poser(density) for name, density in model.maps.items()}
    names = [name for name in sorted(model.maps) if model.shares.get(name, 0) > 0]
    weights = np.array([model.shares[name] for name in names])
    signals, noises = [], []
    for index in range(SHOWN):
        numbers = rng(seed, "imaging", "compared", index)
        name = names[int(numbers.choice(len(names), p=weights / weights.sum()))]
        centre = numbers.uniform(-0.5, 0.5, 3)
        target = posers[name](random_rotations(1, numbers)[0], centre)
        signal, noise = model.halves(target, centre, numbers)
        signals.append(signal)
        noises.append(noise)
    return signals, noises


def _usable(data: Data) -> NDArray[np.int_]:
    """Return the picks whose boxes lie inside the tomogram, clear of what is left out of it.

    The edge of padding, or carbon, in a box would be taken for power of its particle.
    """
    shape = data.volume.shape
    if min(shape) < data.box:
        raise UserError(
            f"{data.path}: is {min(shape)} voxels thin, less than one box of {data.box}; give maps "
            "of a smaller box (densities.box)"
        )
    whole = inside(data.picks.places, shape, data.box)
    chosen, mask = whole, data.mask
    if mask is not None:
        middles = np.rint(data.picks.places).astype(int)
        chosen = np.array([i for i in whole if not mask.touches(middles[i], data.box)], int)
    if len(chosen) < len(whole):
        log.warning(
            "%s: %d of %d picks lie at padding or masked regions and are not looked at",
            data.path,
            len(whole) - len(chosen),
            len(whole),
        )
    if len(chosen) < LEAST_PICKS:
        raise UserError(
            f"{data.path}: {len(chosen)} of {len(data.picks)} picks lie a whole box of {data.box} "
            f"voxels inside it, clear of padding and masks, wanted {LEAST_PICKS} or more to fit "
            "physics to; pick more (particles.threshold, particles.max_picks), or type physics in (imaging simulate --snr)"
        )
    if len(chosen) < FEW_PICKS:
        log.warning(
            "%s: only %d picks to fit physics to: transfer and shares are uncertain",
            data.path,
            len(chosen),
        )
    return chosen


def _background(data: Data, lags: int, seed: int) -> Measured:
    """Measure the voxels that are free of particles.

    Where picks are so dense that nothing is free, the radius gives way, not below half.
    """
    whole = min(particle_radius(data.maps) + MARGIN, data.box / 2)
    for radius in (whole, 0.75 * whole):
        if _free_share(data, radius, seed) >= 5 * LEAST_SHARE:
            break
    else:
        radius = 0.5 * whole
    found, share = background(
        data.volume, data.picks.places, radius, lags, seed, data.path, data.mask
    )
    return Measured(radius, found, share, lags)


def _free_share(data: Data, radius: float, seed: int) -> float:
    free = [
        free_of(data.picks.places, radius, corner, shape, data.mask)
        for corner, shape in blocks(data.volume.shape, seed)
    ]
    return sum(float(f.sum()) for f in free) / sum(f.size for f in free)


def signal_between(
    data: Data, posed: PosedPicks, model: ImagingModel, measured: Measured, seed: int
) -> Autocovariance:
    """Return the autocovariance of the model's signal where no particle is: fringes alone."""
    found = Autocovariance(measured.lags)
    margin = data.box // 2
    for corner, shape in blocks(data.volume.shape, seed):
        around = tuple(fft.next_fast_len(n + 2 * margin, real=True) for n in shape)
        start = tuple(c - margin for c in corner)
        scene = posed.block(start, around)
        part = tuple(slice(margin, margin + n) for n in shape)
        signal = model.signal(scene)[part]
        free = free_of(data.picks.places, measured.radius, corner, shape, data.mask)
        found.add(signal - np.float32(signal[free].mean() if free.any() else 0), free)
    return found


def _spectrum(covariance: Floats, data: Data) -> Spectrum:
    """Return the noise spectrum, scaled to the variance that was measured.

    The table loses what the estimate's blur carries over the wedge's edge.
    """
    size = data.voxel_size
    table = tabulated(density_of(covariance, size), size, data.acquisition.tilts)
    n = covariance.shape[0]
    density = table.on((n, n, n), size).astype(np.float64)
    density[0, 0, 0] = 0
    variance = float((density * both_halves(n)).sum()) / (n * size) ** 3
    scale = float(covariance[0, 0, 0]) / max(variance, 1e-30)
    return replace(table, seen=table.seen * scale, unseen=table.unseen * scale)


def _noise_boxes(model: ImagingModel, seed: int) -> Any:
    size = (SCENE * model.box,) * 3
    for index in range(NOISE_BOXES):
        yield crop(model.noise(size, rng(seed, "imaging", "noise", index)), model.box)


def _counted(picks: Picks) -> dict[str, float]:
    names, counts = np.unique(picks.names, return_counts=True)
    shares = {str(n): float(c) / len(picks) for n, c in zip(names, counts, strict=True)}
    return {**shares, EMPTY: 0.0}


def _wedge(data: Data, seed: int) -> dict[str, Any]:
    """Return the tilt range that the spectrum shows; warn where it is not the typed one."""
    found = checked(data.volume, data.acquisition.tilts, seed)
    if found["warning"]:
        log.warning("%s: %s", data.path, found["warning"])
    return found

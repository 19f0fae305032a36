"""Fit an imaging model to a tomogram and its own picks, without labels.

The noise is measured between the particles, less the simulated signal that reaches there. The gain
is the regression of the particles' boxes on their simulated signal, if decoys tell which picks are
particles. Whatever else surrounds particles is then the power that noise and signal do not explain:
unnamed neighbours that look like particles, if it is significant, and Gaussian density. Without
decoys, noise and gain are fitted in turns, the gain to the power of the picks, less the noise.
"""

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryoetgan import seeds
from cryoetgan.densities.poses import Poser
from cryoetgan.densities.unnamed import make_unnamed
from cryoetgan.errors import UserError
from cryoetgan.imaging.fit import class_fractions, unnamed
from cryoetgan.imaging.fit import noise as noise_fit
from cryoetgan.imaging.fit.class_agreement import check_class_agreement, products_by_class
from cryoetgan.imaging.fit.class_fractions import ClassFractions, ShapeFeatures, ShapeFractions
from cryoetgan.imaging.fit.fit_data import (
    FitData,
    PosedPicks,
    boxes_inside,
    cut_box,
    particle_radius,
)
from cryoetgan.imaging.fit.gain import (
    MIN_GAIN,
    NOISE_ROW_DEG,
    PowerBins,
    constant_gain,
    fit_gain,
    fit_surroundings,
    reduce_noise,
)
from cryoetgan.imaging.fit.noise import Autocovariance, FreeVoxels, sample_blocks
from cryoetgan.imaging.fit.tilt_range import check_tilt_range
from cryoetgan.imaging.model import (
    SCENE_BOXES,
    ImagingModel,
    crop_centre,
)
from cryoetgan.imaging.noise_spectrum import NoiseSpectrum, tabulate
from cryoetgan.imaging.pair_correlation import PairCorrelation, measure_pair_correlation
from cryoetgan.io.star import OTHER
from cryoetgan.physics.geometry import random_rotations
from cryoetgan.physics.optics import hermitian_weights
from cryoetgan.progress import track

log = logging.getLogger("cryoetgan")
MOST_UNNAMED = 0.3
"""Largest volume fraction of unnamed neighbours: beyond it, free places for more are rarely found."""
Floats = NDArray[np.floating]
Indices = NDArray[np.int_]
Boxes = list[NDArray[np.float32]]
Simulated = tuple[Boxes, list[np.random.Generator]]
"""Signals, and for each the generator of its noise."""
NO_NEIGHBOURS = (
    "boxes without their tomogram: number density and distances of neighbours are unknown, so none "
    "are simulated; other density around the particles is part of the surroundings"
)


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Sample sizes and limits of a fit; larger samples change the means by little."""

    rounds: int = 3
    """Alternations of noise and gain."""
    regressions: int = 4
    """Rounds of the regression on particles; the shape of the gain settles in two."""
    power_boxes: int = 300
    """Picks whose power is averaged."""
    noise_boxes: int = 80
    """Simulated boxes of noise."""
    compared_boxes: int = 160
    """Simulated boxes of particles for the last gain."""
    simulated_per_class: int = 40
    """Simulated picks of each class that train the classifier."""
    least_picks: int = 8
    """Picks below which the fit is refused."""
    few_picks: int = 50
    """Picks below which a warning is given."""
    surface_margin: float = 1.5
    """Voxels between the surface of a particle and voxels that count as noise."""
    correlation_boxes: float = 2.0
    """Boxes; beyond this distance positions are assumed independent."""


def fit_model(data: FitData, seed: int, options: FitOptions | None = None) -> ImagingModel:
    """Return the imaging model of one tomogram.

    With decoys or q-values, the gain is the regression of the particles' boxes on their simulated
    signal (`fit_to_particles`). Without them, it is fitted to the power of the picks (`fit_to_power`).
    """
    fitter = ModelFitter(data, seed, options or FitOptions())
    particles = fitter.particles()
    if particles is None:
        model, kept, fractions = fit_to_power(fitter)
    else:
        model, kept, fractions = fit_to_particles(fitter, particles)
    names, rng = fractions.names, seeds.rng(seed, "imaging", "crowding")
    extent = SCENE_BOXES * model.box * model.voxel_size
    model = replace(
        model,
        pair_correlation=model.pair_correlation.calibrate(extent, rng),
        class_fractions=dict(zip(names, fractions.fractions.tolist(), strict=True)),
    )
    if particles is None:
        model = fitter.match_power(model, kept)
        simulated = fitter.simulate_signals(model)
    else:
        model, simulated = fitter.fit_around(model, kept)
    power, offset = fitter.compare_power(model, kept, simulated)
    about: dict[str, Any] = {
        "picks": len(data.picks),
        "picks_used": len(kept),
        "picks_taken_for_false": len(fitter.usable) - len(kept),
        "free_radius_A": fitter.free.radius * data.voxel_size,
        "free_fraction": fitter.free_fraction,
        "class_fraction_errors": dict(zip(names, fractions.errors.round(4).tolist(), strict=True)),
        "wedge": check_tilt_range(data.volume, data.acquisition.tilts, seed, part=data.part),
        "power": power,
        "agreement": check_class_agreement(data, model, kept),
    }
    if isinstance(fractions, ShapeFractions):
        rows = zip(names, fractions.confusion.round(3).tolist(), strict=True)
        about["confusion"] = {name: dict(zip(names, row, strict=True)) for name, row in rows}
    if model.unnamed is not None:
        about["unnamed_fraction"] = unnamed.volume_fraction(model)
    if data.part is not None:
        about["neighbours"] = NO_NEIGHBOURS
        log.info("%s: %s", data.path, NO_NEIGHBOURS)
    if warning := about["wedge"]["warning"]:
        log.warning("%s: %s", data.path, warning)
    return replace(model, offset=offset, about=about)


def fit_to_power(fitter: "ModelFitter") -> tuple[ImagingModel, Indices, ClassFractions]:
    """Fit to the power of the picks; return the model, the picks used and the class fractions.

    The model is fitted twice: first to all picks, then without those that the first model
    classifies as false, which would dilute the power of the particles and the pair correlation.
    """
    usable = fitter.usable
    model = fitter.fit_noise_and_gain(usable)
    fractions = fitter.estimate_class_fractions(model, usable)
    false = fractions.posterior[:, -1] > 0.5
    kept = usable[~false] if (~false).sum() >= fitter.options.least_picks else usable
    count = len(fitter.data.picks)
    fitter.posed.active = ~np.isin(np.arange(count), np.setdiff1d(usable, kept))
    return fitter.fit_noise_and_gain(kept, model), kept, fractions


def fit_to_particles(
    fitter: "ModelFitter", particles: Indices
) -> tuple[ImagingModel, Indices, ClassFractions]:
    """Fit to the particles alone; return the model, the particles and the class fractions."""
    picks = fitter.data.picks
    fitter.posed.active = np.asarray(picks.particles)
    model = fitter.regress_gain(particles)
    fractions = class_fractions.count_class_fractions(
        picks.names, np.asarray(picks.counts), [*sorted(model.maps), OTHER]
    )
    return model, particles, fractions


class ModelFitter:
    """The steps of a fit, on the data of one tomogram."""

    def __init__(self, data: FitData, seed: int, options: FitOptions) -> None:
        self.data, self.seed, self.options = data, seed, options
        self.usable = select_usable_picks(data, options)
        self.bins = PowerBins.for_box(data.box, data.acquisition.tilts)
        self.posed = PosedPicks(data.picks, data.maps, data.part)
        shape, lags = data.volume.shape, min(data.box, int(0.7 * min(data.volume.shape)))
        whole = min(particle_radius(data.maps) + options.surface_margin, data.box / 2)
        # in a crowded tomogram, voxels nearer to the particles count as free
        for factor in (1.0, 0.75, 0.5):
            self.free = FreeVoxels(data.picks.places, factor * whole, data.excluded, data.part)
            if self.free.fraction(shape, seed) >= 5 * noise_fit.MIN_FREE_FRACTION:
                break
        self.noise, self.free_fraction = noise_fit.measure_autocovariance(
            data.volume, self.free, lags, seed, data.path
        )

    def fit_noise_and_gain(
        self, chosen: Indices, before: ImagingModel | None = None
    ) -> ImagingModel:
        """Fit noise and gain in turns to the power of the chosen picks, from an earlier fit if any."""
        data, bins = self.data, self.bins
        sample = self._sample(chosen)
        real, error = bins.power(self._cut(sample))
        size = SCENE_BOXES * data.box
        scenes = [self.posed.density_around(data.centres[i], size) for i in sample]
        covariance = self.noise.covariance()
        model = before or self._first_model(covariance)
        if before is not None:
            model = replace(model, pair_correlation=self._measure_pair_correlation())
        for turn in track(range(self.options.rounds), "fitting"):
            if turn or before is not None:
                between = self.signal_autocovariance(model).covariance()
                model = replace(model, noise_spectrum=self._noise_spectrum(covariance - between))
            noise, _ = bins.power(self._simulate_noise(model))
            signal, _ = bins.power(crop_centre(model.signal(scene), data.box) for scene in scenes)
            model = replace(model, gain=fit_gain(model.gain, real, error, noise, signal))
        return model

    def particles(self) -> Indices | None:
        """Return the usable picks that are particles by their q-values; None without enough."""
        judged = self.data.picks.particles
        if judged is None:
            return None
        found = self.usable[judged[self.usable]]
        if len(found) < self.options.least_picks:
            log.warning(
                "%s: only %d picks win against their decoys, wanted %d or more; the fit uses all "
                "picks, false ones included. Inspect the picks and the maps (particles score)",
                self.data.path, len(found), self.options.least_picks,
            )  # fmt: skip
            return None
        return found

    def regress_gain(self, chosen: Indices) -> ImagingModel:
        """Fit the gain by the regression of boxes on the signal of their particles, then the noise.

        In the end the gain is scaled so that the regression over all frequencies is 1.
        """
        data, bins = self.data, self.bins
        sample = self._sample(chosen)
        boxes, size = self._cut(sample), SCENE_BOXES * data.box
        scenes = [self.posed.density_around(data.centres[i], size) for i in sample]
        covariance = self.noise.covariance()
        model = self._first_model(covariance)
        for _ in track(range(self.options.regressions), "fitting"):
            signals = (crop_centre(model.signal(scene), data.box) for scene in scenes)
            product, error, square = bins.regress(zip(boxes, signals, strict=True))
            none = np.zeros(bins.shape)
            gain = fit_gain(model.gain, product, error, none, square, exponent=1)
            model = replace(model, gain=gain)
        pairs = np.concatenate(list(products_by_class(data, model, sample).values()))
        scale = max(float(pairs[:, 0].sum() / max(pairs[:, 1].sum(), 1e-30)), MIN_GAIN)
        model = replace(model, gain=replace(model.gain, values=scale * model.gain.values))
        between = self.signal_autocovariance(model).covariance()
        return replace(model, noise_spectrum=self._noise_spectrum(covariance - between))

    def _first_model(self, covariance: Floats) -> ImagingModel:
        data = self.data
        names = data.picks.names
        fractions = {str(name): float((names == name).mean()) for name in np.unique(names)}
        return ImagingModel(
            voxel_size=data.voxel_size,
            box=data.box,
            acquisition=data.acquisition,
            gain=constant_gain(data.acquisition.tilts, data.box, data.voxel_size),
            noise_spectrum=self._noise_spectrum(covariance),
            pair_correlation=self._measure_pair_correlation(),
            class_fractions={**fractions, OTHER: 0.0},
            maps={name: np.asarray(m, np.float32) for name, m in data.maps.items()},
        )

    def _sample(self, chosen: Indices) -> Indices:
        order = seeds.rng(self.seed, "imaging", "power").permutation(len(chosen))
        return chosen[np.sort(order[: self.options.power_boxes])]

    def _cut(self, chosen: Indices) -> Boxes:
        data = self.data
        return [cut_box(data.volume, data.centres[i], data.box) for i in chosen]

    def _measure_pair_correlation(self) -> PairCorrelation:
        if self.data.part is not None:  # boxes without a tomogram say nothing of their neighbours
            return PairCorrelation(0.0, 1.0, np.ones(1))
        places, shape = self.data.picks.places[self.posed.active], self.data.volume.shape
        size = self.data.voxel_size
        farthest = self.options.correlation_boxes * self.data.box * size
        return measure_pair_correlation(places, shape, size, farthest, self.seed)

    def _noise_spectrum(self, covariance: Floats) -> NoiseSpectrum:
        """Return the noise spectrum of an autocovariance, scaled to its variance.

        The table alone would lose the power that is blurred across the edge of the wedge.
        """
        size = self.data.voxel_size
        power, n = noise_fit.power_density(covariance, size), covariance.shape[0]
        table = tabulate(power, size, self.data.acquisition.tilts)
        density = table.interpolate((n, n, n), size).astype(np.float64)
        density[0, 0, 0] = 0
        variance = float((density * hermitian_weights(n)).sum()) / (n * size) ** 3
        scale = float(covariance[0, 0, 0]) / max(variance, 1e-30)
        return replace(table, seen=table.seen * scale, unseen=table.unseen * scale)

    def signal_autocovariance(self, model: ImagingModel) -> Autocovariance:
        """Return the autocovariance of the simulated signal between the particles: fringes."""
        data, free = self.data, self.free
        found = Autocovariance(self.noise.lags)
        margin = data.box // 2
        for corner, shape in sample_blocks(data.volume.shape, self.seed, data.part):
            larger = tuple(fft.next_fast_len(n + 2 * margin, real=True) for n in shape)
            scene = self.posed.density_block(tuple(c - margin for c in corner), larger)
            inner = tuple(slice(margin, margin + n) for n in shape)
            signal = model.signal(scene)[inner]
            mask = free.mask(corner, shape)
            found.add(signal - np.float32(signal[mask].mean() if mask.any() else 0), mask)
        return found

    def _simulate_noise(self, model: ImagingModel) -> Iterator[NDArray[np.float32]]:
        shape = (SCENE_BOXES * model.box,) * 3
        for index in range(self.options.noise_boxes):
            rng = seeds.rng(self.seed, "imaging", "noise", index)
            yield crop_centre(model.noise(shape, rng), model.box)

    def estimate_class_fractions(self, model: ImagingModel, chosen: Indices) -> ShapeFractions:
        """Return the class fractions of the chosen picks."""
        picks, names = self.data.picks, [*sorted(model.maps), OTHER]
        radius = particle_radius(self.data.maps)
        features = ShapeFeatures(self.data.box, radius)
        # the DoG filter responds most to a ball at sigma = radius / sqrt(3)
        sigma = max(1.0, radius / np.sqrt(3))
        count = self.options.simulated_per_class
        picks_and_names = class_fractions.simulate_picks(model, sigma, self.seed, count)
        simulated = list(track(picks_and_names, "simulating picks", count * len(names)))
        labels = np.array([names.index(name) for _, name in simulated])
        known = np.array([features.describe(volume) for volume, _ in simulated]), labels
        real = np.array([features.describe(box) for box in self._cut(chosen)])
        matched = np.searchsorted(names[:-1], picks.names[chosen]) if picks.aligned else None
        return class_fractions.estimate_class_fractions(known, real, names, self.seed, matched)

    def match_power(self, model: ImagingModel, chosen: Indices) -> ImagingModel:
        """Fit the gain to the power of whole simulated scenes, neighbours included."""
        real, error, noise, signal = self._powers(model, chosen, self.simulate_signals(model))
        return replace(model, gain=fit_gain(model.gain, real, error, noise, signal))

    def _powers(
        self, model: ImagingModel, chosen: Indices, simulated: Simulated
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Return the power by bin of real boxes, its error, and the power of noise and signals."""
        signals, generators = simulated
        real, error = self.bins.power(self._cut(self._sample(chosen)))
        noise = self.bins.power(_simulate_noises(model, generators))[0]
        return real, error, noise, self.bins.power(signals)[0]

    def fit_surroundings(
        self, model: ImagingModel, chosen: Indices, simulated: Simulated
    ) -> ImagingModel:
        """Fit the surroundings of particles: the power that noise and signal do not explain.

        In shells and at tilt angles with less power than the noise far from particles, fringes of
        unnamed particles add to that noise, the ice is thicker there, or a filter has removed more
        than the autocovariance resolves: the noise is reduced to the power that is left.
        """
        bins, size, tilts = self.bins, model.voxel_size, model.acquisition.tilts
        boxes, (signals, generators) = self._cut(self._sample(chosen)), simulated
        fine = PowerBins.for_box(model.box, tilts, NOISE_ROW_DEG, wedge=True)
        noise, left = (
            fine.power(_simulate_noises(model, generators))[0],
            fine.power(boxes)[0] - fine.power(signals)[0],
        )
        reduced = reduce_noise(fine, model.noise_spectrum, noise, left, size)
        model = replace(model, noise_spectrum=reduced)
        residual = bins.power(boxes)[0] - bins.power(signals)[0]
        residual -= bins.power(_simulate_noises(model, generators))[0]
        found = fit_surroundings(bins, residual, size, tilts)
        return replace(model, surroundings=found)

    def fit_around(self, model: ImagingModel, chosen: Indices) -> tuple[ImagingModel, Simulated]:
        """Fit the rest of the density around particles: unnamed neighbours, and density of no shape."""
        simulated = self.simulate_signals(model)
        shapeless = self.fit_surroundings(model, chosen, simulated)
        crowded = self.fit_unnamed(model, chosen, simulated)
        if crowded.unnamed is None:
            return shapeless, simulated
        simulated = self.simulate_signals(crowded)
        found = self.fit_surroundings(crowded, chosen, simulated)
        around = replace(crowded.unnamed, replaced=shapeless.surroundings)
        return replace(found, unnamed=around), simulated

    def fit_unnamed(
        self, model: ImagingModel, chosen: Indices, simulated: Simulated
    ) -> ImagingModel:
        """Add the unnamed neighbours that explain the power that noise and signal do not."""
        if model.pair_correlation.density <= 0:
            return model
        data, count = self.data, self.options.compared_boxes
        maps = make_unnamed(data.maps, data.voxel_size, self.seed)
        real, error, noise, signal = self._powers(model, chosen, simulated)
        unit = unnamed.power_alone(model, maps, self.bins, self.seed, count)
        amount = unnamed.fit_amount(real, error, signal, noise, unit)
        if not amount:
            return model
        found = unnamed.add_unnamed(model, amount, maps, self.seed)
        excess = unnamed.volume_fraction(found) / MOST_UNNAMED
        if excess <= 1:
            return found
        log.warning(
            "%s: the density around particles needs unnamed proteins in %.0f %% of the volume; %.0f %% "
            "are simulated. Membranes, carbon or ice at the picks may be the cause: exclude them by "
            "a mask",
            data.path, 100 * excess * MOST_UNNAMED, 100 * MOST_UNNAMED,
        )  # fmt: skip
        return unnamed.add_unnamed(model, amount / excess, maps, self.seed)

    def compare_power(
        self, model: ImagingModel, chosen: Indices, simulated: Simulated
    ) -> tuple[dict[str, list[float]], float]:
        """Return the power by shell of real and simulated boxes, and their difference of means.

        Keys of the powers: real, simulated, signal and noise. The signals may come from a model
        with other noise or surroundings.
        """
        bins, real = self.bins, self._cut(self._sample(chosen))
        signals, noises = simulated[0], _simulate_noises(model, simulated[1])
        sums = [s + n for s, n in zip(signals, noises, strict=True)]
        sets = {"real": real, "simulated": sums, "signal": signals, "noise": noises}
        powers = {
            name: [float(v) for v in bins.average_angles(bins.power(boxes)[0])]
            for name, boxes in sets.items()
        }
        return powers, float(np.mean([b.mean() for b in real]) - np.mean([b.mean() for b in sums]))

    def simulate_signals(self, model: ImagingModel) -> Simulated:
        """Return signals of simulated boxes; classes occur in their fractions.

        Each signal has a random generator that draws the noise of its box.
        """
        posers = {name: Poser(density) for name, density in model.maps.items()}
        signals, generators = [], []
        for index in range(self.options.compared_boxes):
            rng = seeds.rng(self.seed, "imaging", "compared", index)
            pose, centre = posers[model.neighbours.draw_class(rng)], rng.uniform(-0.5, 0.5, 3)
            target = pose(random_rotations(1, rng)[0], centre)
            scene = model.build_scene(target, centre, rng)
            signals.append(crop_centre(model.signal(scene), model.box))
            generators.append(rng)
        return signals, generators


def _simulate_noises(model: ImagingModel, generators: list[np.random.Generator]) -> Boxes:
    """Return the noise of simulated boxes; the generators keep their state."""
    shape = (SCENE_BOXES * model.box,) * 3
    return [crop_centre(model.noise(shape, copy.deepcopy(rng)), model.box) for rng in generators]


def select_usable_picks(data: FitData, options: FitOptions) -> Indices:
    """Return the indices of picks whose boxes lie in the tomogram and hold no excluded voxel.

    The edge of padding or carbon in a box would add to the power of its particle.
    """
    shape, picks = data.volume.shape, data.picks
    if min(shape) < data.box:
        raise UserError(
            f"{data.path}: is {min(shape)} voxels thin, less than one box of {data.box}; give maps "
            "of a smaller box (densities.box)"
        )
    chosen = whole = boxes_inside(data.centres, shape, data.box)
    if (excluded := data.excluded) is not None:
        free = [i for i in whole if not excluded.intersects_box(data.centres[i], data.box)]
        chosen = np.array(free, int)
    if len(chosen) < len(whole):
        log.warning(
            "%s: %d of %d picks lie at padding or masked regions and are ignored",
            data.path, len(whole) - len(chosen), len(whole),
        )  # fmt: skip
    if len(chosen) < options.least_picks:
        raise UserError(
            f"{data.path}: only {len(chosen)} of {len(picks)} picks lie a whole box of {data.box} "
            f"voxels inside it, clear of padding and masks. A fit needs {options.least_picks}. "
            "Pick more (particles.threshold, particles.max_picks), or use the conventional "
            "simulation (imaging simulate --snr)"
        )
    if len(chosen) < options.few_picks:
        log.warning(
            "%s: there are only %d picks to fit to, so transfer and class fractions are uncertain",
            data.path, len(chosen),
        )  # fmt: skip
    return chosen

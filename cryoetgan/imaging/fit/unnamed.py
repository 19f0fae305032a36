"""Unnamed neighbours of particles: generic proteins, as many as explain the power around particles.

Where noise is low, unnamed species are seen beside particles. Gaussian noise of their spectrum does
not look like them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cryoetgan import seeds
from cryoetgan.imaging.fit.gain import PowerBins
from cryoetgan.imaging.model import SCENE_BOXES, ImagingModel, UnnamedNeighbours, crop_centre
from cryoetgan.tomograms.simulation.packing import MASK_LEVEL

Floats = NDArray[np.floating]
MODEL_ERROR = 0.02
"""Relative error of simulated power that is not statistical, as in `fit_gain`."""
NOISE_ERROR = 0.1
"""Relative error of the noise between particles as the noise around them: if a filter removed high
frequencies, it is too large there."""
LEAST_SIGNIFICANCE = 4.0
"""Standard errors by which the number of unnamed neighbours must exceed 0. Below, particles of named
species that were not picked would count as unnamed."""


def add_unnamed(
    model: ImagingModel, per_particle: float, maps: Mapping[str, Floats], seed: int
) -> ImagingModel:
    """Return a model with `per_particle` unnamed neighbours for each named one."""
    named = replace(model.pair_correlation, acceptance_correction=1.0)
    rng = seeds.rng(seed, "imaging", "crowding")
    everything = replace(named, density=(1 + per_particle) * named.density)
    extent = SCENE_BOXES * model.box * model.voxel_size
    found = UnnamedNeighbours(
        maps, per_particle, everything.calibrate(extent, rng), model.surroundings
    )
    return replace(model, unnamed=found)


def volume_fraction(model: ImagingModel) -> float:
    """Return the fraction of the volume in unnamed proteins, as `--crowder-fraction` counts it.

    A protein has the voxels at `MASK_LEVEL` of its maximum or above.
    """
    if (unnamed := model.unnamed) is None:
        return 0.0
    share = unnamed.per_particle / (1 + unnamed.per_particle)
    voxels = [(m >= MASK_LEVEL * m.max()).sum() for m in unnamed.maps.values()]
    number = share * unnamed.pair_correlation.density
    return float(number * np.mean(voxels) * model.voxel_size**3)


def power_alone(
    model: ImagingModel, maps: Mapping[str, Floats], bins: PowerBins, seed: int, count: int
) -> Floats:
    """Return the power by bin of one unnamed neighbour for each named one, without a particle.

    Power is proportional to their number: one or more are simulated in each box.
    """
    found = model.pair_correlation
    density = max(found.density, (model.box * model.voxel_size) ** -3)
    extent = SCENE_BOXES * model.box * model.voxel_size
    rng = seeds.rng(seed, "imaging", "crowding")
    distances = replace(found, density=density).calibrate(extent, rng)
    alone = replace(
        model, class_fractions={}, unnamed=UnnamedNeighbours(maps, 1.0, distances), offset=0.0
    )

    def signals() -> Iterator[NDArray[np.float32]]:
        for index in range(count):
            rng = seeds.rng(seed, "imaging", "unnamed", index)
            scene = alone.build_scene(None, np.zeros(3), rng)
            yield crop_centre(model.signal(scene), model.box)

    return bins.power(signals())[0] * (found.density / density)


def fit_amount(real: Floats, error: Floats, signal: Floats, noise: Floats, unit: Floats) -> float:
    """Return the number of unnamed neighbours, relative to `unit`; 0 if it is not significant.

    The weighted least-squares factor of the power that a unit of them adds,

        a = sum(unit * (real - signal - noise) / sigma^2) / sum(unit^2 / sigma^2)
        sigma^2 = error^2 + (MODEL_ERROR * real)^2 + (NOISE_ERROR * noise)^2

    All are powers by bin, `error` the standard error of `real`. The standard error of a is
    sum(unit^2 / sigma^2)^-1/2.
    """
    known = real > 0
    variance = error**2 + (MODEL_ERROR * real) ** 2 + (NOISE_ERROR * noise) ** 2
    weight = unit[known] / variance[known]
    information = float((weight * unit[known]).sum())
    amount = float((weight * (real - signal - noise)[known]).sum()) / max(information, 1e-30)
    return amount if amount * np.sqrt(information) > LEAST_SIGNIFICANCE else 0.0

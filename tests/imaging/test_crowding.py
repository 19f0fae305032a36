"""The unnamed protein that the surroundings of particles stand for."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import fft

from cryoetgan.densities.density_from_atoms import gaussian_width
from cryoetgan.imaging.fit.crowding import MOST, crowder_fraction
from cryoetgan.imaging.model import EnvelopeGain, surroundings_filter
from cryoetgan.physics.optics import hermitian_weights
from cryoetgan.tomograms.simulation.crowders import make_crowders
from cryoetgan.tomograms.simulation.packing import MASK_LEVEL

N = 48


def crowded(known, level):
    values = np.full((3, 9), level)
    return replace(known, surroundings=EnvelopeGain(values, known.gain.step / 2, 60.0))


def test_proteins_of_this_fraction_have_the_variance_of_the_surroundings(known, rng):
    model = crowded(known, 100.0)
    fraction = crowder_fraction(model)
    assert 0.01 < fraction < MOST
    maps = [*make_crowders(known.voxel_size, gaussian_width(3 * known.voxel_size), 0).values()]
    volume = np.mean([(m > MASK_LEVEL * m.max()).sum() for m in maps])
    count = round(fraction * N**3 / volume)
    found = []
    for _ in range(6):
        spectrum = 0
        for density in maps:  # at random places, which wrap around
            places = rng.integers(N, size=(rng.poisson(count / len(maps)), 3))
            points = np.zeros((N,) * 3, np.float32)
            np.add.at(points, tuple(places.T), 1)
            spectrum = spectrum + fft.rfftn(points) * fft.rfftn(density, points.shape)
        image = fft.irfftn(spectrum * model.transfer(points.shape), points.shape)
        found.append(image.var())
    around = surroundings_filter((N,) * 3, known.voxel_size, model.surroundings, (-60.0, 60.0))
    expected = (around**2 * hermitian_weights(N)).sum() / N**3
    assert np.mean(found) == pytest.approx(expected, rel=0.15)


def test_twice_the_contrast_needs_a_quarter_of_the_proteins(known):
    one = crowder_fraction(crowded(known, 100.0))
    gain = replace(known.gain, values=2 * known.gain.values)
    assert crowder_fraction(replace(crowded(known, 100.0), gain=gain)) == pytest.approx(one / 4)
    assert crowder_fraction(crowded(known, 1e6)) == MOST
    assert crowder_fraction(crowded(known, 1.0)) == 0
    assert crowder_fraction(known) == 0

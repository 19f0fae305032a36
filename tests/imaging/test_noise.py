"""Noise is measured in free voxels, whatever lies in the others."""

import numpy as np
import pytest

from cryoetgan.errors import UserError
from cryoetgan.imaging.fit.noise import (
    Autocovariance,
    FreeVoxels,
    measure_autocovariance,
    power_density,
)
from cryoetgan.io.exclusion import ExclusionMask


def test_free_voxels_are_those_far_from_all_particles():
    places = np.array([[3.2, 5.0, 4.9], [14.0, 2.0, 1.0], [-3.0, 0.0, 0.0]])
    corner, shape = (2, 1, 0), (9, 10, 12)
    z, y, x = np.indices(shape) + np.array(corner)[:, None, None, None]
    far = [np.sqrt((x - p[0]) ** 2 + (y - p[1]) ** 2 + (z - p[2]) ** 2) > 3.5 for p in places]
    assert np.array_equal(FreeVoxels(places, 3.5).mask(corner, shape), np.all(far, axis=0))


def test_the_autocovariance_behind_a_mask_is_that_of_the_noise(rng):
    """White noise smoothed by (1, 1) along x: 2 at lag 0, 1 at lag 1, with any mask."""
    found = Autocovariance(6)
    for _ in range(4):
        white = rng.normal(size=(40, 40, 41))
        noise = white[..., 1:] + white[..., :-1]
        free = rng.random(noise.shape) < 0.4
        found.add(np.where(free, noise, 1e3).astype(np.float32), free)
    covariance = found.covariance()
    assert covariance[0, 0, 0] == pytest.approx(2, rel=0.03)
    assert covariance[0, 0, 1] == pytest.approx(1, rel=0.05)
    assert covariance[0, 0, -1] == pytest.approx(1, rel=0.05)
    assert abs(covariance[0, 1, 0]) < 0.05
    density = power_density(covariance, 10.0)
    assert density.mean() / 1e3 == pytest.approx(2, rel=0.15)
    assert density[..., 0].mean() > 10 * abs(density[..., -1].mean())


def test_no_noise_is_measured_in_excluded_voxels(tomogram):
    """Strong carbon in a corner: if masked, the noise is the same as without carbon."""
    clean, places = tomogram.data, tomogram.picks.places
    mask = np.zeros(clean.shape, np.int8)
    mask[:, :32, :40] = 1
    noise = np.random.default_rng(5).standard_normal(mask.shape)
    dirty = clean + 8 * mask * noise.astype(np.float32)
    outside = places[mask[tuple(np.rint(places).astype(int).T[::-1])] == 0]

    def measure(volume, excluded):
        free = FreeVoxels(outside, 6.0, excluded)
        found, fraction = measure_autocovariance(volume, free, 8, 0, "t.mrc")
        return found.covariance()[0, 0, 0], fraction

    masked = measure(dirty, ExclusionMask(dirty, mask))
    unmasked = measure(dirty, None)
    assert masked == measure(clean, ExclusionMask(clean, mask))
    assert unmasked[0] > 3 * masked[0]
    assert unmasked[1] > masked[1]


def test_a_tomogram_full_of_particles_is_refused(tomogram):
    part = tomogram.data[:24, :24, :24]
    z, y, x = np.indices(part.shape)[:, ::4, ::4, ::4].reshape(3, -1)
    free = FreeVoxels(np.stack([x, y, z], axis=1), 6.0)
    with pytest.raises(UserError, match=r"t\.mrc.*fewer picks"):
        measure_autocovariance(part, free, 8, 0, "t.mrc")

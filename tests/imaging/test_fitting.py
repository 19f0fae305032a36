"""A fit finds what a tomogram was made with, and says what it cannot."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.imaging.fit.exclusion import LeftOut
from cryoetgan.imaging.fit.fit import fit
from cryoetgan.imaging.fit.gain import Bins
from cryoetgan.imaging.fit.inputs import Data, cut, inside
from cryoetgan.imaging.fit.noise import Autocovariance, background, density_of, free_of
from cryoetgan.imaging.model import crop
from tests.imaging.conftest import BOX, TILTS, VOXEL


@pytest.fixture(scope="module")
def data(tomogram) -> Data:
    return Data(
        tomogram.data,
        VOXEL,
        tomogram.picks,
        tomogram.model.maps,
        tomogram.model.acquisition,
        "t.mrc",
    )


@pytest.fixture(scope="module")
def fitted(data):
    return fit(data, 0)


def test_free_voxels_are_those_far_from_all_places():
    places = np.array([[3.2, 5.0, 4.9], [14.0, 2.0, 1.0], [-3.0, 0.0, 0.0]])
    corner, shape = (2, 1, 0), (9, 10, 12)
    z, y, x = np.indices(shape) + np.array(corner)[:, None, None, None]
    far = [np.sqrt((x - p[0]) ** 2 + (y - p[1]) ** 2 + (z - p[2]) ** 2) > 3.5 for p in places]
    assert np.array_equal(free_of(places, 3.5, corner, shape), np.all(far, axis=0))


def test_noise_is_not_measured_where_a_mask_says_so(data):
    """Strong carbon in a corner: masked, the noise is what it was without it."""
    mask = np.zeros(data.volume.shape, np.int8)
    mask[:, :32, :40] = 1
    numbers = np.random.default_rng(5)
    dirty = data.volume + 8 * mask * numbers.standard_normal(mask.shape).astype(np.float32)
    outside = data.picks.places[mask[tuple(np.rint(data.picks.places).astype(int).T[::-1])] == 0]
    measured = {}
    for name, volume, left_out in (
        ("clean", data.volume, mask), ("masked", dirty, mask), ("not", dirty, None),
    ):  # fmt: skip
        behind = None if left_out is None else LeftOut(volume, left_out)
        found, share = background(volume, outside, 6.0, 8, 0, "t.mrc", behind)
        measured[name] = found.covariance()[0, 0, 0], share
    assert measured["masked"] == measured["clean"]
    assert measured["not"][0] > 3 * measured["clean"][0]
    assert measured["not"][1] > measured["clean"][1]


def test_padding_and_masked_ice_change_no_fit(data, fitted, caplog):
    """Grey values of a raw file, its first sections padded, ice in a corner that is masked."""
    picks = data.picks
    raw = 100 + 10 * np.asarray(data.volume)
    raw[:14] = 0
    ice = np.zeros(raw.shape, np.int8)
    ice[:, :20, :24] = 1
    raw[ice != 0] += 300
    clean = replace(data, volume=100 + 10 * np.asarray(data.volume), mask=LeftOut(raw, ice))
    dirty = replace(clean, volume=raw)
    found, expected = fit(dirty, 0), fit(clean, 0)
    assert "at padding or masked regions" in caplog.text
    # what is left out has no part in it: but for where the fit's own scenes are compared
    assert np.allclose(found.gain.values, expected.gain.values)
    assert np.allclose(found.noise_spectrum.seen, expected.noise_spectrum.seen, rtol=1e-5)
    assert found.about["picks_used"] < len(picks)
    power = found.about["power"]
    ratio = np.array(power["simulated"]) / power["real"]
    assert 0.85 < ratio.min() <= ratio.max() < 1.15
    # and the noise is that of the whole tomogram, in its grey values
    whole = fitted.noise_spectrum.seen.sum()
    assert found.noise_spectrum.seen.sum() == pytest.approx(100 * whole, rel=0.1)


def test_the_autocovariance_behind_a_mask_is_that_of_the_noise(rng):
    """White noise smoothed by (1, 1) along x: 2 at lag 0, 1 at lag 1, whatever is masked."""
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
    density = density_of(covariance, 10.0)
    assert density.mean() / 1e3 == pytest.approx(2, rel=0.15)
    assert density[..., 0].mean() > 10 * abs(density[..., -1].mean())


def test_the_fitted_noise_is_that_of_the_tomogram(fitted, known):
    numbers = np.random.default_rng(0)
    shape = (2 * BOX,) * 3
    bins = Bins.of(BOX, TILTS)
    power = [
        bins.power(crop(m.noise(shape, numbers), BOX) for _ in range(150))[0]
        for m in (fitted, known)
    ]
    ratio = power[0][:, 2:] / power[1][:, 2:]
    assert ratio.mean() == pytest.approx(1, abs=0.04)
    assert np.abs(ratio - 1).max() < 0.25


def test_the_fitted_gain_is_that_of_the_tomogram(fitted, known):
    k = np.linspace(1.5, 4, 6) / (BOX * VOXEL)
    # the bins at the wedge's edge lose power to it: less is known there
    for angle, close in ((10.0, 0.08), (30.0, 0.12), (50.0, 0.15)):
        found, wanted = (m.gain.on(k, np.full(6, angle)) for m in (fitted, known))
        assert found / wanted == pytest.approx(1, abs=0.2)
        assert (found / wanted).mean() == pytest.approx(1, abs=close)


def test_shares_are_those_of_the_picks(fitted, data):
    balls = float((data.picks.names == "ball").mean())
    assert fitted.shares["ball"] == pytest.approx(balls, abs=0.12)
    assert fitted.shares["empty"] < 0.1
    assert sum(fitted.shares.values()) == pytest.approx(1)


def test_false_picks_are_told_and_do_not_dilute_the_particles(data, fitted, rng):
    places = data.picks.places
    free = rng.uniform(10, np.array(data.volume.shape[::-1]) - 10, (4000, 3))
    far = np.linalg.norm(free[:, None] - places[None], axis=2).min(axis=1) > 9
    added = free[far][: len(places) // 2]
    picks = replace(
        data.picks,
        places=np.concatenate([places, np.rint(added)]),
        names=np.r_[data.picks.names, np.full(len(added), "ball")],
        rotations=Rotation.concatenate([data.picks.rotations, Rotation.identity(len(added))]),
    )
    found = fit(replace(data, picks=picks), 0)
    assert found.shares["empty"] == pytest.approx(len(added) / len(picks), abs=0.12)
    k = np.linspace(1.5, 4, 6) / (BOX * VOXEL)
    angle = np.full(6, 10.0)
    # unweeded, a third of false picks would take 18 % of the gain
    assert (found.gain.on(k, angle) / fitted.gain.on(k, angle)).mean() == pytest.approx(1, abs=0.1)


def test_simulated_power_is_real_power(fitted, data):
    from cryoetgan.densities.poses import Poser

    numbers = np.random.default_rng(4)
    bins = Bins.of(BOX, TILTS)
    usable = inside(data.picks.places, data.volume.shape, BOX)
    posers = {name: Poser(m) for name, m in fitted.maps.items()}
    real = [cut(data.volume, data.picks.places[i], BOX) for i in usable]
    made = []
    for i in usable:
        target = posers[str(data.picks.names[i])](data.picks.rotations[i], np.zeros(3))
        made.append(sum(fitted.halves(target, np.zeros(3), numbers)))
    power = [bins.power(boxes)[0].mean(axis=0)[1:] for boxes in (made, real)]
    assert np.abs(power[0] / power[1] - 1).max() < 0.15


def test_a_fit_is_the_same_twice(data, fitted):
    again = fit(data, 0)
    assert np.array_equal(again.gain.values, fitted.gain.values)
    assert np.array_equal(again.noise_spectrum.seen, fitted.noise_spectrum.seen)


def test_what_cannot_be_fitted_is_said(data):
    few = replace(
        data,
        picks=replace(
            data.picks,
            places=data.picks.places[:5],
            names=data.picks.names[:5],
            rotations=data.picks.rotations[:5],
        ),
    )
    with pytest.raises(UserError, match="wanted 8 or more"):
        fit(few, 0)
    with pytest.raises(UserError, match="less than one box"):
        fit(replace(data, volume=data.volume[:12]), 0)
    part = data.volume[:24, :24, :24]
    z, y, x = np.indices(part.shape)[:, ::4, ::4, ::4].reshape(3, -1)
    with pytest.raises(UserError, match="fewer picks"):
        background(part, np.stack([x, y, z], axis=1), 6.0, 8, 0, "t.mrc")

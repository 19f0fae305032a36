"""A fit recovers the model with which a tomogram was simulated."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryoetgan.densities.poses import Poser
from cryoetgan.errors import UserError
from cryoetgan.imaging.fit.fit import FitOptions, ModelFitter, fit_model
from cryoetgan.imaging.fit.fit_data import FitData, boxes_inside, cut_box
from cryoetgan.imaging.fit.gain import PowerBins
from cryoetgan.imaging.model import crop_centre
from cryoetgan.io.exclusion import ExclusionMask
from tests.imaging.conftest import BOX, TILTS, VOXEL

SMALL = FitOptions(noise_boxes=50, compared_boxes=80, simulated_per_class=30)
K = np.linspace(1.5, 4, 6) / (BOX * VOXEL)


@pytest.fixture(scope="module")
def data(tomogram) -> FitData:
    model = tomogram.model
    return FitData(tomogram.data, VOXEL, tomogram.picks, model.maps, model.acquisition, "t.mrc")


@pytest.fixture(scope="module")
def fitted(data):
    return fit_model(data, 0, SMALL)


def test_the_fitted_noise_is_that_of_the_tomogram(fitted, known):
    rng = np.random.default_rng(0)
    shape = (2 * BOX,) * 3
    bins = PowerBins.for_box(BOX, TILTS)
    power = [
        bins.power(crop_centre(m.noise(shape, rng), BOX) for _ in range(150))[0]
        for m in (fitted, known)
    ]
    ratio = power[0][:, 2:] / power[1][:, 2:]
    assert ratio.mean() == pytest.approx(1, abs=0.04)
    assert np.abs(ratio - 1).max() < 0.25


# the bins at the edge of the wedge lose power to it, so less is known there
@pytest.mark.parametrize(("angle", "close"), [(10.0, 0.08), (30.0, 0.12), (50.0, 0.15)])
def test_the_fitted_gain_is_that_of_the_tomogram(fitted, known, angle, close):
    found, wanted = (m.gain.interpolate(K, np.full(6, angle)) for m in (fitted, known))
    assert found / wanted == pytest.approx(1, abs=0.2)
    assert (found / wanted).mean() == pytest.approx(1, abs=close)


def test_class_fractions_are_those_of_the_picks(fitted, data):
    balls = float((data.picks.names == "ball").mean())
    assert fitted.class_fractions["ball"] == pytest.approx(balls, abs=0.12)
    assert fitted.class_fractions["other"] < 0.1
    assert sum(fitted.class_fractions.values()) == pytest.approx(1)


def test_simulated_power_is_real_power(fitted, data):
    rng = np.random.default_rng(4)
    bins = PowerBins.for_box(BOX, TILTS)
    posers = {name: Poser(m) for name, m in fitted.maps.items()}
    real, simulated = [], []
    for i in boxes_inside(data.picks.places, data.volume.shape, BOX):
        real.append(cut_box(data.volume, data.picks.places[i], BOX))
        target = posers[str(data.picks.names[i])](data.picks.rotations[i], np.zeros(3))
        simulated.append(sum(fitted.signal_and_noise(target, np.zeros(3), rng)))
    power = [bins.power(boxes)[0].mean(axis=0)[1:] for boxes in (simulated, real)]
    assert np.abs(power[0] / power[1] - 1).max() < 0.15


def test_padding_and_masked_ice_change_no_fit(data, fitted, caplog):
    """Grey values of a raw file, its first sections padded, masked ice in a corner."""
    raw = 100 + 10 * np.asarray(data.volume)
    clean_volume = raw.copy()
    raw[:14] = 0
    ice = np.zeros(raw.shape, np.int8)
    ice[:, :20, :24] = 1
    raw[ice != 0] += 300
    clean = replace(data, volume=clean_volume, excluded=ExclusionMask(raw, ice))
    quick = replace(SMALL, rounds=1, noise_boxes=16, compared_boxes=40, simulated_per_class=8)
    found, expected = (fit_model(d, 0, quick) for d in (replace(clean, volume=raw), clean))
    assert "at padding or masked regions" in caplog.text
    assert np.allclose(found.gain.values, expected.gain.values)
    assert np.allclose(found.noise_spectrum.seen, expected.noise_spectrum.seen, rtol=1e-5)
    assert found.about["picks_used"] < len(data.picks)
    ratio = np.array(found.about["power"]["simulated"]) / found.about["power"]["real"]
    assert 0.85 < ratio.min() <= ratio.max() < 1.15
    # the noise is that of the whole tomogram, in the grey values of the raw file
    whole = fitted.noise_spectrum.seen.sum()
    assert found.noise_spectrum.seen.sum() == pytest.approx(100 * whole, rel=0.1)


def test_false_picks_are_found_and_do_not_dilute_the_particles(data, fitted, rng):
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
    found = fit_model(replace(data, picks=picks), 0, SMALL)
    assert found.class_fractions["other"] == pytest.approx(len(added) / len(picks), abs=0.12)
    gains = [m.gain.interpolate(K, np.full(6, 10.0)) for m in (found, fitted)]
    # a third of false picks would take 18 % of the gain
    assert (gains[0] / gains[1]).mean() == pytest.approx(1, abs=0.1)


def test_an_unnamed_species_adds_to_the_surroundings_and_not_to_the_particles(data, known):
    """Rods are named; balls are picks that fit no better than a decoy."""
    rods = data.picks.names == "rod"
    picks = replace(
        data.picks,
        names=np.full(len(rods), "rod"),
        aligned=True,
        particles=rods,
        counts=np.where(rods, 1.0, 0.0),
    )
    maps = {"rod": data.maps["rod"]}
    found = fit_model(replace(data, picks=picks, maps=maps), 0, SMALL)
    gains = [m.gain.interpolate(K, np.full(6, 10.0)) for m in (found, known)]
    assert (gains[0] / gains[1]).mean() == pytest.approx(1, abs=0.08)
    assert found.class_fractions == pytest.approx({"rod": rods.mean(), "other": 1 - rods.mean()})
    assert found.about["agreement"]["overall"]["amplitude"] == pytest.approx(1, abs=0.05)
    assert found.about["agreement"]["warning"] is None
    ratio = np.array(found.about["power"]["simulated"]) / found.about["power"]["real"]
    assert 0.9 < ratio.min() <= ratio.max() < 1.1
    assert found.surroundings.values.max() > 0


def test_too_few_particles_fall_back_on_all_picks(data, caplog):
    none = replace(
        data.picks, particles=np.arange(len(data.picks)) < 5, counts=np.zeros(len(data.picks))
    )
    found = ModelFitter(replace(data, picks=none), 0, SMALL).particles()
    assert found is None
    assert "win against their decoys" in caplog.text


def test_a_fit_is_reproducible(data):
    tiny = FitOptions(noise_boxes=5, compared_boxes=5, simulated_per_class=12, rounds=1)
    half = np.flatnonzero(data.picks.places[:, 0] < 48)
    part = replace(data, volume=data.volume[..., :48], picks=data.picks.subset(half))
    first, second = (fit_model(part, 0, tiny) for _ in range(2))
    assert np.array_equal(first.gain.values, second.gain.values)
    assert np.array_equal(first.noise_spectrum.seen, second.noise_spectrum.seen)
    assert first.about == second.about


def test_too_few_picks_are_refused(data):
    few = replace(data, picks=data.picks.subset(np.arange(5)))
    with pytest.raises(UserError, match="A fit needs 8"):
        fit_model(few, 0)


def test_a_tomogram_thinner_than_a_box_is_refused(data):
    with pytest.raises(UserError, match="less than one box"):
        fit_model(replace(data, volume=data.volume[:12]), 0)

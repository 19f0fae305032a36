"""Unnamed neighbours: as many as explain the power around particles, beside less Gaussian density."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cryoetgan.densities.poses import Poser
from cryoetgan.densities.unnamed import make_unnamed
from cryoetgan.imaging.fit.fit import MOST_UNNAMED, FitOptions, fit_model
from cryoetgan.imaging.fit.fit_data import FitData, Picks
from cryoetgan.imaging.fit.gain import PowerBins
from cryoetgan.imaging.fit.unnamed import add_unnamed, fit_amount, power_alone
from cryoetgan.imaging.model import EnvelopeGain, add_box, crop_centre
from cryoetgan.imaging.pair_correlation import PairCorrelation
from cryoetgan.imaging.simulate.fitted import write_fitted
from cryoetgan.imaging.storage import load_model, save_model
from cryoetgan.io.files import read_json
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.physics.geometry import random_rotations
from tests.imaging.conftest import BOX, TILTS, VOXEL

QUICK = FitOptions(noise_boxes=50, compared_boxes=120, simulated_per_class=10)


@pytest.fixture(scope="module")
def bins() -> PowerBins:
    return PowerBins.for_box(BOX, TILTS)


@pytest.fixture(scope="module")
def crowdable(known):
    """A model with one neighbour in every other box."""
    near = PairCorrelation(0.5 / (BOX * VOXEL) ** 3, 20.0, np.array([0.0] * 4 + [1.0] * 8))
    return replace(known, pair_correlation=near)


def scene_power(model, bins, count=150):
    """Mean signal power of boxes without a particle in the centre."""
    boxes = []
    for index in range(count):
        scene = model.build_scene(None, np.zeros(3), np.random.default_rng(index))
        boxes.append(crop_centre(model.signal(scene), BOX))
    return bins.average_angles(bins.power(boxes)[0])


def test_the_amount_is_the_factor_of_the_unit_and_noise_has_none(bins, rng):
    unit = np.tile(np.exp(-np.arange(bins.shape[1]) / 2.0), (bins.shape[0], 1))
    signal, noise = 3 * unit, np.full(bins.shape, 0.1)
    error = 0.03 * (signal + noise)
    scatter = rng.normal(0, 1, bins.shape) * error
    for true in (0.7, 2.0):
        real = signal + noise + true * unit + scatter
        assert fit_amount(real, error, signal, noise, unit) == pytest.approx(true, rel=0.1)
    assert fit_amount(signal + noise + scatter, error, signal, noise, unit) == 0
    # more noise between the particles than around them is no negative amount
    assert fit_amount(signal, error, signal, noise, unit) == 0


def test_unnamed_neighbours_bring_the_power_of_their_number(crowdable, bins, maps):
    made = make_unnamed(maps, VOXEL, 0)
    unit = bins.average_angles(power_alone(crowdable, made, bins, 0, 150))
    none = scene_power(crowdable, bins)
    added = scene_power(add_unnamed(crowdable, 2.0, made, 0), bins) - none
    assert (added / (2 * unit))[1:5] == pytest.approx(1, abs=0.35)
    assert added[1:5].sum() == pytest.approx(2 * unit[1:5].sum(), rel=0.15)


def test_named_neighbours_keep_their_number(crowdable, maps):
    made = make_unnamed(maps, VOXEL, 0)
    sampler, distances = add_unnamed(crowdable, 3.0, made, 0).crowd
    assert distances.density == pytest.approx(4 * crowdable.pair_correlation.density)
    assert sampler.weights[: len(maps)].sum() == pytest.approx(1 / 4)
    assert crowdable.crowd[1] is crowdable.pair_correlation


def test_a_model_with_unnamed_neighbours_is_stored(known, maps, tmp_path):
    around = [EnvelopeGain(np.full((3, 9), v), 1 / (BOX * VOXEL), 60.0) for v in (2.0, 1.0)]
    crowded = add_unnamed(
        replace(known, surroundings=around[0]), 1.5, make_unnamed(maps, VOXEL, 0), 0
    )
    crowded = replace(crowded, surroundings=around[1])
    save_model(crowded, tmp_path / "M.json")
    back = load_model(tmp_path / "M.json")
    scenes = [m.build_scene(None, np.zeros(3), np.random.default_rng(0)) for m in (crowded, back)]
    assert np.array_equal(*scenes)
    # a scene is taken as it is: its own crowders, or surroundings in their place
    assert back.for_scene(True).surroundings is back.for_scene(True).unnamed is None
    assert np.array_equal(back.for_scene(False).surroundings.values, around[0].values)
    assert back.for_scene(False).unnamed is None
    # a program without unnamed neighbours refuses the file, instead of leaving out their density
    assert read_json(tmp_path / "M.json")["format"] == 2


def test_without_neighbours_the_whole_power_around_particles_is_left(known, maps, tmp_path):
    around = [EnvelopeGain(np.full((3, 9), v), 1 / (BOX * VOXEL), 60.0) for v in (2.0, 1.0)]
    reduced = add_unnamed(
        replace(known, surroundings=around[0]), 1.5, make_unnamed(maps, VOXEL, 0), 0
    )
    reduced = replace(reduced, surroundings=around[1])
    table = pd.DataFrame({"cryoetganClass": ["other"] * 4})
    write_volume_set(tmp_path / "d.star", np.zeros((4, BOX, BOX, BOX), np.float32), table, VOXEL)
    made = []
    for model in (reduced, replace(reduced, surroundings=around[0], unnamed=None)):
        write_fitted(
            read_volume_set(tmp_path / "d.star"), tmp_path / "x.star", {"t": model}, 0,
            neighbours=False,
        )  # fmt: skip
        made.append(np.array(read_volume_set(tmp_path / "x.star").volumes))
    assert np.array_equal(*made)


@pytest.fixture(scope="module")
def crowded(known) -> FitData:
    """Rods, and twice as many unnamed proteins, with little noise; the rods are named."""
    rng, shape = np.random.default_rng(5), (48, 128, 128)
    factor = np.full((4, 2), 0.02)
    noise = known.noise_spectrum.scale(np.array([0.0, 1.0]), factor)
    quiet = replace(known, noise_spectrum=noise)
    xyz = np.empty((0, 3))
    for place in rng.uniform(9, np.array(shape[::-1]) - 9, (4000, 3)):
        if len(xyz) < 300 and (np.linalg.norm(xyz - place, axis=1) > 7).all():
            xyz = np.concatenate([xyz, np.rint(place)[None]])
    rods = np.arange(len(xyz)) % 3 == 0
    maps = {"rod": known.maps["rod"]}
    hidden = [Poser(m) for m in make_unnamed(maps, VOXEL, 0).values()]
    shown, turns = Poser(maps["rod"]), random_rotations(len(xyz), rng)
    scene = np.zeros(shape, np.float32)
    for index, (place, turn) in enumerate(zip(xyz, turns, strict=True)):
        pose = shown if rods[index] else hidden[index % len(hidden)]
        add_box(scene, pose(turn, np.zeros(3)), place)
    data = (quiet.signal(scene) + quiet.noise(shape, rng)).astype(np.float32)
    names = np.full(len(xyz), "rod")
    picks = Picks(xyz, names, turns, True, rods, rods.astype(float))
    return FitData(data, VOXEL, picks, maps, known.acquisition, "t.mrc")


def test_a_fit_gives_unnamed_species_the_power_around_particles(crowded):
    found = fit_model(crowded, 0, QUICK)
    assert found.unnamed is not None
    assert 1.3 < found.unnamed.per_particle < 3
    assert 0 < found.about["unnamed_fraction"] <= MOST_UNNAMED
    power = found.about["power"]
    ratio = np.array(power["simulated"]) / power["real"]
    assert ratio == pytest.approx(1, abs=0.15)
    # the Gaussian surroundings beside them have less power than those that they replace
    inside = slice(1, BOX // 4)
    beside, alone = (g.values[:, inside] for g in (found.surroundings, found.unnamed.replaced))
    assert (beside**2).sum() < 0.5 * (alone**2).sum()


def test_more_than_a_crowd_is_refused_with_a_warning(crowded, caplog, monkeypatch):
    monkeypatch.setattr("cryoetgan.imaging.fit.fit.MOST_UNNAMED", 0.01)
    found = fit_model(crowded, 0, QUICK)
    assert found.about["unnamed_fraction"] == pytest.approx(0.01)
    assert "1 % are simulated" in caplog.text
    assert "mask" in caplog.text


def test_a_fit_with_all_species_named_has_no_unnamed_neighbours(tomogram, known):
    picks = replace(
        tomogram.picks,
        aligned=True,
        particles=np.ones(len(tomogram.picks), bool),
        counts=np.ones(len(tomogram.picks)),
    )
    data = FitData(tomogram.data, VOXEL, picks, known.maps, known.acquisition, "t.mrc")
    assert fit_model(data, 0, QUICK).unnamed is None

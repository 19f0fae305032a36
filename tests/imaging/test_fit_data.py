"""Files of a fit are read, checked against each other, and completed from the record."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.imaging.fit.fit_data import (
    Picks,
    PosedPicks,
    judge_picks,
    min_particle_distance,
    picks_from_table,
    read_fit_data,
    resolve_acquisition,
)
from cryoetgan.imaging.fit.noise import FreeVoxels, sample_blocks
from cryoetgan.io.files import sidecar, write_json
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import COORDINATES, read_star, write_star
from cryoetgan.physics.acquisition import Acquisition
from tests.imaging.conftest import VOXEL, blob


def read(files, particles="scores.star", densities=("ball.mrc", "rod.mrc")):
    maps = [files / name for name in densities]
    return read_fit_data(files / "t.mrc", files / particles, maps, Acquisition(), None, 0)


def test_values_that_are_not_given_come_from_the_record(files, caplog):
    with pytest.raises(UserError, match=r"t\.mrc: .*--tilts"):
        resolve_acquisition(files / "t.mrc", {})
    record = {"acquisition": {"tilt_low": -50.0, "tilt_high": 60.0, "voltage": 200.0}}
    write_json(sidecar(files / "t.mrc"), record)
    with caplog.at_level("WARNING", logger="cryoetgan"):
        found = resolve_acquisition(files / "t.mrc", {"cs": 1.0})
    assert (found.tilts, found.voltage, found.cs, found.defocus) == ((-50, 60), 200, 1, None)
    assert "no defocus is known" in caplog.text
    given = {"tilt_low": -40, "tilt_high": 40, "voltage": 300.0, "defocus": 2.0}
    found = resolve_acquisition(files / "t.mrc", given)
    assert (found.tilts, found.voltage, found.defocus) == ((-40, 40), 300, 2)


def test_each_pick_counts_once_with_its_best_class(files, tomogram):
    found = read(files).picks
    assert found.aligned
    wanted = tomogram.picks
    for name in ("ball", "rod"):
        places = [np.sort(p.places[p.names == name], axis=0) for p in (found, wanted)]
        assert np.allclose(*places, atol=1e-5)


def test_picks_of_other_tomograms_are_ignored(files, caplog):
    table = read_star(files / "scores.star").particles
    others = table.assign(rlnTomoName="u", rlnCoordinateX=table["rlnCoordinateX"] + 5)
    both = pd.concat([table.assign(rlnTomoName="t"), others], ignore_index=True)
    write_star(files / "both.star", both)
    write_star(files / "others.star", others)
    with caplog.at_level("INFO", logger="cryoetgan"):
        found = read(files, "both.star").picks
    assert f"{len(table)} of {2 * len(table)} particles" in caplog.text
    assert np.array_equal(found.places, read(files).picks.places)
    with pytest.raises(UserError, match=r"others\.star: .*'t'"):
        read(files, "others.star")


def test_picks_of_another_binning_are_warned_of(files, caplog):
    table = read_star(files / "scores.star").particles
    write_star(files / "fine.star", table.assign(rlnCoordinateX=3 * table["rlnCoordinateX"]))
    read(files, "fine.star")
    assert "another binning" in caplog.text


def test_classes_without_a_map_are_named(files, caplog):
    assert set(read(files, densities=["ball.mrc"]).picks.names) == {"ball"}
    assert "a class without a map (rod)" in caplog.text
    (files / "ball.mrc").rename(files / "sphere.mrc")
    with pytest.raises(UserError, match=r"scores\.star.*ball, rod.*sphere"):
        read(files, densities=["sphere.mrc"])


def test_files_that_do_not_belong_together_are_named(files, maps):
    write_volume(files / "coarse.mrc", maps["ball"], 10.0)
    write_volume(files / "large.mrc", np.pad(maps["ball"], 2), VOXEL)
    write_volume(files / "other.mrc", maps["ball"], VOXEL)
    (files / "o").mkdir()
    write_volume(files / "o/ball.mrc", maps["ball"], VOXEL)
    write_star(files / "none.star", pd.DataFrame(columns=COORDINATES))
    for second, named in (
        ("coarse.mrc", r"coarse\.mrc has 10\.000 A"),
        ("large.mrc", r"large 20x20x20.*cubes of one size"),
        ("other.mrc", r"rename other\.mrc"),
        ("o/ball.mrc", r"ball\.mrc.*same name|same name.*ball\.mrc"),
    ):
        with pytest.raises(UserError, match=named):
            read(files, densities=["ball.mrc", second])
    with pytest.raises(UserError, match=r"none\.star: holds no pick"):
        read(files, "none.star")


def test_picks_that_aligned_to_one_place_count_once():
    columns = [*COORDINATES, "cryoetganScore"]
    rows = [(10, 10, 10, 0.3), (11, 10, 10, 0.5), (14, 10, 10, 0.2), (11, 10, 10, 0.1)]
    table = pd.DataFrame(rows, columns=columns)
    table["cryoetganId"] = list("abcd")
    table["cryoetganClass"] = "ball"
    kept = picks_from_table(table, ["ball"], 0, min_distance=2.5)
    assert kept.places[:, 0].tolist() == [11, 14]
    assert len(picks_from_table(table, ["ball"], 0)) == 4


def test_the_smallest_distance_is_half_the_smallest_radius():
    # 95 % of a Gaussian ball's mass lies within 2.8 of its widths
    small, large = blob(1.0, 1.0, 1.0), blob(2.0, 2.0, 2.0)
    assert min_particle_distance({"a": small, "b": large}) == pytest.approx(2.8 / 2, abs=0.2)


def test_picks_that_win_against_decoys_are_particles():
    """Ten maps win, then a decoy and a map in turns: the rest is not told apart from nothing."""
    scores = np.r_[np.linspace(0.9, 0.6, 40), [0.3, 0.2] * 10]
    decoys = np.r_[np.full(40, 0.1), [0.2, 0.3] * 10]
    table = pd.DataFrame({"cryoetganScore": scores, "cryoetganDecoyScore": decoys})
    table = table.assign(cryoetganClass="ball", cryoetganDecoys="mirror")
    particles, counts = judge_picks(table)
    assert particles.tolist() == [True] * 40 + [False] * 20
    assert counts.sum() == 40
    # two decoys: each decoy that wins stands for half a wrong pick
    rate = table.assign(cryoetganDecoys="smaller,larger")
    rate.loc[2, ["cryoetganScore", "cryoetganDecoyScore"]] = [0.1, 0.9]
    assert judge_picks(rate)[1][:5].tolist() == [1, 1, -0.5, 1, 1]
    selected = table.assign(cryoetganQValue=0.02)
    selected.loc[0, "cryoetganQValue"] = 0.08
    particles, counts = judge_picks(selected)
    assert (particles.sum(), counts[0]) == (59, pytest.approx(0.92))
    assert judge_picks(table.drop(columns="cryoetganDecoyScore")) is None


@pytest.mark.parametrize("particles", [0, 5, 40])
def test_the_count_is_of_the_particles_however_many_decoys_win_below(particles):
    """Six decoys among the best picks leave no set at a rate of 10 %; most are right all the same."""
    rng = np.random.default_rng(particles)
    found = []
    for _ in range(40):
        right = rng.uniform(0.6, 0.9, particles)
        wrong = np.r_[rng.uniform(0.55, 0.9, particles // 5), rng.uniform(0.1, 0.5, 200)]
        own = rng.random(len(wrong)) < 0.5
        pairs = np.array(
            [np.r_[right, np.where(own, wrong, 0.1)], np.r_[right - 0.3, np.where(own, 0.1, wrong)]]
        )
        table = pd.DataFrame(pairs.T, columns=["cryoetganScore", "cryoetganDecoyScore"])
        table = table.assign(cryoetganClass="ball", cryoetganDecoys="mirror")
        found.append(judge_picks(table)[1].sum())
    assert np.mean(found) == pytest.approx(particles, abs=4)


def test_boxes_of_a_set_hold_their_own_picks_alone():
    density = np.zeros((8, 8, 8), np.float32)
    density[3:6, 3:6, 3:6] = 1
    # two boxes of 12, one on the other: the picks are four voxels from the face between them
    places = np.array([[6.0, 6, 8], [6, 6, 16]])
    picks = Picks(places, np.array(["a", "a"]), Rotation.identity(2))
    for part, seen in ((None, 2), (12, 1)):
        posed = PosedPicks(picks, {"a": density}, part)
        for place in places:
            assert posed.density_around(place, 24).sum() == pytest.approx(seen * 27, rel=1e-3)
    free = FreeVoxels(places, 5.0, part=12).mask((12, 0, 0), (12, 12, 12))
    alone = FreeVoxels(places[1:] - [0, 0, 12], 5.0).mask((0, 0, 0), (12, 12, 12))
    assert np.array_equal(free, alone)
    assert list(sample_blocks((24, 12, 12), 0, 12)) == [
        ((0, 0, 0), (12, 12, 12)),
        ((12, 0, 0), (12, 12, 12)),
    ]

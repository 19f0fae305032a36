"""Picking: exact out of core, at the truth of independent tomograms."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from cryoetgan.particles import picking
from cryoetgan.star import read_star
from cryoetgan.volumes import write_volume
from tests.conftest import refused


def ball(shape, centre, radius):
    axes = np.indices(shape)
    square = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
    return (square < radius**2).astype(np.float32)


def test_a_planted_ball_comes_first_to_a_tenth_of_a_voxel(rng):
    centre = np.array([21.0, 33.0, 40.0])
    volume = ball((48, 64, 80), centre, 9) + 0.5 * rng.standard_normal((48, 64, 80))
    places, scores = picking.pick(volume, [9 / 3**0.5])
    assert np.linalg.norm(places[0] - centre) < 0.5
    assert scores[0] > 2 * scores[1:].max(initial=0)


def test_the_response_is_best_at_radius_over_root_three():
    volume = ball((64, 64, 64), (32, 32, 32), 12)
    answers = {s: picking.response(volume, s)[32, 32, 32] for s in (4, 5, 6, 6.9, 8, 10)}
    assert max(answers, key=answers.get) == 6.9


def test_tiles_give_exactly_what_the_whole_gives(rng):
    volume = ndimage.gaussian_filter(rng.standard_normal((60, 70, 83)), 1).astype(np.float32)
    sigma = 2.3
    whole = picking.response(volume, sigma)
    top = ndimage.maximum_filter(whole, footprint=picking.NEIGHBOURS, mode="constant", cval=-np.inf)
    at = np.argwhere((whole == top) & (whole > 0))
    for tile in (17, 32, 200):
        peaks = picking.find_peaks(volume, sigma, tile)
        found = np.round(peaks.positions).astype(int)
        order = np.lexsort(found.T)
        assert np.array_equal(found[order], at[np.lexsort(at.T)])
        values = whole[tuple(found.T)]
        assert np.array_equal(peaks.values, values)
        assert peaks.highest == whole[whole == top].max()
        assert peaks.lowest == whole[whole == top].min()


def test_the_threshold_is_the_papers_formula():
    peaks = picking.Peaks(np.empty((0, 3)), np.empty(0), lowest=-1.0, highest=9.0, spread=1.0)
    assert picking.threshold_of(peaks, 3) == pytest.approx(-1 + 3 * 10 / 20)


def test_suppression_keeps_the_best_and_no_neighbour(rng):
    places, scores = rng.uniform(0, 30, (400, 3)), rng.random(400)
    kept = picking.suppress(places, scores, np.full(400, 4.0))
    assert scores[kept[0]] == scores.max()
    assert (np.diff(scores[kept]) <= 0).all()
    distance = cKDTree(places[kept]).query(places[kept], k=2)[0][:, 1]
    assert distance.min() >= 4.0
    # every dropped one lies near a kept one that is better
    dropped = np.setdiff1d(np.arange(400), kept)
    for index in dropped:
        near = kept[np.linalg.norm(places[kept] - places[index], axis=1) < 4.0]
        assert scores[near].max() >= scores[index]


def test_dark_particles_are_not_picked(rng):
    volume = -ball((48, 48, 48), (24, 24, 24), 8) + 0.1 * rng.standard_normal((48, 48, 48))
    places, _ = picking.pick(volume, [8 / 3**0.5])
    assert np.linalg.norm(places - 24, axis=1).min() > 6


def test_the_radius_of_a_map_is_that_of_its_ball():
    assert picking.radius_of_map(ball((40, 40, 40), (20, 20, 20), 11), 5.0) == pytest.approx(
        55, rel=0.03
    )


@pytest.mark.parametrize(
    ("name", "sigma", "bar"),
    [("dev_set1_1", 6.0, 0.96), ("dev_set2_1", 4.0, 0.97), ("dev_set2_2", 4.0, 0.97)],
)
def test_recall_and_precision_on_independent_tomograms(test_data, name, sigma, bar):
    from cryoetgan.tomograms.reading import open_tomogram

    truth = pd.read_csv(test_data / "tomograms" / f"{name}_truth.csv")
    truth = truth[~truth["class"].str.startswith("crowder_")]
    with open_tomogram(test_data / "tomograms" / f"{name}.mrc") as raw:
        volume = -np.asarray(raw.data, np.float32)
    places, _ = picking.pick(volume, [sigma], threshold=0, top=len(truth))
    at = truth[["z_vox", "y_vox", "x_vox"]].to_numpy()
    matched = one_to_one(places, at, 8.0)
    assert matched / len(truth) >= bar  # recall
    assert matched / len(places) >= bar  # precision


def one_to_one(places, truth, reach):
    from scipy.optimize import linear_sum_assignment

    distance = np.linalg.norm(places[:, None] - truth[None], axis=2)
    cost = np.where(distance <= reach, distance, 1e6)
    rows, columns = linear_sum_assignment(cost)
    return int((distance[rows, columns] <= reach).sum())


def test_the_command(cryoetgan, tmp_path, rng):
    centre = (20, 24, 28)
    volume = 3 * ball((40, 48, 56), centre, 6) + rng.standard_normal((40, 48, 56))
    write_volume(tmp_path / "t.mrc", volume, 10.0)
    cryoetgan("particles", "pick", "t.mrc", "--radius", 60, "--top", 5, "-o", "p.star")
    table = read_star(tmp_path / "p.star").particles
    first = table.iloc[0][["rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"]].to_numpy(float)
    assert np.allclose(first, centre[::-1], atol=0.7)  # x y z of data[z, y, x]
    assert len(table) <= 5
    assert table["cryoetganScore"].is_monotonic_decreasing
    assert table["cryoetganId"].is_unique
    refused(cryoetgan("particles", "pick", "t.mrc", "-o", "q.star", code=2), "--sigma")
    refused(
        cryoetgan("particles", "pick", "t.mrc", "--sigma", 1, "-o", "q.star", code=2), "0.1 voxels"
    )
    done = cryoetgan(
        "particles", "pick", "t.mrc", "--sigma", 35, "--threshold", 20, "-o", "q.star", code=2
    )
    refused(done, "threshold", "contrast")
    assert not (tmp_path / "q.star").exists()

"""Picking: exact out of core, at the truth of independent tomograms."""

import itertools
import os
import struct
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from cryoetgan.errors import UserError
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import COORDINATES, read_star
from cryoetgan.particles.picking import tiled
from cryoetgan.particles.picking.dog import difference_of_gaussians, non_maximum_suppression
from cryoetgan.particles.picking.fast import decimation_stride, find_peaks_fast
from cryoetgan.particles.picking.local_maxima import local_maxima
from cryoetgan.particles.picking.pick import PickOptions, pick, radius_of_map
from tests.conftest import ROOT, refused


def ball(shape, centre, radius):
    axes = np.indices(shape)
    square = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
    return (square < radius**2).astype(np.float32)


def test_a_planted_ball_comes_first_to_a_tenth_of_a_voxel(rng):
    centre = np.array([21.0, 33.0, 40.0])
    volume = ball((48, 64, 80), centre, 9) + 0.5 * rng.standard_normal((48, 64, 80))
    places, scores = pick(volume, [9 / 3**0.5])
    assert np.linalg.norm(places[0] - centre) < 0.5
    assert scores[0] > 2 * scores[1:].max(initial=0)


def test_the_response_is_best_at_radius_over_root_three():
    volume = ball((64, 64, 64), (32, 32, 32), 12)
    answers = {s: difference_of_gaussians(volume, s)[32, 32, 32] for s in (4, 5, 6, 6.9, 8, 10)}
    assert max(answers, key=answers.get) == 6.9


def test_tiles_give_exactly_what_the_whole_gives(rng):
    volume = ndimage.gaussian_filter(rng.standard_normal((60, 70, 83)), 1).astype(np.float32)
    sigma = 2.3
    whole = difference_of_gaussians(volume, sigma)
    top = ndimage.maximum_filter(
        whole, footprint=ndimage.generate_binary_structure(3, 2), mode="constant", cval=-np.inf
    )
    at = np.argwhere((whole == top) & (whole > 0))
    for tile in (17, 32, 200):
        peaks = tiled.find_peaks(volume, sigma, tile)
        found = np.round(peaks.positions).astype(int)
        order = np.lexsort(found.T)
        assert np.array_equal(found[order], at[np.lexsort(at.T)])
        values = whole[tuple(found.T)]
        assert np.array_equal(peaks.values, values)
        assert peaks.highest == whole[whole == top].max()
        assert peaks.lowest == whole[whole == top].min()


def test_padding_around_a_few_peaks_holds_no_memory_and_no_peak(rng):
    response = np.zeros((90, 100, 110), np.float32)
    response[20:40, 30:50, 40:60] = rng.integers(-2, 3, (20, 20, 20))  # flat places among them
    around = ndimage.generate_binary_structure(3, 2)
    top = ndimage.maximum_filter(response, footprint=around, mode="nearest") == response
    bottom = ndimage.minimum_filter(response, footprint=around, mode="nearest") == response
    rimmed = np.pad(response, 1, constant_values=-np.inf)
    tracemalloc.start()
    found = local_maxima(rimmed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(found, np.argwhere(top & ~bottom))
    assert peak < 2 * response.nbytes


@pytest.mark.parametrize("sigma", [3.6, 5.3, 8.0])
def test_the_pyramid_finds_the_same_peaks_to_half_a_voxel(rng, sigma):
    # sides that no stride divides, a border that cuts particles, noise that has no scale
    volume = rng.standard_normal((70, 101, 123)).astype(np.float32)
    volume += 2 * ball(volume.shape, (30, 50, 60), 1.7 * sigma) + ball(volume.shape, (2, 99, 7), 9)
    exact = tiled.find_peaks(volume, sigma)
    [fast] = find_peaks_fast(volume, [sigma])
    distance, nearest = cKDTree(fast.positions).query(exact.positions)
    # white noise has tops so flat that no voxel decides: those that matter must agree
    strong = exact.values >= np.quantile(exact.values, 0.75)
    assert distance[strong].max() < 0.5
    assert (distance < 0.5).mean() > 0.9
    assert np.abs(fast.values[nearest] / exact.values - 1)[strong].max() < 0.03
    assert abs(len(fast.values) / len(exact.values) - 1) < 0.1
    assert fast.highest == pytest.approx(exact.highest, rel=0.01)
    assert fast.lowest == pytest.approx(exact.lowest, abs=0.02 * exact.highest)


def test_sizes_of_one_stride_share_a_pyramid(rng):
    volume = rng.standard_normal((50, 61, 72)).astype(np.float32)
    sigmas = [5.3, 6.9]
    assert len({decimation_stride(sigma) for sigma in sigmas}) == 1
    for sigma, both in zip(sigmas, find_peaks_fast(volume, sigmas), strict=True):
        [alone] = find_peaks_fast(volume, [sigma])
        assert len(both.values) == len(alone.values) > 20
        assert np.allclose(both.positions, alone.positions, atol=1e-2)
        assert np.allclose(both.values, alone.values, atol=1e-5)


def test_sizes_are_merged_by_one_suppression(rng):
    """A large ball's parts do not outrank it, a small ball beside it is not lost."""
    shape, sizes = (64, 72, 96), {(30, 36, 30): 15, (30, 36, 70): 7}
    volume = sum(ball(shape, at, radius) for at, radius in sizes.items())
    volume = volume + 0.3 * rng.standard_normal(shape)
    places, _ = pick(volume, [r / 3**0.5 for r in sizes.values()], PickOptions(top=2))
    assert one_to_one(places, np.array(list(sizes), float), 2.0) == 2


def test_suppression_keeps_the_best_and_no_neighbour(rng):
    places, scores = rng.uniform(0, 30, (400, 3)), rng.random(400)
    kept = non_maximum_suppression(places, scores, np.full(400, 4.0))
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
    places, _ = pick(volume, [8 / 3**0.5])
    assert np.linalg.norm(places - 24, axis=1).min() > 6


def test_the_radius_of_a_map_is_that_of_its_ball():
    assert radius_of_map(ball((40, 40, 40), (20, 20, 20), 11), 5.0) == pytest.approx(55, rel=0.03)


@pytest.mark.parametrize(
    ("name", "sigma", "bar"),
    [("dev_set1_1", 6.0, 0.96), ("dev_set2_1", 4.0, 0.97), ("dev_set2_2", 4.0, 0.97)],
)
def test_recall_and_precision_on_independent_tomograms(test_data, name, sigma, bar):
    from cryoetgan.io.raw_mrc import open_raw_volume

    truth = pd.read_csv(test_data / "tomograms" / f"{name}_truth.csv")
    truth = truth[~truth["class"].str.startswith("crowder_")]
    with open_raw_volume(test_data / "tomograms" / f"{name}.mrc") as raw:
        volume = -np.asarray(raw.data, np.float32)
    options = PickOptions(threshold=0, top=len(truth))
    places, _ = pick(volume, [sigma], options)
    at = truth[["z_vox", "y_vox", "x_vox"]].to_numpy()
    matched = one_to_one(places, at, 8.0)
    assert matched / len(truth) >= bar  # recall
    assert matched / len(places) >= bar  # precision
    fast, _ = pick(volume, [sigma], replace(options, fast=True))
    assert one_to_one(fast, at, 8.0) / len(truth) >= bar


def one_to_one(places, truth, reach):
    from scipy.optimize import linear_sum_assignment

    distance = np.linalg.norm(places[:, None] - truth[None], axis=2)
    cost = np.where(distance <= reach, distance, 1e6)
    rows, columns = linear_sum_assignment(cost)
    return int((distance[rows, columns] <= reach).sum())


@pytest.mark.parametrize("fast", [False, True])
def test_a_tomogram_without_picks_is_named(fast):
    volume, options = np.zeros((40, 40, 40), np.float32), PickOptions(fast=fast)
    with pytest.raises(UserError, match=r"a\.mrc: has no peak"):
        pick(volume, [4.0], options, "a.mrc")
    with pytest.raises(UserError, match=r"a\.mrc: .*thinnest edge"):
        pick(volume[:1], [4.0], options, "a.mrc")
    volume[20, 20, 20] = np.nan
    with pytest.raises(UserError, match=r"a\.mrc: .*not finite"):
        pick(volume, [4.0], options, "a.mrc")


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


@pytest.fixture
def noise(tmp_path, rng):
    write_volume(tmp_path / "t.mrc", rng.standard_normal((40, 48, 56)), 10.0)


def test_without_a_size_sigma_is_the_papers_7_voxels(cryoetgan, tmp_path, noise):
    cryoetgan("particles", "pick", "t.mrc", "--sigma", 70, "-o", "paper.star")
    assert "70 A" in cryoetgan("particles", "pick", "t.mrc", "-o", "bare.star").stderr
    assert (tmp_path / "bare.star").read_bytes() == (tmp_path / "paper.star").read_bytes()


def test_refusals(cryoetgan, tmp_path, noise):
    done = cryoetgan("particles", "pick", "t.mrc", "--sigma", 1, "-o", "q.star", code=2)
    refused(done, "0.1 voxels")
    done = cryoetgan(
        "particles", "pick", "t.mrc", "--sigma", 35, "--threshold", 20, "-o", "q.star", code=2
    )
    refused(done, "threshold", "contrast")
    for option, value in (("--threshold", "-inf"), ("--threshold", "nan"), ("--top", 0)):
        words = ("--sigma", 35, f"{option}={value}", "-o", "q.star")
        refused(cryoetgan("particles", "pick", "t.mrc", *words, code=2), option)
    assert not (tmp_path / "q.star").exists()


def test_tiles_of_the_coarse_grid_give_what_the_whole_gives(rng):
    volume = rng.standard_normal((40, 150, 60)).astype(np.float32)
    [whole] = find_peaks_fast(volume, [4.0])
    [parts] = find_peaks_fast(volume, [4.0], tile_voxels=50_000)
    assert len(whole.values) == len(parts.values) > 100
    order = [np.lexsort(peaks.positions.round(2).T) for peaks in (whole, parts)]
    assert np.allclose(whole.positions[order[0]], parts.positions[order[1]], atol=2e-3)
    assert np.allclose(whole.values[order[0]], parts.values[order[1]], atol=1e-5)


@pytest.mark.parametrize("fast", [(), ("--fast",)])
def test_nothing_is_picked_in_a_mask(cryoetgan, tmp_path, rng, fast):
    """A gold bead in the mask is not picked, nor does it raise the threshold of the particles."""
    shape, bead, particle = (48, 56, 64), (20, 16, 20), (26, 38, 44)
    volume = 60 * ball(shape, bead, 6) + 3 * ball(shape, particle, 6)
    write_volume(tmp_path / "t.mrc", volume + 0.3 * rng.standard_normal(shape), 10.0)
    mask = 255 * (ball(shape, bead, 13) > 0)
    write_volume(tmp_path / "m.mrc", mask.astype(np.int16), 10.0)
    words = ("particles", "pick", "t.mrc", "--radius", 60, "--threshold", 4, *fast)
    cryoetgan(*words, "-o", "all.star")
    cryoetgan(*words, "--mask", "m.mrc", "-o", "p.star")
    every, kept = (
        read_star(tmp_path / name).particles[COORDINATES].to_numpy(float)[:, ::-1]
        for name in ("all.star", "p.star")
    )
    assert np.linalg.norm(every - bead, axis=1).min() < 1
    assert np.linalg.norm(every - particle, axis=1).min() > 5
    assert np.linalg.norm(kept[0] - particle) < 1
    z, y, x = np.rint(kept).astype(int).T
    assert not mask[z, y, x].any()
    write_volume(tmp_path / "small.mrc", mask[1:].astype(np.int16), 10.0)
    refused(
        cryoetgan(*words, "--mask", "small.mrc", "-o", "q.star", code=2), "64x56x47", "64x56x48"
    )
    write_volume(tmp_path / "full.mrc", np.ones(shape, np.int8), 10.0)
    refused(cryoetgan(*words, "--mask", "full.mrc", "-o", "q.star", code=2), "t.mrc", "mask")


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--fast",)])
def test_a_tomogram_of_54_billion_voxels_in_a_gigabyte(tmp_path, options):
    """6000 x 6000 x 1500: noise and balls across the borders of tiles; each is found once.

    The file is sparse: what is not written reads as zero and takes no disk.
    """
    shape, sigma = (1500, 6000, 6000), 4.0
    numbers, path = np.random.default_rng(4), tmp_path / "t.mrc"
    write_volume(path, np.zeros((2, 2, 2), np.int8), 10.0)
    with open(path, "r+b") as file:
        head = bytearray(file.read(1024))
        for start, kind in ((0, "3i"), (28, "3i"), (40, "3f")):  # n, m, and cell, x y z
            scale = 10 if kind == "3f" else 1
            struct.pack_into(f"<{kind}", head, start, *[scale * n for n in shape[::-1]])
        file.seek(0)
        file.write(head)
        file.truncate(1024 + int(np.prod(shape, dtype=np.int64)))
    data = np.memmap(path, np.int8, "r+", offset=1024, shape=shape)
    edges = tiled.tile_edges(shape, tiled.halo_width(sigma))
    # corners where tiles meet, and where the tomogram ends
    corners = [(n, 2 * n) if 2 * n < s else (s // 2,) for n, s in zip(edges, shape, strict=True)]
    true = []
    for corner in [*itertools.product(*corners), (40, 40, 40), (1460, 5960, 5960)]:
        block = numbers.normal(0, 12, (80, 80, 80))
        # a ball on the corner and two beside it, across other borders
        for offset in ((0, 0, 0), (0, -22, 3), (-20, 4, 21)):
            at = np.add(corner, offset) + numbers.uniform(-0.5, 0.5, 3)
            true.append(at)
            block += 60 * ball(block.shape, at - corner + 40, 7)
        data[tuple(slice(a - 40, a + 40) for a in corner)] = np.clip(np.rint(block), -127, 127)
    del data
    words = ["particles", "pick", str(path), "--sigma", "40", "--top", str(len(true)), *options]
    command = [sys.executable, "-m", "cryoetgan", *words, "-o", str(tmp_path / "p.star")]
    pid = os.posix_spawn(sys.executable, command, {**os.environ, "PYTHONPATH": str(ROOT)})
    _, status, usage = os.wait4(pid, 0)
    path.unlink()
    assert os.waitstatus_to_exitcode(status) == 0
    assert usage.ru_maxrss < 1_000_000  # kB
    found = read_star(tmp_path / "p.star").particles[COORDINATES].to_numpy(float)[:, ::-1]
    distance, index = cKDTree(found).query(np.array(true))
    assert distance.max() < 2
    assert len(np.unique(index)) == len(true) == len(found)

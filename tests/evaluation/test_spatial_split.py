"""Splits: no voxel is on both sides, and no class is lost."""

import numpy as np
import pandas as pd
import pytest

from cryoetgan.evaluation.statistics.spatial_split import (
    count_overlapping,
    spatial_folds,
    spatial_split,
    validation_split,
)
from cryoetgan.io.star import ANGLES, COORDINATES

BOX = 28


def crops(rng, count, shape=(300, 300, 300), tomogram="t"):
    table = pd.DataFrame(rng.uniform(0, shape, (count, 3)), columns=COORDINATES)
    return table.assign(rlnTomoName=tomogram, cryoetganClass="a")


def posed(rng, densities, draws=1):
    angles = np.repeat(rng.uniform(0, 180, (densities, 3)), draws, axis=0)
    return pd.DataFrame(angles, columns=ANGLES).assign(cryoetganClass="a")


def smallest_gap(table, sides):
    points = table[COORDINATES].to_numpy()
    return np.abs(points[sides == 0][:, None] - points[sides == 1][None]).max(axis=2).min()


def test_validation_shares_no_voxel_with_training(rng):
    table = crops(rng, 200)
    sides = validation_split(table, BOX, rng)
    assert smallest_gap(table, sides) >= BOX
    assert (sides == 1).sum() >= 20


def test_a_class_is_not_lost_to_the_gap(rng):
    """The only crops of a class lie on the far side: then there is no validation part."""
    table = crops(rng, 60, (300, 30, 30))
    table.loc[table[COORDINATES[0]] > 240, "cryoetganClass"] = "b"
    assert (validation_split(table, BOX, rng) == 0).all()


def test_all_volumes_of_a_density_lie_on_one_side(rng):
    sides = spatial_split(posed(rng, 50, draws=4), BOX, 0.5, rng)
    assert (sides.reshape(50, 4) == sides.reshape(50, 4)[:, :1]).all()
    assert sides.mean() == 0.5


def test_tomograms_without_coordinates_are_split_by_tomogram(rng):
    table = pd.DataFrame({"rlnTomoName": ["a"] * 5 + ["b"] * 5, "cryoetganClass": "x"})
    sides = spatial_split(table, BOX, 0.5, rng)
    assert set(sides[:5]) != set(sides[5:])
    assert len(set(sides[:5])) == len(set(sides[5:])) == 1


def test_each_crop_is_tested_in_one_fold_by_crops_that_share_no_voxel(rng):
    parts = [crops(rng, 30, (600, 200, 100), name) for name in ("t", "u")]
    table = pd.concat(parts, ignore_index=True)
    folds = spatial_folds(table, BOX, 4)
    tested = np.concatenate([test for _, test in folds])
    assert sorted(tested) == list(range(60))
    for train, test in folds:
        assert 14 <= len(test) <= 16
        assert len(train) > 20
        assert count_overlapping(table.iloc[train], table.iloc[test], BOX) == 0


def test_volumes_without_places_have_no_folds_of_space(rng):
    assert spatial_folds(posed(rng, 20), BOX, 4) == []


@pytest.mark.parametrize("tomograms", [1, 5, 20, 40])
def test_folds_are_equal_for_any_number_of_tomograms(rng, tomograms):
    table = crops(rng, 40, tomogram=[f"t{i % tomograms}" for i in range(40)])
    sizes = [len(test) for _, test in spatial_folds(table, BOX, 4)]
    assert sum(sizes) == 40
    assert max(sizes) - min(sizes) <= 2


@pytest.mark.parametrize("tomograms", [1, 4, 20])
def test_a_few_crops_added_to_many_volumes_are_all_for_training(rng, tomograms):
    real = crops(rng, 20, tomogram=[f"t{i % tomograms}" for i in range(20)])
    sides = validation_split(pd.concat([posed(rng, 200), real], ignore_index=True), BOX, rng)
    assert (sides[200:] == 0).all()
    assert sides[:200].mean() == pytest.approx(0.15, abs=0.02)


def test_rows_of_both_kinds_are_split_each_by_their_kind(rng):
    real, made = crops(rng, 200), posed(rng, 50, draws=4)
    sides = validation_split(pd.concat([made, real], ignore_index=True), BOX, rng)
    first, second = sides[:200], sides[200:]
    assert smallest_gap(real, second) >= BOX
    assert (second == 1).sum() >= 20
    assert (first.reshape(50, 4) == first.reshape(50, 4)[:, :1]).all()
    assert first.mean() == pytest.approx(0.15, abs=0.02)


def test_shared_voxels_are_counted():
    def rows(tomogram, *x):
        table = pd.DataFrame({COORDINATES[0]: x, COORDINATES[1]: 0.0, COORDINATES[2]: 0.0})
        return table.assign(rlnTomoName=tomogram)

    assert count_overlapping(rows("t", 0.0, 100.0), rows("t", 27.0, 28.0, 60.0, 128.0), 28) == 1
    assert count_overlapping(rows("t", 0.0), rows("u", 0.0), 28) == 0
    assert count_overlapping(rows("t", 0.0), pd.DataFrame({"cryoetganClass": ["a"]}), 28) == 0

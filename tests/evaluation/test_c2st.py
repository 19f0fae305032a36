"""The two-sample test: its chance level, its power with few crops, and too few crops."""

import numpy as np
import pandas as pd
import torch

from cryoetgan.evaluation.labelled_sets import LabelledSet
from cryoetgan.evaluation.measurement.c2st import _real_folds, c2st_auc
from cryoetgan.evaluation.measurement.metrics_io import MetricInputs
from cryoetgan.io.star import ANGLES, COORDINATES

BOX = 12


def volumes_of(rng, count, strength):
    """Return noise with a bright voxel row of this strength in the centre."""
    found = rng.standard_normal((count, BOX, BOX, BOX)).astype(np.float32)
    found[:, BOX // 2, BOX // 2, 3:9] += strength
    return found


def measure(real_count, strength, seed=0):
    rng = np.random.default_rng(seed)
    names = np.full(real_count, "a")
    places = pd.DataFrame(rng.uniform(0, (600, 100, 50), (real_count, 3)), columns=COORDINATES)
    real = LabelledSet(volumes_of(rng, real_count, 3), names, places.assign(rlnTomoName="t"))
    poses = pd.DataFrame(rng.uniform(0, 180, (120, 3)), columns=ANGLES)
    generated = LabelledSet(volumes_of(rng, 120, strength), np.full(120, "a"), poses)
    inputs = MetricInputs(real, generated, voxel_size=10.0)
    return c2st_auc(inputs, {}, seed, torch.device("cpu"))


def test_few_crops_of_one_tomogram_are_each_tested_once():
    """Forty crops leave fewer than 32 for each part of one split, so four blocks are used."""
    different, same = measure(40, 0), measure(40, 3)
    assert different["value"] > 0.9
    low, high = same["interval"]
    assert low < 0.5 < high
    # by one split, twenty crops are tested: an interval of 0.5 +- 0.14 at best
    assert high - low < 0.27
    assert 0.2 < same["baselines"]["real_half"] < 0.8


def test_each_part_of_a_split_is_the_test_once():
    """Of two hundred crops some ten lie in the gap; one part alone has at most a hundred."""
    rng = np.random.default_rng(0)
    places = pd.DataFrame(rng.uniform(0, (600, 100, 50), (200, 3)), columns=COORDINATES)
    real = LabelledSet(volumes_of(rng, 200, 3), np.full(200, "a"), places.assign(rlnTomoName="t"))
    folds, in_blocks, _ = _real_folds(real, rng)
    assert not in_blocks
    tested = np.concatenate([test for _, test in folds])
    assert len(tested) == len(set(tested)) > 180
    for train, test in folds:
        along = places["rlnCoordinateX"].to_numpy()
        assert abs(along[train][:, None] - along[test]).min() >= BOX


def test_too_few_crops_have_no_value():
    assert measure(14, 3) is None

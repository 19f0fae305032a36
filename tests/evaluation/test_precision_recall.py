"""Laws of the open figure: contributions, chance, crops without a particle."""

import numpy as np
import pandas as pd
import pytest

from cryoetgan.evaluation.labelled_sets import LabelledSet, add_other
from cryoetgan.evaluation.metrics.precision_recall import f1_contributions, open_record
from cryoetgan.io.star import COORDINATES

CLASSES = ["a", "b", "other"]


def macro_f1(names, predicted):
    found = []
    for name in CLASSES:
        hits = ((names == name) & (predicted == name)).sum()
        found.append(2 * hits / ((names == name).sum() + (predicted == name).sum()))
    return float(np.mean(found))


def draw(rng, count, right=0.7):
    names = rng.choice(CLASSES, count, p=[0.2, 0.1, 0.7])
    guess = rng.choice(CLASSES, count)
    return names, np.where(rng.random(count) < right, names, guess)


def test_contributions_have_the_mean_and_the_spread_of_f1(rng):
    values = [draw(rng, 400) for _ in range(300)]
    f1 = [macro_f1(*pair) for pair in values]
    means = [f1_contributions(*pair, CLASSES).mean() for pair in values]
    assert means == pytest.approx(f1)
    claimed = np.mean([f1_contributions(*pair, CLASSES).std() / 20 for pair in values])
    assert claimed == pytest.approx(np.std(f1), rel=0.12)


def test_no_guess_exceeds_one_over_the_number_of_classes(rng):
    names, _ = draw(rng, 60_000)
    best = 0.0
    for weights in ([1, 0, 0], [0, 0, 1], [0.2, 0.1, 0.7], [1, 1, 1], [0.3, 0.2, 0.5]):
        guess = rng.choice(CLASSES, len(names), p=np.array(weights) / np.sum(weights))
        best = max(best, macro_f1(names, guess))
    assert best == pytest.approx(1 / 3, abs=0.005)
    clusters = np.arange(len(names)).astype(str)
    assert open_record(names, names, clusters)["chance"] == pytest.approx(1 / 3)


def test_perfect_answers_of_a_few_volumes_leave_room_for_chance():
    names = np.array(["a", "b", "other"] * 4)
    found = open_record(names, names, np.arange(12).astype(str))
    assert found["f1"] == 1
    assert 0.5 < found["interval"][0] < 0.9


def crops(count, place, name, tomogram="t"):
    table = pd.DataFrame(np.array(place, float).reshape(-1, 3), columns=COORDINATES)
    table = table.assign(rlnTomoName=tomogram, cryoetganClass=name)
    volumes = np.zeros((count, 16, 16, 16), np.float32)
    return LabelledSet(volumes, np.full(count, name), table)


def test_a_pick_at_the_place_of_a_particle_is_not_other():
    particles = crops(2, [[20, 20, 20], [60, 60, 60]], "a")
    picks = crops(3, [[21, 20, 20], [20, 25, 20], [90, 90, 90]], "b")
    found = add_other(particles, [picks])
    assert list(found.names) == ["a", "a", "other", "other"]
    assert list(found.table["cryoetganClass"]) == list(found.names)
    # other tomograms hold no particle that could tell
    assert len(add_other(particles, [crops(1, [5, 5, 5], "b", "unknown")])) == 2


def test_training_takes_as_many_as_a_class_has(rng):
    particles = crops(2, [[20, 20, 20], [60, 60, 60]], "a")
    picks = crops(9, 100 + 10 * rng.random((9, 3)), "b")
    assert (add_other(particles, [picks], rng).names == "other").sum() == 2

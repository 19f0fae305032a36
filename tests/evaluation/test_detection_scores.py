"""`evaluation detect`: laws of the matching, and the command."""

import numpy as np
import pandas as pd
import pytest

from cryoetgan.evaluation.detection_scores import count_matches, score_detections
from cryoetgan.io.files import read_json
from cryoetgan.io.star import COORDINATES, write_star
from tests.conftest import refused

RADIUS = 4.0


def places(rng, count=40, classes=("a", "b"), tomograms=("t1", "t2")):
    """Particles on a grid of 20 voxels, so that none has another within the radius."""
    grid = np.stack(np.meshgrid(*[np.arange(5) * 20.0] * 3), axis=-1).reshape(-1, 3)
    table = pd.DataFrame(rng.permutation(grid)[:count], columns=COORDINATES)
    table["cryoetganClass"] = [classes[i % len(classes)] for i in range(count)]
    table["rlnTomoName"] = [tomograms[i // 2 % len(tomograms)] for i in range(count)]
    return table


def moved(table, rng, distance=2.0):
    shift = rng.normal(size=(len(table), 3))
    shift *= distance / np.linalg.norm(shift, axis=1, keepdims=True)
    return table.assign(**{c: table[c] + shift[:, i] for i, c in enumerate(COORDINATES)})


def test_perfect_picks_score_one_in_any_order(rng):
    truth = places(rng)
    picks = moved(truth, rng).sample(frac=1, random_state=1)
    found = score_detections(picks, truth, RADIUS)
    assert (found["precision"], found["recall"], found["f1"]) == (1, 1, 1)
    assert found["places"]["f1"] == 1
    assert score_detections(picks, truth, 1.9)["f1"] == 0


def test_a_second_pick_of_a_particle_is_false(rng):
    truth = places(rng)
    twice = pd.concat([moved(truth, rng), moved(truth, rng)])
    found = score_detections(twice, truth, RADIUS)
    assert found["recall"] == 1
    assert found["precision"] == pytest.approx(0.5)
    assert found["f1"] == pytest.approx(2 / 3)


def test_a_wrong_class_or_tomogram_is_false_and_missed(rng):
    truth = places(rng)
    swapped = truth.assign(cryoetganClass=truth["cryoetganClass"].map({"a": "b", "b": "a"}))
    found = score_detections(swapped, truth, RADIUS)
    assert found["f1"] == 0
    assert found["places"]["f1"] == 1
    elsewhere = truth.assign(rlnTomoName=truth["rlnTomoName"].map({"t1": "t2", "t2": "t1"}))
    assert score_detections(elsewhere, truth, RADIUS)["places"]["hits"] == 0


def test_crowders_are_no_misses_and_picks_on_them_are_wrong(rng):
    truth = places(rng, 40, ("a", "crowder_1", "other", "background"))
    only = truth[truth["cryoetganClass"] == "a"]
    found = score_detections(only, truth, RADIUS)
    assert list(found["classes"]) == ["a"]
    assert found["f1"] == 1
    everything = score_detections(truth.assign(cryoetganClass="a"), truth, RADIUS)
    assert everything["recall"] == 1
    assert everything["precision"] == 0.25


def test_other_is_right_where_no_particle_is(rng):
    truth = places(rng, 40, ("a", "crowder_1"))
    is_particle = truth["cryoetganClass"] == "a"
    named = truth.assign(cryoetganClass=np.where(is_particle, "a", "other"))
    assert score_detections(named, truth, RADIUS)["classes"]["other"]["f1"] == 1
    all_other = score_detections(truth.assign(cryoetganClass="other"), truth, RADIUS)
    assert all_other["classes"]["other"]["precision"] == 0.5
    assert all_other["classes"]["other"]["recall"] == 1
    assert all_other["classes"]["a"]["recall"] == 0


def test_the_matching_is_the_largest_one():
    # the first pick is near both particles, the second near one: nearest first would lose a hit
    truth = np.array([[0.0, 0, 0], [3, 0, 0]])
    picks = np.array([[0.9, 0, 0], [-3, 0, 0]])
    assert count_matches(picks, truth, 3.5) == 2
    assert count_matches(picks[::-1], truth[::-1], 3.5) == 2
    assert count_matches(picks[:1], truth, 3.5) == 1
    assert count_matches(picks, np.empty((0, 3)), 3.5) == 0


def test_the_command_takes_angstroms_and_names_what_it_lacks(cryoetgan, tmp_path, rng):
    truth = places(rng)
    write_star(tmp_path / "truth.star", truth, voxel_size=10.0)
    write_star(tmp_path / "p.star", moved(truth, rng))
    words = ("evaluation", "detect", "p.star", "--truth", "truth.star", "-o", "x.json")
    cryoetgan(*words, "--radius", 21)
    assert read_json(tmp_path / "x.json")["f1"] == 1
    cryoetgan(*words, "--radius", 19)
    assert read_json(tmp_path / "x.json")["f1"] == 0
    said = cryoetgan(*words, "--class", "c", code=2)
    refused(said, "--class", "c")
    write_star(tmp_path / "p.star", truth.assign(rlnTomoName="elsewhere"))
    refused(cryoetgan(*words, code=2), "elsewhere", "rlnTomoName")
    write_star(tmp_path / "p.star", truth)
    write_star(tmp_path / "truth.star", truth)
    refused(cryoetgan(*words, code=2), "--voxel-size")

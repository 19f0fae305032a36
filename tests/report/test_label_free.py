"""Checks that need no labels: tones and numbers."""

import re

import pytest

from cryoetgan.report.evaluation_json import parse_metrics
from cryoetgan.report.label_free import check_set, summarise
from tests.report.conftest import metric

TRAINED = {
    "kid": metric(2.0, real_half=0.1),
    "c2st_auc": metric(0.99),
    "pose_recovery": metric(0.5, chance=0.5),
    "coverage": metric(0.9, real_half=0.9),
}


def tone(name, **values):
    (found,) = check_set(parse_metrics({name: metric(**values)}), {})
    return found.tone


def test_every_metric_has_its_check():
    found = check_set(parse_metrics(TRAINED), parse_metrics({"kid": metric(50.0)}))
    assert [check.tone for check in found] == ["good", "bad", "bad", "good"]
    line = summarise(found)
    assert [line.count(word) for word in (": yes", ": no", ": partly")] == [2, 2, 0]
    assert check_set({}, {}) == []
    assert summarise([]) == ""


@pytest.mark.parametrize("is_simulated", [False, True])
def test_kid_must_fall_significantly(is_simulated):
    small, large = (parse_metrics({"kid": metric(value)}) for value in (2.0, 50.0))
    (better,) = check_set(small, large, is_simulated)
    (worse,) = check_set(large, small, is_simulated)
    (equal,) = check_set(large, large, is_simulated)
    assert [check.tone for check in (better, worse, equal)] == ["good", "bad", "bad"]
    assert re.findall(r"(\d+) \(([\d.]+) to ([\d.]+)\)", better.text) == [
        ("2", "1.9", "2.1"),
        ("50", "49.9", "50.1"),
    ]


def test_pose_recovery_is_compared_with_chance():
    assert tone("pose_recovery", value=0.3, chance=0.25) == "bad"
    assert tone("pose_recovery", value=0.5, chance=0.25) == "fair"
    # the baselines `physics` and `real` are not chance: complete recovery is the maximum
    assert tone("pose_recovery", value=1.0, spread=0, chance=0.25, physics=1.0, real=1.0) == "good"


def test_similarity_and_coverage_have_three_tones():
    assert [tone("c2st_auc", value=v) for v in (0.6, 0.7, 0.95)] == ["good", "fair", "bad"]
    values = [tone("coverage", value=v, real_half=0.5) for v in (0.45, 0.3, 0.1)]
    assert values == ["good", "fair", "bad"]

"""The choice between generated volumes and fitted simulation: laws of the comparison."""

import itertools
import json

import pytest

from cryoetgan.errors import UserError
from cryoetgan.evaluation.selection import (
    MIN_POSE_RECOVERY,
    choose,
    keeps_labels,
    parse_metrics,
    prefer,
    read_choice,
)
from tests.conftest import refused


def measured(kid=1.0, auc=0.8, recovery=0.9, physics=0.9, spread=0.05, **others):
    """Return the output of `evaluation measure`, as far as the choice reads it."""
    values = {"kid": kid, "c2st_auc": auc}
    found = {
        name: {"value": value, "interval": [value - spread, value + spread]}
        for name, value in values.items()
        if value is not None
    }
    if recovery is not None:
        baselines = {"physics": physics, "chance": 0.2}
        found["pose_recovery"] = {"value": recovery, "baselines": baselines}
    return found | others


def metrics(**values):
    return parse_metrics(measured(**values), "m.json")


WORSE, BETTER = metrics(), metrics(kid=0.5, auc=0.6)
MANY = [
    metrics(kid=kid, auc=auc, recovery=recovery)
    for kid, auc, recovery in itertools.product(
        (0.5, 1.0, 1.04, None), (0.3, 0.6, 0.8, None), (0.9, 0.5, None)
    )
    if (kid, auc, recovery) != (None, None, None)  # is not an output of measure
]


def test_generated_volumes_are_exported_if_they_are_significantly_better():
    assert choose(BETTER, WORSE).exported == "generated"


def test_exchanging_the_sets_exchanges_the_answer():
    assert choose(WORSE, BETTER).exported == "fitted"
    for first, second in itertools.product(MANY, MANY):
        assert prefer(first, second) == -prefer(second, first)


def test_of_equal_sets_the_simulation_is_exported():
    for one in MANY:
        assert choose(one, one).exported == "fitted"


def test_a_generated_set_that_loses_its_labels_is_never_exported():
    for lost, other in itertools.product(MANY, MANY):
        if (lost.pose_recovery or 0) < MIN_POSE_RECOVERY * (other.pose_recovery or 0):
            assert choose(lost, other).exported == "fitted"
    reason = choose(metrics(kid=0.1, auc=0.5, recovery=0.6), WORSE).reason
    assert "lose their labels" in reason
    assert "generated 0.600 (0.900), fitted 0.900 (0.900)" in reason


@pytest.mark.parametrize(
    ("sd_ratio", "exported"),
    [(0.3, "fitted"), (0.9, "generated"), (1.1, "generated"), (2.0, "fitted")],
)
def test_a_set_of_another_grey_scale_is_never_exported(sd_ratio, exported):
    candidate = metrics(kid=0.5, auc=0.6, sd_ratio={"value": sd_ratio})
    found = choose(candidate, WORSE)
    assert found.exported == exported
    assert ("grey values" in found.reason) is (exported == "fitted")
    assert prefer(candidate, WORSE) == -prefer(WORSE, candidate)


def test_labels_that_were_not_measured_count_as_lost():
    for values in ({"kid": 0.1, "recovery": None}, {"kid": 0.1}):
        other = WORSE if "recovery" in values else metrics(recovery=None)
        found = choose(metrics(**values), other)
        assert found.exported == "fitted"
        assert "not known" in found.reason


def test_particles_hidden_by_noise_are_lost_even_if_a_simulation_loses_them_too():
    noisy = metrics(kid=0.1, auc=0.5, recovery=0.5, physics=0.4)
    assert noisy.relative_recovery > 1
    assert choose(noisy, WORSE).exported == "fitted"


@pytest.mark.parametrize(("share", "kept"), [(0.94, False), (0.96, True)])
def test_both_thresholds_of_pose_recovery_must_be_reached(share, kept):
    for recovery, physics in ((share * 0.9, 0.9 * share), (0.9, 0.9 / share)):
        found = metrics(kid=0.5, recovery=recovery, physics=physics)
        assert keeps_labels(found, WORSE) is kept
        assert (choose(found, WORSE).exported == "generated") is kept


def test_the_threshold_is_at_most_the_recovery_of_the_fitted_simulation():
    candidate = metrics(kid=0.5, recovery=0.8, physics=1.0)
    assert not keeps_labels(candidate, metrics(recovery=0.8, physics=0.8))
    assert keeps_labels(candidate, metrics(recovery=0.8, physics=1.0))


@pytest.mark.parametrize(
    "values",
    [
        {"kid": 0.94, "auc": 0.74},  # a difference of 0.06 has an error of 0.05 sqrt(2) = 0.07
        {"kid": 0.5, "auc": 0.95},  # one closer, the other farther
        {"kid": None, "auc": None},
    ],
)
def test_if_nothing_is_significant_the_simulation_is_exported(values):
    found = choose(metrics(**values), WORSE)
    assert found.exported == "fitted"
    assert "not significantly closer" in found.reason


@pytest.mark.parametrize("values", [{"kid": 0.5}, {"auc": 0.72}, {"kid": None, "auc": 0.6}])
def test_one_significantly_lower_distance_is_enough(values):
    assert choose(metrics(**values), WORSE).exported == "generated"


@pytest.mark.parametrize("values", [{"kid": 0.5}, {"kid": 2.0, "auc": 0.5}])
def test_an_unreliable_distance_can_only_count_against_generated_volumes(values):
    content = measured(**values)
    content["kid"]["warning"] = "weak features"
    found = choose(parse_metrics(content, "m.json"), WORSE)
    assert found.exported == "fitted"
    assert "(unreliable: weak features)" in found.reason


def test_below_chance_is_not_closer_than_chance():
    assert choose(metrics(auc=0.3), metrics(auc=0.5)).exported == "fitted"
    assert choose(metrics(kid=-3.0), metrics(kid=0.02)).exported == "fitted"


@pytest.mark.parametrize("requested", ["generated", "fitted"])
def test_the_requested_set_is_exported_and_the_numbers_are_given(requested):
    found = choose(WORSE, BETTER, requested)
    assert (found.exported, found.requested) == (requested, requested)
    assert f"export.source is {requested}" in found.reason
    assert "KID: generated 1 (0.95 to 1.05), fitted 0.5 (0.45 to 0.55), farther" in found.reason
    assert "KID" not in choose(requested=requested).reason


def test_without_a_simulation_the_generated_volumes_are_exported():
    assert choose().exported == "generated"


@pytest.fixture
def folder(tmp_path):
    other, odd = measured(), measured() | {"kid": {"value": "low", "interval": [0, 1]}}
    other["kid"]["features"] = {"weights": "x"}
    files = {"a": measured(kid=0.5), "b": measured(), "other": other, "none": {}, "odd": odd}
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_the_command_writes_a_choice_that_can_be_read(cryoetgan, folder):
    command = ("evaluation", "choose")
    cryoetgan(*command, "--generated", "a.json", "--fitted", "b.json", "-o", "c.json")
    cryoetgan(*command, "--generated", "b.json", "--fitted", "a.json", "-o", "d.json")
    assert read_choice(folder / "c.json").exported == "generated"
    assert read_choice(folder / "d.json").exported == "fitted"
    written = json.loads((folder / "c.json").read_text())
    assert written["compared"]["kid"]["generated"]["value"] == 0.5
    assert written["provenance"]["inputs"].keys() == {"a.json", "b.json"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--source", "best"), ["--source", "best", "generated"]),
        (("--fitted", "a.json"), ["--generated"]),
        (("--generated", "a.json", "--fitted", "other.json"), ["different features"]),
        (("--generated", "a.json", "--fitted", "none.json"), ["none.json", "kid"]),
        (("--generated", "a.json", "--fitted", "odd.json"), ["odd.json", "measure again"]),
    ],
)
def test_unsuitable_input_is_refused(cryoetgan, folder, words, expected):
    refused(cryoetgan("evaluation", "choose", *words, "-o", "c.json", code=2), *expected)
    assert not (folder / "c.json").exists()


def test_another_file_is_not_a_choice(tmp_path):
    (tmp_path / "c.json").write_text('{"exported": "both"}')
    with pytest.raises(UserError, match="choose again"):
        read_choice(tmp_path / "c.json")

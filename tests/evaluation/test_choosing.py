"""The choice between generated volumes and fitted physics: laws of the comparison."""

import itertools
import json

import pytest

from cryoetgan.errors import UserError
from cryoetgan.evaluation.selection import (
    LEAST_KEPT,
    choose,
    compare,
    evidence_from,
    keeps_labels,
    read_choice,
)


def measured(kid=1.0, auc=0.8, recovered=0.9, physics=0.9, spread=0.05, **others):
    """What `evaluation measure` writes of a set, as far as the choice reads it."""
    looks = {"kid": kid, "c2st_auc": auc}
    found = {
        name: {"value": value, "interval": [value - spread, value + spread]}
        for name, value in looks.items()
        if value is not None
    }
    if recovered is not None:
        found["pose_recovery"] = {
            "value": recovered,
            "baselines": {"physics": physics, "chance": 0.2},
        }
    return found | others


def evidence(**values):
    return evidence_from(measured(**values), "m.json")


WORSE, BETTER = evidence(), evidence(kid=0.5, auc=0.6)
MANY = [
    evidence(kid=kid, auc=auc, recovered=recovered)
    for kid, auc, recovered in itertools.product(
        (0.5, 1.0, 1.04, None), (0.3, 0.6, 0.8, None), (0.9, 0.5, None)
    )
    if (kid, auc, recovered) != (None, None, None)  # would be no measure at all
]


def test_generated_volumes_ship_where_they_are_shown_to_be_better():
    assert choose(BETTER, WORSE).exported == "generated"


def test_swapping_the_sets_swaps_the_answer():
    assert choose(WORSE, BETTER).exported == "fitted"
    for first, second in itertools.product(MANY, MANY):
        assert compare(first, second) == -compare(second, first)


def test_equal_sets_ship_physics():
    for one in MANY:
        assert choose(one, one).exported == "fitted"


def test_a_generated_set_that_loses_its_labels_never_ships():
    for lost, other in itertools.product(MANY, MANY):
        if (lost.recovered or 0) < LEAST_KEPT * (other.recovered or 0):
            assert choose(lost, other).exported == "fitted"
    said = choose(evidence(kid=0.1, auc=0.5, recovered=0.6), WORSE).reason
    assert "lose their labels" in said
    assert "generated 0.600 (0.900), fitted 0.900 (0.900)" in said


def test_a_set_of_other_grey_values_never_ships_whatever_it_looks_like():
    for spread, shipped in (
        (0.3, "fitted"),
        (0.9, "generated"),
        (1.1, "generated"),
        (2.0, "fitted"),
    ):
        made = evidence(kid=0.5, auc=0.6, sd_ratio={"value": spread})
        found = choose(made, WORSE)
        assert found.exported == shipped
        assert ("grey values" in found.reason) is (shipped == "fitted")
        assert compare(made, WORSE) == -compare(WORSE, made)


def test_labels_that_nobody_looked_for_count_as_lost():
    for values in ({"kid": 0.1, "recovered": None}, {"kid": 0.1}):
        other = WORSE if "recovered" in values else evidence(recovered=None)
        found = choose(evidence(**values), other)
        assert found.exported == "fitted"
        assert "is not known" in found.reason


def test_particles_that_drown_in_noise_are_lost_though_physics_would_drown_too():
    drowned = evidence(kid=0.1, auc=0.5, recovered=0.5, physics=0.4)
    assert drowned.kept > 1
    assert choose(drowned, WORSE).exported == "fitted"


@pytest.mark.parametrize(("share", "kept"), [(0.94, False), (0.96, True)])
def test_both_bars_of_physics_have_to_be_reached(share, kept):
    for made in ((share * 0.9, 0.9 * share), (0.9, 0.9 / share)):
        found = evidence(kid=0.5, recovered=made[0], physics=made[1])
        assert keeps_labels(found, WORSE) is kept
        assert (choose(found, WORSE).exported == "generated") is kept


def test_the_bar_is_no_higher_than_what_fitted_physics_reaches():
    made = evidence(kid=0.5, recovered=0.8, physics=1.0)
    assert not keeps_labels(made, evidence(recovered=0.8, physics=0.8))
    assert keeps_labels(made, evidence(recovered=0.8, physics=1.0))


@pytest.mark.parametrize(
    "values",
    [
        {"kid": 0.91, "auc": 0.71},  # overlap by 0.01
        {"kid": 0.5, "auc": 0.95},  # one closer, the other farther
        {"kid": None, "auc": None},
    ],
)
def test_intervals_that_overlap_and_contradictions_ship_physics(values):
    found = choose(evidence(**values), WORSE)
    assert found.exported == "fitted"
    assert "not shown to be closer" in found.reason


@pytest.mark.parametrize("values", [{"kid": 0.5}, {"auc": 0.6}, {"kid": None, "auc": 0.6}])
def test_one_distance_that_is_clearly_less_is_enough_where_the_other_shows_nothing(values):
    assert choose(evidence(**values), WORSE).exported == "generated"


def test_a_doubtful_distance_speaks_against_generated_volumes_but_not_for_them():
    doubtful = measured(kid=0.5)
    doubtful["kid"]["warning"] = "features that know nothing"
    found = choose(evidence_from(doubtful, "m.json"), WORSE)
    assert found.exported == "fitted"
    assert "closer (doubtful: features that know nothing)" in found.reason
    doubtful = measured(kid=2.0, auc=0.5)
    doubtful["kid"]["warning"] = "features that know nothing"
    assert choose(evidence_from(doubtful, "m.json"), WORSE).exported == "fitted"


def test_below_chance_is_no_closer_than_chance():
    # an area under the curve of 0.3 is chance, and so is 0.5
    assert choose(evidence(auc=0.3), evidence(auc=0.5)).exported == "fitted"
    assert choose(evidence(kid=-3.0), evidence(kid=0.02)).exported == "fitted"


def test_what_was_asked_for_ships_and_the_numbers_stand_beside_it():
    for asked in ("generated", "fitted"):
        found = choose(WORSE, BETTER, asked)
        assert (found.exported, found.requested) == (asked, asked)
        assert f"export.source is {asked}" in found.reason
        assert "KID: generated 1 (0.95 to 1.05), fitted 0.5 (0.45 to 0.55), farther" in found.reason
        assert "KID" not in choose(requested=asked).reason
    assert choose().exported == "generated"


def test_command_writes_the_choice_and_reads_back(cryoetgan, tmp_path):
    for name, content in (("a", measured(kid=0.5)), ("b", measured())):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    cryoetgan("evaluation", "choose", "--generated", "a.json", "--fitted", "b.json", "-o", "c.json")
    cryoetgan("evaluation", "choose", "--generated", "b.json", "--fitted", "a.json", "-o", "d.json")
    assert read_choice(tmp_path / "c.json").exported == "generated"
    assert read_choice(tmp_path / "d.json").exported == "fitted"
    written = json.loads((tmp_path / "c.json").read_text())
    assert written["compared"]["kid"]["generated"]["value"] == 0.5
    assert written["provenance"]["inputs"].keys() == {"a.json", "b.json"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--source", "best"), "wanted auto, generated, fitted"),
        (("--fitted", "a.json"), "name --generated too"),
        (("--generated", "a.json", "--fitted", "other.json"), "different features"),
        (("--generated", "a.json", "--fitted", "none.json"), "none.json: holds none of kid"),
        (("--generated", "a.json", "--fitted", "odd.json"), "odd.json: is not as"),
    ],
)
def test_mistakes_are_said(cryoetgan, tmp_path, words, expected):
    other = measured()
    other["kid"]["features"] = {"weights": "x"}
    odd = measured() | {"kid": {"value": "low", "interval": [0, 1]}}
    files = {"a": measured(), "other": other, "none": {}, "odd": odd}
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    said = cryoetgan("evaluation", "choose", *words, "-o", "c.json", code=2)
    assert expected in said.stderr.replace("\n", " ")
    assert not (tmp_path / "c.json").exists()


def test_another_file_is_no_choice(tmp_path):
    (tmp_path / "c.json").write_text('{"exported": "both"}')
    with pytest.raises(UserError, match="choose again"):
        read_choice(tmp_path / "c.json")

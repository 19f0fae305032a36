"""What the first line of the page concludes, and that it says when not to trust it."""

import re

import numpy as np
import pytest

from cryoetgan.report.evaluation_results import accuracy_from, metrics_from
from cryoetgan.report.verdict import checks, conclude, second_opinion
from tests.report.conftest import accuracy, metric


def verdict(marks="marked", simulated=False, **values):
    found = {
        name: accuracy_from(accuracy(value) if isinstance(value, float) else value)
        for name, value in values.items()
    }
    return conclude(found, marks, simulated)


@pytest.mark.parametrize(
    ("values", "tone"),
    [
        ({}, "unknown"),
        ({"gan_train": 0.52, "real_train": 0.9}, "bad"),
        ({"gan_train": 0.7, "conventional_train": 0.9, "real_train": 0.95}, "bad"),
        ({"gan_train": 0.8, "conventional_train": 0.82, "real_train": 0.95}, "fair"),
        ({"gan_train": 0.8, "conventional_train": 0.6, "real_train": 0.95}, "fair"),
        ({"gan_train": 0.93, "conventional_train": 0.6, "real_train": 0.95}, "good"),
        ({"gan_train": 0.93, "conventional_train": 0.6}, "fair"),
        ({"gan_train": 0.93, "real_train": 0.95}, "fair"),
        ({"gan_train": 0.9, "conventional_train": 0.6, "real_train": 0.51}, "unknown"),
    ],
)
def test_the_verdict_follows_from_the_accuracies(values, tone):
    assert verdict(**values).tone == tone


def test_fitted_physics_counts_as_physics():
    found = verdict(gan_train=0.7, conventional_train=0.5, fitted_train=0.9, real_train=0.95)
    assert found.tone == "bad"
    assert "imaging/fitted.star" in found.headline
    assert "90 ± 5 %" in found.sentence


@pytest.mark.parametrize(
    ("values", "tone"),
    [
        ({"real_train": 0.95, "gan_train": 0.6}, "good"),
        ({"real_train": 0.95, "gan_train": 0.5}, "good"),
        ({"real_train": 0.95, "gan_train": 0.93}, "good"),
        ({"real_train": 0.999, "gan_train": 0.6}, "fair"),
        ({"gan_train": 0.6}, "fair"),
        ({"real_train": 0.51, "gan_train": 0.6}, "unknown"),
    ],
)
def test_where_fitted_physics_is_exported_the_headline_is_about_that(values, tone):
    found = {name: accuracy_from(accuracy(value)) for name, value in values.items()}
    found["fitted_train"] = accuracy_from(accuracy(0.93))
    said = conclude(found, "marked", False, "fitted")
    assert said.tone == tone
    if "real_train" in values:
        assert "93 ± " in said.sentence
    weak = conclude(found, "template", False, "fitted")
    assert weak.tone != "good"
    assert "labelled real crops" not in weak.headline  # there are none
    # a network that teaches nothing, exported by its user's wish, where physics would teach much
    if values["gan_train"] == 0.5:
        unwise = conclude(found, "marked", False)
        assert unwise.tone == "bad"
        assert "imaging/fitted.star" in unwise.headline
    found["fitted_train"] = accuracy_from(accuracy(0.51))
    if tone != "unknown":
        assert conclude(found, "marked", False, "fitted").tone == "bad"


def test_all_numbers_with_their_intervals_stand_in_the_sentence():
    found = verdict(gan_train=0.8, conventional_train=0.6, real_train=0.95)
    for number in ("200", "80 ± 6 %", "60 ± 7 %", "not run", "95 ± 4 %", "50 %"):
        assert number in found.sentence


def test_without_marked_crops_a_good_verdict_is_called_weak():
    found = verdict("template", gan_train=0.93, conventional_train=0.6, real_train=0.95)
    assert found.tone == "fair"
    assert any("pseudo-label" in text for text in found.caveats)
    bad = verdict("template", gan_train=0.5, real_train=0.9)
    assert bad.tone == "bad"


def test_caveats_name_what_may_mislead():
    collapsed = accuracy(0.5)
    collapsed["confusion"] = [[100, 0], [100, 0]]
    found = verdict(simulated=True, gan_train=collapsed, gan_test=0.99, real_train=0.9)
    said = " ".join(found.caveats)
    assert "simulated" in said
    assert "proteasome" in said
    assert "99 ± " in said
    assert "20 crops" in " ".join(verdict(gan_train=accuracy(0.9, n=20)).caveats)


def test_guessing_is_the_share_of_the_commonest_class():
    content = accuracy(0.8)
    content["confusion"] = [[150, 0], [40, 10]]
    assert accuracy_from(content).guessing == pytest.approx(0.75)
    assert verdict(gan_train=content, real_train=0.95).tone == "bad"


def test_a_difference_counts_only_beyond_its_interval():
    a, b, c = (accuracy_from(accuracy(v)) for v in (0.80, 0.84, 0.95))
    assert (a.compared(b), a.compared(c), c.compared(a)) == ("same", "below", "above")


def test_checks_without_labels():
    trained = metrics_from(
        {
            "kid": metric(2.0, real_half=0.1),
            "c2st_auc": metric(0.99),
            "pose_recovery": metric(0.5, chance=0.5),
            "coverage": metric(0.9, real_half=0.9),
        }
    )
    untrained = metrics_from({"kid": metric(50.0)})
    tones = [check.tone for check in checks(trained, untrained)]  # KID, C2ST, poses, coverage
    assert tones == ["good", "bad", "bad", "good"]
    # what physics and real crops reach is no chance: all recovered is all that can be
    whole = metrics_from({"pose_recovery": metric(1.0, 0.0, chance=0.25, physics=1.0, real=1.0)})
    (found,) = checks(whole, {})
    assert (found.tone, "25 %" in found.text) == ("good", True)
    swapped = checks(untrained, metrics_from({"kid": metric(2.0)}))
    assert swapped[0].tone == "bad"
    assert checks({}, {}) == []
    (first, *_) = checks(trained, untrained, fitted=True)
    assert first.tone == "good"
    assert re.findall(r"is (\d+) fitted and (\d+)", first.text) == [("2", "50")]


@pytest.mark.parametrize("odd", [{"accuracy": np.nan}, {"confusion": [[1, 2]]}, {"interval": [0]}])
def test_odd_numbers_are_no_accuracy(odd):
    with pytest.raises((ValueError, TypeError)):
        accuracy_from(accuracy(0.9) | odd)


@pytest.mark.parametrize(
    ("made", "fitted", "shipped", "words"),
    [
        (0.9, 0.6, "generated", "agrees"),
        (0.6, 0.9, "fitted", "agrees"),
        (0.9, 0.6, "fitted", "disagrees; `export.source: generated`"),
        (0.6, 0.9, "generated", "disagrees; `export.source: fitted`"),
    ],
)
def test_marked_crops_agree_with_the_choice_or_not(made, fitted, shipped, words):
    values = {"gan_train": made, "fitted_train": fitted}
    found = {name: accuracy_from(accuracy(value)) for name, value in values.items()}
    assert words in second_opinion(shipped, found, "marked")
    # pseudo-labels are no second opinion
    assert second_opinion(shipped, found, "template") == ""
    assert second_opinion(shipped, {"gan_train": found["gan_train"]}, "marked") == ""


def test_marked_crops_that_tell_no_difference_neither_agree_nor_disagree():
    found = {
        n: accuracy_from(accuracy(v)) for n, v in {"gan_train": 0.8, "fitted_train": 0.81}.items()
    }
    said = second_opinion("fitted", found, "marked")
    assert "agrees" not in said
    assert "export.source" not in said

"""The verdict follows from the accuracies, names its numbers, and says when it may not hold."""

import numpy as np
import pytest

from cryoetgan.report.evaluation_json import HandTest, Metric, parse_accuracy, parse_halves
from cryoetgan.report.label_free import check_halves, check_hand, check_rates, check_two_sample
from cryoetgan.report.verdict import compare_with_choice, conclude, find_level
from tests.report.conftest import accuracy, half_test


def parse(values):
    """Accuracies of 200 crops in two classes, from fractions or from whole results."""
    return {
        name: parse_accuracy(accuracy(value) if isinstance(value, float) else value)
        for name, value in values.items()
    }


def verdict(label_source="annotations", simulated=False, **values):
    return conclude(parse(values), label_source, simulated)


@pytest.mark.parametrize(
    ("generated", "conventional", "real", "tone", "finding"),
    [
        (None, None, None, "unknown", "no_result"),
        (0.52, None, 0.9, "bad", "at_chance"),
        (0.52, 0.8, 0.9, "bad", "simulation_only"),
        (0.7, 0.9, 0.95, "bad", "below_simulation"),
        (0.8, 0.82, 0.95, "fair", "no_gain"),
        (0.8, 0.6, 0.95, "fair", "below_real"),
        (0.93, 0.6, 0.95, "good", "as_good_as_real"),
        (0.93, 0.6, None, "fair", "no_upper_bound"),
        (0.93, None, 0.95, "fair", "as_good_as_real"),
        (0.9, 0.6, 0.51, "unknown", "upper_bound_at_chance"),
    ],
)
def test_the_verdict_follows_from_the_accuracies(generated, conventional, real, tone, finding):
    values = {"gan_train": generated, "conventional_train": conventional, "real_train": real}
    found = verdict(**{name: value for name, value in values.items() if value})
    assert (found.tone, found.finding) == (tone, finding)


def test_the_better_simulation_is_the_reference():
    found = verdict(gan_train=0.7, conventional_train=0.5, fitted_train=0.9, real_train=0.95)
    assert found.finding == "below_simulation"
    assert "imaging/fitted.star" in found.headline
    assert "90 ± 5 %" in found.numbers


@pytest.mark.parametrize(
    ("generated", "real", "tone", "finding"),
    [
        (0.6, 0.95, "good", "as_good_as_real"),
        (0.5, 0.95, "good", "as_good_as_real"),
        (0.93, 0.95, "good", "as_good_as_real"),
        (0.6, 0.999, "fair", "below_real"),
        (0.6, None, "fair", "no_upper_bound"),
        (0.6, 0.51, "unknown", "upper_bound_at_chance"),
    ],
)
def test_the_verdict_is_on_the_fitted_simulation_if_it_is_exported(generated, real, tone, finding):
    values = {"gan_train": generated, "fitted_train": 0.93} | ({"real_train": real} if real else {})
    found = conclude(parse(values), "annotations", False, "fitted")
    assert (found.tone, found.finding) == (tone, finding)
    assert "93 ± " in found.numbers
    useless = conclude(parse(values | {"fitted_train": 0.51}), "annotations", False, "fitted")
    assert useless.tone == ("unknown" if tone == "unknown" else "bad")


@pytest.mark.parametrize(
    ("generated", "words"), [(0.999, "higher"), (0.6, "lower"), (0.93, "no gain")]
)
def test_the_generated_set_is_compared_with_the_exported_simulation(generated, words):
    values = {"gan_train": generated, "fitted_train": 0.93, "real_train": 0.95}
    assert words in conclude(parse(values), "annotations", False, "fitted").headline


def test_a_useless_generated_set_points_to_the_simulation():
    """Also if its user exports it, against the comparison."""
    found = verdict(gan_train=0.5, fitted_train=0.93, real_train=0.95)
    assert found.finding == "simulation_only"
    assert "imaging/fitted.star" in found.headline


def test_the_numbers_hold_every_accuracy_with_its_interval():
    found = verdict(gan_train=0.8, conventional_train=0.6, real_train=0.95)
    for number in ("200", "80 ± 6 %", "60 ± 7 %", "not run", "95 ± 4 %", "50 %"):
        assert number in found.numbers


def check_both_halves(*numbers):
    found, _ = parse_halves(half_test(*numbers))
    return check_halves(found[""], found["other"] if found["other"].n else None)


def level(
    label_source="templates",
    rate=0.04,
    share=0.97,
    auc=0.6,
    half=0.5,
    values=None,
    exported="generated",
    halves=None,
):
    """The level of a run from the numbers of its checks; None: the check has no result."""
    hand = (
        None if share is None else HandTest(share, 0.9, 1.0, 100, max(0, 2 * share - 1), 0.5, False)
    )
    checks = [
        check_rates({} if rate is None else {"a": rate}),
        check_hand(hand, {}),
        *([check_both_halves(*halves)] if halves else []),
        check_two_sample(None if auc is None else Metric(auc, None, {"real_half": half}, ""), "x"),
    ]
    return find_level(
        conclude(parse(values or {}), label_source, False, exported), checks, label_source
    )


def test_the_levels_without_annotations():
    assert level().title == "Use it"
    worse = {"rate": (0.1, 0.3), "share": (0.8, 0.6), "auc": (0.75, 0.99)}
    for name, (fair, bad) in worse.items():
        assert level(**{name: fair}).title == "Use it with care"
        assert level(**{name: bad}).title == "Do not use it"
        # evidence that is missing is not good evidence
        values = {"gan_train": 0.93, "conventional_train": 0.6, "real_train": 0.95}
        assert level(values=values, **{name: None}).title == "Use it with care"
    # right particles alone do not show that the set is good, wrong ones show that it is not
    assert level(auc=None).title == "No verdict yet"
    assert level(auc=None, share=0.5).title == "Do not use it"
    # real crops that differ among themselves cannot acquit a set
    assert level(auc=0.6, half=0.9).tone == "fair"


@pytest.mark.parametrize(
    ("numbers", "tone"),
    [
        ((95, 100, 10, 100), "good"),
        ((95, 100), "good"),
        ((70, 100, 10, 100), "fair"),
        ((20, 100, 1, 100), "bad"),
        ((35, 50, 10, 50), "fair"),
        # picks without a particle may be structures, which both halves show, too
        ((85, 100, 80, 100), "good"),
        ((12, 12, 50, 60), "good"),
        ((38, 40, 240, 300), "good"),
        ((9, 10, 40, 60), "good"),
        # white noise, halves of two tomograms
        ((1, 50, 2, 50), "bad"),
        # other picks are confirmed more often
        ((30, 60, 55, 60), "bad"),
        ((85, 100, 295, 300), "bad"),
    ],
)
def test_particles_that_the_halves_do_not_confirm_lower_the_level(numbers, tone):
    assert check_both_halves(*numbers).tone == level(halves=numbers).tone == tone
    # direct evidence on the set says nothing of the particles it was made from
    values = {"gan_train": 0.93, "conventional_train": 0.6, "real_train": 0.95}
    assert level("annotations", values=values, halves=numbers).tone == tone
    if tone != "good":
        share = 100 * numbers[0] / numbers[1]
        assert f"{share:.0f} %" in level(halves=numbers).reason


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((95, 100, 10, 100), ()),
        ((95, 100), ()),
        ((12, 12, 50, 60), ("overlap",)),
        ((6, 8, 20, 60), ("not confirmed", "overlap")),
        ((35, 50, 10, 50), ("not confirmed",)),
        ((1, 50, 2, 50), ("not confirmed", "not halves")),
        ((20, 100), ("not confirmed", "not halves")),
        ((30, 60, 55, 60), ("more often", "not halves")),
        ((5, 60, 55, 60), ("more often", "not halves")),
    ],
)
def test_the_text_of_the_halves_claims_what_the_numbers_show(numbers, words):
    text = check_both_halves(*numbers).text
    for claim in ("not confirmed", "not halves", "overlap", "more often"):
        assert (claim in text) == (claim in words)


def test_the_reason_is_the_worst_check():
    assert "30.0 %" in level(rate=0.3, share=0.8).reason
    assert "0.99" in level(rate=0.1, auc=0.99).reason
    assert "60 %" in level(share=0.6, auc=0.75).reason


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_noise_and_mirrored_structures_are_never_used(share):
    """Whatever else is good: the picks prefer neither hand, or the mirror image."""
    values = {"gan_train": 0.93, "conventional_train": 0.6, "real_train": 0.95}
    for source in ("templates", "annotations", "truth"):
        assert level(source, share=share, values=values).tone == "bad"


def test_one_mirrored_map_among_many_forbids_the_use():
    """The pooled share alone would be good: 11 of 12 classes are right."""
    right, wrong = (HandTest(share, 0, 1, 60, None, 0.5, share < 0.5) for share in (1.0, 0.0))
    tests = {f"class{i}": right for i in range(11)}
    pooled = HandTest(11 / 12, 0.9, 1.0, 720, 5 / 6, 0.5, False)
    assert check_hand(pooled, {"t1": {"": pooled, **tests, "last": right}}).tone == "good"
    found = check_hand(pooled, {"t1": {"": pooled, **tests, "last": wrong}})
    assert found.tone == "bad"
    assert "last" in found.text
    assert "class1" not in found.text


def test_a_mirrored_map_with_most_picks_is_not_the_tomograms_fault():
    """Flipping the tomogram would break the right class."""
    right = HandTest(1.0, 0.95, 1.0, 60, 1.0, 0.5, False)
    wrong = HandTest(0.0, 0.0, 0.01, 300, 0.0, 0.5, True)
    pooled = HandTest(1 / 6, 0.13, 0.21, 360, 0.0, 0.5, True)
    found = check_hand(pooled, {"t1": {"": pooled, "a": right, "b": wrong}})
    assert found.tone == "bad"
    assert "flip the tomogram" not in found.text
    assert "Picks of b prefer the mirror image" in found.text
    alone = check_hand(wrong, {"t1": {"": wrong, "b": wrong}})
    assert "flip the tomogram" in alone.text


def test_annotated_crops_are_direct_evidence():
    values = {"gan_train": 0.93, "conventional_train": 0.6, "real_train": 0.95}
    assert level("annotations", rate=None, share=None, auc=None, values=values).tone == "good"
    assert level("annotations", auc=0.99, values=values).tone == "fair"
    assert level("templates", auc=0.99, values=values).tone == "bad"
    at_chance = values | {"real_train": 0.51}
    assert level("annotations", values=at_chance).tone == "unknown"
    assert level("annotations", share=0.5, values=at_chance).tone == "bad"
    assert level("annotations", values=values | {"gan_train": 0.51}).tone == "bad"


@pytest.mark.parametrize("exported", ["generated", "fitted"])
def test_pseudo_labels_are_as_good_as_the_picks(exported):
    values = {"gan_train": 0.93, "conventional_train": 0.6, "real_train": 0.95}
    values |= {"fitted_train": 0.94} if exported == "fitted" else {}
    found = conclude(parse(values), "templates", False, exported)
    assert "labelled real crops" not in found.headline  # there are none
    assert any("pseudo-label" in text for text in found.caveats)
    assert level(values=values, exported=exported).tone == "good"
    assert level(values=values, rate=None).tone == "fair"
    assert verdict("templates", gan_train=0.5, real_train=0.9).tone == "bad"


def test_caveats():
    collapsed = accuracy(0.5)
    collapsed["confusion"] = [[100, 0], [100, 0]]
    found = verdict(simulated=True, gan_train=collapsed, gan_test=0.99, real_train=0.9)
    simulated, never_predicted, too_easy = found.caveats
    assert "simulated" in simulated
    assert "proteasome" in never_predicted
    assert "99 ± " in too_easy
    (few,) = verdict(gan_train=accuracy(0.9, n=20)).caveats
    assert "20 test crops" in few


def test_guessing_is_the_fraction_of_the_majority_class():
    content = accuracy(0.8)
    content["confusion"] = [[150, 0], [40, 10]]
    assert parse_accuracy(content).majority == pytest.approx(0.75)
    assert verdict(gan_train=content, real_train=0.95).finding == "at_chance"


def test_a_difference_counts_only_beyond_its_interval():
    a, b, c = (parse_accuracy(accuracy(v)) for v in (0.80, 0.84, 0.95))
    assert (a.compare(b), a.compare(c), c.compare(a)) == ("same", "below", "above")


@pytest.mark.parametrize("odd", [{"accuracy": np.nan}, {"confusion": [[1, 2]]}, {"interval": [0]}])
def test_invalid_numbers_are_refused(odd):
    with pytest.raises((ValueError, TypeError)):
        parse_accuracy(accuracy(0.9) | odd)


@pytest.mark.parametrize(
    ("generated", "fitted", "exported", "agrees"),
    [
        (0.9, 0.6, "generated", True),
        (0.6, 0.9, "fitted", True),
        (0.9, 0.6, "fitted", False),
        (0.6, 0.9, "generated", False),
        (0.8, 0.81, "fitted", None),
    ],
)
def test_annotated_crops_agree_with_the_choice_or_not(generated, fitted, exported, agrees):
    found = parse({"gan_train": generated, "fitted_train": fitted})
    text = compare_with_choice(exported, found, "annotations")
    other = {"generated": "fitted", "fitted": "generated"}[exported]
    assert ("agrees" in text) == (agrees is not None)
    assert (f"export.source: {other}" in text) == ("export.source" in text) == (agrees is False)
    # pseudo-labels are not independent of the choice
    assert compare_with_choice(exported, found, "templates") == ""
    assert compare_with_choice(exported, parse({"gan_train": generated}), "annotations") == ""

"""The verdict at the top of the page: whether the synthetic data can be used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryoetgan.report.evaluation_json import Accuracy
from cryoetgan.report.label_free import Check

TEST_CROPS = {
    "truth": "{} crops with known class",
    "annotations": "{} annotated crops",
    "templates": "{} pseudo-labelled picks",
}
"""Description of the test set, by the origin of its classes."""
ALL_PICKS = "all {} picks of the test tomograms, `other` included"
"""Description of the test set in an open world."""
SIMULATED_SETS = {
    "conventional_train": "imaging/simulated.star",
    "fitted_train": "imaging/fitted.star",
}
OTHER_TRAINING_SETS = {
    "conventional_train": "conventional simulation",
    "fitted_train": "fitted simulation",
    "real_train": "reference (real data)",
}
USELESS = "A classifier trained on the exported set is not better than guessing."


@dataclass(frozen=True)
class Verdict:
    """The conclusion from the classifiers.

    `finding` is its key, for tests and style sheets; `tone` is good, fair, bad or unknown;
    `caveats` are reasons why it may not hold.
    """

    finding: str
    tone: str
    headline: str
    numbers: str
    caveats: list[str]


LEVELS = {
    "good": "Use it",
    "fair": "Use it with care",
    "bad": "Do not use it",
    "unknown": "No verdict yet",
}
"""The level of a run by its tone."""
INFORMATIVE = ("good", "fair", "bad")


@dataclass(frozen=True)
class Level:
    """The first line of the page: its tone, the level, and the reason."""

    tone: str
    reason: str

    @property
    def title(self) -> str:
        """The level in words."""
        return LEVELS[self.tone]


def find_level(verdict: Verdict, checks: Sequence[Check], label_source: str) -> Level:
    """Return the level: the worst tone of the classifiers and of the label-free `checks`.

    Particles that are wrong forbid the use of any set; particles that are right do not show that the
    set is good, so there is a level only with a classifier or a two-sample test on it.

    Without annotated crops, a check without result counts as fair, because its evidence is
    missing. With annotated crops, which are direct evidence, it does not count, and the two-sample
    test (the last check) lowers the level to fair at most.
    """
    labelled = label_source != "templates"
    found = [(verdict.tone, verdict.headline)] if verdict.tone in INFORMATIVE else []
    for check in checks:
        tone = check.tone
        if labelled and check is checks[-1] and tone == "bad":
            tone = "fair"
        if tone == "unknown" and labelled:
            continue
        found.append(("fair" if tone == "unknown" else tone, check.text))
    has_bad = any(tone == "bad" for tone, _ in found)
    on_the_set = verdict.tone in INFORMATIVE or checks[-1].number != "-"
    at_chance = labelled and verdict.finding == "upper_bound_at_chance"
    if (at_chance or not on_the_set) and not has_bad:
        return Level("unknown", verdict.headline)
    worst = max((tone for tone, _ in found), key=INFORMATIVE.index)
    if worst == "good":
        return Level("good", found[0][1])
    # a check that falls short names the reason before the classifiers do
    return Level(worst, next(text for tone, text in reversed(found) if tone == worst))


def conclude(
    accuracies: Mapping[str, Accuracy],
    label_source: str,
    simulated: bool,
    exported: str = "generated",
) -> Verdict:
    """Return the verdict on the exported set, `generated` or `fitted`.

    Accuracies are of the classifiers `gan_train`, `conventional_train`, `fitted_train`,
    `real_train` and `gan_test`, as far as they were trained. `label_source` is the origin of the
    test crops' classes: truth, annotations or templates. `simulated` says whether the "real"
    tomograms are simulated. If all of them were tested on all picks, `other` included, the verdict
    follows from that.
    """
    accuracies = take_open(accuracies)
    caveats = _caveats(accuracies, label_source, simulated)
    if "gan_train" not in accuracies:
        numbers = "No classifier has been trained on generated volumes and tested on real ones."
        return Verdict("no_result", "unknown", numbers, numbers, caveats)
    is_fitted = exported == "fitted" and "fitted_train" in accuracies
    real = "pseudo-labelled picks" if label_source == "templates" else "labelled real crops"
    if "real_train" in accuracies and accuracies["real_train"].at_chance:
        finding, tone = "upper_bound_at_chance", "unknown"
        headline = (
            f"Even a classifier trained on {real} is not better than guessing. "
            "This test is not informative. Annotate more crops, or check the annotations."
        )
    else:
        judge = _judge_fitted if is_fitted else _judge_generated
        finding, tone, headline = judge(accuracies, real)
    return Verdict(finding, tone, headline, _list(accuracies, label_source, is_fitted), caveats)


def take_open(found: Mapping[str, Accuracy]) -> dict[str, Accuracy]:
    """Return the results on all picks, `other` included, if every classifier has one."""
    names = ("gan_train", "gan_test", *OTHER_TRAINING_SETS)
    used = {name: found[name] for name in names if name in found}
    opened = {name: one.open for name, one in used.items() if one.open is not None}
    return opened if len(opened) == len(used) else used


def _describe_test(found: Accuracy, label_source: str) -> str:
    return (ALL_PICKS if found.is_f1 else TEST_CROPS[label_source]).format(found.n_test)


def _judge_fitted(found: Mapping[str, Accuracy], real: str) -> tuple[str, str, str]:
    """Return finding, tone and headline if the fitted simulation is exported."""
    fitted = found["fitted_train"]
    if fitted.at_chance:
        return "at_chance", "bad", USELESS
    generated = {
        "above": "The generated set, which is not exported, gives higher accuracy.",
        "below": "The generated set gives lower accuracy.",
        "same": "The generated set shows no gain over it.",
    }[found["gan_train"].compare(fitted)]
    if "real_train" not in found:
        finding, tone = "no_upper_bound", "fair"
        headline = f"The fitted simulation is exported; it was not compared with {real}."
    elif fitted.compare(found["real_train"]) == "below":
        finding, tone = "below_real", "fair"
        headline = f"The exported set (fitted simulation) is worse than {real}: use it if these are missing."
    else:
        finding, tone = "as_good_as_real", "good"
        headline = f"The exported set (fitted simulation) is not significantly worse than {real}."
    return finding, tone, f"{headline} {generated}"


def _judge_generated(found: Mapping[str, Accuracy], real: str) -> tuple[str, str, str]:
    """Return finding, tone and headline if the generated set is exported."""
    generated = found["gan_train"]
    simulated = {name: found[name] for name in SIMULATED_SETS if name in found}
    best = max(simulated, key=lambda name: simulated[name].value, default="")
    instead = f"Use the simulated set {SIMULATED_SETS.get(best)} instead:"
    if generated.at_chance:
        if not best or simulated[best].at_chance:
            return "at_chance", "bad", USELESS
        reason = "a classifier trained on the generated set is not better than guessing."
        return "simulation_only", "bad", f"{instead} {reason}"
    comparison = generated.compare(simulated[best]) if best else ""
    if comparison == "below":
        reason = "the generated set gives lower accuracy."
        return "below_simulation", "bad", f"{instead} {reason}"
    if comparison == "same":
        headline = "No gain shown: the generated set is not significantly better than simulation."
        return "no_gain", "fair", headline
    gain = "better than simulation" if best else "not compared with simulation"
    if "real_train" not in found:
        headline = f"The generated set is {gain}; it was not compared with {real}."
        return "no_upper_bound", "fair", headline
    if generated.compare(found["real_train"]) == "below":
        return (
            "below_real",
            "fair",
            f"The generated set is {gain}, but worse than {real}: use it if these are missing.",
        )
    headline = f"The generated set is {gain}, and not significantly worse than {real}."
    return "as_good_as_real", ("good" if best else "fair"), headline


def _list(found: Mapping[str, Accuracy], label_source: str, is_fitted: bool) -> str:
    """Return the accuracies by training set as a sentence."""
    generated = found["gan_train"]
    titles = dict(OTHER_TRAINING_SETS)
    if is_fitted:
        titles["fitted_train"] += " (exported)"
    others = "; ".join(f"{title} {found.get(name, 'not run')}" for name, title in titles.items())
    figure, chance = ("Mean F1", "guessing") if generated.is_f1 else ("Accuracy", "majority class")
    return (
        f"{figure} on {_describe_test(generated, label_source)}, by training set: generated "
        f"{generated}; {others}; {chance} {100 * generated.majority:.0f} %."
    )


def _caveats(
    found: Mapping[str, Accuracy], label_source: str, simulated: bool, min_crops: int = 60
) -> list[str]:
    """Return reasons why the verdict may not hold; below `min_crops` intervals are wide."""
    caveats = []
    if label_source == "templates" and found:
        caveats.append(
            "The test crops are pseudo-labelled: their classes come from the best template, not "
            "from a person. The classifiers are therefore compared with template matching. For a "
            "reliable test annotate some crops (`particles gallery --sample 150`, column "
            "annotations of the table of tomograms)."
        )
    if simulated:
        caveats.append(
            "The tomograms of this run are simulated. The results show that the workflow runs; "
            "they say nothing about your microscope."
        )
    generated, test = found.get("gan_train"), found.get("gan_test")
    if generated is None:
        return caveats
    if generated.n_test < min_crops:
        caveats.append(
            f"Only {generated.n_test} test crops: the intervals are wide. Annotate more crops for "
            "narrower intervals."
        )
    if generated.never_predicted:
        caveats.append(
            "A classifier trained on generated volumes never predicts "
            f"{', '.join(generated.never_predicted)}. The translation lost these classes, or they "
            "do not resemble the real ones."
        )
    if test and test.low > generated.high:
        caveats.append(
            f"A classifier trained on real crops recognises {test} of the generated volumes. This "
            "is well above the accuracy of training on them. The generated classes may be too "
            "easy to separate, or contain an artefact that real crops lack."
        )
    return caveats


def compare_with_choice(
    exported: str, accuracies: Mapping[str, Accuracy], label_source: str
) -> str:
    """Return whether annotated crops agree with the exported set; "" if they cannot tell."""
    accuracies = take_open(accuracies)
    generated, fitted = accuracies.get("gan_train"), accuracies.get("fitted_train")
    if label_source == "templates" or generated is None or fitted is None:
        return ""
    better = {"above": "generated", "below": "fitted", "same": ""}[generated.compare(fitted)]
    text = (
        f"The choice did not use {_describe_test(generated, label_source)}. On "
        f"these, training on generated volumes reaches {generated}, on the fitted simulation "
        f"{fitted}: "
    )
    if not better:
        return f"{text}no significant difference."
    if better == exported:
        return f"{text}this agrees with the choice."
    return (
        f"{text}this disagrees with the choice. To export the other set, set "
        f"`export.source: {better}` in the configuration."
    )

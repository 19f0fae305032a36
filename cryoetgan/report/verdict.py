"""The first line of the page: whether to trust the synthetic data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryoetgan.report.evaluation_results import Accuracy, Metric

FEW = 60
"""Test crops below this number leave an interval too wide to conclude much from."""
TOLD_APART = 0.9
"""Area under the curve of a two-sample test above which every volume gives itself away."""
MARKS = {
    "truth": "{} crops at known places",
    "marked": "{} of your marked crops",
    "template": "{} picks named by their best template",
}
PHYSICS = {"conventional_train": "imaging/simulated.star", "fitted_train": "imaging/fitted.star"}
BESIDE = {
    "conventional_train": "physics typed in",
    "fitted_train": "physics fitted",
    "real_train": "real_train (trained on real crops)",
}


USELESS = "Do not use this synthetic set: what it teaches is no better than guessing."


@dataclass(frozen=True)
class Verdict:
    """What is concluded.

    Attributes
    ----------
    headline : str
        What to do, in one line.
    sentence : str
        The numbers it rests on.
    tone : str
        good, fair, bad or unknown.
    caveats : list of str
        Why it may not hold.
    """

    headline: str
    sentence: str
    tone: str
    caveats: list[str]


@dataclass(frozen=True)
class Check:
    """One thing that can be said without labels: `good`, `bad` or `fair`."""

    name: str
    tone: str
    text: str


def conclude(
    found: Mapping[str, Accuracy], marks: str, simulated: bool, shipped: str = "generated"
) -> Verdict:
    """Return the verdict.

    Parameters
    ----------
    found : mapping
        gan_train, conventional_train, fitted_train, real_train, gan_test: what is there.
    marks : str
        What the test crops' classes are: `truth`, `marked` or `template`.
    simulated : bool
        Whether the "real" tomograms are simulated themselves.
    shipped : str
        generated or fitted: the set that is exported, which the headline is about.
    """
    caveats = _caveats(found, marks, simulated)
    made = found.get("gan_train")
    if made is None:
        text = "No classifier was trained on generated volumes and tested on real ones yet."
        return Verdict("No verdict yet.", text, "unknown", caveats)
    fitted = found.get("fitted_train") if shipped == "fitted" else None
    tone, headline = _headline_fitted(fitted, found) if fitted else _headline(made, found)
    if marks == "template":
        headline = headline.replace("labelled real crops", "picks named by their best template")
    if marks == "template" and tone in ("good", "fair"):
        tone, headline = "fair", f"Weak evidence (no marked crops): {headline}"
    return Verdict(headline, _numbers(found, marks, fitted is not None), tone, caveats)


def _only_guesses(found: Mapping[str, Accuracy]) -> tuple[str, str] | None:
    real_train = found.get("real_train")
    if real_train is None or real_train.low > real_train.guessing:
        return None
    return "unknown", (
        "No verdict: even a classifier trained on labelled real crops only guesses, so this "
        "test can tell nothing. Mark more crops, or better ones."
    )


def _headline_fitted(fitted: Accuracy, found: Mapping[str, Accuracy]) -> tuple[str, str]:
    """Return what is said where fitted physics is what is exported."""
    if nothing := _only_guesses(found):
        return nothing
    if fitted.low <= fitted.guessing:
        return "bad", USELESS
    network = {
        "above": "The translated set, which is not exported, is better.",
        "below": "The translated set is worse.",
        "same": "The translated set shows no gain over it.",
    }[found["gan_train"].compared(fitted)]
    real_train = found.get("real_train")
    if real_train is None:
        said = "Promising: fitted physics is exported; not compared with labelled real crops."
        return "fair", f"{said} {network}"
    if fitted.compared(real_train) == "below":
        said = (
            "Use the exported set, fitted physics, where labels lack: short of labelled real crops."
        )
        return "fair", f"{said} {network}"
    said = "Use the exported set, fitted physics: as good as labelled real crops."
    return "good", f"{said} {network}"


def _headline(made: Accuracy, found: Mapping[str, Accuracy]) -> tuple[str, str]:
    if nothing := _only_guesses(found):
        return nothing
    real_train = found.get("real_train")
    fits = {name: found[name] for name in PHYSICS if name in found}
    best = max(fits, key=lambda name: fits[name].value, default=None)
    if made.low <= made.guessing:
        if best is None or fits[best].low <= fits[best].guessing:
            return "bad", USELESS
        return "bad", (
            "Use plain physics instead: the translated set teaches no better than guessing. "
            f"Take {PHYSICS[best]}, not the translation."
        )
    if best and made.compared(fits[best]) == "below":
        return "bad", (
            "Use plain physics instead: the translated set is worse. "
            f"Take {PHYSICS[best]}, not the translation."
        )
    if best and made.compared(fits[best]) == "same":
        return "fair", "No gain shown: the translated set cannot be told apart from plain physics."
    over = "better than plain physics" if best else "not compared with plain physics"
    if real_train is None:
        return "fair", f"Promising: {over}; not compared with labelled real crops."
    if made.compared(real_train) == "below":
        return "fair", f"Use it where labels lack: {over}, but short of labelled real crops."
    return ("good" if best else "fair"), f"Use it: as good as labelled real crops, {over}."


def _numbers(found: Mapping[str, Accuracy], marks: str, fitted: bool) -> str:
    made = found["gan_train"]
    of = "translated " if fitted else ""
    parts = [f"Trained on synthetic, tested on {MARKS[marks].format(made.n_test)}: {of}{made}"]
    beside = BESIDE | ({"fitted_train": "physics fitted (exported)"} if fitted else {})
    parts += [f"{text} {found.get(name, 'not run')}" for name, text in beside.items()]
    guessing = f"always naming the commonest class {100 * made.guessing:.0f} %"
    return "; ".join([*parts, guessing]) + "."


def _caveats(found: Mapping[str, Accuracy], marks: str, simulated: bool) -> list[str]:
    said = []
    if marks == "template":
        said.append(
            "The test crops are pseudo-labelled: their classes are those of their best template, "
            "not a person's, so a classifier is compared with template matching. Mark some crops "
            "(`particles gallery --sample 150`, column annotations of the table of tomograms) for a "
            "test that can be trusted."
        )
    if simulated:
        said.append(
            "The tomograms of this run are simulated themselves: this tells that the workflow "
            "works, and nothing about your microscope."
        )
    made, test = found.get("gan_train"), found.get("gan_test")
    if made and made.n_test < FEW:
        said.append(
            f"Only {made.n_test} crops to test on: the intervals are wide. Mark more for a sharper "
            "answer."
        )
    if made and made.never_found:
        said.append(
            f"Trained on generated volumes, the classifier never answers "
            f"{', '.join(made.never_found)}: those classes did not survive the translation, or do "
            "not look like the real ones."
        )
    if made and test and test.low > made.high:
        said.append(
            f"A classifier of real crops recognises {test} of the generated volumes, far above "
            "what training on them gives: the generated classes may be too easy, or carry a mark "
            "that real ones lack."
        )
    return said


def second_opinion(shipped: str, found: Mapping[str, Accuracy], marks: str) -> str:
    """Return whether GAN-train on marked crops agrees with what was shipped; "" without marks.

    Parameters
    ----------
    shipped : str
        generated or fitted.
    found : mapping
        gan_train and fitted_train; nothing is said where one lacks.
    marks : str
        As in `conclude`.
    """
    made, fitted = found.get("gan_train"), found.get("fitted_train")
    if marks == "template" or made is None or fitted is None:
        return ""
    better = {"above": "generated", "below": "fitted", "same": ""}[made.compared(fitted)]
    text = (
        f"On {MARKS[marks].format(made.n_test)}, of which the choice knew nothing, a classifier "
        f"trained on generated volumes is right in {made}, on fitted physics in {fitted}: "
    )
    if not better:
        return f"{text}this tells the two no better apart."
    if better == shipped:
        return f"{text}this agrees."
    return f"{text}this disagrees; `export.source: {better}` in the configuration ships the other."


def checks(
    trained: Mapping[str, Metric], untrained: Mapping[str, Metric], fitted: bool = False
) -> list[Check]:
    """Return what can be said without any label; weaker than a test on marked crops.

    Parameters
    ----------
    trained, untrained : mapping
        Metrics of the set, and of what it has to be closer to real crops than: the untrained
        generator's volumes; of fitted physics, typed-in physics.
    fitted : bool
        Whether the set is fitted physics.
    """
    said = []
    made = "simulated" if fitted else "generated"
    if "kid" in trained and "kid" in untrained:
        after, before = trained["kid"], untrained["kid"]
        closer = _high(after) < _low(before)
        text = f"KID to real crops is {after.value:.3g} " + (
            f"fitted and {before.value:.3g} typed in"
            if fitted
            else f"after training and {before.value:.3g} before"
        )
        if "real_half" in after.baselines:
            text += f" (one half of the real crops against the other: {after.baselines['real_half']:.3g})"
        name = "closer than typed-in physics" if fitted else "learned something"
        said.append(Check(name, "good" if closer else "bad", text + "."))
    if "c2st_auc" in trained:
        value = trained["c2st_auc"].value
        tone = "bad" if value > TOLD_APART else "good" if value < 0.65 else "fair"
        text = (
            f"A fresh classifier tells {made} from real with an area under the curve of "
            f"{value:.2f}; 0.5 is indistinguishable, 1 is told apart every time."
        )
        said.append(Check("looks real", tone, text))
    if "pose_recovery" in trained:
        metric = trained["pose_recovery"]
        # the other baselines, physics and real, are what good volumes reach
        chance = max(
            (metric.baselines[n] for n in ("chance", "noise") if n in metric.baselines), default=0
        )
        tone = "bad" if _low(metric) <= chance else "good" if metric.value >= 0.8 else "fair"
        text = (
            f"Of the {made} volumes, {100 * metric.value:.0f} % still match the density they "
            f"were made of best; by chance {100 * chance:.0f} %."
        )
        said.append(Check("labels survive", tone, text))
    if "coverage" in trained:
        metric = trained["coverage"]
        half = metric.baselines.get("real_half", 1.0)
        tone = (
            "good" if metric.value > 0.8 * half else "bad" if metric.value < 0.3 * half else "fair"
        )
        text = (
            f"{100 * metric.value:.0f} % of the real crops have a {made} one nearby; "
            f"with real ones in place of {made} it is {100 * half:.0f} %."
        )
        said.append(Check("covers the real variety", tone, text))
    return said


def in_short(said: Sequence[Check]) -> str:
    """Return the checks in one sentence, for a verdict that has no marked crops to rest on."""
    if not said:
        return ""
    words = {"good": "yes", "fair": "partly", "bad": "no"}
    listed = ", ".join(f"{check.name}: {words[check.tone]}" for check in said)
    return f"What needs no labels, and is weaker: {listed}."


def _low(metric: Metric) -> float:
    return metric.interval[0] if metric.interval else metric.value


def _high(metric: Metric) -> float:
    return metric.interval[1] if metric.interval else metric.value

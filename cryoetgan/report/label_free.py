"""Checks of a synthetic set that need no labels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cryoetgan.evaluation.statistics.intervals import is_lower
from cryoetgan.evaluation.statistics.wrong_hand import CLEAR_SHARE
from cryoetgan.io.star import OTHER
from cryoetgan.report.evaluation_json import HalfTest, HandTest, Metric
from cryoetgan.report.run import TITLES, Run

SIMULATION = "the conventional simulation"


@dataclass(frozen=True)
class Check:
    """A check: name, tone (`good`, `fair`, `bad` or `unknown`), and the numbers in a sentence.

    `number` is the result in a few characters, `beside` the number to compare it with.
    """

    name: str
    tone: str
    text: str
    number: str = ""
    beside: str = ""

    @property
    def answer(self) -> str:
        """The tone in a word."""
        return {"good": "yes", "fair": "partly", "bad": "no", "unknown": "?"}[self.tone]


def checks_by_set(run: Run) -> dict[str, list[Check]]:
    """Return the checks of the generated set; of the exported set first, if it is another."""
    metrics = run.metrics
    found = {"generated": check_set(metrics["generated"], metrics["untrained"])}
    if run.exported == "fitted":
        fitted = check_set(metrics["fitted"], metrics["conventional"], is_simulated=True)
        found = {"fitted simulation (exported)": fitted} | found
    return found


def check_set(
    metrics: Mapping[str, Metric], reference: Mapping[str, Metric], is_simulated: bool = False
) -> list[Check]:
    """Return the checks that the available metrics allow.

    `reference` is of a set that must be farther from real crops: volumes of the untrained
    generator, or the conventional simulation if the set is the fitted simulation.
    """
    kind = "simulated" if is_simulated else "generated"
    found = []
    if "kid" in metrics and "kid" in reference:
        found.append(_check_kid(metrics["kid"], reference["kid"], is_simulated))
    checks = {
        "c2st_auc": _check_c2st,
        "pose_recovery": _check_poses,
        "coverage": _check_coverage,
    }
    return found + [check(metrics[n], kind) for n, check in checks.items() if n in metrics]


def headline_checks(run: Run) -> list[Check]:
    """Return the checks of every run: false discovery rate, hand, two-sample AUC.

    With half tomograms, their agreement stands before the last.
    """
    found, others = run.selection, dict(run.metrics)
    metric = others.pop(run.exported, {}).get("c2st_auc")
    particles = found.half()
    kind = "simulated" if run.exported == "fitted" else "generated"
    compared = {
        TITLES[name]: others[name]["c2st_auc"]
        for name in ("generated", "fitted", "conventional")
        if "c2st_auc" in others.get(name, {})
    }
    return [
        check_rates(found.rates),
        check_hand(found.hand, found.hands),
        *([check_halves(particles, found.half(OTHER))] if particles else []),
        check_two_sample(metric, kind, compared),
    ]


def check_rates(rates: Mapping[str, float], good: float = 0.05, bad: float = 0.2) -> Check:
    """Compare the highest estimated false discovery rate of a class with `good` and `bad`."""
    name = "estimated false discovery rate"
    if not rates:
        text = (
            "The false discovery rate of the selected particles is unknown: score the picks with "
            "`--decoys mirror`."
        )
        return Check(name, "unknown", text, "-")
    worst = max(rates, key=lambda key: rates[key])
    rate = rates[worst]
    tone = "good" if rate <= good else "fair" if rate <= bad else "bad"
    text = (
        f"An estimated {100 * rate:.1f} % of the selected particles of {worst} are wrong"
        + (", the highest rate of all classes." if len(rates) > 1 else ".")
        + ("" if tone == "good" else " Lower `particles.fdr`, or reject particles in the gallery.")
    )
    beside = f"at most {100 * good:g} % wanted"
    return Check(name, tone, text, f"{100 * rate:.1f} %", beside)


def check_hand(
    found: HandTest | None,
    tomograms: Mapping[str, Mapping[str, HandTest]],
    good: float = 0.8,
    bad: float = 0.5,
) -> Check:
    """Compare the precision that the hand test implies with `good` and `bad`.

    A tomogram or a map of the wrong hand is bad, even if most picks prefer their map.
    """
    name = "prefer their own hand"
    if found is None:
        text = (
            "No hand test: every map equals its mirror image at the resolution used."
            if tomograms
            else "No hand test: run `evaluation hand`."
        )
        return Check(name, "unknown", text, "-")
    precision = found.precision or 0.0
    tone = "good" if precision >= good else "fair" if precision >= bad else "bad"
    numbers = f"{100 * found.share:.0f} % ({100 * found.low:.0f} to {100 * found.high:.0f})"
    text = (
        f"Of {found.n} picks, {numbers} prefer their map to its mirror image; by chance it would "
        f"be 50 %."
    )
    if precision > 0:
        text += f" At least about {100 * precision:.0f} % of them are right."
    # a pooled share hides one wrong map among many, or shows only one with many picks
    wrong = [
        tomogram
        for tomogram, tests in tomograms.items()
        if tests[""].is_wrong_hand
        and all(test.share < 0.5 for test in tests.values() if test.precision is not None)
    ]
    maps = {
        name
        for tests in tomograms.values()
        for name, test in tests.items()
        if name and test.is_wrong_hand
    }
    if wrong:
        tone = "bad"
        is_clear = all(tomograms[name][""].high <= CLEAR_SHARE for name in wrong)
        cause = "is wrong" if is_clear else "is wrong, or the structure is not in it"
        text += f" The hand of {', '.join(wrong)} {cause}: flip the tomogram, or mirror the maps."
    elif maps:
        tone = "bad"
        text += (
            f" Picks of {', '.join(sorted(maps))} prefer the mirror image: mirror the map, or leave "
            "out the class."
        )
    elif tone == "bad":
        text += " The structure is not in the tomogram, or too few picks are particles."
    return Check(name, tone, text, f"{100 * found.share:.0f} %", f"of {found.n}; by chance 50 %")


def check_halves(
    particles: HalfTest, others: HalfTest | None, good: float = 0.8, bad: float = 0.5
) -> Check:
    """Compare the share of particles that both halves of the data confirm with `good` and `bad`.

    It is bad, too, if it is significantly below the share of the picks without a particle. That may
    be as high, because structure without a map is in both halves.
    """
    tone = "good" if particles.share >= good else "fair" if particles.share >= bad else "bad"
    is_below = others is not None and particles.high < others.low
    numbers = f"{100 * particles.share:.0f} %"
    beside = "picks without a particle: " + (f"{100 * others.share:.0f} %" if others else "none")
    text = (
        f"Both halves of the data confirm {numbers} ({100 * particles.low:.0f} to "
        f"{100 * particles.high:.0f}) of {particles.n} particles; {beside}"
        + (
            f" ({100 * others.low:.0f} to {100 * others.high:.0f}) of {others.n}."
            if others
            else "."
        )
    )
    if is_below:
        text += (
            " Other picks are confirmed more often: the selection may prefer noise, or structures "
            "without a map may be stronger."
        )
    elif tone != "good":
        text += (
            " Particles that are not confirmed may be noise, other structures, or too weak to be "
            "found in one half."
        )
    if is_below or tone == "bad":
        tone = "bad"
        text += " Or even and odd are not halves of these tomograms."
    elif others and particles.low <= others.high:
        text += " The intervals overlap: picks without a particle may be structures, too."
    return Check("confirmed by both halves", tone, text, numbers, beside)


def check_two_sample(
    metric: Metric | None,
    kind: str,
    others: Mapping[str, Metric] | None = None,
    good: float = 0.65,
    bad: float = 0.9,
) -> Check:
    """Compare the AUC of a two-sample classifier with `good` and `bad`, and real with real.

    `others`, the same test of other sets by their names, are stated beside it.
    """
    name = "two-sample AUC"
    if metric is None or not math.isfinite(metric.value):
        text = (
            f"No two-sample test of {kind} and real volumes: it was not run, or crops are too few."
        )
        return Check(name, "unknown", text, "-")
    tone = "bad" if metric.value > bad else "good" if metric.value < good else "fair"
    half = metric.baselines.get("real_half")
    beside = "0.5 wanted" if half is None else f"{half:.2f} real against real"
    text = (
        f"A classifier tells {kind} from real volumes with an AUC of {_show_auc(metric)}; {beside}."
    )
    if tone != "good":
        text += " The power spectra below show what differs."
    finite = {title: other for title, other in (others or {}).items() if math.isfinite(other.value)}
    if finite:
        text += f" Other sets: {', '.join(f'{t} {_show_auc(m)}' for t, m in finite.items())}."
        beside = "; ".join([beside, *(f"{t} {m.value:.2f}" for t, m in finite.items())])
    if half is not None and half >= good:
        tone = "unknown" if tone != "bad" else "bad"
        text += " Real crops differ among themselves, so this test is not informative."
    return Check(name, tone, text, f"{metric.value:.2f}", beside)


def _show_auc(metric: Metric) -> str:
    interval = f" ({metric.low:.2f} to {metric.high:.2f})" if metric.interval else ""
    return f"{metric.value:.2f}{interval}"


def _check_kid(metric: Metric, reference: Metric, is_simulated: bool) -> Check:
    other = SIMULATION if is_simulated else "before training"
    name = f"significantly closer to real crops than {other}"
    text = f"KID to real crops is {_show_kid(metric)}; {other}: {_show_kid(reference)}"
    if "real_half" in metric.baselines:
        half = metric.baselines["real_half"]
        text += f"; one half of the real crops against the other: {half:.3g}"
    return Check(name, "good" if is_lower(metric, reference) else "bad", f"{text}.")


def _show_kid(metric: Metric) -> str:
    interval = f" ({metric.low:.3g} to {metric.high:.3g})" if metric.interval else ""
    return f"{metric.value:.3g}{interval}"


def _check_c2st(metric: Metric, kind: str) -> Check:
    return replace(check_two_sample(metric, kind), name="similar to real crops")


def _check_poses(metric: Metric, kind: str, good: float = 0.8) -> Check:
    # the baselines `physics` and `real` are upper bounds, not chance
    chance = max(metric.baselines.get("chance", 0), metric.baselines.get("noise", 0))
    tone = "bad" if metric.low <= chance else "good" if metric.value >= good else "fair"
    text = (
        f"Of the {kind} volumes, {100 * metric.value:.0f} % match their own density best; by "
        f"chance it would be {100 * chance:.0f} %."
    )
    return Check("poses recovered", tone, text)


def _check_coverage(metric: Metric, kind: str, good: float = 0.8, bad: float = 0.3) -> Check:
    """Compare coverage with fractions `good` and `bad` of the coverage by real crops."""
    half = metric.baselines.get("real_half", 1.0)
    tone = "good" if metric.value > good * half else "bad" if metric.value < bad * half else "fair"
    text = (
        f"{100 * metric.value:.0f} % of the real crops have a {kind} volume in their "
        f"neighbourhood; with real crops instead it is {100 * half:.0f} %."
    )
    return Check("covers the variation of real crops", tone, text)


def summarise(checks: Sequence[Check]) -> str:
    """Return the checks in one line, for a verdict without annotated crops."""
    if not checks:
        return ""
    listed = "; ".join(f"{check.name}: {check.answer}" for check in checks)
    return f"Label-free checks (weaker evidence): {listed}."

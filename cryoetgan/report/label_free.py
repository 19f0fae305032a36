"""Checks of a synthetic set that need no labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryoetgan.report.evaluation_json import Metric
from cryoetgan.report.run import Run

SIMULATION = "the conventional simulation"


@dataclass(frozen=True)
class Check:
    """A check: its name, its tone (`good`, `fair` or `bad`), and the numbers in a sentence."""

    name: str
    tone: str
    text: str

    @property
    def answer(self) -> str:
        """The tone in a word."""
        return {"good": "yes", "fair": "partly", "bad": "no"}[self.tone]


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


def _check_kid(metric: Metric, reference: Metric, is_simulated: bool) -> Check:
    other = SIMULATION if is_simulated else "before training"
    name = f"significantly closer to real crops than {other}"
    text = f"KID to real crops is {_show_kid(metric)}; {other}: {_show_kid(reference)}"
    if "real_half" in metric.baselines:
        half = metric.baselines["real_half"]
        text += f"; one half of the real crops against the other: {half:.3g}"
    return Check(name, "good" if metric.high < reference.low else "bad", f"{text}.")


def _show_kid(metric: Metric) -> str:
    interval = f" ({metric.low:.3g} to {metric.high:.3g})" if metric.interval else ""
    return f"{metric.value:.3g}{interval}"


def _check_c2st(metric: Metric, kind: str, good: float = 0.65, bad: float = 0.9) -> Check:
    tone = "bad" if metric.value > bad else "good" if metric.value < good else "fair"
    text = (
        f"A classifier two-sample test separates {kind} from real volumes with an area under the "
        f"ROC curve of {metric.value:.2f} (0.5: indistinguishable; 1: fully separable)."
    )
    return Check("similar to real crops", tone, text)


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

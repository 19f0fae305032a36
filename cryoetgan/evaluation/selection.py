"""Select the exported set, generated volumes or the fitted simulation, without labels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryoetgan.errors import UserError
from cryoetgan.evaluation.statistics.intervals import is_lower
from cryoetgan.io.files import read_json

DISTANCES = {"kid": ("KID", 0.0), "c2st_auc": ("two-sample test (AUC)", 0.5)}
"""Label-free distances to real picks: display name, and the value expected for a perfect set."""
MIN_POSE_RECOVERY = 0.95
"""Fraction of the pose recovery of a simulation that a preferred set must reach."""
SD_RATIO_RANGE = (0.8, 1.25)
"""Grey-value standard deviation of a preferred set, over the value of real picks."""
SETS = ("generated", "fitted")
SOURCES = ("auto", *SETS)
SENTENCES = {
    "generated": "The generated volumes are exported",
    "fitted": "The fitted simulation is exported",
}


@dataclass(frozen=True)
class Distance:
    """One distance to real picks; lower is closer."""

    value: float
    low: float  # 95 % interval
    high: float
    perfect: float  # expected for a perfect set; lower values are due to chance
    warning: str  # reason why it is unreliable

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"

    @property
    def record(self) -> dict[str, Any]:
        """The distance for JSON."""
        return {"value": self.value, "interval": [self.low, self.high], "warning": self.warning}


@dataclass(frozen=True)
class SetMetrics:
    """Label-free metrics of a set; None if not measured."""

    distances: Mapping[str, Distance]  # by key of DISTANCES; they do not depend on `sd_ratio`
    pose_recovery: float | None = None
    simulated_recovery: float | None = None  # of a simulation at the set's signal-to-noise ratio
    sd_ratio: float | None = None  # standard deviation of the voxels over that in real picks

    @property
    def intensity_ok(self) -> bool:
        """Whether the grey values vary as the real ones do, as far as known."""
        low, high = SD_RATIO_RANGE
        return self.sd_ratio is None or low <= self.sd_ratio <= high

    @property
    def relative_recovery(self) -> float:
        """Pose recovery over a simulation's at equal SNR; NaN if not measured."""
        if self.pose_recovery is None or not self.simulated_recovery:
            return math.nan
        return self.pose_recovery / self.simulated_recovery


@dataclass(frozen=True)
class Choice:
    """The exported set (`generated` or `fitted`), the requested source, and the reason."""

    exported: str
    requested: str
    reason: str


def prefer(first: SetMetrics, second: SetMetrics) -> int:
    """Return 1 if the first set is preferred, -1 if the second is, otherwise 0.

    The preferred set is closer to real picks, keeps its labels and has the intensity of the
    real picks. Exchanging the sets changes only the sign.
    """
    closer = _closer_set(first, second)
    ahead, behind = (first, second) if closer > 0 else (second, first)
    return closer if closer and ahead.intensity_ok and keeps_labels(ahead, behind) else 0


def closer_distance(first: Distance, second: Distance) -> int:
    """Return 1 if the first is significantly lower (95 %), -1 if the second is, else 0.

    The sets share real crops, so their difference varies less than of independent values; but the
    intervals leave out the variance between trainings of the classifier. docs/results.md has the
    differences of sets that differ by chance alone.
    """
    if is_lower(first, second, first.perfect):
        return 1
    return -1 if is_lower(second, first, second.perfect) else 0


def keeps_labels(candidate: SetMetrics, other: SetMetrics) -> bool:
    """Return whether the particles of a set keep their classes and poses.

    The pose recovery must reach 95 % of the recovery of (1) the other set, and (2) a
    simulation at the candidate's signal-to-noise ratio. The second condition alone would
    accept a set with too much noise, because the simulation has the same noise. If the other
    set does not reach 1 in the second ratio, because the templates have no contrast transfer,
    the threshold is lowered in proportion. A set without a measurement does not pass.
    """
    if candidate.pose_recovery is None or other.pose_recovery is None:
        return False
    ratio = other.relative_recovery
    attainable = 1.0 if math.isnan(ratio) else min(1.0, ratio)
    as_other = candidate.pose_recovery >= MIN_POSE_RECOVERY * other.pose_recovery
    return as_other and candidate.relative_recovery >= MIN_POSE_RECOVERY * attainable


def _closer_set(first: SetMetrics, second: SetMetrics) -> int:
    """Return 1 if the first set is closer to real picks, -1 if the second is, otherwise 0."""
    names = set(first.distances) & set(second.distances)
    pairs = [(first.distances[name], second.distances[name]) for name in names]
    if len({closer_distance(a, b) for a, b in pairs} - {0}) != 1:
        return 0  # the distances contradict each other, or show nothing
    # an unreliable distance can only speak against a set
    reliable = {closer_distance(a, b) for a, b in pairs if not (a.warning or b.warning)} - {0}
    return reliable.pop() if reliable else 0


def choose(
    generated: SetMetrics | None = None, fitted: SetMetrics | None = None, requested: str = "auto"
) -> Choice:
    """Return the exported set, and the reason; the sets are compared if both are given.

    `auto` exports the generated volumes if they are preferred, otherwise the fitted simulation.
    """
    exported, reason, numbers = requested, f"export.source is {requested}", ""
    if generated is not None and fitted is not None:
        numbers = f" {describe(generated, fitted)}"
        if requested == "auto":
            exported = "generated" if prefer(generated, fitted) > 0 else "fitted"
            reason = _reason(generated, fitted)
    elif requested == "auto":
        exported, reason = "generated", "without a fitted simulation nothing can be compared"
    return Choice(exported, requested, f"{SENTENCES[exported]}: {reason}.{numbers}")


def _reason(generated: SetMetrics, fitted: SetMetrics) -> str:
    closer = _closer_set(generated, fitted)
    if closer < 0:
        return "it is closer to unlabelled real picks"
    if closer == 0:
        return "the generated volumes are not significantly closer to unlabelled real picks"
    if not generated.intensity_ok:
        ratio = f"{generated.sd_ratio:.2g} times the real one"
        problem = f"the standard deviation of their grey values is {ratio}"
    elif keeps_labels(generated, fitted):
        return "they are closer to unlabelled real picks, and keep their labels"
    elif None in (generated.pose_recovery, fitted.pose_recovery):
        problem = "their pose recovery is not known"
    else:
        least = f"less than {MIN_POSE_RECOVERY:g} of a simulation's recovery"
        problem = f"they lose their labels ({least})"
    return f"the generated volumes are closer to unlabelled real picks, but {problem}"


def describe(generated: SetMetrics, fitted: SetMetrics) -> str:
    """Return the compared metrics of both sets in words."""
    parts = []
    for name, (label, _) in DISTANCES.items():
        if name not in generated.distances or name not in fitted.distances:
            parts.append(f"{label}: not measured, too few volumes")
            continue
        a, b = generated.distances[name], fitted.distances[name]
        result = {1: "closer", -1: "farther", 0: "no significant difference"}
        text = f"{label}: generated {a}, fitted {b}, {result[closer_distance(a, b)]}"
        warning = a.warning or b.warning
        parts.append(f"{text} (unreliable: {warning})" if warning else text)
    recoveries = [
        f"{name} {metrics.pose_recovery:.3f} ({metrics.simulated_recovery:.3f})"
        if metrics.simulated_recovery is not None
        else f"{name} not measured"
        for name, metrics in zip(SETS, (generated, fitted), strict=True)
    ]
    brackets = "in brackets: simulation at equal signal-to-noise ratio"
    return f"{'; '.join(parts)}; pose recovery ({brackets}): {', '.join(recoveries)}."


def as_table(generated: SetMetrics, fitted: SetMetrics) -> dict[str, Any]:
    """Return the compared metrics of both sets for JSON."""
    pairs = dict(zip(SETS, (generated, fitted), strict=True))
    table: dict[str, Any] = {name: {} for name in (*DISTANCES, "sd_ratio", "pose_recovery")}
    for key, metrics in pairs.items():
        for name in DISTANCES:
            distance = metrics.distances.get(name)
            table[name][key] = distance.record if distance else None
        table["sd_ratio"][key] = {"value": metrics.sd_ratio}
        recovery = {"value": metrics.pose_recovery, "physics": metrics.simulated_recovery}
        table["pose_recovery"][key] = recovery
    return table


def parse_metrics(content: Any, name: object) -> SetMetrics:
    """Return the label-free metrics in a JSON file of `evaluation measure`."""
    if not isinstance(content, dict) or not {*DISTANCES, "pose_recovery"} & set(content):
        raise UserError(
            f"{name}: holds none of {', '.join((*DISTANCES, 'pose_recovery'))}; name the output "
            "of `evaluation measure --features`"
        )
    try:
        found = {key: _parse_distance(content[key], key) for key in DISTANCES if key in content}
        poses = content.get("pose_recovery")
        recovery = None if poses is None else float(poses["value"])
        simulated = None if poses is None else float(poses["baselines"]["physics"])
        sd_ratio = (content.get("sd_ratio") or {}).get("value")
        sd_ratio = None if sd_ratio is None else float(sd_ratio)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{name}: is not an output of `evaluation measure` ({type(error).__name__}: {error}); "
            "measure again"
        ) from error
    measured = {key: distance for key, distance in found.items() if distance}
    return SetMetrics(measured, recovery, simulated, sd_ratio)


def _parse_distance(record: Mapping[str, Any], name: str) -> Distance | None:
    """Return a distance; None if it was not measured (its value is null)."""
    if record["value"] is None or record["interval"] is None:
        return None
    value, (low, high) = float(record["value"]), map(float, record["interval"])
    if not low <= value <= high:
        raise ValueError(f"{value:g} is outside its interval, {low:g} to {high:g}")
    return Distance(value, low, high, DISTANCES[name][1], str(record.get("warning") or ""))


def check_same_features(contents: Sequence[Any], names: Sequence[object]) -> None:
    """Raise `UserError` if the KID of two measurements has different features."""
    found = [(content.get("kid") or {}).get("features") for content in contents]
    if any(features != found[0] for features in found):
        raise UserError(
            f"{' and '.join(map(str, names))}: their KID has different features; measure both "
            "with one --features"
        )


def read_choice(path: Path) -> Choice:
    """Read the output of `evaluation choose`."""
    content = read_json(path)
    content = content if isinstance(content, dict) else {}
    exported, requested, reason = (content.get(k) for k in ("exported", "requested", "reason"))
    if exported not in SETS or requested not in SOURCES or not isinstance(reason, str):
        raise UserError(f"{path}: is not an output of `evaluation choose`; choose again")
    return Choice(str(exported), str(requested), reason)

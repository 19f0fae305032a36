"""Which set is exported, generated volumes or fitted physics: chosen without any label."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryoetgan.errors import UserError
from cryoetgan.io.files import read_json

LOOKS = {
    "kid": ("KID", 0.0),
    "c2st_auc": ("AUC of a fresh classifier that tells real from made", 0.5),
}
"""Distances to real picks that no label enters, the smaller the closer: what they are called,
and what nothing lies below but by chance."""
LEAST_KEPT = 0.95
"""Share of the poses that physics recovers which a set must recover to be preferred."""
GREY = (0.8, 1.25)
"""How wide grey values may spread, real picks' being 1, in a set that is preferred."""
SETS = ("generated", "fitted")
SOURCES = ("auto", *SETS)
NAMES = {"generated": "Generated volumes are", "fitted": "Fitted physics is"}


@dataclass(frozen=True)
class Look:
    """One distance to real picks.

    Attributes
    ----------
    value, low, high : float
        It, and its 95 % interval.
    least : float
        What it cannot truly lie below.
    doubt : str
        Why it must not be taken at its word, or empty.
    """

    value: float
    low: float
    high: float
    least: float = -math.inf
    doubt: str = ""

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class Evidence:
    """What is known of a set without labels.

    Attributes
    ----------
    looks : mapping
        Name of `LOOKS` to `Look`; those that could be measured.
    recovered, physics : float, optional
        Pose recovery of the set, and of plain physics at the set's own signal-to-noise
        ratio; None where it was not measured.
    spread : float, optional
        Standard deviation of its voxels over that of real picks'. The looks cannot see it:
        their classifiers take each volume standardised by itself.
    """

    looks: Mapping[str, Look]
    recovered: float | None = None
    physics: float | None = None
    spread: float | None = None

    @property
    def grey(self) -> bool:
        """Whether grey values are as wide as real ones, as far as that is known."""
        return self.spread is None or GREY[0] <= self.spread <= GREY[1]

    @property
    def kept(self) -> float:
        """Share of what physics recovers at equal signal-to-noise ratio; NaN: not measured."""
        if self.recovered is None or not self.physics:
            return math.nan
        return self.recovered / self.physics

    def __str__(self) -> str:
        if self.recovered is None or self.physics is None:
            return "not measured"
        return f"{self.recovered:.3f} ({self.physics:.3f})"


@dataclass(frozen=True)
class Choice:
    """What is exported: `generated` or `fitted`, what was asked for, and why, in words."""

    exported: str
    requested: str
    reason: str


def compare(first: Evidence, second: Evidence) -> int:
    """Return 1 where the first set is to be preferred, -1 where the second is, else 0.

    A set is preferred that looks closer to real picks, keeps its labels and has their grey
    values. Swapping the sets changes the sign and nothing else.
    """
    closer = _closer(first, second)
    ahead, behind = (first, second) if closer > 0 else (second, first)
    return closer if closer and ahead.grey and keeps_labels(ahead, behind) else 0


def nearer(first: Look, second: Look) -> int:
    """Return 1 where the first is the smaller, -1 where the second is, 0: intervals overlap."""
    if max(first.high, first.least) < second.low:
        return 1
    return -1 if max(second.high, second.least) < first.low else 0


def keeps_labels(evidence: Evidence, other: Evidence) -> bool:
    """Return whether a set shows its particles as well as the other does, and as physics would.

    Two bars, both 0.95: of what the other set recovers, and of what physics recovers at
    the set's own signal-to-noise ratio. The second alone would let a set pass whose
    particles drown in noise: physics drowns there, too. Where the other set does not reach
    1 by that measure itself (the templates have no contrast transfer), the second bar is
    that much lower. A set that was not measured keeps nothing.
    """
    if evidence.recovered is None or other.recovered is None:
        return False
    reached = 1.0 if math.isnan(other.kept) else min(1.0, other.kept)
    as_other = evidence.recovered >= LEAST_KEPT * other.recovered
    return as_other and evidence.kept >= LEAST_KEPT * reached


def _closer(first: Evidence, second: Evidence) -> int:
    pairs = [
        (look, second.looks[name]) for name, look in first.looks.items() if name in second.looks
    ]
    # one says this set, the other that: nothing is shown
    if len({nearer(a, b) for a, b in pairs} - {0}) != 1:
        return 0
    # a doubtful distance can speak against a set, but not for one
    sure = {nearer(a, b) for a, b in pairs if not (a.doubt or b.doubt)} - {0}
    return sure.pop() if sure else 0


def choose(
    generated: Evidence | None = None, fitted: Evidence | None = None, requested: str = "auto"
) -> Choice:
    """Return what is exported, and why.

    Parameters
    ----------
    generated, fitted : Evidence, optional
        Of both sets; without the two there is nothing to compare.
    requested : {'auto', 'generated', 'fitted'}
        `auto`: generated volumes where they are shown to be better, else fitted physics.
    """
    exported, reason, rests_on = requested, f"export.source is {requested}", ""
    if generated is not None and fitted is not None:
        rests_on = f" {numbers(generated, fitted)}"
        if requested == "auto":
            exported = "generated" if compare(generated, fitted) > 0 else "fitted"
            reason = _reason(generated, fitted)
    elif requested == "auto":
        exported, reason = "generated", "no physics was fitted that they could be compared with"
    return Choice(exported, requested, f"{NAMES[exported]} exported: {reason}.{rests_on}")


def _reason(generated: Evidence, fitted: Evidence) -> str:
    closer = _closer(generated, fitted)
    if closer < 0:
        return "it looks closer to real picks that no label touched"
    if closer > 0 and not generated.grey:
        return (
            "the generated volumes look closer to real picks that no label touched, but their grey "
            f"values spread {generated.spread:.2g} times as wide"
        )
    if closer > 0 and not keeps_labels(generated, fitted):
        known = None not in (generated.recovered, fitted.recovered)
        return "the generated volumes look closer to real picks that no label touched, but " + (
            f"lose their labels (less than {LEAST_KEPT:g} of the pose recovery of physics)"
            if known
            else "whether they keep their labels is not known"
        )
    if closer > 0:
        return "they look closer to real picks that no label touched, and keep their labels"
    return "the generated volumes are not shown to be closer to real picks that no label touched"


def numbers(generated: Evidence, fitted: Evidence) -> str:
    """Return what the choice rests on, in words."""
    said = []
    for name, (label, _) in LOOKS.items():
        if name in generated.looks and name in fitted.looks:
            a, b = generated.looks[name], fitted.looks[name]
            how = {1: "closer", -1: "farther", 0: "no difference shown"}[nearer(a, b)]
            doubt = a.doubt or b.doubt
            said.append(
                f"{label}: generated {a}, fitted {b}, {how}{f' (doubtful: {doubt})' * bool(doubt)}"
            )
        else:
            said.append(f"{label}: not measured, too few volumes")
    said.append(
        "pose recovery (in brackets that of physics at equal signal-to-noise ratio): generated "
        f"{generated}, fitted {fitted}"
    )
    return f"{'; '.join(said)}."


def table(generated: Evidence, fitted: Evidence) -> dict[str, Any]:
    """Return the numbers of both sets, as they stand in JSON."""
    found: dict[str, Any] = {}
    for name in LOOKS:
        pair = {key: e.looks.get(name) for key, e in zip(SETS, (generated, fitted), strict=True)}
        found[name] = {
            key: look
            and {"value": look.value, "interval": [look.low, look.high], "warning": look.doubt}
            for key, look in pair.items()
        }
    found["sd_ratio"] = {
        key: {"value": e.spread} for key, e in zip(SETS, (generated, fitted), strict=True)
    }
    found["pose_recovery"] = {
        key: {"value": e.recovered, "physics": e.physics}
        for key, e in zip(SETS, (generated, fitted), strict=True)
    }
    return found


def evidence_from(content: Any, name: object) -> Evidence:
    """Return what a JSON file of `evaluation measure` says.

    Raises
    ------
    UserError
        Where a number is none, or none of the metrics is there.
    """
    if not isinstance(content, dict) or not {*LOOKS, "pose_recovery"} & set(content):
        raise UserError(
            f"{name}: holds none of {', '.join((*LOOKS, 'pose_recovery'))}; name what "
            "`evaluation measure --features` wrote"
        )
    try:
        looks = {key: _look(content[key], LOOKS[key][1]) for key in LOOKS if key in content}
        poses = content.get("pose_recovery")
        recovered = None if poses is None else float(poses["value"])
        physics = None if poses is None else float(poses["baselines"]["physics"])
        spread = (content.get("sd_ratio") or {}).get("value")
        spread = None if spread is None else float(spread)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{name}: is not as `evaluation measure` writes it ({type(error).__name__}: {error}); "
            "measure again"
        ) from error
    return Evidence({k: look for k, look in looks.items() if look}, recovered, physics, spread)


def _look(item: Mapping[str, Any], least: float) -> Look | None:
    """Return a distance; None where it could not be measured (a number is null)."""
    if item["value"] is None or item["interval"] is None:
        return None
    low, high = map(float, item["interval"])
    found = Look(float(item["value"]), low, high, least, str(item.get("warning") or ""))
    if not found.low <= found.value <= found.high:
        raise ValueError(f"{found.value:g} lies outside of {found.low:g} to {found.high:g}")
    return found


def check_same_features(contents: Sequence[Any], names: Sequence[object]) -> None:
    """Refuse measures whose KID comes from different features: they do not compare."""
    found = [(content.get("kid") or {}).get("features") for content in contents]
    if any(features != found[0] for features in found):
        raise UserError(
            f"{' and '.join(map(str, names))}: their KID is of different features; measure both "
            "with one --features"
        )


def read_choice(path: Path) -> Choice:
    """Read what `evaluation choose` wrote.

    Raises
    ------
    UserError
        Where the file is no such JSON.
    """
    content = read_json(path)
    found = content if isinstance(content, dict) else {}
    exported, requested, reason = (found.get(key) for key in ("exported", "requested", "reason"))
    if exported not in SETS or requested not in SOURCES or not isinstance(reason, str):
        raise UserError(f"{path}: is not what `evaluation choose` writes; choose again")
    return Choice(str(exported), str(requested), reason)

"""The JSON results of `evaluation classify` and `evaluation measure` as typed records."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cryoetgan.io.star import OTHER

INVALID = (KeyError, TypeError, ValueError, AttributeError)
"""Errors of a parser of JSON content: a key is missing, or its value is invalid."""


@dataclass(frozen=True)
class Accuracy:
    """Result of a classifier on a test set.

    `value` is the accuracy in [0, 1]; `low` and `high` are the ends of its 95 % interval. Rows of
    `confusion` are true classes, columns are predictions. `open` is the result on all picks,
    `other` included, if it was measured: its `value` is the mean F1 over classes (`is_f1`), and
    `scores` holds precision, recall and F1 of each class.
    """

    value: float
    low: float
    high: float
    n_train: int
    n_test: int
    classes: list[str]
    confusion: list[list[int]]
    network: str
    open: "Accuracy | None" = None
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def is_f1(self) -> bool:
        """Whether the value is a mean F1 over classes."""
        return bool(self.scores)

    @property
    def majority(self) -> float:
        """Accuracy of always predicting the most frequent class of this test set.

        For a mean F1, its highest value by guessing: 1 / K for K classes.
        """
        if self.is_f1:
            return 1 / len(self.classes)
        sizes = [sum(row) for row in self.confusion]
        return max(sizes) / max(sum(sizes), 1)

    @property
    def at_chance(self) -> bool:
        """Whether the interval includes the accuracy of the majority class."""
        return self.low <= self.majority

    @property
    def never_predicted(self) -> list[str]:
        """Classes of the test set that the classifier never predicts."""
        return [
            name
            for index, name in enumerate(self.classes)
            if sum(self.confusion[index]) and not sum(row[index] for row in self.confusion)
        ]

    def compare(self, other: "Accuracy") -> str:
        """Return `above`, `below` or `same`: `same` if the difference is not significant.

        The half-widths of the two 95 % intervals are added in quadrature, as if the tests were
        independent. If both used the same crops, this is conservative.
        """
        error = math.hypot((self.high - self.low) / 2, (other.high - other.low) / 2)
        difference = self.value - other.value
        return "same" if abs(difference) <= error else "above" if difference > 0 else "below"

    def __str__(self) -> str:
        half = 100 * max(self.high - self.value, self.value - self.low)
        return f"{100 * self.value:.0f} ± {half:.0f} %"


@dataclass(frozen=True)
class Metric:
    """A metric with its interval, the values of its baselines, and its warning (or "")."""

    value: float
    interval: tuple[float, float] | None
    baselines: dict[str, float]
    warning: str

    @property
    def low(self) -> float:
        """Lower end of the interval; without an interval, the value."""
        return self.interval[0] if self.interval else self.value

    @property
    def high(self) -> float:
        """Upper end of the interval; without an interval, the value."""
        return self.interval[1] if self.interval else self.value


@dataclass(frozen=True)
class HandTest:
    """Result of `evaluation hand` for one class, or for all classes whose map has a hand.

    Of `n` picks, the share `share` in [0, 1] prefers the map; `precision` is None if the test does
    not apply. `low` and `high` are the ends of the share's 95 % interval.
    """

    share: float
    low: float
    high: float
    n: int
    precision: float | None
    mirror_likeness: float
    is_wrong_hand: bool


@dataclass(frozen=True)
class HalfTest:
    """Result of `evaluation halves` for the particles of one tomogram, of a class, or of all.

    Both halves of the data confirm the share `share` in [0, 1] of `n` particles; `low` and `high`
    are the ends of its 95 % interval.
    """

    share: float
    low: float
    high: float
    n: int


def short(value: float, digits: int = 3) -> str:
    """Return a number with few digits, without an exponent for common magnitudes.

    Examples
    --------
    >>> short(0.12345), short(1234.5), short(2e-5)
    ('0.123', '1234', '2.00e-05')
    """
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) < 1e-9:
        return "0"
    if not 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def to_float(text: Any) -> float:
    """Return a number; NaN if the text is not a number."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def with_interval(
    row: Mapping[str, Any], key: str, form: Callable[[float], str] = short, unit: str = ""
) -> str:
    """Return column `key` of a row as `value (low to high)`.

    The interval is in the columns `key_low` and `key_high`; without them the cell has none.
    """
    value, low, high = (to_float(row.get(name)) for name in (key, f"{key}_low", f"{key}_high"))
    if math.isnan(value):
        return str(row.get(key) or "")
    interval = "" if math.isnan(low) or math.isnan(high) else f" ({form(low)} to {form(high)})"
    return f"{form(value)}{unit}{interval}"


def parse_accuracy(content: Mapping[str, Any]) -> Accuracy:
    """Return the result of `evaluation classify`; raise one of `INVALID` if it is incomplete."""
    found = _parse_figure(content, "accuracy", content)
    if "open" not in content:
        return found
    whole = _parse_figure(content["open"], "f1", content)
    scores = {
        name: {key: _finite(row[key]) for key in ("precision", "recall", "f1")}
        for name, row in content["open"]["scores"].items()
    }
    return replace(found, open=replace(whole, scores=scores))


def _parse_figure(part: Mapping[str, Any], key: str, content: Mapping[str, Any]) -> Accuracy:
    """Return a figure, its interval and the confusion matrix of a part of the content."""
    low, high = (_finite(value) for value in part["interval"])
    classes = [str(name) for name in part["classes"]]
    confusion = [[int(value) for value in row] for row in part["confusion"]]
    if [len(row) for row in confusion] != [len(classes)] * len(classes):
        raise ValueError(f"confusion is not {len(classes)} x {len(classes)}")
    return Accuracy(
        _finite(part[key]),
        low,
        high,
        int(content["n_train"]),
        int(part["n_test"]),
        classes,
        confusion,
        str(content.get("network", "")),
    )


def parse_metrics(content: Mapping[str, Any]) -> dict[str, Metric]:
    """Return the metrics of `evaluation measure`; keys without a `value` are skipped."""
    found = {}
    for name, item in content.items():
        if not isinstance(item, Mapping) or "value" not in item:
            continue
        interval = item.get("interval")
        baselines = (item.get("baselines") or {}).items()
        found[str(name)] = Metric(
            float(item["value"]) if item["value"] is not None else math.nan,
            None if interval is None else (float(interval[0]), float(interval[1])),
            {str(key): float(value) for key, value in baselines if value is not None},
            str(item.get("warning") or ""),
        )
    return found


def parse_hands(content: Mapping[str, Any]) -> tuple[dict[str, HandTest], list[str]]:
    """Return the hand tests of a tomogram by class, of all classes as "", and the warnings."""
    records = {"": content["all"], **content["classes"]}
    warnings = [content["warning"], *(one["warning"] for one in content["classes"].values())]
    found = {
        str(name): HandTest(
            to_float(one["share"]),
            to_float(one["interval"][0]),
            to_float(one["interval"][1]),
            int(one["n"]),
            None if one["precision"] is None else _finite(one["precision"]),
            to_float(one.get("mirror_likeness")),
            bool(one["is_wrong_hand"]),
        )
        for name, one in records.items()
    }
    return found, [str(text) for text in warnings if text]


def parse_halves(content: Mapping[str, Any]) -> tuple[dict[str, HalfTest], list[str]]:
    """Return the half test of a tomogram by class, of all classes as "", of other picks as `other`."""
    records = {"": content["all"], **content["classes"], OTHER: content["others"]}
    found = {
        str(name): HalfTest(
            to_float(one["share"]),
            to_float(one["interval"][0]),
            to_float(one["interval"][1]),
            int(one["n"]),
        )
        for name, one in records.items()
    }
    return found, [str(content["warning"])] if content["warning"] else []


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a finite number")
    return number

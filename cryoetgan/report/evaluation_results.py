"""The numbers of the evaluation, typed: what a page may rely on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Accuracy:
    """A classifier's result on a test set.

    Attributes
    ----------
    value, low, high : float
        Share of right answers in [0, 1] and its 95 % interval.
    n_train, n_test : int
        Volumes.
    classes : list of str
        Names of rows and columns of `confusion`.
    confusion : list of list of int
        Rows true, columns found.
    network : str
        Which classifier.
    """

    value: float
    low: float
    high: float
    n_train: int
    n_test: int
    classes: list[str]
    confusion: list[list[int]]
    network: str

    @property
    def guessing(self) -> float:
        """What always naming the commonest class would reach on this test set."""
        sizes = [sum(row) for row in self.confusion]
        return max(sizes) / max(sum(sizes), 1)

    @property
    def never_found(self) -> list[str]:
        """Classes that are in the test set but never in the answers."""
        return [
            name
            for index, name in enumerate(self.classes)
            if sum(self.confusion[index]) and not sum(row[index] for row in self.confusion)
        ]

    def compared(self, other: "Accuracy") -> str:
        """Return `above`, `below` or `same`: whether the difference exceeds its 95 % interval.

        The two intervals are added in squares, as if the tests were independent: where both
        were tested on the same crops this is on the careful side.
        """
        error = math.hypot((self.high - self.low) / 2, (other.high - other.low) / 2)
        difference = self.value - other.value
        return "same" if abs(difference) <= error else "above" if difference > 0 else "below"

    def __str__(self) -> str:
        half = 100 * max(self.high - self.value, self.value - self.low)
        return f"{100 * self.value:.0f} ± {half:.0f} %"


@dataclass(frozen=True)
class Metric:
    """One metric with its interval, its baselines and what is wrong with it."""

    value: float
    interval: tuple[float, float] | None
    baselines: dict[str, float]
    warning: str


def short(value: float, digits: int = 3) -> str:
    """Return a number as a reader wants it: few digits, no exponent for common sizes."""
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) < 1e-9:
        return "0"
    if not 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def accuracy_from(content: Mapping[str, Any]) -> Accuracy:
    """Return the result of `evaluation classify`; raises where a key lacks or is odd."""
    low, high = (_finite(value) for value in content["interval"])
    classes = [str(name) for name in content["classes"]]
    confusion = [[int(value) for value in row] for row in content["confusion"]]
    if [len(row) for row in confusion] != [len(classes)] * len(classes):
        raise ValueError(f"confusion is not {len(classes)} x {len(classes)}")
    return Accuracy(
        _finite(content["accuracy"]),
        low,
        high,
        int(content["n_train"]),
        int(content["n_test"]),
        classes,
        confusion,
        str(content.get("network", "")),
    )


def metrics_from(content: Mapping[str, Any]) -> dict[str, Metric]:
    """Return the metrics of `evaluation measure`; a key that is no metric is left out."""
    found = {}
    for name, item in content.items():
        if not isinstance(item, Mapping) or "value" not in item:
            continue
        interval = item.get("interval")
        baselines = {
            str(k): float(v) for k, v in (item.get("baselines") or {}).items() if v is not None
        }
        found[str(name)] = Metric(
            float(item["value"]) if item["value"] is not None else math.nan,
            None if interval is None else (float(interval[0]), float(interval[1])),
            baselines,
            str(item.get("warning") or ""),
        )
    return found


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no number")
    return number

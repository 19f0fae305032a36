"""Section: false discovery rate, hand and half tests of the selected particles."""

from typing import Any

from cryoetgan.report.evaluation_json import HalfTest, HandTest, short
from cryoetgan.report.run import Run

HAND_HEADING = ["tomogram", "class", "picks judged", "own hand", "95 % interval"]
HAND_HEADING += ["right at least", "likeness of map and mirror image"]
HALF_HEADING = ["tomogram", "class", "particles", "confirmed by both halves", "95 % interval"]


def judge_selection(run: Run) -> dict[str, Any]:
    """Return the tables of rates, of hand tests, and of half tests."""
    found = run.selection
    rates = [
        [name, str(count), f"{100 * found.rates[name]:.1f} %" if name in found.rates else "-"]
        for name, count in found.counts.items()
    ]
    hands = [
        _hand_row(tomogram, name or "all", test)
        for tomogram, tests in found.hands.items()
        for name, test in tests.items()
        if name or len(tests) > 2
    ]
    halves = [
        _half_row(tomogram, name or "all", test)
        for tomogram, tests in found.halves.items()
        for name, test in tests.items()
        if test.n and (name or len(tests) > 3)
    ]
    if not rates and not hands and not halves:
        return {}
    heading = ["class", "particles", "estimated false discovery rate"]
    return {
        "rates": [heading, *rates] if rates else [],
        "hands": [HAND_HEADING, *hands] if hands else [],
        "halves": [HALF_HEADING, *halves] if halves else [],
    }


def _half_row(tomogram: str, name: str, test: HalfTest) -> list[str]:
    interval = f"{100 * test.low:.0f} to {100 * test.high:.0f} %"
    return [tomogram, name, str(test.n), f"{100 * test.share:.0f} %", interval]


def _hand_row(tomogram: str, name: str, test: HandTest) -> list[str]:
    if not test.n:
        return [tomogram, name, "0", "-", "-", "-", short(test.mirror_likeness, 2)]
    right = "-" if test.precision is None else f"{100 * test.precision:.0f} %"
    interval = f"{100 * test.low:.0f} to {100 * test.high:.0f} %"
    share = f"{100 * test.share:.0f} %"
    likeness = short(test.mirror_likeness, 2)
    return [tomogram, name, str(test.n), share, interval, right, likeness]


def warnings(run: Run) -> list[str]:
    """Return the warnings of the hand tests and the half tests."""
    return run.selection.warnings

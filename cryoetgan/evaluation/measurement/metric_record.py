"""The JSON record of one metric: value, interval, baselines, warning."""

from collections.abc import Mapping
from typing import Any

import numpy as np

MetricRecords = dict[str, dict[str, Any]]
"""Metric to its record."""


def metric_record(
    value: float,
    interval: tuple[float, float] | None,
    baselines: Mapping[str, float],
    warning: str = "",
    **extra: Any,
) -> dict[str, Any]:
    """Return the record of one metric; numbers that are not finite become None (JSON null).

    The interval is the 95 % confidence interval. The baselines are the same metric of reference
    sets: half of the real set, a constant volume, noise. The warning is the reason why the value
    is unreliable.
    """
    known = interval is not None and np.isfinite(interval).all()
    return {
        "value": finite_or_none(value),
        "interval": [float(side) for side in interval] if interval and known else None,
        "baselines": {name: finite_or_none(value) for name, value in baselines.items()},
        "warning": warning or None,
        **extra,
    }


def finite_or_none(value: float) -> float | None:
    """Return a plain float, or None if it is not finite: JSON has no NaN."""
    return float(value) if np.isfinite(value) else None

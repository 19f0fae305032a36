"""One metric as it stands in a JSON file: value, interval, baselines, warning."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Result = dict[str, dict[str, Any]]


def entry(
    value: float,
    interval: tuple[float, float] | None,
    baselines: Mapping[str, float],
    warning: str = "",
    **more: Any,
) -> dict[str, Any]:
    """Return one metric; numbers that are none (not measured) become null.

    Parameters
    ----------
    value : float
        The metric.
    interval : (float, float), optional
        95 %.
    baselines : mapping
        What the same metric gives for real against real, for a constant volume, for noise.
    warning : str
        Why the value must not be taken at its word.
    **more
        Further keys of this metric.
    """
    return {
        "value": number(value),
        "interval": list(map(float, interval))
        if interval and np.isfinite(interval).all()
        else None,
        "baselines": {name: number(value) for name, value in baselines.items()},
        "warning": warning or None,
        **more,
    }


def number(value: float) -> float | None:
    """Return a plain float, None where it is not finite: JSON knows no NaN."""
    return float(value) if np.isfinite(value) else None

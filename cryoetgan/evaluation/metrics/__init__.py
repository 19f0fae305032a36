"""Metrics: pure functions of features, probabilities or volumes."""

from typing import Any

WHERE = {
    "fid": "distances",
    "kid": "distances",
    "prdc": "neighbours",
    "inception_score": "scores",
    "ssim": "structure",
    "shell_ratio": "spectra",
    "sd_ratio": "spectra",
    "auc": "scores",
    "pose_recovery": "poses",
}
__all__ = [
    "auc",
    "fid",
    "inception_score",
    "kid",
    "pose_recovery",
    "prdc",
    "sd_ratio",
    "shell_ratio",
    "ssim",
]


def __getattr__(name: str) -> Any:
    """Load a metric from its module on first use."""
    if name not in WHERE:
        raise AttributeError(f"module 'cryoetgan.evaluation.metrics' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"cryoetgan.evaluation.metrics.{WHERE[name]}"), name)

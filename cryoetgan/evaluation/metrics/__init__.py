"""Metrics: pure functions of features, probabilities or volumes."""

from cryoetgan.evaluation.metrics.auc import auc
from cryoetgan.evaluation.metrics.fid_kid import fid, kid
from cryoetgan.evaluation.metrics.inception_score import inception_score
from cryoetgan.evaluation.metrics.pose_recovery import pose_recovery
from cryoetgan.evaluation.metrics.prdc import prdc
from cryoetgan.evaluation.metrics.spectra import sd_ratio, shell_ratio
from cryoetgan.evaluation.metrics.ssim import ssim

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

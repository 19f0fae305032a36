"""Metrics: pure functions of features, probabilities or volumes."""

from cryoetgan.evaluation.metrics.fid_kid import fid, kid
from cryoetgan.evaluation.metrics.inception_score import inception_score
from cryoetgan.evaluation.metrics.prdc import prdc
from cryoetgan.evaluation.metrics.ssim import ssim

__all__ = ["fid", "inception_score", "kid", "prdc", "ssim"]

"""All metrics of a generated set against a real one, with interval, baselines and warning."""

import logging
from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.evaluation.measurement import metrics_io, voxel_metrics
from cryoetgan.evaluation.measurement.c2st import c2st_auc
from cryoetgan.evaluation.measurement.feature_metrics import feature_metrics
from cryoetgan.evaluation.measurement.metrics_io import MetricInputs, MetricRecords
from cryoetgan.evaluation.measurement.pose_metric import pose_metric
from cryoetgan.seeds import rng

log = logging.getLogger("cryoetgan")
BASELINE_VOLUMES = 400  # largest number of volumes of each baseline
Floats = NDArray[np.floating]


def measure(
    inputs: MetricInputs, seed: int, device: torch.device, metrics: Collection[str] | None = None
) -> MetricRecords:
    """Return metric to its record: value, interval, baselines, warning.

    Each metric has random numbers of its own, so none changes with another's input. If `metrics`
    are named, a missing input is an error. The default is all metrics that the inputs allow, and
    the errors of realigned poses.
    """
    inputs.check(metrics)
    wanted = set(metrics_io.METRICS if metrics is None else metrics) - set(inputs.missing())
    baselines = baseline_volumes(inputs.real.volumes, rng(seed, "measure", "nulls"))
    found: MetricRecords = {}
    if inputs.classifier is not None and wanted & set(metrics_io.FEATURES):
        generator = rng(seed, "measure", "features")
        found |= feature_metrics(inputs, inputs.classifier, baselines, generator)
    if wanted & set(metrics_io.SIMILARITY):
        found |= voxel_metrics.similarity_metrics(
            inputs, baselines, rng(seed, "measure", "structure")
        )
    if inputs.cycle is not None and "ssim_cycle" in wanted:
        found |= voxel_metrics.cycle_similarity(*inputs.cycle, rng(seed, "measure", "cycle"))
    if wanted & set(metrics_io.SPECTRUM):
        found |= voxel_metrics.spectrum_metrics(inputs, baselines, rng(seed, "measure", "spectra"))
    if "pose_recovery" in wanted:
        generator = rng(seed, "measure", "poses")
        found["pose_recovery"] = pose_metric(inputs, generator, realign=metrics is None)
    if "c2st_auc" in wanted:
        auc = c2st_auc(inputs, baselines, seed, device)
        if auc is None:
            log.warning("too few volumes for a two-sample test")
        else:
            found["c2st_auc"] = auc
    return {name: record for name, record in found.items() if name in wanted}


def baseline_volumes(real: Floats, rng: np.random.Generator) -> dict[str, Floats]:
    """Return volumes that no metric may rate as good: a constant volume, and Gaussian noise.

    Both have the real set's mean; the noise has its standard deviation.
    """
    count = min(len(real), BASELINE_VOLUMES)
    mean, sd = float(real.mean()), float(real.std())
    noise = mean + sd * rng.standard_normal((count, *real.shape[1:]), dtype=np.float32)
    constant = np.broadcast_to(np.float32(mean), noise.shape)
    return {"constant": constant, "noise": noise}

"""All metrics of a generated set against a real one, with interval, baselines and warning."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.errors import UserError, suggest
from cryoetgan.evaluation.classifiers.classifier import Classifier
from cryoetgan.evaluation.labelled_sets import LabelledSet
from cryoetgan.evaluation.measurement.c2st import c2st_auc
from cryoetgan.evaluation.measurement.feature_metrics import feature_metrics
from cryoetgan.evaluation.measurement.metric_record import MetricRecords
from cryoetgan.evaluation.measurement.pose_metric import PoseInputs, pose_metric
from cryoetgan.evaluation.measurement.similarity_metrics import cycle_similarity, similarity_metrics
from cryoetgan.evaluation.measurement.spectrum_metrics import spectrum_metrics
from cryoetgan.io.star import ANGLES
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.seeds import rng

log = logging.getLogger("cryoetgan")
BASELINE_VOLUMES = 400
"""Largest number of volumes of each baseline."""
FEATURES = ("is", "fid", "kid", "precision", "recall", "density", "coverage")
SIMILARITY, SPECTRUM = ("ssim_class", "ssim_best"), ("power_ratio", "sd_ratio")
METRICS = (*FEATURES, *SIMILARITY, "ssim_cycle", *SPECTRUM, "pose_recovery", "c2st_auc")
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class MetricInputs:
    """Inputs of the metrics; a metric is computed if its inputs are given.

    Attributes
    ----------
    real, generated : LabelledSet
        The sets.
    voxel_size : float
        Angstrom.
    classifier : Classifier, optional
        For features and probabilities; trained on real volumes that are not in `real`.
    layer : str, optional
        Layer whose activations are the features; default: the network's own.
    maps : mapping
        Class to density `(n, n, n)`, for pose recovery.
    tilts : (float, float), optional
        Lowest and highest tilt about y, degrees; default: the real set's own.
    cycle : (ndarray, ndarray), optional
        Volumes `(N, z, y, x)`, and their translations there and back.
    """

    real: LabelledSet
    generated: LabelledSet
    voxel_size: float
    classifier: Classifier | None = None
    layer: str | None = None
    maps: Mapping[str, Floats] = field(default_factory=dict)
    tilts: tuple[float, float] | None = None
    cycle: tuple[Floats, Floats] | None = None

    @property
    def tilt_range(self) -> tuple[float, float] | None:
        """Lowest and highest tilt, degrees; None if unknown."""
        return self.tilts or self.real.tilts

    def missing(self) -> dict[str, str]:
        """Return, for each metric that cannot be computed, the input that it needs."""
        found: dict[str, str] = {}
        if self.classifier is None:
            found |= dict.fromkeys(FEATURES, "--features, of `evaluation classify --checkpoint`")
        if self.cycle is None:
            found["ssim_cycle"] = "--cycle, volumes translated there and back"
        if not self.maps:
            found["pose_recovery"] = "--map of each class"
        elif not set(self.generated.names) & set(self.maps):
            found["pose_recovery"] = "a map that is named like a generated class"
        elif not set(ANGLES) <= set(self.generated.table):
            found["pose_recovery"] = f"the generated set's poses ({', '.join(ANGLES)})"
        elif self.tilt_range is None:
            found["pose_recovery"] = "--tilts, because the real set has no tilt range"
        return found

    def check(self, metrics: Collection[str] | None) -> None:
        """Raise `UserError` if a named metric is unknown or lacks an input, or a set is too small."""
        for name, volumes in (("real", self.real), ("generated", self.generated)):
            if len(volumes) < 2:
                raise UserError(
                    f"the {name} set has {len(volumes)} volume; metrics need at least two: "
                    "name a set with more, or another --real-split"
                )
        missing = self.missing()
        for name in metrics or ():
            if name not in METRICS:
                hint = suggest(name, METRICS)
                raise UserError(
                    f"--metric: got '{name}'{hint}, wanted some of {', '.join(METRICS)}"
                )
            if name in missing:
                raise UserError(f"--metric {name}: needs {missing[name]}")
        if self.maps and metrics is None and "pose_recovery" in missing:
            log.warning("no pose recovery: it needs %s", missing["pose_recovery"])


def measure(
    inputs: MetricInputs,
    seed: int,
    device: torch.device,
    metrics: Collection[str] | None = None,
) -> MetricRecords:
    """Return metric to its record: value, interval, baselines, warning.

    Parameters
    ----------
    inputs : MetricInputs
        The sets and more.
    seed : int
        Each metric has random numbers of its own, so none changes with another's input.
    device : torch.device
        Device of the two-sample test.
    metrics : collection of str, optional
        Wanted metrics: a missing input is then an error. Default: all that the inputs
        allow, and the errors of realigned poses.

    Raises
    ------
    UserError
        If a metric is unknown or lacks an input, or a set has fewer than two volumes.
    """
    inputs.check(metrics)
    wanted = set(METRICS if metrics is None else metrics) - set(inputs.missing())
    real, generated, tilts = inputs.real, inputs.generated, inputs.tilt_range
    baselines = baseline_volumes(real.volumes, rng(seed, "measure", "nulls"))
    found: MetricRecords = {}
    if inputs.classifier is not None and wanted & set(FEATURES):
        found |= feature_metrics(
            real,
            generated,
            inputs.classifier,
            inputs.layer,
            baselines,
            rng(seed, "measure", "features"),
        )
    if wanted & set(SIMILARITY):
        found |= similarity_metrics(real, generated, baselines, rng(seed, "measure", "structure"))
    if inputs.cycle is not None and "ssim_cycle" in wanted:
        found |= cycle_similarity(*inputs.cycle, rng(seed, "measure", "cycle"))
    if wanted & set(SPECTRUM):
        generator = rng(seed, "measure", "spectra")
        found |= spectrum_metrics(real, generated, baselines, tilts, generator)
    if tilts is not None and "pose_recovery" in wanted:
        poses = PoseInputs(inputs.maps, tilts, inputs.voxel_size)
        found["pose_recovery"] = pose_metric(
            real, generated, poses, rng(seed, "measure", "poses"), realign=metrics is None
        )
    if "c2st_auc" in wanted:
        auc = c2st_auc(real, generated, baselines, seed, device)
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


def cycle_pairs(cycled: VolumeSet, originals: VolumeSet) -> tuple[Floats, Floats]:
    """Return originals and cycled volumes, row by row.

    Rows are matched by cryoetganId (crops), otherwise by class and angles (densities).

    Raises
    ------
    UserError
        If a cycled volume has no original.
    """
    keys, rows = _keys(cycled.table), {key: i for i, key in enumerate(_keys(originals.table))}
    missing = [key for key in keys if key not in rows]
    if missing:
        raise UserError(
            f"{cycled.path}: {len(missing)} of {len(cycled)} volumes have no row in "
            f"{originals.path}; name the set that was translated"
        )
    return np.asarray(originals.volumes)[[rows[key] for key in keys]], np.asarray(cycled.volumes)


def _keys(table: Any) -> list[tuple[Any, ...]]:
    if "cryoetganId" in table and table["cryoetganId"].notna().all():
        return [(name,) for name in table["cryoetganId"]]
    columns = [name for name in ("cryoetganClass", *ANGLES) if name in table]
    return [
        tuple(round(value, 3) if isinstance(value, float) else value for value in row)
        for row in table[columns].itertuples(index=False)
    ]

"""Pose recovery of generated volumes, beside a simulation at the same signal-to-noise ratio."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.evaluation.labelled_sets import LabelledSet
from cryoetgan.evaluation.measurement.metrics_io import MetricInputs, metric_record
from cryoetgan.evaluation.metrics import pose_recovery
from cryoetgan.evaluation.statistics.clusters import cluster_labels
from cryoetgan.evaluation.statistics.intervals import cluster_robust_wilson, wilson
from cryoetgan.io.star import ANGLES
from cryoetgan.physics.geometry import mirror

MIRRORED = "mirror image"
VOLUMES, REALIGNED_VOLUMES = 400, 24
Floats = NDArray[np.floating]


def pose_metric(
    inputs: MetricInputs, rng: np.random.Generator, realign: bool = True
) -> dict[str, Any]:
    """Return the record of pose_recovery.

    The baseline `physics` is a simulation in the same poses at the same signal-to-noise
    ratio; `real` needs the angles of real crops. `rotation_error` (degrees) and
    `shift_error` (angstrom) are medians after realignment near the known pose, for the
    generated volumes and the baselines; without `realign` they are absent. With one map, its
    mirror image is the other class.
    """
    if inputs.tilt_range is None:
        raise ValueError("pose recovery needs a tilt range")
    maps = dict(inputs.maps)
    if len(maps) == 1:
        maps[MIRRORED] = mirror(*maps.values())
    templates = pose_recovery.PosedTemplates(maps, inputs.tilt_range)
    chosen = _sample(inputs.generated, inputs.maps, rng)
    spectra = [templates.spectrum(volume) for volume in chosen.volumes]
    noise = (rng.standard_normal(chosen.volumes.shape[1:]) for _ in spectra)
    simulated = pose_recovery.simulate_at_equal_snr(
        spectra, chosen.table, templates, inputs.voxel_size, rng
    )
    compared = {
        "value": (spectra, chosen.table),
        "physics": (list(simulated), chosen.table),
        "noise": ([templates.spectrum(volume) for volume in noise], chosen.table),
    }
    if set(ANGLES) <= set(inputs.real.table) and set(inputs.real.names) & set(inputs.maps):
        crops = _sample(inputs.real, inputs.maps, rng)
        compared["real"] = ([templates.spectrum(v) for v in crops.volumes], crops.table)
    count = REALIGNED_VOLUMES if realign else 0
    found = {
        name: pose_recovery.recover_poses(volumes, table, templates, inputs.voxel_size, count)
        for name, (volumes, table) in compared.items()
    }
    correct, chance = found["value"].correct, 1 / len(maps)
    baselines = {"chance": chance}
    baselines |= {name: float(f.correct.mean()) for name, f in found.items() if name != "value"}
    interval = cluster_robust_wilson(correct, cluster_labels(chosen.table))
    value = float(correct.mean())
    warning = ""
    if interval[0] <= chance:
        warning = "not above chance: the generated volumes do not show their own particle"
    elif value < wilson(baselines["physics"] * len(correct), len(correct))[0]:
        warning = (
            f"a simulation at the same signal-to-noise ratio reaches {baselines['physics']:.0%}: "
            "the translation alters its particles"
        )
    record = metric_record(value, interval, baselines, warning)
    if realign:
        found = {"generated" if name == "value" else name: f for name, f in found.items()}
        for key, error in (("rotation_error", "angle_error"), ("shift_error", "shift_error")):
            record[key] = {n: float(np.nanmedian(getattr(f, error))) for n, f in found.items()}
    return record


def _sample(
    volumes: LabelledSet, maps: Mapping[str, Floats], rng: np.random.Generator
) -> LabelledSet:
    """Return at most `VOLUMES` volumes of the classes that have a map."""
    rows = np.flatnonzero(np.isin(volumes.names, list(maps)))
    return volumes.subset(rng.permutation(rows)[:VOLUMES])

"""All metrics of a generated set against a real one, each with interval, baselines and warning."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.errors import UserError, suggest
from cryoetgan.evaluation.classifiers.classifier import Classifier
from cryoetgan.evaluation.labelled_sets import Labelled
from cryoetgan.evaluation.measurement import volume_metrics
from cryoetgan.evaluation.measurement.c2st import two_sample
from cryoetgan.evaluation.measurement.feature_metrics import feature_metrics
from cryoetgan.evaluation.measurement.record import Result
from cryoetgan.io.star import ANGLES
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.seeds import rng

log = logging.getLogger("cryoetgan")
BASELINE_VOLUMES = 400
"""Volumes of each null set."""
FEATURES = ("is", "fid", "kid", "precision", "recall", "density", "coverage")
STRUCTURE, SPECTRA = ("ssim_class", "ssim_best"), ("power_ratio", "sd_ratio")
METRICS = (*FEATURES, *STRUCTURE, "ssim_cycle", *SPECTRA, "pose_recovery", "c2st_auc")
Floats = NDArray[np.floating]


def measure(
    real: Labelled,
    generated: Labelled,
    voxel_size: float,
    seed: int,
    device: torch.device,
    classifier: Classifier | None = None,
    layer: str | None = None,
    maps: Mapping[str, Floats] | None = None,
    tilts: tuple[float, float] | None = None,
    cycle: tuple[Floats, Floats] | None = None,
    only: Collection[str] | None = None,
) -> Result:
    """Return `{metric: {value, interval, baselines, warning}}` of what the inputs allow.

    Parameters
    ----------
    real, generated : Labelled
        The sets.
    voxel_size : float
        Angstrom.
    seed : int
        Of all draws: each metric has its own, so none changes with another's input.
    device : torch.device
        For the two-sample test.
    classifier : Classifier, optional
        Its features and probabilities; trained on real volumes that are not in `real`.
    layer : str, optional
        Whose activations are the features.
    maps : mapping, optional
        Class to density `(n, n, n)`, for pose recovery.
    tilts : (float, float), optional
        Degrees about y; the real set's own where None.
    cycle : (ndarray, ndarray), optional
        Volumes, and what came back from a translation there and back.
    only : collection of str, optional
        Metrics asked for: what lacks for one is then an error. Where None, all that the inputs
        allow; poses are then realigned, too, for their errors.

    Raises
    ------
    UserError
        Where a metric of `only` is not known or lacks an input, or a set has fewer than two
        volumes.
    """
    for what, volumes in (("real", real), ("generated", generated)):
        if len(volumes.names) < 2:
            raise UserError(
                f"the {what} set has {len(volumes.names)} volume; metrics need two at least: "
                "name a set with more, or another --real-split"
            )
    chosen = METRICS if only is None else only
    for name in chosen:
        if name not in METRICS:
            raise UserError(
                f"--metric: got '{name}'{suggest(name, METRICS)}, wanted some of "
                f"{', '.join(METRICS)}"
            )

    tilts = tilts or real.tilts
    lacking = _lacking(generated, classifier, maps, tilts, cycle)
    for name in only or ():
        if name in lacking:
            raise UserError(f"--metric {name}: needs {lacking[name]}")
    if maps and only is None and "pose_recovery" in lacking:
        log.warning("no pose recovery: it needs %s", lacking["pose_recovery"])

    def wanted(*names: str) -> bool:
        return not set(chosen).isdisjoint(names)

    baselines = baseline_volumes(real.volumes, rng(seed, "measure", "nulls"))
    result: Result = {}
    if classifier is not None and wanted(*FEATURES):
        numbers = rng(seed, "measure", "features")
        result |= feature_metrics(real, generated, classifier, layer, baselines, numbers)
    if wanted(*STRUCTURE):
        numbers = rng(seed, "measure", "structure")
        result |= volume_metrics.structure(real, generated, baselines, numbers)
    if cycle is not None and wanted("ssim_cycle"):
        result |= volume_metrics.cycle(*cycle, rng(seed, "measure", "cycle"))
    if wanted(*SPECTRA):
        numbers = rng(seed, "measure", "spectra")
        result |= volume_metrics.spectra(real, generated, baselines, tilts, numbers)
    if wanted("pose_recovery") and "pose_recovery" not in lacking and maps and tilts:
        numbers = rng(seed, "measure", "poses")
        result["pose_recovery"] = volume_metrics.poses(
            real, generated, maps, tilts, voxel_size, numbers, realign=only is None
        )
    told = two_sample(real, generated, baselines, seed, device) if wanted("c2st_auc") else None
    if told is not None:
        result["c2st_auc"] = told
    elif wanted("c2st_auc"):
        log.warning("too few volumes for a two-sample test")
    return {name: found for name, found in result.items() if name in chosen}


def _lacking(
    generated: Labelled,
    classifier: Classifier | None,
    maps: Mapping[str, Floats] | None,
    tilts: tuple[float, float] | None,
    cycle: tuple[Floats, Floats] | None,
) -> dict[str, str]:
    """Return what each metric that cannot be computed needs."""
    found: dict[str, str] = {}
    if classifier is None:
        found |= dict.fromkeys(FEATURES, "--features, of `evaluation classify --checkpoint`")
    if cycle is None:
        found["ssim_cycle"] = "--cycle, volumes translated there and back"
    if not maps:
        found["pose_recovery"] = "--map of each class"
    elif not set(generated.names) & set(maps):
        found["pose_recovery"] = "a map that is named like a generated class"
    elif not set(ANGLES) <= set(generated.table):
        found["pose_recovery"] = f"the generated set's poses ({', '.join(ANGLES)})"
    elif tilts is None:
        found["pose_recovery"] = "--tilts, as the real set does not say what it was recorded at"
    return found


def baseline_volumes(real: Floats, numbers: np.random.Generator) -> dict[str, Floats]:
    """Return what no metric may call good: a constant volume, and Gaussian noise.

    Both have the real set's mean, the noise its standard deviation.
    """
    count = min(len(real), BASELINE_VOLUMES)
    mean, sd = float(real.mean()), float(real.std())
    noise = mean + sd * numbers.standard_normal((count, *real.shape[1:]), dtype=np.float32)
    constant = np.broadcast_to(np.float32(mean), noise.shape)
    return {"constant": constant, "noise": noise}


def cycle_pairs(cycled: VolumeSet, originals: VolumeSet) -> tuple[Floats, Floats]:
    """Return originals and cycled volumes, row by row.

    Rows belong together by cryoetganId (crops), else by class and angles (densities).

    Raises
    ------
    UserError
        Where a cycled volume has no original.
    """
    keys = [_keys(volumes.table) for volumes in (cycled, originals)]
    places = {key: row for row, key in enumerate(keys[1])}
    missing = [key for key in keys[0] if key not in places]
    if missing:
        raise UserError(
            f"{cycled.path}: {len(missing)} of {len(cycled)} volumes are of no row of "
            f"{originals.path}; cycle the set that is named"
        )
    rows = [places[key] for key in keys[0]]
    return np.asarray(originals.volumes)[rows], np.asarray(cycled.volumes)


def _keys(table: Any) -> list[tuple[Any, ...]]:
    if "cryoetganId" in table and table["cryoetganId"].notna().all():
        return [(name,) for name in table["cryoetganId"]]
    columns = [name for name in ("cryoetganClass", *ANGLES) if name in table]
    return [
        tuple(round(value, 3) if isinstance(value, float) else value for value in row)
        for row in table[columns].itertuples(index=False)
    ]

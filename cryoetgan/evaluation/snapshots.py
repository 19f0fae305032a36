"""Scores of a generator's snapshots during training (the paper's figures 5 and 6)."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryoetgan.evaluation.classifiers.classifier import Classifier
from cryoetgan.evaluation.labelled_sets import LabelledSet
from cryoetgan.evaluation.measurement.feature_metrics import feature_metrics
from cryoetgan.evaluation.measurement.measure import baseline_volumes
from cryoetgan.evaluation.measurement.metrics_io import MetricInputs
from cryoetgan.io.files import check_exists
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.progress import track
from cryoetgan.seeds import rng
from cryoetgan.translation.engine.checkpoint import read
from cryoetgan.translation.translate import list_items, open_translator

log = logging.getLogger("cryoetgan")
SCORES = ("is", "fid", "kid")
SNAPSHOTS = "snapshots/epoch_*.pt"


def _list_generators(checkpoint: Path) -> list[tuple[Path, bool]]:
    """Return checkpoints in training order, each with True for its untrained generator."""
    last = int(read(check_exists(checkpoint))["step"])
    snapshots = sorted(checkpoint.parent.glob(SNAPSHOTS))
    if not snapshots:
        log.warning(
            "%s: has no snapshots (snapshot_every in the preset); only its first and last "
            "generators are measured",
            checkpoint,
        )
    # an earlier, longer run may have left snapshots
    earlier = [path for path in snapshots if int(read(path)["step"]) < last]
    return [(checkpoint, True), *((path, False) for path in [*earlier, checkpoint])]


def measure_generators(
    real: LabelledSet,
    densities: VolumeSet,
    checkpoints: Sequence[Path],
    classifier: Classifier,
    device: torch.device,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield one row per generator: noise, step, and is, fid, kid with their 95 % intervals.

    Each generator translates all densities. The scores equal the output of `evaluation
    measure` on the output of `translation translate` with the same seed. `noise` is the input
    noise of the generator's training.
    """
    todo = [found for path in checkpoints for found in _list_generators(path)]
    baselines = baseline_volumes(real.volumes, rng(seed, "measure", "nulls"))
    rows = densities.table.assign(cryoetganSource="generated")
    for path, untrained in track(todo, "measuring generators"):
        translator = open_translator(path, "ds", device, untrained=untrained)
        items = translator.translate_items(densities, list_items(densities), seed)
        volumes = np.stack([volume for *_, volume in items])
        generated = LabelledSet(volumes, densities.table["cryoetganClass"].to_numpy(str), rows)
        generator = rng(seed, "measure", "features")
        inputs = MetricInputs(real, generated, densities.voxel_size)
        found = feature_metrics(inputs, classifier, baselines, generator)
        row: dict[str, Any] = {
            "noise": f"{float(translator.content['settings']['input_noise']):g}",
            "step": 0 if untrained else int(translator.content["step"]),
        }
        for name in SCORES:
            if name in found:
                low, high = found[name]["interval"]
                row |= {name: found[name]["value"], f"{name}_low": low, f"{name}_high": high}
        yield row

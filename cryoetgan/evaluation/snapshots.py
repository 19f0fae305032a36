"""Scores of a generator's snapshots as training goes (the paper's Figures 5 and 6)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryoetgan.evaluation.classifiers.classifier import Classifier
from cryoetgan.evaluation.labelled_sets import Labelled
from cryoetgan.evaluation.measurement.feature_metrics import feature_metrics
from cryoetgan.evaluation.measurement.measure import baseline_volumes
from cryoetgan.io.star import item_names
from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.progress import track
from cryoetgan.seeds import rng
from cryoetgan.translation.engine.checkpoint import read
from cryoetgan.translation.translator import Translating, open_translator

SCORES = ("is", "fid", "kid")
SNAPSHOTS = "snapshots/epoch_*.pt"


def generators(checkpoint: Path) -> list[tuple[Path, int | None]]:
    """Return the untrained generator, the snapshots and the trained one, in order of training.

    Parameters
    ----------
    checkpoint : Path
        `checkpoint.pt`; its snapshots lie beside it, those of an earlier, longer run are not its.

    Returns
    -------
    list of (Path, int or None)
        What `open_translator` takes: a checkpoint, and 0 for the generator before training.
    """
    last = int(read(checkpoint)["step"])
    kept = sorted(checkpoint.parent.glob(SNAPSHOTS))
    before = [path for path in kept if int(read(path)["step"]) < last]
    return [(checkpoint, 0), *((path, None) for path in before), (checkpoint, None)]


def scores(
    real: Labelled,
    densities: VolumeSet,
    checkpoints: Sequence[Path],
    classifier: Classifier,
    device: torch.device,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield a row a generator: noise, step, and is, fid, kid with their 95 % intervals.

    Each generator translates all densities; a score is that of `evaluation measure` on what
    `translation translate` makes with the same seed. `noise` is the input noise that the
    generator was trained with.
    """
    todo = [found for path in checkpoints for found in generators(path)]
    baselines = baseline_volumes(real.volumes, rng(seed, "measure", "nulls"))
    for path, snapshot in track(todo, "measuring generators"):
        translator = open_translator(path, "ds", snapshot, device)
        made = _translated(translator, densities, seed)
        numbers = rng(seed, "measure", "features")
        found = feature_metrics(real, made, classifier, None, baselines, numbers)
        row: dict[str, Any] = {
            "noise": f"{float(translator.content['settings']['input_noise']):g}",
            "step": 0 if snapshot == 0 else int(translator.content["step"]),
        }
        for name in SCORES:
            if name in found:
                low, high = found[name]["interval"]
                row |= {name: found[name]["value"], f"{name}_low": low, f"{name}_high": high}
        yield row


def _translated(translator: Translating, densities: VolumeSet, seed: int) -> Labelled:
    names = densities.table["cryoetganClass"].to_numpy(str)
    made = translator.translated(densities, item_names(names), 1, seed)
    volumes = np.stack([volume for _, _, volume in made])
    return Labelled(volumes, names, densities.table.assign(cryoetganSource="generated"))

"""Translate a volume set with a checkpoint; rows keep class, pose and origin."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cryoetgan.errors import UserError
from cryoetgan.io.mrc import check_same_voxel_size
from cryoetgan.io.star import item_names
from cryoetgan.io.volume_set import VolumeSet, VolumeSetWriter, read_volume_set
from cryoetgan.progress import track
from cryoetgan.translation.cyclegan.translator import CycleGANTranslator
from cryoetgan.translation.engine import checkpoint
from cryoetgan.translation.engine.translator import Translator
from cryoetgan.translation.presets import parse_settings
from cryoetgan.translation.residual.translator import ResidualTranslator


def open_translator(
    path: Path, direction: str, device: torch.device, untrained: bool = False
) -> Translator:
    """Return the translator of a checkpoint.

    Parameters
    ----------
    path : Path
        `checkpoint.pt`, or a file of `snapshots/`.
    direction : str
        ds: densities to subtomograms; sd: back.
    device : torch.device
        Device of the generator.
    untrained : bool
        Load the generator as it was before training, for direction ds only.

    Raises
    ------
    UserError
        If the checkpoint has no such generator.
    """
    if direction not in ("ds", "sd"):
        raise UserError(f"--direction: got '{direction}', wanted ds or sd")
    if untrained and direction == "sd":
        raise UserError("--snapshot: the untrained generator is kept for direction ds only")
    content = checkpoint.read(path)
    settings: Any = parse_settings(content["settings"], str(path))
    kind: Any = CycleGANTranslator if settings.model == "cyclegan" else ResidualTranslator
    translator: Translator = kind(content, settings, direction, device, path, untrained)
    return translator


def check_snapshot(snapshot: int | None, path: Path) -> None:
    """Raise a `UserError` if a snapshot is wanted that the checkpoint `path` does not hold."""
    if snapshot not in (None, 0):
        raise UserError(
            f"--snapshot: got {snapshot}, wanted 0. The generator of epoch N is a checkpoint of "
            f"its own: {path.parent}/snapshots/epoch_N.pt (snapshot_every in the preset)"
        )


def open_source(path: Path, translator: Translator) -> VolumeSet:
    """Read a volume set; raise a `UserError` if the translator cannot take its volumes."""
    source = read_volume_set(path)
    check_same_voxel_size(source.voxel_size, translator.voxel_size, path, translator.path)
    translator.check_box(source)
    return source


def name_items(source: VolumeSet) -> list[str]:
    """Return the name of each row, `class/number`, on which its random numbers depend."""
    table = source.table
    classes: Sequence[str] = ["particle"] * len(table)
    return item_names(table.get("cryoetganClass", classes))


def write_translations(
    translator: Translator, source: VolumeSet, output: Path, draws: int, seed: int
) -> int:
    """Write the translations of a volume set and return their number.

    Parameters
    ----------
    translator : Translator
        Of `open_translator`.
    source : VolumeSet
        Of `open_source`.
    output : Path
        STAR file of the translations.
    draws : int
        Noise draws of each volume.
    seed : int
        Seed of the run.
    """
    simulates = translator.direction == "ds"
    table = source.table.assign(cryoetganSource="generated" if simulates else "density")
    optics = pd.DataFrame(translator.optics()) if simulates else source.optics
    rows = table.to_dict("records")
    count = len(rows) * draws
    translations = translator.translate_set(source, name_items(source), draws, seed)
    with VolumeSetWriter(output, count, source.box, source.voxel_size, optics) as writer:
        for row, group, volume in track(translations, "translating", count):
            writer.add(volume, rows[row] | ({"rlnOpticsGroup": group + 1} if simulates else {}))
    return count

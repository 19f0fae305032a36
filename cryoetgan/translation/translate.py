"""Translate a volume set with a checkpoint; rows keep class, pose and origin."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cryoetgan.errors import UserError
from cryoetgan.io.mrc import check_same_voxel_size
from cryoetgan.io.star import item_names
from cryoetgan.io.volume_set import VolumeSet, VolumeSetWriter, read_volume_set
from cryoetgan.progress import log, track
from cryoetgan.translation.cyclegan.translator import CycleGANTranslator
from cryoetgan.translation.engine import checkpoint
from cryoetgan.translation.engine.trainer import COLLAPSED
from cryoetgan.translation.engine.translator import Item, Translator
from cryoetgan.translation.presets import parse_settings
from cryoetgan.translation.residual.translator import ResidualTranslator


def open_translator(
    path: Path, direction: str, device: torch.device, untrained: bool = False
) -> Translator:
    """Return the translator of `checkpoint.pt`, or of a file of `snapshots/`."""
    if direction not in ("ds", "sd"):
        raise UserError(f"--direction: got '{direction}', wanted ds or sd")
    content = checkpoint.read(path)
    settings: Any = parse_settings(content["settings"], str(path))
    kind: Any = CycleGANTranslator if settings.model == "cyclegan" else ResidualTranslator
    translator: Translator = kind(content, settings, direction, device, path, untrained)
    return translator


def open_source(path: Path, translator: Translator) -> VolumeSet:
    """Read a volume set; raise a `UserError` if the translator cannot take its volumes."""
    source = read_volume_set(path)
    voxel_size = float(translator.content["voxel_size"])
    check_same_voxel_size(source.voxel_size, voxel_size, path, translator.path)
    if source.box % translator.box_multiple or source.box < translator.smallest_box:
        raise UserError(
            f"{source.path}: boxes of {source.box} voxels, wanted a multiple of "
            f"{translator.box_multiple}, {translator.smallest_box} or more (densities.box)"
        )
    return source


def list_items(source: VolumeSet, draws: int = 1) -> list[Item]:
    """Return `draws` items of each row in turn, named `class/number`."""
    names = item_names(source.table.get("cryoetganClass", ["particle"] * len(source.table)))
    return [Item(row, name, draw) for row, name in enumerate(names) for draw in range(draws)]


def write_translations(
    translator: Translator, source: VolumeSet, output: Path, draws: int, seed: int
) -> int:
    """Write `draws` translations of each volume of a set (STAR) and return their number."""
    simulates = translator.direction == "ds"
    table = source.table.assign(cryoetganSource="generated" if simulates else "density")
    optics = pd.DataFrame(translator.optics()) if simulates else source.optics
    rows = table.to_dict("records")
    items = list_items(source, draws)
    translations = translator.translate_items(source, items, seed)
    variance = 0.0
    with VolumeSetWriter(output, len(items), source.box, source.voxel_size, optics) as writer:
        for item, group, volume in track(translations, "translating", len(items)):
            new = {"rlnOpticsGroup": group + 1} if simulates else {}
            writer.add(volume, rows[item.row] | new)
            variance += float(volume.var()) / len(items)
    ratio = math.sqrt(variance) / translator.scaler("density").sd
    if not simulates and ratio < COLLAPSED:
        log.warning(
            "%s: the volumes have %.2g times the standard deviation of the training's densities: the "
            "way back has collapsed; train it with another --seed, or for more steps", output, ratio,
        )  # fmt: skip
    return len(items)

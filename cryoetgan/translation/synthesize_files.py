"""A checkpoint and a scene to a synthetic tomogram's files."""

from pathlib import Path
from typing import Any

import torch

from cryoetgan.errors import UserError
from cryoetgan.imaging.model import ImagingModel
from cryoetgan.imaging.simulate.tiling import TiledSimulator
from cryoetgan.imaging.simulate.tomogram import open_scene, write_tomogram
from cryoetgan.io.star import class_name
from cryoetgan.translation.engine import checkpoint
from cryoetgan.translation.residual.scene_simulation import unpacked
from cryoetgan.translation.residual.translator import load_residual
from cryoetgan.translation.synthesize import Synthesizer


def chosen_model(models: list[ImagingModel], name: str | None, path: Path) -> ImagingModel:
    """Return the imaging model of a tomogram, or the first."""
    known = {model.tomogram: model for model in models}
    if name is not None and name not in known:
        raise UserError(f"--tomogram: got '{name}', but {path} has {', '.join(known)}")
    return models[0] if name is None else known[name]


def synthesize(
    path: Path,
    scene: Path,
    output: Path,
    labels: Path | None,
    particles: Path | None,
    tomogram: str | None,
    scale: float,
    tile: int,
    device: torch.device,
    seed: int,
) -> tuple[list[Path], dict[str, Any]]:
    """Write `T.mrc`, and beside it `T_labels.mrc` and `T.star` if labels and truth are given.

    Returns the volumes that get a record, and its entries, as `write_tomogram` does.

    Raises
    ------
    UserError
        Where the checkpoint is no residual one, or files do not fit each other.
    """
    content = checkpoint.read(path)
    settings = checkpoint.settings_of(content, path)
    if settings.frame != "residual":
        raise UserError(
            f"{path}: was trained with preset {content.get('preset')}, whose instance norm would "
            "change grey values from tile to tile; whole tomograms want preset recommended, or "
            "fitted physics alone (cryoetgan imaging synthesize)"
        )
    model = chosen_model(unpacked(content["imaging"], path), tomogram, path)
    source = open_scene(scene, labels, particles)
    generator = load_residual(content, settings, path).to(device)
    grey = checkpoint.scaler_of(content, "subtomogram")
    physics = TiledSimulator(model, seed, class_name(output), scale)
    made = Synthesizer(physics, generator, grey, device)  # type: ignore[arg-type]
    return write_tomogram(output, source, model, made.simulate_block, tile, "generated")

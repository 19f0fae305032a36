"""The command that turns a density scene into a tomogram with a trained network."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Device, Output, Record, Seed, command, log
from cryoetgan.imaging.commands import DensityScale, SceneLabels, SceneMap, SceneTruth, Tile


def register(app: typer.Typer) -> None:
    """Add the command to its stage's group."""
    command(app, "synthesize")(synthesize)


def synthesize(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pt of preset recommended.")],
    scene: SceneMap,
    output: Output,
    labels: SceneLabels = None,
    particles: SceneTruth = None,
    tomogram: Annotated[
        str | None, typer.Option(help="Whose imaging model; the first of the checkpoint's.")
    ] = None,
    density_scale: DensityScale = 1.0,
    tile: Tile = 96,
    device: Device = "auto",
    seed: Seed = 0,
) -> Record:
    """A density scene of any size to a tomogram: T.mrc, T_labels.mrc, T.star.

    In the grey values of the tomogram that was trained on, protein bright. Memory depends on
    the tile alone, the result not on the tile: noise belongs to the voxel's place, and tiles
    overlap by all that counts for a voxel.
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.translation.synthesize_files import synthesize as write

    where = choose_device(device)
    outputs, about = write(
        checkpoint, scene, output, labels, particles, tomogram, density_scale, tile, where, seed
    )
    log.info("%s: made of %s", output, scene)
    return Record(outputs=outputs, about=about)

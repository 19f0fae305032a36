"""The command that turns a density scene into a tomogram by fitted physics."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Output, Seed, check_positive, command, log
from cryoetgan.errors import UserError

Scene = Annotated[
    Path, typer.Argument(help="MRC of densities, as maps are: `tomograms scene`, or another's.")
]
Labels = Annotated[Path | None, typer.Option("--labels", help="MRC of labels, passed through.")]
Truth = Annotated[Path | None, typer.Option("--particles", help="STAR of truth, passed through.")]
Scale = Annotated[
    float,
    typer.Option("--density-scale", help="Factor on the scene, where its units are not the maps'."),
]
Tile = Annotated[int, typer.Option("--tile", help="Voxels made at a time, an axis.")]
SMALLEST_TILE = 8


def register(app: typer.Typer) -> None:
    """Add the command to its stage's group."""
    command(app, "synthesize")(synthesize)


def check_tile(tile: int) -> int:
    """Return the edge of a tile, or refuse one that is too small."""
    if tile < SMALLEST_TILE:
        raise UserError(f"--tile: got {tile}, wanted {SMALLEST_TILE} or more voxels")
    return tile


def synthesize(
    scene: Scene,
    output: Output,
    model: Annotated[Path, typer.Option(help="Imaging model of `imaging fit`.")],
    labels: Labels = None,
    particles: Truth = None,
    density_scale: Scale = 1.0,
    tile: Tile = 96,
    seed: Seed = 0,
) -> None:
    """A density scene of any size to a tomogram, by fitted physics: T.mrc, T_labels.mrc, T.star.

    Transfer, noise and grey values of the tomogram that the model was fitted to, protein
    bright. Memory depends on the tile alone, the result not on the tile: noise belongs to the
    voxel's place, and tiles overlap by all that counts for a voxel. An untrained
    `translation synthesize` makes the same.
    """
    from cryoetgan.imaging.model import ImagingModel
    from cryoetgan.imaging.simulate.tiling import TiledPhysics
    from cryoetgan.imaging.simulate.tomogram import open_source, record_of, write_tomogram
    from cryoetgan.io.star import class_name

    check_tile(tile)
    check_positive(density_scale, "--density-scale")
    fitted = ImagingModel.load(model)
    source = open_source(scene, labels, particles)
    physics = TiledPhysics(fitted, seed, class_name(output), density_scale)
    record = record_of("imaging synthesize", source, [model], seed, density_scale=density_scale)
    write_tomogram(output, source, fitted, physics.part, tile, record, "simulated")
    log.info("%s: made of %s by the physics of %s", output, scene, fitted.tomogram)

"""The command that makes sets between physics and data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cryoetgan.command import Output, Seed, command, log
from cryoetgan.errors import UserError, nearest


def register(app: typer.Typer) -> None:
    """Add the command to its stage's group."""
    command(app, "control")(control)


def control(
    densities: Annotated[Path, typer.Argument(help="Volume set of posed densities (STAR).")],
    output: Output,
    kind: Annotated[str, typer.Option(help="noise or pasted.")],
    model: Annotated[list[Path], typer.Option(help="Imaging model of `imaging fit`; repeatable.")],
    tomogram: Annotated[
        list[Path] | None, typer.Option(help="Of each model, in the same order, to paste into.")
    ] = None,
    particles: Annotated[
        list[Path] | None, typer.Option(help="Picks (STAR) of each of these tomograms.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Controls for a comparison: a volume set of densities by a part of fitted physics.

    noise: the noise that was fitted, and of the transfer the missing wedge alone. pasted: the
    fitted transfer, in patches of the real tomograms where nothing was picked: real noise, no
    model of it. Neither is for export: they show what each part of the physics is worth
    (`snakemake competition`). No neighbours in either.
    """
    from cryoetgan.imaging.controls import KINDS, Backdrop
    from cryoetgan.imaging.model import ImagingModel
    from cryoetgan.imaging.sets import write_control
    from cryoetgan.star import COORDINATES, read_star
    from cryoetgan.volumes import read_tomogram, read_volume_set, same_voxel_size

    if kind not in KINDS:
        raise UserError(f"--kind: got '{kind}'{nearest(kind, KINDS)}, wanted {', '.join(KINDS)}")
    pairs = [tomogram or [], particles or []]
    if kind == "pasted" and not len(pairs[0]) == len(pairs[1]) == len(model):
        raise UserError(
            f"--kind pasted: got {len(model)} --model, {len(pairs[0])} --tomogram and "
            f"{len(pairs[1])} --particles; wanted as many of each, in one order"
        )
    source = read_volume_set(densities, ["cryoetganClass"])
    models = {path: ImagingModel.load(path) for path in model}
    backdrops: list[Any] = []
    for path, picks in zip(*pairs, strict=True) if kind == "pasted" else ():
        volume = read_tomogram(path)
        same_voxel_size(volume.voxel_size, source.voxel_size, path, densities)
        places = read_star(picks, COORDINATES).particles[COORDINATES].to_numpy(float)
        backdrops.append(Backdrop(path, volume.data, places))
    count = write_control(kind, source, output, models, backdrops, seed)
    log.info("%s: %d volumes, %s", output, count, kind)

"""The command that makes sets between physics and data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cryoetgan.command import Output, Seed, command, log
from cryoetgan.errors import UserError, suggest


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
    mask: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="What to leave out of a tomogram, by its name."),
    ] = None,
    per_group: Annotated[
        bool, typer.Option("--per-group", help="The set once for each group, as `simulate` has it.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Controls for a comparison: a volume set of densities by a part of fitted physics.

    noise: the noise that was fitted, and of the transfer the missing wedge alone. pasted: the
    fitted transfer, in patches of the real tomograms where nothing was picked or masked: real
    noise, no model of it. Neither is for export: they show what each part of the physics is worth
    (`snakemake comparison`). No neighbours in either.
    """
    from cryoetgan.imaging.fit.exclusion import LeftOut
    from cryoetgan.imaging.model import ImagingModel
    from cryoetgan.imaging.simulate.ablated import KINDS, Backdrop
    from cryoetgan.imaging.simulate.volume_sets import write_control
    from cryoetgan.io.mrc import check_same_voxel_size, read_mask, read_tomogram
    from cryoetgan.io.star import COORDINATES, class_name, read_star, select_tomogram
    from cryoetgan.io.volume_set import read_volume_set

    if kind not in KINDS:
        raise UserError(f"--kind: got '{kind}'{suggest(kind, KINDS)}, wanted {', '.join(KINDS)}")
    pairs = [tomogram or [], particles or []]
    if kind == "pasted" and not len(pairs[0]) == len(pairs[1]) == len(model):
        raise UserError(
            f"--kind pasted: got {len(model)} --model, {len(pairs[0])} --tomogram and "
            f"{len(pairs[1])} --particles; wanted as many of each, in one order"
        )
    source = read_volume_set(densities, ["cryoetganClass"])
    models = {path: ImagingModel.load(path) for path in model}
    masks = dict(_named(given) for given in mask or [])
    backdrops: list[Any] = []
    for fitted, path, picks in zip(models, *pairs, strict=True) if kind == "pasted" else ():
        volume, name = read_tomogram(path), class_name(path)
        if name != models[fitted].tomogram:
            raise UserError(
                f"{fitted}: was fitted to tomogram {models[fitted].tomogram}, and {path} stands in "
                "its place; give --model, --tomogram and --particles in one order"
            )
        check_same_voxel_size(volume.voxel_size, source.voxel_size, path, densities)
        table = select_tomogram(read_star(picks, COORDINATES).particles, path, picks)
        drawn = read_mask(masks.pop(name), volume, path) if name in masks else None
        left_out = LeftOut(volume.data, drawn)
        places = table[COORDINATES].to_numpy(float)
        backdrops.append(Backdrop(path, volume.data, places, left_out))
    if masks:
        raise UserError(f"--mask: no --tomogram is named {', '.join(sorted(masks))}")
    count = write_control(kind, source, output, models, backdrops, seed, per_group)
    log.info("%s: %d volumes, %s", output, count, kind)


def _named(given: str) -> tuple[str, Path]:
    name, equals, path = given.partition("=")
    if not (name and equals and path):
        raise UserError(f"--mask: got '{given}', wanted NAME=PATH, the name that of its tomogram")
    return name, Path(path)

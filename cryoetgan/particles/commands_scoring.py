"""Commands of the `particles` stage that compare with templates."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Device, Output, command, log, tilt_range
from cryoetgan.errors import UserError


def register(app: typer.Typer) -> None:
    """Add this module's commands to the stage's group."""
    command(app, "score")(score)


def score(
    tomogram: Annotated[Path, typer.Argument(help="MRC, protein bright.")],
    picks: Annotated[Path, typer.Argument(help="STAR of picks in it.")],
    output: Output,
    template: Annotated[
        list[Path], typer.Option(help="Density map; the stem is the class; repeatable.")
    ],
    tilts: Annotated[str, typer.Option(metavar="LO,HI", help="Degrees about y.")],
    rotations: Annotated[int, typer.Option(help="Orientations searched.")] = 1856,
    lowpass: Annotated[float | None, typer.Option(help="Angstrom; default: three voxels.")] = None,
    highpass_shells: Annotated[int, typer.Option(help="Lowest Fourier shells left out.")] = 3,
    device: Device = "auto",
) -> None:
    """Align every pick to every template: STAR, one row a pick and class.

    The score is a correlation in [-1, 1] inside the tilt range and band; coordinates are
    refined, 0-based voxels; angles RELION's, degrees.
    """
    import pandas as pd

    from cryoetgan.files import provenance, sidecar, write_json
    from cryoetgan.particles.alignment import score_picks
    from cryoetgan.star import ANGLES, COORDINATES, class_name, read_star, write_star
    from cryoetgan.volumes import read_volume, same_voxel_size

    low, high, _ = tilt_range(tilts)
    volume = read_volume(tomogram)
    table = read_star(picks, [*COORDINATES, "cryoetganId"]).particles
    if not len(table):
        raise UserError(f"{picks}: holds no pick; lower particles.threshold and pick again")
    maps = {}
    for path in template:
        opened = read_volume(path)
        same_voxel_size(volume.voxel_size, opened.voxel_size, tomogram, path)
        maps[class_name(path)] = opened.data
    lowpass = lowpass or 3 * volume.voxel_size
    found = score_picks(
        volume,
        table[COORDINATES].to_numpy(float),
        maps,
        (low, high),
        rotations,
        lowpass,
        highpass_shells,
        device,
        tomogram,
    )
    rows = []
    for name, (fit, places, angles) in found.items():
        part = table[["cryoetganId"]].copy()
        part.insert(0, "rlnTomoName", class_name(tomogram))
        part[COORDINATES] = places
        part[ANGLES] = angles
        part["cryoetganClass"] = name
        part["cryoetganScore"] = fit
        part["cryoetganSource"] = "real"
        rows.append(part)
    out = pd.concat(rows, ignore_index=True)
    write_star(output, out)
    parameters = {
        "tilts": [low, high],
        "rotations": rotations,
        "lowpass": lowpass,
        "highpass_shells": highpass_shells,
    }
    made = provenance("particles score", [tomogram, picks, *template], parameters)
    write_json(sidecar(output), {"provenance": made})
    log.info("%s: %d picks, %d classes", output, len(table), len(maps))

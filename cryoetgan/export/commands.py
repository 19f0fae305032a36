"""Commands of the `export` stage."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Output, command, group, log
from cryoetgan.errors import UserError

app = group("")
Contrast = Annotated[
    str | None, typer.Option(help="How protein should look: dark or bright; default: as yours.")
]


@command(app, "relion")
def relion(
    volumes: Annotated[Path, typer.Argument(help="Volume set (STAR).")],
    output: Output,
    contrast: Contrast = None,
) -> None:
    """Write a volume set as RELION 3 subtomograms: a folder with particles.star.

    One MRC a particle, a CTF volume a tomogram; angles in degrees, origins in angstrom.
    """
    from cryoetgan.export.relion import export_relion
    from cryoetgan.files import atomic
    from cryoetgan.volumes import read_volume_set

    _check(contrast)
    opened = read_volume_set(volumes, ["cryoetganClass"])
    with atomic(output) as part:
        count = export_relion(opened, part, contrast)
    log.info("%s: %d particles", output, count)


@command(app, "plain")
def plain(
    volumes: Annotated[Path, typer.Argument(help="Volume set (STAR).")],
    output: Output,
    contrast: Contrast = None,
) -> None:
    """Write a volume set as single MRC files with CSV, Dynamo table and object list.

    For EMAN2, ChimeraX, Dynamo, DeepFinder; a README says what each column means.
    """
    from cryoetgan.export.plain import export_plain
    from cryoetgan.files import atomic
    from cryoetgan.volumes import read_volume_set

    _check(contrast)
    opened = read_volume_set(volumes, ["cryoetganClass"])
    with atomic(output) as part:
        part.mkdir()
        count = export_plain(opened, part, contrast)
    log.info("%s: %d particles", output, count)


@command(app, "copick")
def copick(
    tomograms: Annotated[list[Path], typer.Argument(help="MRC, protein bright.")],
    output: Output,
    particles: Annotated[
        list[Path] | None, typer.Option(help="STAR of particles; repeatable.")
    ] = None,
    labels: Annotated[
        list[Path] | None, typer.Option(help="<tomogram>_labels.mrc; repeatable.")
    ] = None,
) -> None:
    """Write tomograms, particles and labels as a copick project: config.json, OME-Zarr."""
    from cryoetgan.export.copick import export_copick
    from cryoetgan.files import atomic

    with atomic(output) as part:
        part.mkdir()
        count = export_copick(tomograms, particles or [], labels or [], part, output)
    log.info("%s: %d particles", output, count)


def _check(contrast: str | None) -> None:
    if contrast not in (None, "dark", "bright"):
        raise UserError(f"--contrast: got '{contrast}', wanted dark or bright")

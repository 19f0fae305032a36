"""Commands of the `export` stage."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Output, check_positive, command, group, log
from cryoetgan.errors import UserError

app = group("")
Contrast = Annotated[
    str | None,
    typer.Option(help="How protein should look: dark or bright; default: as in your own files."),
]
Volumes = Annotated[Path, typer.Argument(help="Volume set (STAR).")]
Fitted = Annotated[
    Path | None,
    typer.Option(
        help="The same by fitted physics (STAR): exported instead where --choice says so."
    ),
]
Decided = Annotated[
    Path | None,
    typer.Option("--choice", help="What `evaluation choose` wrote; the README repeats its why."),
]


@command(app, "relion")
def relion(
    volumes: Volumes,
    output: Output,
    contrast: Contrast = None,
    fitted: Fitted = None,
    choice: Decided = None,
    tomogram: Annotated[
        list[Path] | None,
        typer.Option(help="MRC the particles lie in, for particles_relion5.star; repeatable."),
    ] = None,
    tilt_series_pixel_size: Annotated[
        float | None, typer.Option(help="Angstrom, unbinned; for RELION 5's optics block.")
    ] = None,
) -> None:
    """Write a volume set as RELION 3 subtomograms: a folder with particles.star.

    One MRC a particle in Subtomograms/, the missing wedge and CTF of each tilt series in CTF/;
    angles in degrees, origins in angstrom. With --tomogram also particles_relion5.star: places
    in angstrom from the tomogram's centre, for extraction in RELION 5.
    """
    from cryoetgan.export.relion import export_relion, export_relion5
    from cryoetgan.export.source import say, shipped_set
    from cryoetgan.export.volume_rows import check_contrast
    from cryoetgan.io.files import atomic
    from cryoetgan.io.mrc import check_same_voxel_size, read_volume
    from cryoetgan.io.star import COORDINATES, class_name
    from cryoetgan.io.volume_set import read_volume_set, stack_path
    from cryoetgan.physics.coordinates import read_import_transform

    check_contrast(contrast)
    if tilt_series_pixel_size is not None:
        check_positive(tilt_series_pixel_size, "--tilt-series-pixel-size", " A")
    placed = ["rlnTomoName", *COORDINATES] if tomogram else []
    volumes, chosen = shipped_set(volumes, fitted, choice)
    opened = read_volume_set(volumes, ["cryoetganClass", *placed])
    imported = {}
    for path in tomogram or []:
        volume = read_volume(path)
        check_same_voxel_size(volume.voxel_size, opened.voxel_size, path, volumes)
        imported[class_name(path)] = read_import_transform(path, volume)
    _check_folder(output, "relion")
    with atomic(output) as part:
        count = export_relion(opened, part, contrast)
        if imported:
            export_relion5(opened, part, imported, contrast, tilt_series_pixel_size)
        say(part, chosen)
        inputs = [volumes, stack_path(volumes), *(tomogram or []), *([choice] if choice else [])]
        _record(part, "relion", inputs, contrast)
    log.info("%s: %d particles", output, count)
    if not imported and set(COORDINATES) <= set(opened.table):
        log.info("for RELION 5 coordinates give the tomograms too: --tomogram T.mrc")


@command(app, "plain")
def plain(
    volumes: Volumes,
    output: Output,
    contrast: Contrast = None,
    fitted: Fitted = None,
    choice: Decided = None,
) -> None:
    """Write a volume set as single MRC files, with the lists other programs read.

    For EMAN2, ChimeraX, Dynamo (dynamo.tbl), DeepFinder (objects.xml) and TomoTwin (names of
    the files); a README says what each column means. Coordinates in voxels, angles in degrees.
    """
    from cryoetgan.export.plain import export_plain
    from cryoetgan.export.source import say, shipped_set
    from cryoetgan.export.volume_rows import check_contrast
    from cryoetgan.io.files import atomic
    from cryoetgan.io.volume_set import read_volume_set, stack_path

    check_contrast(contrast)
    volumes, chosen = shipped_set(volumes, fitted, choice)
    opened = read_volume_set(volumes, ["cryoetganClass"])
    _check_folder(output, "plain")
    with atomic(output) as part:
        part.mkdir()
        count = export_plain(opened, part, contrast)
        say(part, chosen)
        inputs = [volumes, stack_path(volumes), *([choice] if choice else [])]
        _record(part, "plain", inputs, contrast)
    log.info("%s: %d particles", output, count)


@command(app, "copick")
def copick(
    tomograms: Annotated[
        list[Path], typer.Argument(help="MRC, protein bright; or one volume set (STAR).")
    ],
    output: Output,
    particles: Annotated[
        list[Path] | None, typer.Option(help="STAR of particles; repeatable.")
    ] = None,
    labels: Annotated[
        list[Path] | None, typer.Option(help="<tomogram>_labels.mrc; repeatable.")
    ] = None,
    density: Annotated[
        list[Path] | None,
        typer.Option(help="Density map of a class, for its radius in config.json; repeatable."),
    ] = None,
    contrast: Contrast = None,
    fitted: Annotated[
        list[Path] | None,
        typer.Option(
            help="Synthetic tomogram, or volume set, by fitted physics: exported instead of the one "
            "of its name where --choice says so; repeatable."
        ),
    ] = None,
    choice: Decided = None,
) -> None:
    """Write tomograms, particles and labels as a copick project: config.json and OME-Zarr.

    Of a volume set, each volume becomes a run with its particle as the only pick. Picks and
    radii are in angstrom; class names are made legal for copick.
    """
    from cryoetgan.export.copick import export_copick, tomogram_runs, volume_runs
    from cryoetgan.export.source import say, shipped_set, shipped_tomograms
    from cryoetgan.export.volume_rows import check_contrast
    from cryoetgan.io.files import atomic, check_exists
    from cryoetgan.io.mrc import read_map
    from cryoetgan.io.star import class_name
    from cryoetgan.particles.picking.pick import radius_of_map

    check_contrast(contrast)
    maps = {class_name(path): read_map(path) for path in density or []}
    radii = {name: radius_of_map(found.data, found.voxel_size) for name, found in maps.items()}
    sets = [path for path in tomograms if path.suffix == ".star"]
    if sets and (len(tomograms) > 1 or particles or labels):
        raise UserError(
            f"{sets[0]}: a volume set is exported alone, without other files or options"
        )
    if sets:
        instead = (fitted or [None])[0]  # type: ignore[list-item]
        volumes, chosen = shipped_set(sets[0], instead, choice)
        tomograms = [volumes]
    else:
        tomograms, chosen = shipped_tomograms(tomograms, fitted or [], choice)
    for path in tomograms:
        check_exists(path, "tomogram")
    if sets:
        runs = volume_runs(tomograms[0], contrast)
    else:
        runs = tomogram_runs(tomograms, particles or [], labels or [], contrast)
    _check_folder(output, "copick")
    with atomic(output) as part:
        part.mkdir()
        count = export_copick(runs, part, output, contrast, radii)
        say(part, chosen, "" if sets else "Synthetic tomograms. ")
        inputs = [*tomograms, *(particles or []), *(labels or []), *(density or [])]
        inputs += [choice] if choice else []
        _record(part, "copick", inputs, contrast)
    log.info("%s: %d particles", output, count)


def _check_folder(folder: Path, verb: str) -> None:
    """Raise a `UserError` where a folder holds anything but an earlier export of this kind.

    The export replaces the folder as a whole: what else lies there would be lost.
    """
    from cryoetgan.io.files import read_json

    if not folder.is_dir() or not any(folder.iterdir()):
        return
    record = folder / "provenance.json"
    content = read_json(record) if record.exists() else {}
    made = content.get("provenance") if isinstance(content, dict) else None
    if not isinstance(made, dict) or made.get("command") != f"export {verb}":
        raise UserError(
            f"{folder}: holds other files, which would be lost; name a folder of its own"
        )


def _record(folder: Path, verb: str, inputs: list[Path], contrast: str | None) -> None:
    """Write provenance.json, last: it holds the hashes of all other files, for `validate`."""
    from cryoetgan.io.files import provenance, sha256, write_json

    made = provenance(f"export {verb}", inputs, {"contrast": contrast})
    # config.json of copick is edited: it names a full path, and radii are set there
    files = {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / "config.json"
    }
    write_json(folder / "provenance.json", {"provenance": made, "files": files})

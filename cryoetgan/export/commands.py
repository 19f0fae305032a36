"""Commands of the `export` stage."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cryoetgan.command import Output, check_positive, command, group, log
from cryoetgan.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryoetgan.export.runs import Run
    from cryoetgan.export.source import Source

app = group("")
Contrast = Annotated[
    Literal["auto", "dark", "bright"],
    typer.Option(help="Of protein; auto: as in your own files."),
]
RelionContrast = Annotated[
    Literal["auto", "dark", "bright"],
    typer.Option(help="Of protein; auto: bright, as RELION assumes."),
]
Volumes = Annotated[Path, typer.Argument(help="Volume set (STAR).")]
Fitted = Annotated[
    Path | None,
    typer.Option(help="Set of the fitted simulation (STAR); exported if --choice says so."),
]
ChoiceFile = Annotated[
    Path | None,
    typer.Option("--choice", help="Output of `evaluation choose`; the README gives its reason."),
]


Inputs = Annotated[
    list[Path], typer.Argument(help="Tomograms (MRC, bright protein) or one volume set (STAR).")
]
Particles = Annotated[list[Path] | None, typer.Option(help="Particles (STAR); repeatable.")]
Labels = Annotated[
    list[Path] | None, typer.Option(help="Label volume TOMOGRAM_labels.mrc; repeatable.")
]
FittedInputs = Annotated[
    list[Path] | None,
    typer.Option(
        help="Synthetic tomogram or volume set of the fitted simulation; replaces the one of "
        "its name if --choice says so; repeatable."
    ),
]


@command(app, "relion")
def relion(
    volumes: Volumes,
    output: Output,
    contrast: RelionContrast = "auto",
    fitted: Fitted = None,
    choice: ChoiceFile = None,
    tomogram: Annotated[
        list[Path] | None,
        typer.Option(help="Tomogram (MRC) of particles, for RELION 5; repeatable."),
    ] = None,
    tilt_series_pixel_size: Annotated[
        float | None, typer.Option(help="Unbinned pixel size, angstrom; adds an optics block.")
    ] = None,
) -> None:
    """Write a volume set as RELION 3 subtomograms: a folder with particles.star.

    Subtomograms/ holds one MRC file per particle, CTF/ the missing wedge and CTF of each tilt
    series. Angles are in degrees, origins in angstrom. If --tomogram is given, the folder also
    has particles_relion5.star: coordinates in angstrom from the tomogram's centre, for
    extraction in RELION 5.
    """
    from cryoetgan.export.export_folder import export_folder
    from cryoetgan.export.relion import export_relion, export_relion5
    from cryoetgan.export.source import explain_source, select_set
    from cryoetgan.io.mrc import check_same_voxel_size, read_volume
    from cryoetgan.io.star import COORDINATES, class_name
    from cryoetgan.io.volume_set import read_volume_set
    from cryoetgan.particles.subtomograms.set_picks import BOX_EDGE
    from cryoetgan.physics.coordinates import read_import_transform

    if tilt_series_pixel_size is not None:
        check_positive(tilt_series_pixel_size, "--tilt-series-pixel-size", " A")
    shown = "bright" if contrast == "auto" else contrast
    source = select_set(volumes, fitted, choice)
    needed = ["rlnTomoName", *COORDINATES] if tomogram else []
    opened = read_volume_set(source.paths[0], ["cryoetganClass", *needed], allow_empty=True)
    transforms = {}
    for path in tomogram or []:
        volume = read_volume(path)
        check_same_voxel_size(volume.voxel_size, opened.voxel_size, path, source.paths[0])
        transforms[class_name(path)] = read_import_transform(path, volume)
    inputs = [*source.inputs, *(tomogram or [])]
    with export_folder(output, "export relion", inputs, {"contrast": contrast}) as folder:
        count = export_relion(opened, folder, shown)
        if transforms:
            export_relion5(opened, folder, transforms, shown, tilt_series_pixel_size)
        explain_source(folder, source)
    log.info("%s: %d particles", output, count)
    if not transforms and set(COORDINATES) <= set(opened.table) and BOX_EDGE not in opened.table:
        log.info("for RELION 5 coordinates, add the tomograms: --tomogram T.mrc")


@command(app, "plain")
def plain(
    inputs: Inputs,
    output: Output,
    particles: Particles = None,
    labels: Labels = None,
    contrast: Contrast = "auto",
    fitted: FittedInputs = None,
    choice: ChoiceFile = None,
) -> None:
    """Write single MRC files, with particle lists of other programs.

    Of a volume set: one file per volume, and TomoTwin's folders. Of tomograms: the tomograms, their
    labels, and lists of all their particles, T.star and T_labels.mrc beside T.mrc unless others
    are given. The lists are for Dynamo (dynamo.tbl), DeepFinder (objects.xml) and others. Tomograms with
    labels also get all parameters of DeepFinder, and a script that trains it and picks the other tomograms.
    A README explains each column. Coordinates are in voxels, angles in degrees.
    """
    from cryoetgan.export.deepfinder import PARAMETERS
    from cryoetgan.export.export_folder import export_folder
    from cryoetgan.export.plain import export_plain, export_plain_tomograms
    from cryoetgan.export.source import explain_source
    from cryoetgan.io.volume_set import read_volume_set

    shown = None if contrast == "auto" else contrast
    chosen = _choose(inputs, particles, labels, fitted, choice)
    parameters = {"contrast": contrast}
    with export_folder(output, "export plain", chosen.files, parameters, PARAMETERS) as folder:
        if chosen.is_set:
            opened = read_volume_set(chosen.source.paths[0], ["cryoetganClass"])
            count = export_plain(opened, folder, shown)
        else:
            count = export_plain_tomograms(chosen.tomogram_runs(shown), folder, shown)
        explain_source(folder, chosen.source, chosen.subject)
    log.info("%s: %d particles", output, count)


@command(app, "copick")
def copick(
    inputs: Inputs,
    output: Output,
    particles: Particles = None,
    labels: Labels = None,
    density: Annotated[
        list[Path] | None,
        typer.Option(help="Density map of a class, for its radius; repeatable."),
    ] = None,
    contrast: Contrast = "auto",
    fitted: FittedInputs = None,
    choice: ChoiceFile = None,
) -> None:
    """Write tomograms, particles and labels as a copick project: config.json and OME-Zarr.

    T.star and T_labels.mrc beside T.mrc are taken unless others are given, and T_instances.mrc
    beside the labels, as a panoptic segmentation. Each volume of a volume set becomes a run with its particle as the only pick. Picks and radii are in angstrom. Class
    names are converted to names that copick allows.
    """
    from cryoetgan.export.copick import export_copick
    from cryoetgan.export.export_folder import export_folder
    from cryoetgan.export.runs import volume_runs
    from cryoetgan.export.source import explain_source
    from cryoetgan.io.mrc import read_map
    from cryoetgan.io.star import class_name
    from cryoetgan.particles.picking.pick import radius_of_map

    shown = None if contrast == "auto" else contrast
    maps = {class_name(path): read_map(path) for path in density or []}
    radii = {name: radius_of_map(found.data, found.voxel_size) for name, found in maps.items()}
    chosen = _choose(inputs, particles, labels, fitted, choice)
    if chosen.is_set:
        runs = volume_runs(chosen.source.paths[0], shown)
    else:
        runs = chosen.tomogram_runs(shown)
    files = [*chosen.files, *(density or [])]
    # users edit config.json: it holds the full path of the data, and the radii
    editable = ["config.json"]
    parameters = {"contrast": contrast}
    with export_folder(output, "export copick", files, parameters, editable) as folder:
        count = export_copick(runs, folder, output, shown, radii)
        explain_source(folder, chosen.source, chosen.subject)
    log.info("%s: %d particles", output, count)


@dataclass(frozen=True)
class _Chosen:
    """The exported volume set or tomograms, with their particles and labels."""

    source: "Source"
    is_set: bool
    particles: list[Path]
    labels: list[Path]

    @property
    def files(self) -> list[Path]:
        from cryoetgan.export.runs import instance_files

        instances = instance_files(self.labels)
        return [*self.source.inputs, *self.particles, *self.labels, *instances]

    @property
    def subject(self) -> str:
        return "" if self.is_set else "Synthetic tomograms. "

    def tomogram_runs(self, contrast: str | None) -> "Iterator[Run]":
        from cryoetgan.export.runs import tomogram_runs

        return tomogram_runs(self.source.paths, self.particles, self.labels, contrast)


def _choose(
    inputs: list[Path],
    particles: list[Path] | None,
    labels: list[Path] | None,
    fitted: list[Path] | None,
    choice: Path | None,
) -> _Chosen:
    """Return what to export: one volume set, or tomograms with the files beside them."""
    from cryoetgan.export.runs import companions
    from cryoetgan.export.source import select_set, select_tomograms
    from cryoetgan.io.files import check_exists

    sets = [path for path in inputs if path.suffix == ".star"]
    if sets and (len(inputs) > 1 or particles or labels):
        raise UserError(
            f"{sets[0]}: a volume set is exported alone; remove the other files and options"
        )
    if sets:
        source = select_set(sets[0], fitted[0] if fitted else None, choice)
        check_exists(source.paths[0], "volume set")
        return _Chosen(source, True, [], [])
    source = select_tomograms(inputs, fitted or [], choice)
    paths = [check_exists(path, "tomogram") for path in source.paths]
    return _Chosen(
        source,
        False,
        companions(paths, ".star") if particles is None else particles,
        companions(paths, "_labels.mrc") if labels is None else labels,
    )

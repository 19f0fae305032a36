"""Commands of the `tomograms` stage."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from cryoetgan.command import (
    MrcOutput,
    Output,
    Record,
    Seed,
    check_positive,
    command,
    group,
    log,
)
from cryoetgan.errors import UserError
from cryoetgan.io.star import class_name
from cryoetgan.tomograms.options import (
    CellContents,
    Conversion,
    Microscope,
    Processing,
    Recording,
    SceneOptions,
    VesiclesAndGold,
)

app = group("")


Maps = Annotated[list[Path], Argument(help="Density maps; the stem is the class.")]
Mirror = Annotated[
    str | None, Option("--mirror", help="URL or folder that replaces the archive's own.")
]
Timeout = Annotated[float, Option("--timeout", help="Seconds without a byte.")]


@command(app, "import")
def import_(
    source: Annotated[
        str,
        Argument(
            metavar="FILE",
            help="MRC or REC, any mode, gzipped or not; or a URL, emdb:1234, "
            "empiar:10045/data/x.rec, portal:tomogram/1234, copick:config.json?run=R.",
        ),
    ],
    output: MrcOutput,
    recording: Recording,
    conversion: Conversion,
    mirror: Mirror = None,
    retries: Annotated[int, Option("--retries", min=0, help="Further attempts of a download.")] = 4,
    timeout: Timeout = 60.0,
) -> Record:
    """Import a tomogram: MRC, protein bright, mean 0, standard deviation 1.

    Resamples it to --voxel-size (angstrom), inverts dark protein once, and turns the axes so
    that the tilt axis is y and the beam z. The acquisition is kept beside it, in `T.mrc.json`.
    A --mask is converted in the same way, to `T_mask.mrc` (1: excluded). Memory does not grow
    with the tomogram.
    """
    from cryoetgan.io.files import check_not_overwritten
    from cryoetgan.physics.acquisition import mirror_tilts
    from cryoetgan.tomograms.importing.convert import convert_tomogram
    from cryoetgan.tomograms.sources.addresses import is_remote
    from cryoetgan.tomograms.sources.resolve import Transfer

    check_not_overwritten(Path(source), output)
    class_name(output)  # all tables name the tomogram by it
    acquisition = recording.acquisition(conversion.contrast)
    if conversion.flip_hand:
        low, high = mirror_tilts(*acquisition.tilts)
        acquisition = replace(acquisition, tilt_low=low, tilt_high=high)
    check_positive(timeout, "--timeout", " s")
    resolved = convert_tomogram(source, output, conversion, Transfer(mirror, retries, timeout))
    return Record(
        inputs=[Path(source)],
        parameters=resolved | {"source": source if is_remote(source) else Path(source)},
        about={"acquisition": acquisition.to_json()},
    )


@command(app, "mask")
def mask_(
    mask: Annotated[
        Path, Argument(help="MRC on the grid of the tomogram's file: not zero is excluded.")
    ],
    output: MrcOutput,
    tomogram: Annotated[Path, Option(help="The imported tomogram, MRC.")],
) -> Record:
    """Convert a mask to the grid of an imported tomogram: MRC, 1 is excluded.

    Turns and resamples it (nearest voxel) as the tomogram's record (`T.mrc.json`) states. If
    the tomogram has no record or was simulated, the mask is not turned.
    """
    from cryoetgan.io.mrc import read_volume
    from cryoetgan.physics.coordinates import read_import_transform
    from cryoetgan.tomograms.importing.exclusion_mask import write_mask

    volume = read_volume(tomogram)
    transform = read_import_transform(tomogram, volume)
    excluded = write_mask(output, mask, volume, transform)
    log.info("%s: excludes %.1f %%", output, 100 * excluded)
    return Record()


@command(app, "list")
def list_(
    sources: Annotated[
        list[str],
        Argument(
            help="portal:dataset/10001, portal:run/1, empiar:10045[/data/folder], emdb:1234, "
            "copick:config.json"
        ),
    ],
    output: Output,
    mirror: Mirror = None,
    timeout: Timeout = 60.0,
) -> None:
    """Write a table of an archive's tomograms (tab-separated, for the config).

    Voxel size (angstrom), tilts (degrees), voltage and Cs as the archive states them. The
    column path is what `tomograms import` takes. A dataset's row is the version its curators
    show.
    """
    from cryoetgan.io.files import write_text
    from cryoetgan.tomograms.sources.listing import format_table
    from cryoetgan.tomograms.sources.resolve import Transfer

    check_positive(timeout, "--timeout", " s")
    text = format_table(sources, Transfer(mirror, timeout=timeout))
    write_text(output, text)
    count = sum(not line.startswith("#") for line in text.splitlines()) - 1
    log.info("%s: %d tomograms", output, count)


@command(app, "simulate")
def simulate(
    output: MrcOutput,
    contents: SceneOptions,
    vesicles_and_gold: VesiclesAndGold,
    cell: CellContents,
    recording: Recording,
    microscope: Microscope,
    processing: Processing,
    snr: Annotated[float, Option(help="Variance of signal over noise, of the whole tomogram.")],
    maps: Annotated[
        list[Path] | None, Argument(help="Density maps; the stem is the class.")
    ] = None,
    scene: Annotated[
        Path | None, Option(help="Density scene, MRC, in place of maps; its truth beside it.")
    ] = None,
    reconstruction: Annotated[
        Literal["wbp", "sirt", "sart"], Option(help="Weighted back-projection, SIRT or SART.")
    ] = "wbp",
    iterations: Annotated[
        int | None, Option(min=1, help="Of SIRT (default 20) or SART (default 3).")
    ] = None,
    halves: Annotated[
        bool, Option("--halves", help="Also T_EVN.mrc, T_ODD.mrc of every other tilt.")
    ] = False,
    seed: Seed = 0,
) -> Record:
    """Simulate a tomogram with ground truth: `T.mrc`, `T.star`, `T_labels.mrc`, `T_instances.mrc`.

    Particles are packed without overlap, or taken from a --scene, projected over the tilt series,
    imaged with contrast transfer (default: 4 micrometres underfocus), dose, noise and
    misalignment, and reconstructed. Protein bright, mean 0, standard deviation 1. --denoise and
    --saturation change T.mrc alone: not halves, labels or truth. Coordinates are 0-based voxels,
    angles degrees (RELION's). The names of the labels are in `T.mrc.json`.
    """
    from cryoetgan.io.files import LABELS
    from cryoetgan.io.mrc import PROTEIN_BRIGHT, write_volume
    from cryoetgan.io.scene import check_outputs, open_scene, write_truth
    from cryoetgan.tomograms.simulation import contents as packed
    from cryoetgan.tomograms.simulation.gold import split_gold
    from cryoetgan.tomograms.simulation.processing import find_denoiser, process
    from cryoetgan.tomograms.simulation.simulate_tomogram import check_memory, simulate_with_halves
    from cryoetgan.tomograms.simulation.tilt_series import TiltSeries

    if bool(maps) == bool(scene):
        raise UserError("--scene: give density maps or a scene, one of them")
    check_positive(snr, "--snr")
    if denoised := processing.denoise > 0:
        find_denoiser()
    name, objects, beads = class_name(output), None, None
    if scene is not None:
        files = open_scene(scene)
        check_outputs(files, output)
        given = (contents, vesicles_and_gold, cell)
        if given != (SceneOptions(), VesiclesAndGold(), CellContents()):
            raise UserError("--scene: has its contents; --copies, --membranes ... belong to maps")
        density, voxel_size = files.volume.data, files.volume.voxel_size
        check_memory(density.shape[::-1], scene, halves, denoised)
        gold = [n for n, label in files.label_names().items() if label == "bead"]
        if gold:
            density, beads = split_gold(density, files.labels[LABELS][1], gold[0])
    else:
        check_memory(contents.sides(), halves=halves, denoise=denoised)
        objects = packed.read_contents(maps or [], contents, vesicles_and_gold, cell)
        packed.check_scene_space(output, objects, 10 + 8 * halves)
        output.parent.mkdir(parents=True, exist_ok=True)
        built = packed.build_scene(objects, name, seed, folder=output.parent)
        objects.warn_of_missing(built, output)
        density, beads, voxel_size = built.density, built.beads, objects.voxel_size
    series = TiltSeries(
        voxel_size=voxel_size,
        acquisition=recording.acquisition(),
        name=name,
        seed=seed,
        microscope=microscope,
    )
    made = simulate_with_halves(density, series, snr, beads, reconstruction, iterations, halves)
    made[0] = process(made[0], processing.denoise, processing.saturation)
    parameters = {}
    if objects is None:
        outputs, about = write_truth(output, files, series.acquisition, "simulated")
    else:
        outputs, about = packed.write_truth(output, built, objects, series.acquisition)
        parameters = {"copies": objects.requested(), "missing": built.missing}
    endings = ("", "_EVN", "_ODD") if halves else ("",)
    volumes = [output.with_name(f"{name}{ending}.mrc") for ending in endings]
    for path, volume in zip(volumes, made, strict=True):
        write_volume(path, volume, voxel_size, [PROTEIN_BRIGHT, "simulated"])
    return Record(outputs=[*outputs, *volumes[::-1]], parameters=parameters, about=about)


@command(app, "scene")
def scene(
    maps: Maps,
    output: MrcOutput,
    contents: SceneOptions,
    vesicles_and_gold: VesiclesAndGold,
    cell: CellContents,
    seed: Seed = 0,
) -> Record:
    """Pack a density scene: `SCENE.mrc`, `SCENE_labels.mrc`, `SCENE_instances.mrc`, `SCENE.star`.

    A scene is the input of `imaging synthesize` and `translation synthesize`. Particles are
    packed without overlap as in `tomograms simulate`; gold is part of the density. Coordinates
    are 0-based voxels, angles degrees (RELION's). The names of the labels are in
    `SCENE.mrc.json`. Memory does not grow with the shape.
    """
    from cryoetgan.io.files import INSTANCES, LABELS
    from cryoetgan.io.scene import beside
    from cryoetgan.tomograms.simulation import contents as files

    objects = files.read_contents(maps, contents, vesicles_and_gold, cell)
    packed = files.write_scene(output, objects, seed)
    objects.warn_of_missing(packed, output)
    placed = sum(row["cryoetganClass"] in objects.classes for row in packed.rows)
    log.info("%s: %d particles of %d classes", output, placed, len(objects.classes))
    return Record(
        outputs=[beside(output, LABELS), beside(output, INSTANCES), output],
        parameters={"copies": objects.requested(), "missing": packed.missing},
        about=packed.about(),
    )


@command(app, "import-scene")
def import_scene(
    source: Annotated[
        Path, Argument(metavar="FILE|DIR", help="Density of another simulator, or its folder.")
    ],
    output: MrcOutput,
    voxel_size: Annotated[float, Option(help="Angstrom, of the scene.")],
    labels: Annotated[Path | None, Option(help="MRC on the density's grid.")] = None,
    instances: Annotated[
        Path | None, Option(help="MRC on the density's grid: number of each voxel's object.")
    ] = None,
    label: Annotated[list[str] | None, Option(help="NAME=N: name of a label; repeatable.")] = None,
    template: Annotated[
        list[Path] | None,
        Option(
            help="Your map of a class (the stem): scale, check, touching particles; repeatable."
        ),
    ] = None,
    density_scale: Annotated[float, Option(help="Further factor on the density.")] = 1.0,
    odd_templates: Annotated[
        bool, Option("--odd-templates", help="PolNet's templates have odd boxes.")
    ] = False,
) -> Record:
    """Import a density scene of another simulator: scene, labels, instances and truth.

    Known are folders of PolNet (X_den.mrc, X_lbl.mrc, X_motif_list.csv), of CryoTomoSim (model,
    Atlas.mrc, Atlas.txt, zcoords_X.csv), of the CryoET Data Portal (Tomograms, Annotations) and of
    `export copick`, and a density with labels, whose objects (--instances) or connected components
    become particles. With --template the density gets the units of your maps. Coordinates are
    0-based voxels, angles degrees (RELION's), empty if the simulator does not give them.
    """
    from cryoetgan.io.files import INSTANCES, LABELS
    from cryoetgan.io.scene import beside
    from cryoetgan.io.star import paths_by_class
    from cryoetgan.tomograms.importing.import_scene import write_foreign_scene
    from cryoetgan.tomograms.sources.foreign_scene import Given, find_scene, parse_labels

    check_positive(voxel_size, "--voxel-size", " A")
    check_positive(density_scale, "--density-scale")
    names = parse_labels(label or [])
    found = find_scene(source, Given(labels, instances, names, not odd_templates), output.parent)
    maps = paths_by_class(template or [])
    about = write_foreign_scene(output, found, voxel_size, maps, density_scale)
    return Record(
        inputs=[path for path in found.files if path.is_file()],
        outputs=[beside(output, LABELS), beside(output, INSTANCES), output],
        about=about,
    )

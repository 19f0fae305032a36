"""Commands of the `particles` stage."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cryoetgan.command import (
    Device,
    Output,
    Record,
    Seed,
    check_positive,
    command,
    group,
    log,
    parse_by_tomogram,
    parse_tilt_range,
)
from cryoetgan.errors import UserError
from cryoetgan.io import star
from cryoetgan.io.files import (
    check_exists,
    provenance,
    read_record,
    sidecar,
    write_json,
    write_text,
)
from cryoetgan.io.star import ANGLES, COORDINATES, class_name
from cryoetgan.particles.template_search import Rotations, Shells, TemplateSearch
from cryoetgan.physics.acquisition import read_acquisition
from cryoetgan.tomograms.options import BoxAxes, Recording

if TYPE_CHECKING:
    import pandas as pd

    from cryoetgan.io.mrc import Volume
    from cryoetgan.particles.matching.template import SearchOptions

app = group("")
StarOutput = Annotated[
    Path, typer.Option("--output", "-o", help="Path of the result.", callback=star.check_star_name)
]
Tomogram = Annotated[Path, typer.Argument(help="MRC, protein bright.")]
Mask = Annotated[Path | None, typer.Option(help="MRC, the tomogram's grid; non-zero: excluded.")]
Top = Annotated[int | None, typer.Option(help="Largest number of picks.", min=1)]
CURATION = Path("config/curation")


@command(app, "pick")
def pick(
    tomogram: Tomogram,
    output: StarOutput,
    sigma: Annotated[list[float] | None, typer.Option(help="Width, A; repeatable.")] = None,
    radius: Annotated[list[float] | None, typer.Option(help="Angstrom; repeatable.")] = None,
    density: Annotated[list[Path] | None, typer.Option(help="Map; repeatable.")] = None,
    min_distance: Annotated[float, typer.Option(help="In units of sigma.")] = 2.0,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="t of the paper's T = m + t (M - m) / 20; default: 3 quartiles of the peaks."
        ),
    ] = None,
    top: Top = None,
    fast: Annotated[bool, typer.Option("--fast", help="Exact to half a voxel.")] = False,
    mask: Mask = None,
) -> Record:
    """Pick particles by Difference of Gaussians: STAR, best first.

    --sigma is the width of the Gaussian, radius / sqrt 3. Give one --sigma, --radius (angstrom) or
    --density (a map whose radius is measured) for each size of particle; one suppression merges
    all sizes. The score is response * sigma^2, divided by its median over all peaks. Coordinates
    are 0-based voxels, subvoxel. The tomogram is read tile by tile, so any size fits.
    """
    from cryoetgan.io import mrc
    from cryoetgan.io.exclusion import excluded_voxels
    from cryoetgan.particles.picking import pick as picking
    from cryoetgan.particles.picking.dog import PAPER_SIGMA

    check_positive(min_distance, "--min-distance")
    options = picking.PickOptions(
        threshold=threshold, min_distance=min_distance, top=top, fast=fast
    )
    volume, maps = mrc.read_volume(tomogram), [mrc.read_map(path) for path in density or []]
    radii = [check_positive(value, "--radius", " A") for value in radius or []]
    radii += [picking.radius_of_map(found.data, found.voxel_size) for found in maps]
    sigmas = [check_positive(value, "--sigma", " A") for value in sigma or []]
    sigmas = sigmas or [value / 3**0.5 for value in radii]
    if not sigmas:
        sigmas = [PAPER_SIGMA * volume.voxel_size]
        log.warning("sigma is %.4g A, the paper's %g voxels; set --sigma", sigmas[0], PAPER_SIGMA)
    drawn = None if mask is None else mrc.read_mask(mask, volume, tomogram)
    excluded = excluded_voxels(volume, drawn)
    widths = [value / volume.voxel_size for value in sigmas]
    positions, scores = picking.pick(volume.data, widths, options, tomogram, excluded)
    _write_picks(output, tomogram, positions[:, ::-1], cryoetganScore=scores)
    return Record(parameters={"sigma": [round(value, 3) for value in sigmas]})


def _write_picks(output: Path, tomogram: Path, coordinates: Any, **columns: Any) -> None:
    """Write picks `(N, 3)` x, y, z with further columns as STAR."""
    from cryoetgan.io.mrc import read_header

    table = star.picks_table(class_name(tomogram), coordinates, columns)
    star.write_star(output, table, voxel_size=read_header(tomogram).voxel_size)
    log.info("%s: %d picks", output, len(table))


@command(app, "match")
def match(
    tomogram: Tomogram,
    output: StarOutput,
    search: TemplateSearch,
    score_threshold_sd: Annotated[float, typer.Option(help="SD above the mean.")] = 4.0,
    min_distance: Annotated[float, typer.Option(help="In units of sigma.")] = 2.0,
    top: Top = None,
    mask: Mask = None,
) -> Record:
    """Find particles by template matching over the whole tomogram: STAR, best first.

    Each place has one class, the best one. The score is a correlation in [-1, 1] inside tilt
    range and band; --score-threshold-sd is in standard deviations over the tomogram. The unit of
    --min-distance is the smallest template's radius / sqrt 3. Coordinates are 0-based voxels,
    subvoxel; angles are RELION's, in degrees.
    """
    from cryoetgan.io import mrc
    from cryoetgan.io.exclusion import excluded_voxels
    from cryoetgan.particles.matching import match as matching
    from cryoetgan.particles.picking.pick import radius_of_map

    check_positive(min_distance, "--min-distance")
    volume = mrc.read_volume(tomogram)
    resolved = search.resolve(tomogram, volume.voxel_size)
    drawn = None if mask is None else mrc.read_mask(mask, volume, tomogram)
    excluded = excluded_voxels(volume, drawn)
    maps = mrc.read_maps(search.template, volume.voxel_size, tomogram)
    radius = min(radius_of_map(density, volume.voxel_size) for density in maps.values())
    options = matching.MatchOptions(
        **resolved,
        score_threshold_sd=score_threshold_sd,
        min_distance=min_distance * radius / 3**0.5,
        top=top,
    )
    found = matching.match(volume, maps, options, tomogram, excluded)
    columns = dict(zip(ANGLES, found.angles.T, strict=True))
    columns |= {"cryoetganClass": found.classes, "cryoetganScore": found.scores}
    _write_picks(output, tomogram, found.positions, **columns)
    return _search_record(options)


@command(app, "score")
def score(
    tomogram: Annotated[Path, typer.Argument(help="MRC, protein bright; or a volume set, STAR.")],
    output: StarOutput,
    search: TemplateSearch,
    picks: Annotated[
        Path | None, typer.Argument(help="STAR of picks in the tomogram; of a set: none.")
    ] = None,
    decoys: Annotated[
        Literal["mirror", "none"], typer.Option(help="Maps that nothing fits, to count errors.")
    ] = "mirror",
) -> Record:
    """Align every pick to every template: STAR, one row a pick and class.

    The score is a correlation in [-1, 1] inside tilt range and band, whitened by the tomogram's
    own power; coordinates are refined, 0-based voxels; angles are RELION's, in degrees. With
    --decoys mirror, cryoetganDecoyScore is the score of the map's mirror image. A map too much like
    its mirror image (apoferritin) competes with a smaller and a larger copy instead;
    cryoetganDecoys: mirror, or the sizes of copies.

    The picks of a set (`particles import-subtomograms`) are its boxes; their coordinates count the
    boxes stacked along z. A box of a known class is compared with that class alone. Given poses
    are kept if they fit their boxes, in the frame of the map.
    """
    from cryoetgan.io.mrc import read_maps
    from cryoetgan.io.volume_set import open_tomogram
    from cryoetgan.particles.matching.decoys import make_decoys
    from cryoetgan.particles.matching.score_table import score_table
    from cryoetgan.particles.matching.template import SearchOptions, template_box
    from cryoetgan.particles.subtomograms.set_picks import check_edge

    volume = open_tomogram(tomogram)
    options = SearchOptions(**search.resolve(tomogram, volume.voxel_size))
    table = _picks_to_score(tomogram, picks, volume)
    maps = read_maps(search.template, volume.voxel_size, tomogram)
    check_edge(volume, template_box(maps), tomogram)
    maker = None if decoys == "none" else make_decoys
    scores, used = score_table(volume, table, maps, options, maker)
    star.write_star(output, scores, voxel_size=volume.voxel_size)
    log.info("%s: %d picks, %d classes", output, len(table), len(maps))
    record = _search_record(options)
    return Record(parameters={**record.parameters, "decoys": used})


def _picks_to_score(tomogram: Path, picks: Path | None, volume: "Volume") -> "pd.DataFrame":
    """Return the picks of a tomogram, or the boxes of a set."""
    from cryoetgan.particles.subtomograms.set_picks import read_set_picks
    from cryoetgan.physics.coordinates import warn_of_picks_outside

    if volume.part is not None:
        if picks is not None:
            raise UserError(f"{picks}: the picks of a set are its boxes; leave this file out")
        return read_set_picks(tomogram)
    if picks is None:
        raise UserError(f"{tomogram}: name the STAR file of its picks after it")
    table = star.read_star(picks, [*COORDINATES, "cryoetganId"]).particles
    if not len(table):
        raise UserError(f"{picks}: holds no pick; lower particles.threshold and pick again")
    warn_of_picks_outside(table[COORDINATES].to_numpy(float), volume.data.shape, picks, tomogram)
    table = table[[*COORDINATES, "cryoetganId"]]
    table.insert(0, "rlnTomoName", class_name(tomogram))
    return table


def _search_record(options: "SearchOptions") -> Record:
    """Return a record with the values that were resolved from the tomogram."""
    record = options.acquisition
    resolved = {"tilts": list(record.tilts), "defocus": record.defocus, "ctf": record.ctf}
    return Record(parameters={**resolved, "lowpass": options.lowpass})


@command(app, "select")
def select(
    scores: Annotated[list[Path], typer.Argument(help="STAR files of scores.")],
    output: StarOutput,
    box: Annotated[int, typer.Option(help="Voxels.", min=1)] = 28,
    fdr: Annotated[float, typer.Option(help="Largest false discovery rate of a class.")] = 0.05,
    top: Annotated[int, typer.Option(help="Best of each class.", min=1)] = 400,
    curation: Annotated[Path | None, typer.Option(help="Folder of decisions, CSV.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="TOMOGRAM=SPLIT; repeatable.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="TOMOGRAM=GROUP; repeatable.")] = None,
    test_fraction: Annotated[float, typer.Option(help="Test share of a single tomogram.")] = 0.25,
    others: Annotated[
        Path | None, typer.Option(help="STAR of the picks without a particle.")
    ] = None,
) -> Record:
    """Select particles: STAR; each place has one class, and the best of each class are kept.

    Classes and their decoys compete for each place. The share of places that decoys win estimates
    the share of wrong particles: cryoetganQValue, at most --fdr. Of these, --top are kept. A
    person's decisions (CSV files: id,accepted,class) override the scores. --split names train,
    validation or test for a tomogram; a single tomogram is split into blocks with a gap of one
    box. With --group, --top counts in each group of tomograms. --others writes the picks that a
    decoy won or that exceed --fdr, away from every particle: class `other`, for classifiers.
    """
    import pandas as pd

    from cryoetgan.particles.curation import select as selection
    from cryoetgan.particles.curation.decisions import read_decisions

    options = selection.SelectOptions(
        top=top,
        fdr=fdr,
        box=box,
        splits=parse_by_tomogram(split, "--split"),
        test_fraction=test_fraction,
        groups=parse_by_tomogram(group, "--group"),
    )
    columns = ["rlnTomoName", *COORDINATES, "cryoetganClass", "cryoetganScore", "cryoetganId"]
    opened = [star.read_star(path, columns) for path in scores]
    table, optics = (
        pd.concat([one.particles for one in opened], ignore_index=True),
        opened[0].optics,
    )
    if not len(table):
        raise UserError(f"{', '.join(map(str, scores))}: no particle in these files")
    decisions = selection.given_classes(table)
    if curation:
        classes = sorted(table["cryoetganClass"].unique())
        decisions |= read_decisions(curation, classes)
    selected = selection.select(table, options, decisions)
    selection.warn_of_doubtful_classes(selected, fdr)
    star.write_star(output, selected, optics)
    counts = selected.groupby("cryoetganClass").size()
    log.info("%s: %s", output, ", ".join(f"{n} {name}" for name, n in counts.items()))
    if others is not None:
        winners = selection.find_winners(table, options, decisions)
        rest = selection.select_others(winners, selected, options, decisions)
        star.write_star(star.check_star_name(others), rest, optics)
        log.info("%s: %d picks without a particle", others, len(rest))
    return Record(
        outputs=[output, *([others] if others else [])],
        inputs=sorted(curation.glob("*.csv")) if curation else [],
    )


@command(app, "import")
def import_(
    file: Annotated[Path, typer.Argument(help="STAR, CSV, other list; or a folder.")],
    output: StarOutput,
    tomogram: Annotated[Path, typer.Option(help="The tomogram that holds them, MRC.")],
    voxel_size: Annotated[float | None, typer.Option(help="Of coordinates, A.")] = None,
    split: Annotated[str | None, typer.Option(help="train, validation or test.")] = None,
    selected: Annotated[Path | None, typer.Option(help="STAR; the same split.")] = None,
    box: Annotated[int | None, typer.Option(help="Voxels; with --selected.", min=1)] = None,
    class_: Annotated[list[str] | None, typer.Option("--class", help="Kept; repeatable.")] = None,
) -> Record:
    """Import particles of other programs: STAR with 0-based voxel coordinates.

    STAR files of RELION 3 to 5, Warp and STOPGAP, copick JSON, points of the CryoET Data Portal
    (.ndjson), Dynamo tables, motive lists, DeepFinder XML, .coords, .cbox, lists of ArtiaX, napari,
    ChimeraX and PolNet, or CSV: columns x, y, z (or x_vox, y_vox, z_vox), class, optionally a
    rotation matrix r11 ... r33 from reference to particle, and tomo if it lists several tomograms.
    Coordinates are voxels of the file from which the tomogram was imported, unless --voxel-size
    gives another unit; they are resampled and rotated as it was. copick, RELION 5 and PolNet give
    lengths instead. STAR files of cryoetgan refer to the imported tomogram. All files of a folder are read (copick's Picks,
    or one file a class); a file without classes is named by its class. --class keeps only some
    classes. --selected (STAR of `particles select`) splits by the same blocks, --box apart.
    """
    from cryoetgan.io.mrc import read_volume
    from cryoetgan.particles.curation.select import split_like
    from cryoetgan.particles.importers import list_pick_files, read_picks
    from cryoetgan.particles.naming_columns import keep_classes
    from cryoetgan.physics.coordinates import read_import_transform

    if split is not None and split not in star.SPLITS:
        raise UserError(f"--split is '{split}'; give {', '.join(star.SPLITS)}")
    if selected is not None and (box is None or split is not None):
        raise UserError("--selected requires --box and excludes --split")
    if voxel_size is not None:
        check_positive(voxel_size, "--voxel-size", " A")
    volume, name = read_volume(tomogram), class_name(tomogram)
    transform = read_import_transform(tomogram, volume)
    table = read_picks(file, name, volume.data.shape, transform, voxel_size)
    table = keep_classes(table, class_ or [], file)
    if split:
        table["cryoetganSplit"] = split
    if selected is not None and box is not None:
        known = star.read_star(selected, ["rlnTomoName", "cryoetganSplit", *COORDINATES]).particles
        table = split_like(table, known[known["rlnTomoName"] == name], box)
    star.write_star(output, table, voxel_size=volume.voxel_size)
    log.info("%s: %d particles", output, len(table))
    return Record(inputs=list_pick_files(file))


@command(app, "import-subtomograms")
def import_subtomograms(
    file: Annotated[
        Path, typer.Argument(help="STAR, table, motive list, CSV, stack; or a folder.")
    ],
    output: StarOutput,
    voxel_size: Annotated[float, typer.Option(help="Angstrom, of the set.")],
    contrast: Annotated[Literal["dark", "bright"], typer.Option(help="Protein in the files.")],
    recording: Recording,
    files: BoxAxes,
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME|OLD=NAME", help="Of all boxes, or new; repeatable."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, validation or test.")] = None,
) -> Record:
    """Import subtomograms that other programs extracted: a volume set, protein bright.

    Reads STAR files of RELION 3 to 5, Warp and M (rlnImageName: volumes), Dynamo tables and motive
    lists beside EM or MRC volumes, CSV (columns file, and optionally tomo, rot, tilt, psi, class), a
    folder of volumes, and MRC stacks of volumes. Boxes are cubes of one size. Angles, shifts and
    classes are kept if a table gives them; class numbers become `class_1`, `class_2` unless --class
    renames them. Boxes whose voxel size differs from --voxel-size are resampled about voxel n // 2.
    The whole set gets mean 0 and standard deviation 1, or each source tomogram if it is known.
    """
    from cryoetgan.particles.subtomograms import import_boxes as boxes
    from cryoetgan.particles.subtomograms.box_files import open_box_file
    from cryoetgan.particles.subtomograms.ctf_volumes import compare_ctf_volumes
    from cryoetgan.particles.subtomograms.listings import FILE, list_boxes, name_classes
    from cryoetgan.physics.coordinates import ImportTransform, resampling_step

    if split is not None and split not in star.SPLITS:
        raise UserError(f"--split is '{split}'; give {', '.join(star.SPLITS)}")
    check_positive(voxel_size, "--voxel-size", " A")
    class_name(output)  # its boxes are named by it, as by a tomogram
    acquisition = recording.acquisition(contrast)
    found = list_boxes(file)
    listing = replace(found, table=name_classes(found.table, class_ or []))
    first = open_box_file(listing.table[FILE].iloc[0])
    size = boxes.choose_voxel_size(listing, first, files.input_voxel_size, voxel_size)
    axes = ImportTransform(
        shape=first.boxes.shape[1:],
        voxel_size=size,
        step=resampling_step(voxel_size, size),
        tilt_axis=files.tilt_axis,
        beam_axis=files.beam_axis,
        stated_voxel_size=voxel_size,
        flip_hand=files.flip_hand,
    )
    acquisition = boxes.complete_acquisition(acquisition, listing.optics, file)
    is_turned = (files.tilt_axis, files.beam_axis) != ("y", "z")
    compare_ctf_volumes(listing.ctf_volumes, acquisition, file, is_turned)
    made = boxes.import_boxes(listing, output, axes, acquisition, contrast, split)
    edge = boxes.box_edge(axes)
    log.info("%s: %d boxes of %d voxels of %.4g A", output, made["boxes"], edge, voxel_size)
    return Record(
        inputs=[*listing.tables, *listing.table[FILE].unique()],
        parameters={"input_voxel_size": size},
        about=made,
    )


@command(app, "extract")
def extract(
    particles: Annotated[list[Path], typer.Argument(help="STAR files of particles.")],
    output: Output,
    tomogram: Annotated[list[Path], typer.Option(help="MRC, or a set (STAR); repeatable.")],
    box: Annotated[int, typer.Option(help="Voxels.", min=1)],
    subpixel: Annotated[bool, typer.Option("--subpixel", help="Shift between voxels.")] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Write an empty set of files without particles.")
    ] = False,
) -> Record:
    """Extract boxes from tomograms: a volume set (STAR and MRC stack).

    A box is cut at the nearest voxels, so that its grey values are the tomogram's own;
    rlnOriginX/Y/ZAngst hold the offset of the particle from voxel n // 2. With --subpixel,
    voxel n // 2 lies at the particle's coordinate. Boxes that reach beyond the tomogram are
    dropped and counted. Class, angles, score and split are kept. Boxes of a set (`particles
    import-subtomograms`) are cut from its boxes, which may be larger.
    """
    import pandas as pd

    from cryoetgan.io import mrc
    from cryoetgan.io.volume_set import is_set, open_tomogram
    from cryoetgan.particles.extraction import (
        move_inside_parts,
        round_coordinates,
        rows_inside,
        write_boxes,
    )
    from cryoetgan.particles.subtomograms.set_picks import check_edge

    tables = [star.read_star(path, ["rlnTomoName", *COORDINATES]).particles for path in particles]
    table = pd.concat([part for part in tables if len(part)] or tables, ignore_index=True)
    opened = {
        class_name(path): open_tomogram(path) if is_set(path) else mrc.read_volume(path)
        for path in tomogram
    }
    first = next(iter(opened.values()))
    records = {}
    for path, (name, volume) in zip(tomogram, opened.items(), strict=True):
        mrc.check_same_voxel_size(first.voxel_size, volume.voxel_size, tomogram[0], path)
        records[name] = read_acquisition(path)
        if records[name] is None:
            log.warning(
                "%s: has no record beside it, so the set lacks its tilts and optics; "
                "'tomograms import' writes one",
                path,
            )
    if not subpixel:
        table = round_coordinates(table, first.voxel_size)
    for path, volume in zip(tomogram, opened.values(), strict=True):
        check_edge(volume, box, path)
    table = move_inside_parts(table, opened, box)
    kept = rows_inside(table, opened, box, allow_empty)
    if not len(kept):
        log.warning("%s: the files hold no particle, so the set is empty", output)
    write_boxes(output, kept, opened, records, box)
    log.info("%s: %d boxes of %d voxels", output, len(kept), box)
    return Record(about={"dropped": len(table) - len(kept)})


@command(app, "average")
def average(
    particles: Annotated[Path, typer.Argument(help="STAR of a volume set.")],
    output: Output,
    iterations: Annotated[int, typer.Option(help="Alignments.", min=0)] = 0,
    template: Annotated[Path | None, typer.Option(help="First reference, MRC.")] = None,
    template_lowpass: Annotated[float | None, typer.Option(help="Angstrom.")] = None,
    tilts: Annotated[str | None, typer.Option(metavar="LO,HI", help="Degrees.")] = None,
    rotations: Rotations = 1856,
    highpass_shells: Shells = 1,
    class_: Annotated[str | None, typer.Option("--class", help="Average this class.")] = None,
    poses: Annotated[Path | None, typer.Option(help="STAR of the rows with new angles.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> Record:
    """Average subtomograms, weighted by their missing wedges: MRC, protein bright.

    Two random halves are aligned independently, each to its own average or first to --template,
    low-passed to --template-lowpass (default: five voxels). X_fsc.csv holds their Fourier shell
    correlation: shell, frequency (1/A), resolution (A), fsc. --iterations 0 takes the angles as
    they are; the halves are then not independent if one reference was used to find them. Angles
    are RELION's, in degrees; rlnOriginX/Y/ZAngst are used. --tilts replaces the set's record.
    """
    import numpy as np

    from cryoetgan.io.mrc import write_volume
    from cryoetgan.io.volume_set import read_volume_set
    from cryoetgan.particles.averaging import average as maps
    from cryoetgan.particles.averaging import gold_standard
    from cryoetgan.particles.averaging import posed_particles as posed
    from cryoetgan.particles.matching.template import SearchOptions
    from cryoetgan.seeds import rng

    class_name(output)
    opened = read_volume_set(particles)
    rows = posed.rows_of_class(opened, class_)
    has_poses = posed.has_angles(opened, rows)
    if iterations == 0 and not has_poses:
        raise UserError(
            f"{particles}: has no angles. Give --iterations (for example 5) to find them, and a "
            "--template if there is one"
        )
    low, high, _ = parse_tilt_range(tilts) if tilts else (0.0, 0.0, 0.0)
    members = posed.read_particles(opened, rows, (low, high) if tilts else None)
    start = None
    if template is not None:
        start = _first_reference(template, particles, opened.box, opened.voxel_size)
    elif iterations and not has_poses:
        blurred = maps.accumulate(members, opened.box, opened.voxel_size).average()
        start = maps.spherical_average(blurred)
    limit = 5 * opened.voxel_size if template_lowpass is None else template_lowpass
    check_positive(limit, "--template-lowpass", " A")
    options = SearchOptions(
        lowpass=limit,
        rotations=rotations,
        highpass_shells=highpass_shells,
        device=device,
    )
    half = rng(seed, "particles", "average", "halves").permutation(np.arange(len(members)) % 2)
    found = gold_standard.align_and_average(
        members, half, opened.voxel_size, start, options, iterations
    )
    if poses is not None:
        table = posed.posed_table(opened, rows, found.particles, found.scores)
        star.write_star(poses, table, opened.optics)
    text = maps.fsc_csv(found.fsc, opened.box, opened.voxel_size)
    write_text(output.with_name(f"{output.stem}_fsc.csv"), text)
    write_volume(output, found.density.astype(np.float32), opened.voxel_size)
    reached = maps.resolution(found.fsc, opened.box, opened.voxel_size)
    kind = "independent halves" if iterations else "halves whose angles share an origin"
    log.info("%s: %d particles, %.1f A (FSC 0.143, %s)", output, len(rows), reached, kind)
    return Record(
        outputs=[output, *([poses] if poses else [])],
        parameters={"template_lowpass": limit},
        about={"particles": len(rows), "resolution": reached},
    )


def _first_reference(path: Path, particles: Path, box: int, voxel_size: float) -> Any:
    """Read a map of the particles' box and voxel size."""
    import numpy as np

    from cryoetgan.io.mrc import check_same_voxel_size, read_map

    opened = read_map(path)
    check_same_voxel_size(voxel_size, opened.voxel_size, particles, path)
    if opened.data.shape != (box,) * 3:
        raise UserError(
            f"{path}: has {opened.data.shape[::-1]} voxels, but the particles have {box}^3; "
            f"make it with --box {box}"
        )
    return np.asarray(opened.data, np.float32)


@command(app, "gallery")
def gallery(
    volumes: Annotated[Path, typer.Argument(help="Volume set (STAR).")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="HTML.")] = None,
    sample: Annotated[int | None, typer.Option(help="Blind sample, boxes.", min=1)] = None,
    class_: Annotated[list[str] | None, typer.Option("--class", help="Added; repeatable.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Serve the page.")] = False,
    curation: Annotated[Path, typer.Option(help="Folder of decisions.")] = CURATION,
    port: Annotated[int, typer.Option(help="Of --serve; 0: any.")] = 0,
    seed: Seed = 0,
) -> None:
    """Make an HTML page on which a person accepts, rejects and names particles.

    The page works with mouse and keyboard and shows hundreds of boxes. It downloads decisions
    as CSV with the columns id,accepted,class for the folder of particles.curation; with --serve
    it writes <set>.csv into that folder itself. --class adds a class to choose. --sample draws
    boxes over all classes and scores, and hides both; with `particles purity` the decisions give
    an unbiased estimate of the set's purity.
    """
    from cryoetgan.io.volume_set import read_volume_set
    from cryoetgan.particles.curation.gallery import draw_sample, gallery_boxes, gallery_page
    from cryoetgan.particles.curation.server import DecisionStore, make_server

    if output is None and not serve:
        raise UserError("give -o G.html, or --serve")
    for name in class_ or []:
        if not star.CLASS_NAME.fullmatch(name):
            raise UserError(f"--class is '{name}'; use letters, digits, '_' and '-'")
    opened = read_volume_set(volumes, allow_empty=True)
    boxes = gallery_boxes(opened)
    classes = sorted({*(box.class_name for box in boxes if box.class_name), *(class_ or [])})
    blind = sample is not None
    if sample is not None:
        boxes = draw_sample(boxes, sample, seed)
    path = curation / f"{volumes.stem}{'_blind' if blind else ''}.csv"
    store = DecisionStore(path, [box.id for box in boxes], classes)

    def page(save: str | None) -> str:
        # a served page gets the current decisions from the server when it is opened
        known = {} if save else store.decisions()
        return gallery_page(opened, boxes, classes, blind, known, save, store.others())

    if output is not None:
        write_text(output, page(None))
        made = provenance("particles gallery", [volumes], {"sample": sample}, seed)
        drawn = {"classes": classes, "sample": [box.record() for box in boxes]}
        write_json(sidecar(output), {"provenance": made, **(drawn if blind else {})})
        log.info("%s: %d boxes", output, len(boxes))
    if serve:
        server, address = make_server(page, store, port)
        log.info("open %s in a browser; decisions go to %s; stop with Ctrl-C", address, path)
        with server:
            server.serve_forever()


@command(app, "purity")
def purity(
    decisions: Annotated[Path, typer.Argument(help="CSV of the blind gallery.")],
    output: Output,
    sample: Annotated[Path, typer.Option(help="The record beside the gallery, G.html.json.")],
    annotations: Annotated[Path | None, typer.Option(help="STAR of named boxes.")] = None,
) -> Record | None:
    """Estimate the purity of a set from a blindly annotated sample: JSON.

    Keys: purity with its 95 % interval, the same for each class, and the confusion. --annotations
    writes the boxes that a person named, with 0-based voxel coordinates: a small test set
    that does not depend on scores.
    """
    import pandas as pd

    from cryoetgan.particles.curation.decisions import UNNAMED, saved_decisions
    from cryoetgan.particles.curation.purity import annotated_rows, estimate_purity, sample_of

    boxes = sample_of(read_record(sample), sample)
    answers = {
        name: (decision["class"] or UNNAMED) if decision["accepted"] == "yes" else ""
        for name, decision in saved_decisions(check_exists(decisions, "CSV file")).items()
    }
    result = estimate_purity(boxes, answers)
    if annotations is not None:
        rows = annotated_rows(boxes, answers)
        if not rows:
            raise UserError(f"{decisions}: names no box with a coordinate in a tomogram")
        star.write_star(annotations, pd.DataFrame(rows))
    made = provenance("particles purity", [decisions, sample])
    write_json(output, {**result, "provenance": made})
    if result["n_annotated"] < result["n_sample"]:
        log.warning(
            "%d of %d boxes are annotated; the estimate assumes that the others are alike",
            result["n_annotated"],
            result["n_sample"],
        )
    low, high = result["interval"]
    log.info("%s: purity %.2f (%.2f to %.2f)", output, result["purity"], low, high)
    return Record(outputs=[annotations]) if annotations else None

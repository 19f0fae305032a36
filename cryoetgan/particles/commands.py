"""Commands of the `particles` stage."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Output, check_positive, command, group, log
from cryoetgan.errors import UserError
from cryoetgan.particles import commands_average, commands_gallery, commands_scoring

app = group("")


@command(app, "pick")
def pick(
    tomogram: Annotated[Path, typer.Argument(help="MRC, protein bright.")],
    output: Output,
    sigma: Annotated[
        list[float] | None, typer.Option(help="Angstrom; width of the Gaussian; repeatable.")
    ] = None,
    radius: Annotated[
        list[float] | None, typer.Option(help="Angstrom; of a particle; repeatable.")
    ] = None,
    density: Annotated[
        list[Path] | None, typer.Option(help="Map whose radius is measured; repeatable.")
    ] = None,
    min_distance: Annotated[float, typer.Option(help="In units of sigma.")] = 2.0,
    threshold: Annotated[float, typer.Option(help="t of T = m + t (M - m) / 20.")] = 3.0,
    top: Annotated[int | None, typer.Option(help="Best picks kept.")] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Decimating pyramid: places to half a voxel.")
    ] = False,
    mask: Annotated[
        Path | None, typer.Option(help="MRC on the tomogram's grid: nothing where it is not 0.")
    ] = None,
) -> None:
    """Pick particles by Difference of Gaussians: STAR, best first.

    Coordinates are 0-based voxels, subvoxel; the score is response * sigma^2 over
    that of the median peak. One sigma a size of particle (radius / sqrt 3), merged by one suppression. Reads the
    tomogram tile by tile: any size fits.
    """
    import numpy as np
    import pandas as pd

    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.mrc import read_map, read_mask, read_volume
    from cryoetgan.io.star import COORDINATES, check_star_name, class_name, particle_id, write_star
    from cryoetgan.particles.picking import dog

    check_star_name(output)
    check_positive(min_distance, "--min-distance")
    if not 0 <= threshold <= dog.STEPS:
        raise UserError(f"--threshold: got {threshold:g}, wanted 0 to {dog.STEPS}")
    if top is not None and top < 1:
        raise UserError(f"--top: got {top}, wanted one or more")
    volume = read_volume(tomogram)
    radii = [check_positive(value, "--radius", " A") for value in radius or []]
    for path in density or []:
        template = read_map(path)
        radii.append(dog.radius_of_map(template.data, template.voxel_size))
    sigmas = [check_positive(value, "--sigma", " A") for value in sigma or []]
    sigmas = sigmas or [value / 3**0.5 for value in radii]
    if not sigmas:
        sigmas = [dog.PAPERS_SIGMA * volume.voxel_size]
        log.warning(
            "no --sigma, --radius or --density: %.4g A is taken, the paper's %g voxels",
            sigmas[0],
            dog.PAPERS_SIGMA,
        )
    widths = [value / volume.voxel_size for value in sigmas]
    left_out = None if mask is None else read_mask(mask, volume, tomogram)
    positions, scores = dog.pick(
        volume.data, widths, threshold, min_distance, top, fast, tomogram, left_out
    )
    name = class_name(tomogram)
    table = pd.DataFrame(positions[:, ::-1], columns=COORDINATES)
    table.insert(0, "rlnTomoName", name)
    table["cryoetganScore"] = scores
    table["cryoetganId"] = [particle_id(name, *place) for place in positions[:, ::-1]]
    table["cryoetganSource"] = "real"
    write_star(output, table)
    parameters = {
        "sigma": [float(np.round(value, 3)) for value in sigmas],
        "threshold": threshold,
        "min_distance": min_distance,
        "top": top,
        "fast": fast,
    }
    inputs = [tomogram, *(density or []), *([mask] if mask else [])]
    made = provenance("particles pick", inputs, parameters)
    write_json(sidecar(output), {"provenance": made})
    log.info("%s: %d picks", output, len(table))


@command(app, "select")
def select(
    scores: Annotated[list[Path], typer.Argument(help="STAR files of scores.")],
    output: Output,
    box: Annotated[int, typer.Option(help="Voxels; for duplicates and the gap of splits.")] = 28,
    top: Annotated[int, typer.Option(help="Best of each class.")] = 400,
    curation: Annotated[
        Path | None, typer.Option(help="Folder of CSV files: id,accepted,class.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="TOMOGRAM=train|validation|test; repeatable.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="TOMOGRAM=GROUP: --top counts in each; repeatable.")
    ] = None,
    test_fraction: Annotated[float, typer.Option(help="Of single tomograms.")] = 0.25,
) -> None:
    """Select particles: STAR; a place has one class, the best of each class stay.

    A person's decisions win over scores. Splits go by tomogram, or by blocks with a gap
    of one box where there is one tomogram.
    """
    import pandas as pd

    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.star import COORDINATES, check_star_name, read_star, write_star
    from cryoetgan.particles.curation.select import read_decisions
    from cryoetgan.particles.curation.select import select as choose

    check_star_name(output)
    check_positive(box, "--box")
    check_positive(top, "--top")
    if not 0 <= test_fraction < 1:
        raise UserError(f"--test-fraction: got {test_fraction:g}, wanted 0 to below 1")
    columns = ["rlnTomoName", *COORDINATES, "cryoetganClass", "cryoetganScore", "cryoetganId"]
    tables = [read_star(path, columns).particles for path in scores]
    table = pd.concat(tables, ignore_index=True)
    if not len(table):
        raise UserError(f"{', '.join(map(str, scores))}: hold no particle")
    splits, groups = _by_tomogram(split, "--split"), _by_tomogram(group, "--group")
    decisions = None
    if curation:
        decisions = read_decisions(curation, sorted(table["cryoetganClass"].unique()))
    chosen = choose(table, top, box, splits, test_fraction, decisions, groups)
    write_star(output, chosen)
    files = [*scores, *(sorted(curation.glob("*.csv")) if curation else [])]
    settings = {"top": top, "box": box, "split": split, "group": group}
    made = provenance("particles select", files, settings)
    write_json(sidecar(output), {"provenance": made})
    counts = chosen.groupby("cryoetganClass").size()
    log.info("%s: %s", output, ", ".join(f"{n} {name}" for name, n in counts.items()))


def _by_tomogram(items: list[str] | None, option: str) -> dict[str, str]:
    """Return what `TOMOGRAM=VALUE` options say."""
    found = {}
    for item in items or []:
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise UserError(f"{option}: got '{item}', wanted TOMOGRAM=VALUE")
        found[name] = value
    return found


@command(app, "import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="STAR (RELION 3 to 5, ours), CSV, copick JSON; or a folder.")
    ],
    output: Output,
    tomogram: Annotated[Path, typer.Option(help="The tomogram they lie in, MRC.")],
    voxel_size: Annotated[
        float | None,
        typer.Option(help="Angstrom, of the coordinates; default: voxels of the tomogram's file."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, validation or test.")] = None,
    selected: Annotated[
        Path | None, typer.Option(help="STAR of `particles select`: split by the same blocks.")
    ] = None,
    box: Annotated[int | None, typer.Option(help="Voxels; the gap, with --selected.")] = None,
    class_: Annotated[
        list[str] | None, typer.Option("--class", help="Keep these classes only; repeatable.")
    ] = None,
) -> None:
    """Bring other programs' particles in: STAR with 0-based voxel coordinates.

    CSV: columns x, y, z (or x_vox, y_vox, z_vox), class, a rotation matrix r11 ... r33 from
    reference to particle, if any, and tomo, where it lists several tomograms. Coordinates are
    0-based voxels of the file that the tomogram was imported from, and follow it where it was
    resampled or turned; those of copick, RELION 5 and PolNet are lengths; STAR files that
    cryoetgan wrote lie in the imported tomogram. Of a folder (copick's Picks, or a file a class)
    all are read; where a file names no class, its own name is the class.
    """
    import numpy as np

    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.mrc import read_volume
    from cryoetgan.io.star import (
        COORDINATES,
        SPLITS,
        check_star_name,
        class_name,
        read_star,
        write_star,
    )
    from cryoetgan.particles.curation.splits import split_like
    from cryoetgan.particles.importers import check_classes, files_of, read_picks
    from cryoetgan.physics.coordinates import read_import_transform

    check_star_name(output)
    if split is not None and split not in SPLITS:
        raise UserError(f"--split: got '{split}', wanted {', '.join(SPLITS)}")
    if selected is not None and (box is None or split is not None):
        raise UserError("--selected wants --box besides, and no --split")
    if voxel_size is not None:
        check_positive(voxel_size, "--voxel-size", " A")
    volume, name = read_volume(tomogram), class_name(tomogram)
    size, imported = volume.voxel_size, read_import_transform(tomogram, volume)
    table = read_picks(file, name, volume.data.shape, size, imported, voxel_size)
    table = check_classes(table, class_ or [], file)
    if split:
        table["cryoetganSplit"] = split
    if selected is not None and box is not None:
        needed = ["rlnTomoName", "cryoetganSplit", *COORDINATES]
        chosen = read_star(selected, needed).particles
        chosen = chosen[chosen["rlnTomoName"] == name]
        places, sides = chosen[COORDINATES].to_numpy(float), chosen["cryoetganSplit"].to_numpy(str)
        parted = split_like(table[COORDINATES].to_numpy(float), places, sides, box)
        table["cryoetganSplit"] = parted
        table = table[parted != ""].reset_index(drop=True)
        log.info("split by blocks; %d particles lie in the gap", np.sum(parted == ""))
    write_star(output, table)
    parameters = {"voxel_size": voxel_size, "split": split, "box": box, "class": class_}
    files = [*files_of(file), tomogram, *([selected] if selected else [])]
    made = provenance("particles import", files, parameters)
    write_json(sidecar(output), {"provenance": made})
    log.info("%s: %d particles", output, len(table))


@command(app, "extract")
def extract(
    particles: Annotated[list[Path], typer.Argument(help="STAR files of particles.")],
    output: Output,
    tomogram: Annotated[list[Path], typer.Option(help="MRC; repeatable.")],
    box: Annotated[int, typer.Option(help="Voxels.")],
    whole_voxels: Annotated[
        bool,
        typer.Option(
            help="Cut at the nearest voxels, so that grey values stay the tomogram's own; "
            "rlnOriginX/Y/ZAngst say where beside voxel n // 2 the particle lies."
        ),
    ] = False,
) -> None:
    """Cut boxes out of tomograms: a volume set (STAR and MRC stack).

    Voxel n // 2 of a box lies at the particle's coordinate, subvoxel; boxes that reach
    beyond the tomogram are dropped and counted. Class, angles, score and split are kept.
    """
    import numpy as np
    import pandas as pd

    from cryoetgan.errors import suggest
    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.memmap import release_pages
    from cryoetgan.io.mrc import check_same_voxel_size, read_volume
    from cryoetgan.io.star import COORDINATES, class_name, read_star
    from cryoetgan.io.volume_set import VolumeSetWriter
    from cryoetgan.particles.extraction import SEVERAL, at_whole_voxels, fits
    from cryoetgan.particles.extraction import extract as cut
    from cryoetgan.physics.acquisition import optics_row, read_acquisition
    from cryoetgan.progress import track

    check_positive(box, "--box")
    tables = [read_star(path, ["rlnTomoName", *COORDINATES]).particles for path in particles]
    table = pd.concat([part for part in tables if len(part)] or tables, ignore_index=True)
    opened = {class_name(path): read_volume(path) for path in tomogram}
    first = next(iter(opened.values()))
    for path, volume in zip(tomogram, opened.values(), strict=True):
        check_same_voxel_size(first.voxel_size, volume.voxel_size, tomogram[0], path)
    for name in table["rlnTomoName"].unique():
        if name not in opened:
            raise UserError(
                f"particles lie in tomogram '{name}', which is not given{suggest(name, opened)}; "
                f"add --tomogram {name}.mrc"
            )
    if whole_voxels:
        table = at_whole_voxels(table, first.voxel_size)
    where = table[COORDINATES].to_numpy(float)
    inside = [
        fits(place, opened[name].data.shape, box)
        for place, name in zip(where, table["rlnTomoName"], strict=True)
    ]
    dropped = len(table) - sum(inside)
    if dropped:
        log.warning(
            "%d of %d boxes reach beyond their tomogram and are dropped", dropped, len(table)
        )
    table = table[inside].reset_index(drop=True)
    if not len(table):
        raise UserError(f"no box of {box} voxels lies inside its tomogram; use a smaller --box")
    names = list(opened)
    known = [read_acquisition(path) for path in tomogram]
    for path, found in zip(tomogram, known, strict=True):
        if found is None:
            log.warning(
                "%s: has no record beside it (tomograms import writes one): the set does not say "
                "at which tilts, and with which optics, it was recorded",
                path,
            )
    optics = pd.DataFrame(
        [
            optics_row(found, number, name)
            for number, (found, name) in enumerate(zip(known, names, strict=True), start=1)
        ]
    )
    table["rlnOpticsGroup"] = [names.index(name) + 1 for name in table["rlnTomoName"]]
    table["cryoetganSource"] = "real"
    with VolumeSetWriter(output, len(table), box, first.voxel_size, optics) as writer:
        rows = table.to_dict("records")
        for number, row in enumerate(track(rows, "extracting"), start=1):
            place = np.array([row[column] for column in COORDINATES])
            data = opened[row["rlnTomoName"]].data
            boxed = cut(data, place, box)
            if not np.isfinite(boxed).all():
                raise UserError(
                    f"{row['rlnTomoName']}: the box at {place} holds voxels that are not finite "
                    "numbers; import the tomogram with 'cryoetgan tomograms import', or mend it"
                )
            writer.add(boxed, row)
            if number % SEVERAL == 0:
                release_pages(data)
    made = provenance(
        "particles extract", [*particles, *tomogram], {"box": box, "whole_voxels": whole_voxels}
    )
    write_json(sidecar(output), {"provenance": made, "dropped": dropped})
    log.info("%s: %d boxes of %d voxels", output, len(table), box)


commands_scoring.register(app)
commands_average.register(app)
commands_gallery.register(app)

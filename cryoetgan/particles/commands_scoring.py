"""Commands of the `particles` stage that compare with templates."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoetgan.command import Device, Output, check_positive, command, log, parse_tilt_range
from cryoetgan.errors import UserError

if TYPE_CHECKING:
    from cryoetgan.io.mrc import Volume
    from cryoetgan.physics.acquisition import Acquisition

CTF_STATES = ("raw", "phase-flipped", "corrected")


def register(app: typer.Typer) -> None:
    """Add this module's commands to the stage's group."""
    command(app, "match")(match)
    command(app, "score")(score)


Tomogram = Annotated[Path, typer.Argument(help="MRC, protein bright.")]
Templates = Annotated[
    list[Path], typer.Option(help="Density map; the stem is the class; repeatable.")
]
Tilts = Annotated[str, typer.Option(metavar="LO,HI", help="Degrees about y.")]
Rotations = Annotated[int, typer.Option(help="Orientations searched.", min=8)]
Lowpass = Annotated[float | None, typer.Option(help="Angstrom; default: three voxels.")]
Shells = Annotated[int, typer.Option(help="Lowest Fourier shells left out.", min=0)]
Defocus = Annotated[
    float | None,
    typer.Option(help="Micrometres; default: the tomogram's record, else no contrast transfer."),
]
CtfState = Annotated[
    str | None,
    typer.Option(metavar="raw|phase-flipped|corrected", help="Default: the record's, else raw."),
]


def match(
    tomogram: Tomogram,
    output: Output,
    template: Templates,
    tilts: Tilts,
    rotations: Rotations = 1856,
    lowpass: Lowpass = None,
    highpass_shells: Shells = 3,
    deviations: Annotated[
        float, typer.Option(help="Standard deviations above the mean score of the tomogram.")
    ] = 4.0,
    min_distance: Annotated[
        float, typer.Option(help="In units of sigma: the smallest template's radius / sqrt 3.")
    ] = 2.0,
    top: Annotated[int | None, typer.Option(help="Best picks kept.", min=1)] = None,
    mask: Annotated[
        Path | None, typer.Option(help="MRC on the tomogram's grid: nothing where it is not 0.")
    ] = None,
    defocus: Defocus = None,
    ctf: CtfState = None,
    device: Device = "auto",
) -> None:
    """Find particles by template matching over the whole tomogram: STAR, best first.

    Each place has one class, the best one; the score is a correlation in [-1, 1] inside the
    tilt range and band; coordinates are 0-based voxels, subvoxel; angles RELION's, degrees.
    """
    import pandas as pd

    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.mrc import read_mask, read_volume
    from cryoetgan.io.star import (
        ANGLES,
        COORDINATES,
        check_star_name,
        class_name,
        particle_id,
        write_star,
    )
    from cryoetgan.particles.matching import pick
    from cryoetgan.particles.picking import dog

    check_star_name(output)
    low, high, _ = parse_tilt_range(tilts)
    check_positive(min_distance, "--min-distance")
    if not abs(deviations) < float("inf"):
        raise UserError(f"--deviations: got {deviations:g}, wanted a finite number")
    volume = read_volume(tomogram)
    left_out = None if mask is None else read_mask(mask, volume, tomogram)
    record = _record(tomogram, defocus, ctf)
    maps = _maps(tomogram, volume, template)
    lowpass = (
        3 * volume.voxel_size if lowpass is None else check_positive(lowpass, "--lowpass", " A")
    )
    radius = min(dog.radius_of_map(density, volume.voxel_size) for density in maps.values())
    found = pick.match(
        volume,
        maps,
        (low, high),
        rotations,
        lowpass,
        highpass_shells,
        deviations,
        min_distance * radius / 3**0.5,
        top,
        device,
        record,
        tomogram,
        left_out,
    )
    name = class_name(tomogram)
    table = pd.DataFrame(found.positions, columns=COORDINATES)
    table.insert(0, "rlnTomoName", name)
    table[ANGLES] = found.angles
    table["cryoetganClass"] = found.classes
    table["cryoetganScore"] = found.scores
    table["cryoetganId"] = [particle_id(name, *place) for place in found.positions]
    table["cryoetganSource"] = "real"
    write_star(output, table)
    parameters = {
        "tilts": [low, high],
        "rotations": rotations,
        "lowpass": lowpass,
        "highpass_shells": highpass_shells,
        "deviations": deviations,
        "min_distance": min_distance,
        "top": top,
        "defocus": record.defocus if record else None,
        "ctf": record.ctf if record else None,
    }
    inputs = [tomogram, *template, *([mask] if mask else [])]
    made = provenance("particles match", inputs, parameters)
    write_json(sidecar(output), {"provenance": made})
    log.info("%s: %d particles", output, len(table))


def _record(tomogram: Path, defocus: float | None, ctf: str | None) -> "Acquisition | None":
    """Return how the tomogram was recorded: its own record, and what is typed wins."""
    from dataclasses import replace

    from cryoetgan.physics.acquisition import Acquisition, read_acquisition

    if ctf is not None and ctf not in CTF_STATES:
        raise UserError(f"--ctf: got '{ctf}', wanted {', '.join(CTF_STATES)}")
    record = read_acquisition(tomogram)
    if defocus is None and ctf is None:
        return record
    record = record or Acquisition()
    if defocus is not None:
        record = replace(record, defocus=check_positive(defocus, "--defocus", " um"))
    return record if ctf is None else replace(record, ctf=ctf)


def _maps(tomogram: Path, volume: "Volume", paths: list[Path]) -> "dict[str, Any]":
    """Return the templates by class; all have the tomogram's voxel size."""
    from cryoetgan.io.mrc import check_same_voxel_size, read_map
    from cryoetgan.io.star import class_name

    maps = {}
    for path in paths:
        opened = read_map(path)
        check_same_voxel_size(volume.voxel_size, opened.voxel_size, tomogram, path)
        name = class_name(path)
        if name in maps:
            raise UserError(f"{path}: class '{name}' is given twice; rename a file")
        maps[name] = opened.data
    return maps


def _count_outside(places: Any, volume: "Volume", picks: Path, tomogram: Path) -> None:
    """Warn of picks `(N, 3)` x, y, z that lie outside: another tomogram's, or not in voxels."""
    size = volume.data.shape[::-1]
    outside = int(((places < -0.5) | (places > [n - 0.5 for n in size])).any(axis=1).sum())
    if outside:
        log.warning(
            "%s: %d of %d picks lie outside %s (%d x %d x %d voxels): their scores mean nothing; are "
            "they another tomogram's, or in angstrom?",
            picks, outside, len(places), tomogram, *size,
        )  # fmt: skip


def score(
    tomogram: Tomogram,
    picks: Annotated[Path, typer.Argument(help="STAR of picks in it.")],
    output: Output,
    template: Templates,
    tilts: Tilts,
    rotations: Rotations = 1856,
    lowpass: Lowpass = None,
    highpass_shells: Shells = 3,
    defocus: Defocus = None,
    ctf: CtfState = None,
    device: Device = "auto",
) -> None:
    """Align every pick to every template: STAR, one row a pick and class.

    The score is a correlation in [-1, 1] inside the tilt range and band; coordinates are
    refined, 0-based voxels; angles RELION's, degrees.
    """
    import pandas as pd

    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.mrc import read_tomogram
    from cryoetgan.io.star import (
        ANGLES,
        COORDINATES,
        check_star_name,
        class_name,
        read_star,
        write_star,
    )
    from cryoetgan.particles.matching.score import score_picks

    check_star_name(output)
    low, high, _ = parse_tilt_range(tilts)
    volume = read_tomogram(tomogram)
    table = read_star(picks, [*COORDINATES, "cryoetganId"]).particles
    if not len(table):
        raise UserError(f"{picks}: holds no pick; lower particles.threshold and pick again")
    _count_outside(table[COORDINATES].to_numpy(float), volume, picks, tomogram)
    record = _record(tomogram, defocus, ctf)
    maps = _maps(tomogram, volume, template)
    lowpass = (
        3 * volume.voxel_size if lowpass is None else check_positive(lowpass, "--lowpass", " A")
    )
    found = score_picks(
        volume,
        table[COORDINATES].to_numpy(float),
        maps,
        (low, high),
        rotations,
        lowpass,
        highpass_shells,
        device,
        record,
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
        "defocus": record.defocus if record else None,
        "ctf": record.ctf if record else None,
    }
    made = provenance("particles score", [tomogram, picks, *template], parameters)
    write_json(sidecar(output), {"provenance": made})
    log.info("%s: %d picks, %d classes", output, len(table), len(maps))

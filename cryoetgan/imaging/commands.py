"""Commands of the `imaging` stage."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoetgan.command import Output, Seed, check_positive, command, group, log, parse_tilt_range
from cryoetgan.errors import UserError
from cryoetgan.imaging import GOOD_POWER_RATIO, commands_controls, commands_synthesis

if TYPE_CHECKING:
    from cryoetgan.physics.acquisition import Acquisition

app = group("")
OUTSIDE = 0.1
"""Share of the picks, above which it is said that they lie outside."""
STATES = ("raw", "phase-flipped", "corrected")


@command(app, "fit")
def fit(
    tomogram: Annotated[Path, typer.Argument(help="MRC, protein bright.")],
    output: Output,
    particles: Annotated[
        Path, typer.Option(help="STAR of its picks; with scores, each counts as its best class.")
    ],
    density: Annotated[
        list[Path], typer.Option(help="Density map; the stem is the class; repeatable.")
    ],
    tilts: Annotated[
        str | None,
        typer.Option(metavar="LO,HI", help="Degrees about y. Default: the tomogram's record."),
    ] = None,
    defocus: Annotated[float | None, typer.Option(help="Micrometres, underfocus positive.")] = None,
    voltage: Annotated[float | None, typer.Option(help="Kilovolts.")] = None,
    cs: Annotated[float | None, typer.Option(help="Millimetres.")] = None,
    amplitude_contrast: Annotated[float | None, typer.Option(help="Fraction.")] = None,
    ctf: Annotated[str | None, typer.Option(help="raw, phase-flipped or corrected.")] = None,
    mask: Annotated[
        Path | None, typer.Option(help="MRC on the tomogram's grid: no noise is measured in it.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Fit the physics of a tomogram to its own picks, without labels: an imaging model.

    M.json holds numbers and words, M.npz beside it spectra and maps, M.png a picture of fit
    against data. What is not typed comes from the tomogram's record (T.mrc.json); without a
    defocus the contrast transfer is fitted as part of the gain. No voxel of the tomogram is
    kept.
    """
    from dataclasses import replace

    from cryoetgan.imaging.fit.exclusion import LeftOut
    from cryoetgan.imaging.fit.fit import fit as fitted
    from cryoetgan.imaging.fit.inputs import Data, closest
    from cryoetgan.imaging.fit.picks import best_rows
    from cryoetgan.imaging.fit.plot import drawn
    from cryoetgan.imaging.model import EMPTY
    from cryoetgan.imaging.storage import save
    from cryoetgan.io.files import atomic, provenance
    from cryoetgan.io.mrc import check_same_voxel_size, read_map, read_mask, read_tomogram
    from cryoetgan.io.star import (
        COORDINATES,
        class_name,
        paths_by_class,
        read_star,
        select_tomogram,
    )

    typed = {
        "defocus": defocus,
        "voltage": voltage,
        "cs": cs,
        "amplitude_contrast": amplitude_contrast,
        "ctf": ctf,
    }
    acquisition = _acquisition(tomogram, tilts, typed)
    volume = read_tomogram(tomogram)
    if output.suffix != ".json":
        raise UserError(f"{output}: an imaging model is named by its JSON file; end it in .json")
    maps: dict[str, Any] = {}
    for name, path in paths_by_class(density).items():
        if name == EMPTY:
            raise UserError(f"{path}: '{EMPTY}' is the class of false picks; rename the map")
        opened = read_map(path)
        check_same_voxel_size(volume.voxel_size, opened.voxel_size, tomogram, path)
        if len({*opened.data.shape, *(n for m in maps.values() for n in m.shape)}) > 1:
            raise UserError(
                f"{path}: has {opened.data.shape} voxels; wanted cubes of one size for all maps "
                "(densities.box)"
            )
        maps[name] = opened.data
    table = read_star(particles, COORDINATES).particles
    if not len(table):
        raise UserError(f"{particles}: holds no pick; lower particles.threshold and pick again")
    table = select_tomogram(table, tomogram, particles)
    _check_places(table, volume.data.shape, tomogram, particles)
    _check_classes(table, sorted(maps), particles)
    picks = best_rows(table, sorted(maps), seed, closest(maps))
    left_out = LeftOut(volume.data, None if mask is None else read_mask(mask, volume, tomogram))
    if left_out.levels:
        levels = ", ".join(f"{level:g}" for level in left_out.levels)
        log.info("%s: is padded with %s; nothing is measured there", tomogram, levels)
    data = Data(
        volume.data, volume.voxel_size, picks, maps, acquisition, tomogram, left_out or None
    )
    model = replace(fitted(data, seed), tomogram=class_name(tomogram))
    inputs = [tomogram, particles, *density, *([mask] if mask else [])]
    record = provenance("imaging fit", inputs, typed | {"tilts": tilts}, seed)
    save(model, output, record)
    with atomic(output.with_suffix(".png")) as part:
        part.write_bytes(drawn(model))
    power = model.about["power"]
    ratio = [a / b for a, b in zip(power["simulated"], power["real"], strict=True)]
    if min(ratio) < GOOD_POWER_RATIO[0] or max(ratio) > GOOD_POWER_RATIO[1]:
        log.warning(
            "%s: simulated boxes have %.2f to %.2f times the power of the picks by shell, where "
            "%g to %g is a good fit; look at %s, at the picks and at how the tomogram was recorded",
            output,
            min(ratio),
            max(ratio),
            *GOOD_POWER_RATIO,
            output.with_suffix(".png"),
        )
    log.info(
        "%s: fitted to %d of %d picks; simulated over real power %.2f to %.2f by shell; %s",
        output,
        model.about["picks_used"],
        len(picks),
        min(ratio),
        max(ratio),
        ", ".join(f"{name} {100 * share:.0f} %" for name, share in model.shares.items()),
    )


def _check_places(table: Any, shape: tuple[int, ...], tomogram: Path, path: Path) -> None:
    """Warn where many picks lie outside the tomogram: they may be of another binning."""
    import numpy as np

    from cryoetgan.io.star import COORDINATES

    places = table[COORDINATES].to_numpy(float)
    outside = int(((places < 0) | (places > np.array(shape[::-1]) - 1)).any(axis=1).sum())
    if outside > OUTSIDE * len(table):
        log.warning(
            "%s: %d of %d picks lie outside %s (%s voxels, x y z): are they of another binning?",
            path,
            outside,
            len(table),
            tomogram,
            " x ".join(map(str, shape[::-1])),
        )


def _check_classes(table: Any, maps: list[str], path: Path) -> None:
    """Refuse rows whose classes are none of the maps'; warn of those that are not."""
    if "cryoetganClass" not in table:
        return
    named = table["cryoetganClass"].astype(str)
    strange = sorted(set(named) - set(maps))
    if not set(named) & set(maps):
        raise UserError(
            f"{path}: its classes ({', '.join(strange)}) are none of the maps' "
            f"({', '.join(maps)}); a map's class is the name of its file"
        )
    if strange:
        log.warning(
            "%s: %d of %d rows are of classes without a map (%s): they are left out, and what lies "
            "there counts as background; give --density of each",
            path,
            int(named.isin(strange).sum()),
            len(named),
            ", ".join(strange),
        )


def _acquisition(tomogram: Path, tilts: str | None, typed: dict[str, Any]) -> "Acquisition":
    """Return how a tomogram was recorded; what is typed wins over its record."""
    from dataclasses import replace

    from cryoetgan.physics.acquisition import Acquisition, read_acquisition

    known = read_acquisition(tomogram)
    if tilts is None and known is None:
        raise UserError(f"{tomogram}: has no record of its tilts beside it; give --tilts=LO,HI")
    found = known or Acquisition()
    given = {key: value for key, value in typed.items() if value is not None}
    if tilts is not None:
        low, high, _ = parse_tilt_range(tilts)
        given |= {"tilt_low": low, "tilt_high": high}
    if given.get("ctf", "raw") not in STATES:
        raise UserError(f"--ctf: got '{given['ctf']}', wanted {', '.join(STATES)}")
    if "voltage" in given:
        check_positive(typed["voltage"], "--voltage", " kV")
    found = replace(found, **given)
    if found.defocus is None and found.ctf != "corrected":
        log.warning(
            "%s: no defocus is known: what the contrast transfer does is fitted as part of the "
            "gain; give --defocus (column defocus of the table of tomograms) for a better fit",
            tomogram,
        )
    return found


@command(app, "simulate")
def simulate(
    densities: Annotated[Path, typer.Argument(help="Volume set of posed densities (STAR).")],
    output: Output,
    model: Annotated[
        list[Path] | None, typer.Option(help="Imaging model of `imaging fit`; repeatable.")
    ] = None,
    neighbours: Annotated[
        bool, typer.Option(help="With --model: other particles around each one.")
    ] = True,
    per_group: Annotated[
        bool, typer.Option("--per-group", help="With --model: the set once for each group.")
    ] = False,
    snr: Annotated[
        float | None, typer.Option(help="Signal over noise variance, of each volume.")
    ] = None,
    tilts: Annotated[str | None, typer.Option(metavar="LO,HI", help="Degrees about y.")] = None,
    defocus: Annotated[
        float | None, typer.Option(help="Micrometres, underfocus positive; 4 where none is given.")
    ] = None,
    voltage: Annotated[float | None, typer.Option(help="Kilovolts; 300.")] = None,
    cs: Annotated[float | None, typer.Option(help="Millimetres; 2.7.")] = None,
    amplitude_contrast: Annotated[float | None, typer.Option(help="Fraction; 0.07.")] = None,
    ctf: Annotated[str | None, typer.Option(help="raw, phase-flipped or corrected; raw.")] = None,
    lowpass: Annotated[float | None, typer.Option(help="Angstrom; 40.")] = None,
    envelope: Annotated[
        float | None,
        typer.Option(
            help="Of the transfer, exp(-(k / E)^2), E a share of Nyquist; none. AITom: 0.4."
        ),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Densities to subtomograms by physics alone: a volume set.

    With --model, by fitted physics: each volume in one of the models' tomograms, drawn by
    chance, with neighbours around it on a scene twice the box, in the tomogram's own grey
    values; with --per-group, every volume in each group of tomograms, one set behind the other.
    With --snr and --tilts, by typed parameters, the traditional baseline: contrast transfer,
    missing wedge, noise before and after the transfer, low-pass; the whole set has mean 0 and
    standard deviation 1. Rows keep class, angles (degrees) and origin (angstrom); protein
    bright.
    """
    from cryoetgan.imaging.model import ImagingModel
    from cryoetgan.imaging.simulate.conventional import Physics
    from cryoetgan.imaging.simulate.volume_sets import write_matched, write_typed
    from cryoetgan.io.volume_set import read_volume_set

    source = read_volume_set(densities, ["cryoetganClass"])
    given: dict[str, Any] = {
        "defocus": defocus,
        "voltage": voltage,
        "cs": cs,
        "amplitude_contrast": amplitude_contrast,
        "ctf": ctf,
        "lowpass": lowpass,
        "envelope": envelope,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if model:
        typed = {"snr": snr, "tilts": tilts} | given
        if typed := {name: value for name, value in typed.items() if value is not None}:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in typed)
            raise UserError(f"--model and {options}: give one or the other; a model has its own")
        models = {path: ImagingModel.load(path) for path in model}
        count = write_matched(source, output, models, neighbours, seed, per_group)
        log.info("%s: %d volumes by %d fitted models", output, count, len(models))
        return
    if snr is None:
        raise UserError("give --model M.json (fitted physics), or --snr and --tilts (typed)")
    low, high, _ = parse_tilt_range(tilts)
    if given.get("ctf", "raw") not in STATES:
        raise UserError(f"--ctf: got '{ctf}', wanted {', '.join(STATES)}")
    for name, unit in (("voltage", " kV"), ("lowpass", " A"), ("envelope", "")):
        if name in given:
            check_positive(given[name], f"--{name}", unit)
    physics = Physics(snr=check_positive(snr, "--snr"), tilts=(low, high), **given)
    write_typed(source, output, physics, seed)
    log.info("%s: %d volumes", output, len(source))


commands_synthesis.register(app)
commands_controls.register(app)

"""Commands of the `imaging` stage."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoetgan.command import (
    Output,
    Record,
    Seed,
    command,
    group,
    log,
    parse_by_tomogram,
    parse_tilt_range,
)
from cryoetgan.errors import UserError, suggest
from cryoetgan.imaging import GOOD_POWER_RATIO
from cryoetgan.io.files import atomic, provenance
from cryoetgan.io.star import class_name

if TYPE_CHECKING:
    from cryoetgan.imaging.model import ImagingModel

app = group("")


@dataclass(frozen=True, kw_only=True)
class AcquisitionOptions:
    """Options: how a tomogram was recorded; None if not given."""

    tilts: Annotated[str | None, typer.Option(metavar="LO,HI", help="Degrees about y.")] = None
    defocus: Annotated[float | None, typer.Option(help="Micrometres, underfocus positive.")] = None
    voltage: Annotated[float | None, typer.Option(help="Kilovolts.")] = None
    cs: Annotated[float | None, typer.Option(help="Millimetres.")] = None
    amplitude_contrast: Annotated[float | None, typer.Option(help="Fraction.")] = None
    ctf: Annotated[
        str | None, typer.Option(metavar="raw|phase-flipped|corrected", help="State of the CTF.")
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the given values by attribute of `Acquisition`."""
        values = _given(vars(self))
        if (tilts := values.pop("tilts", None)) is not None:
            values["tilt_low"], values["tilt_high"], _ = parse_tilt_range(tilts)
        return values


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


Densities = Annotated[Path, typer.Argument(help="Volume set of posed densities (STAR).")]
Models = Annotated[list[Path], typer.Option(help="Imaging model of `imaging fit`; repeatable.")]
PerGroup = Annotated[
    bool, typer.Option("--per-group", help="Simulate the set once for each group of tomograms.")
]
SceneMap = Annotated[Path, typer.Argument(help="MRC of densities, in the units of the maps.")]
SceneLabels = Annotated[
    Path | None, typer.Option("--labels", help="MRC of labels, passed through.")
]
SceneTruth = Annotated[
    Path | None, typer.Option("--particles", help="STAR of particles, passed through.")
]
DensityScale = Annotated[
    float, typer.Option("--density-scale", help="Factor on the densities of the scene.")
]
Tile = Annotated[int, typer.Option("--tile", help="Edge of a tile, voxels.")]


@command(app, "fit")
def fit(
    tomogram: Annotated[Path, typer.Argument(help="MRC, protein bright.")],
    output: Output,
    particles: Annotated[
        Path, typer.Option(help="STAR of its picks; of scores, the best class of each pick counts.")
    ],
    density: Annotated[
        list[Path], typer.Option(help="Density map; the stem is the class; repeatable.")
    ],
    acquisition: AcquisitionOptions,
    mask: Annotated[
        Path | None, typer.Option(help="MRC on the tomogram's grid; not zero: excluded.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Fit an imaging model to a tomogram and its own picks, without labels.

    If the picks have decoy scores or q-values, the winners at a false discovery rate of 5 % are particles:
    they give transfer and signal strength; other density around them becomes unnamed neighbours
    (generic proteins, if its power is significant) and surroundings without shape.
    class_fractions are fractions of all picks; the rest is `other`.

    M.json holds numbers and text, M.npz beside it spectra and maps, M.png a plot of the fit beside
    the data. Values that are not given come from the tomogram's record (T.mrc.json). Without a
    defocus, the CTF is fitted as part of the gain. No voxel of the tomogram is stored.
    """
    from cryoetgan.imaging.fit.fit import fit_model
    from cryoetgan.imaging.fit.fit_data import read_fit_data, resolve_acquisition
    from cryoetgan.imaging.fit.plot import plot_model
    from cryoetgan.imaging.storage import check_model_name, save_model

    check_model_name(output)
    resolved = resolve_acquisition(tomogram, acquisition.given())
    data = read_fit_data(tomogram, particles, density, resolved, mask, seed)
    model = replace(fit_model(data, seed), tomogram=class_name(tomogram))
    inputs = [tomogram, particles, *density, *([mask] if mask else [])]
    save_model(model, output, provenance("imaging fit", inputs, vars(acquisition), seed))
    with atomic(output.with_suffix(".png")) as part:
        part.write_bytes(plot_model(model))
    _log_fit(model, output)


def _log_fit(model: "ImagingModel", output: Path) -> None:
    power = model.about["power"]
    ratios = [a / b for a, b in zip(power["simulated"], power["real"], strict=True)]
    text = f"{min(ratios):.2f} to {max(ratios):.2f}"
    if min(ratios) < GOOD_POWER_RATIO[0] or max(ratios) > GOOD_POWER_RATIO[1]:
        log.warning(
            "%s: simulated boxes have %s times the power of the picks by shell; a good fit has "
            "%g to %g. Inspect %s, the picks and the acquisition of the tomogram",
            output, text, *GOOD_POWER_RATIO, output.with_suffix(".png"),
        )  # fmt: skip
    fractions = ", ".join(f"{name} {100 * f:.0f} %" for name, f in model.class_fractions.items())
    if overall := model.about["agreement"]["overall"]:
        text += " by shell; amplitude {amplitude:.2f} +- {error:.2f}".format(**overall)
    if (unnamed := model.about.get("unnamed_fraction")) is not None:
        fractions += f"; unnamed neighbours fill {100 * unnamed:.1g} % of the volume"
    log.info(
        "%s: fitted to %d of %d picks; simulated over real power %s; %s",
        output, model.about["picks_used"], model.about["picks"], text, fractions,
    )  # fmt: skip


@command(app, "simulate")
def simulate(
    densities: Densities,
    output: Output,
    acquisition: AcquisitionOptions,
    model: Annotated[
        list[Path] | None, typer.Option(help="Imaging model of `imaging fit`; repeatable.")
    ] = None,
    neighbours: Annotated[
        bool, typer.Option(help="With --model: other particles around each one.")
    ] = True,
    per_group: PerGroup = False,
    snr: Annotated[
        float | None, typer.Option(help="Signal over noise variance, of each volume.")
    ] = None,
    lowpass: Annotated[float | None, typer.Option(help="Resolution limit, angstrom.")] = None,
    envelope: Annotated[
        float | None, typer.Option(help="Width E of exp(-(k / E)^2), fraction of Nyquist.")
    ] = None,
    seed: Seed = 0,
) -> Record:
    """Simulate subtomograms of densities by physics alone: a volume set.

    With --model, by fitted physics: each volume as one randomly chosen model's tomogram shows it,
    in the grey values of that tomogram, with neighbours on a scene of twice the box. With
    --per-group, every volume once for each group of tomograms.

    With --snr and --tilts, the conventional simulation: contrast transfer, missing wedge, noise
    before and after the transfer, low-pass. The whole set has mean 0 and standard deviation 1.
    Defaults: defocus 4 micrometres, 300 kV, Cs 2.7 mm, amplitude contrast 0.07, raw CTF, low-pass
    40 angstrom, no envelope (AITom: 0.4).

    Rows keep class, angles (degrees) and origin (angstrom); protein bright.
    """
    from cryoetgan.imaging.simulate.conventional import ConventionalParameters, write_conventional
    from cryoetgan.imaging.simulate.fitted import write_fitted
    from cryoetgan.imaging.storage import load_model
    from cryoetgan.io.volume_set import read_volume_set
    from cryoetgan.physics.acquisition import Acquisition

    source = read_volume_set(densities, ["cryoetganClass"])
    own = _given({"snr": snr, "lowpass": lowpass, "envelope": envelope})
    if model:
        if given := [*own, *_given(vars(acquisition))]:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UserError(f"--model and {options}: give one or the other; a model has its own")
        models = {path: load_model(path) for path in model}
        count = write_fitted(
            source, output, models, seed, per_group=per_group, neighbours=neighbours
        )
        log.info("%s: %d volumes by %d fitted models", output, count, len(models))
        return Record()
    if snr is None:
        raise UserError("give --model M.json, or --snr and --tilts (conventional simulation)")
    parse_tilt_range(acquisition.tilts)
    optics = Acquisition(**{"defocus": 4.0} | acquisition.given())
    parameters = ConventionalParameters(acquisition=optics, **own)
    write_conventional(source, output, parameters, seed)
    log.info("%s: %d volumes", output, len(source))
    return Record(parameters=parameters.to_json())


@command(app, "ablate")
def ablate(
    densities: Densities,
    output: Output,
    kind: Annotated[str, typer.Option(help="noise_only, no_neighbours or real_background.")],
    model: Models,
    tomogram: Annotated[
        list[Path] | None,
        typer.Option(help="Tomogram of each model, in the same order, for real_background."),
    ] = None,
    particles: Annotated[
        list[Path] | None, typer.Option(help="Picks (STAR) of each of these tomograms.")
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(metavar="TOMOGRAM=PATH", help="MRC; not zero: excluded; repeatable."),
    ] = None,
    per_group: PerGroup = False,
    seed: Seed = 0,
) -> Record:
    """Simulate subtomograms with a part of the fitted physics removed or replaced: a volume set.

    - noise_only: fitted noise; the transfer is the missing wedge times a constant.

    - no_neighbours: fitted transfer and noise.

    - real_background: fitted transfer, in patches of the real tomograms without picks.

    No particle has neighbours in any of them. The sets are not for export: they measure the effect
    of each part of the physics (`snakemake comparison`).
    """
    from cryoetgan.imaging.simulate.fitted import KINDS, open_backgrounds, write_fitted
    from cryoetgan.imaging.storage import load_model
    from cryoetgan.io.volume_set import read_volume_set

    if kind not in KINDS:
        raise UserError(f"--kind: got '{kind}'{suggest(kind, KINDS)}, wanted {', '.join(KINDS)}")
    source = read_volume_set(densities, ["cryoetganClass"])
    models = {path: load_model(path) for path in model}
    masks = {name: Path(path) for name, path in parse_by_tomogram(mask, "--mask").items()}
    files = (tomogram or [], particles or [], masks)
    real = kind == "real_background"
    if masks and not real:
        raise UserError(f"--mask: --kind {kind} reads no tomogram; give --kind real_background")
    count = write_fitted(
        source,
        output,
        models,
        seed,
        per_group=per_group,
        neighbours=False,
        flat_transfer=kind == "noise_only",
        backgrounds=open_backgrounds(source, models, *files, seed) if real else (),
    )
    log.info("%s: %d volumes, %s", output, count, kind)
    return Record(inputs=list(masks.values()), parameters={"mask": list(masks)})


@command(app, "synthesize")
def synthesize(
    scene: SceneMap,
    output: Output,
    model: Annotated[Path, typer.Option(help="Imaging model of `imaging fit`.")],
    labels: SceneLabels = None,
    particles: SceneTruth = None,
    density_scale: DensityScale = 1.0,
    tile: Tile = 128,
    seed: Seed = 0,
) -> Record:
    """Simulate a tomogram of a density scene of any size: T.mrc, T_labels.mrc, T.star.

    Transfer, noise and grey values are those fitted to the model's tomogram; protein bright.
    Memory depends on the tile alone, and the result does not depend on it. An untrained
    `translation synthesize` gives the same result.
    """
    from cryoetgan.imaging.simulate.tiling import TiledSimulator
    from cryoetgan.imaging.simulate.tomogram import Origin, write_tomogram
    from cryoetgan.imaging.storage import load_model
    from cryoetgan.io.scene import open_scene

    files = open_scene(scene, labels, particles)
    fitted = load_model(model).for_scene(files.has_crowders())
    simulator = TiledSimulator(fitted, seed, class_name(output), density_scale)
    origin = Origin(fitted.tomogram, fitted.voxel_size, fitted.acquisition)
    outputs, about = write_tomogram(
        output, files, origin, simulator.simulate_block, tile, "simulated"
    )
    log.info("%s: simulated from %s with the physics of %s", output, scene, fitted.tomogram)
    return Record(outputs=outputs, about=about)

"""Commands of the `detection` stage."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Device, Record, Seed, check_positive, command, group, log
from cryoetgan.errors import UserError
from cryoetgan.io import star
from cryoetgan.particles.template_search import SearchSettings

app = group("")
USABLE_F1 = 0.5
"""Held-out F1 below which a detector is not usable."""


def check_model_name(path: Path) -> Path:
    """Return the path of an output model; raise `UserError` if it does not end in .pt."""
    if Path(path).suffix != ".pt":
        raise UserError(f"{path}: a detector is written as .pt; let the name end in .pt")
    return path


ModelOutput = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="Path of the result.", show_default=False, callback=check_model_name
    ),
]
StarOutput = Annotated[
    Path, typer.Option("--output", "-o", help="Path of the result.", callback=star.check_star_name)
]
ClassNames = Annotated[
    list[str] | None, typer.Option("--class", help="Only this class; repeatable.")
]


@command(app, "train")
def train(
    tomograms: Annotated[list[Path], typer.Argument(help="MRC, protein bright.")],
    output: ModelOutput,
    particles: Annotated[
        list[Path] | None, typer.Option(help="STAR of the truth; default: T.star; repeatable.")
    ] = None,
    labels: Annotated[
        list[Path] | None, typer.Option(help="Default: T_labels.mrc; repeatable, in order.")
    ] = None,
    class_: ClassNames = None,
    radius: Annotated[
        float | None, typer.Option(help="Of all classes, A; default: from the truth.")
    ] = None,
    fitted: Annotated[
        list[Path] | None,
        typer.Option(
            help="Tomogram of the fitted simulation, taken if --choice says so; repeatable."
        ),
    ] = None,
    choice: Annotated[Path | None, typer.Option(help="Output of evaluation choose.")] = None,
    steps: Annotated[int, typer.Option(help="Training steps.", min=1)] = 1500,
    minutes: Annotated[
        float | None, typer.Option(help="Time for training; it replaces --steps.")
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> Record:
    """Train a detector on tomograms with truth, synthetic ones or annotated: a file .pt.

    All classes of the truth are learned, or the classes of --class. Rows of other classes, and labels of
    crowders, membranes and gold, are `other`: learned, but not reported. A fifth of each tomogram
    is held out: it gives the threshold, and precision and recall as functions of the score.
    Augmentation keeps the missing wedge and the hand. An interrupted training resumes when it is
    started again.
    """
    from cryoetgan.detection.detector import write_detector
    from cryoetgan.detection.train_detector import TrainOptions, state_path
    from cryoetgan.detection.train_detector import train as run_training
    from cryoetgan.detection.training_tomograms import open_inputs
    from cryoetgan.devices import choose_device
    from cryoetgan.export.source import select_tomograms
    from cryoetgan.io.files import sha256

    if minutes is not None:
        check_positive(minutes, "--minutes")
    if radius is not None:
        check_positive(radius, "--radius", " A")
    on_device = choose_device(device)
    tomograms = select_tomograms(tomograms, fitted or [], choice).paths
    inputs = open_inputs(tomograms, particles or [], labels or [], class_ or [], radius)
    options = TrainOptions(steps=steps, minutes=minutes, seed=seed)
    files = [*tomograms, *inputs.files]
    key = {
        "inputs": [sha256(path) for path in files],
        "classes": inputs.classes,
        "radii": [float(value) for value in inputs.radii],
    }
    detector, run = run_training(inputs, options, on_device, output, key)
    write_detector(output, detector)
    state_path(output).unlink(missing_ok=True)
    held_out = detector.calibration.record(detector.classes, detector.threshold)
    log.info(
        "%s: held-out F1 %.3f, of places alone %.3f, threshold %.3f",
        output, held_out["f1"], held_out["places"]["f1"], detector.threshold,
    )  # fmt: skip
    if held_out["f1"] < USABLE_F1:
        log.warning(
            "%s: a detector with a held-out F1 of %.2f is not usable; train it for more steps "
            "(detection.steps), or on more synthetic tomograms", output, held_out["f1"],
        )  # fmt: skip
    radii = zip(detector.classes, detector.radii * detector.voxel_size, strict=False)
    about = {
        "classes": list(detector.classes),
        "voxel_size": detector.voxel_size,
        "radius": {name: float(value) for name, value in radii},
        "threshold": detector.threshold,
        "steps": run.step,
        "usable": bool(held_out["f1"] >= USABLE_F1),
        "held_out": held_out,
        "calibration": detector.calibration.table(),
    }
    files += [choice] if choice is not None else []
    return Record(inputs=files, about={"detector": about})


@dataclass(frozen=True, kw_only=True)
class OptionalSearch(SearchSettings):
    """Options of a search with templates, if there are any."""

    template: Annotated[
        list[Path] | None, typer.Option(help="Map of a class, for angles; repeatable.")
    ] = None
    tilts: Annotated[
        str | None, typer.Option(metavar="LO,HI", help="Degrees about y; with --template.")
    ] = None


@command(app, "run")
def run(
    model: Annotated[Path, typer.Argument(help="Detector of `detection train`.")],
    tomogram: Annotated[Path, typer.Argument(help="MRC, protein bright.")],
    output: StarOutput,
    search: OptionalSearch,
    threshold: Annotated[
        float | None, typer.Option(help="Lowest score, 0 to 1; default: the model's.")
    ] = None,
    top: Annotated[int | None, typer.Option(help="Largest number of picks.", min=1)] = None,
    class_: ClassNames = None,
    other: Annotated[bool, typer.Option("--other", help="Also report `other`.")] = False,
    mask: Annotated[
        Path | None, typer.Option(help="MRC, the tomogram's grid; non-zero: excluded.")
    ] = None,
) -> Record:
    """Find particles with a detector: STAR of picks with class and score, best first.

    The tomogram is read window by window, so any size fits. The score is the probability of being
    any particle, 0 to 1 (cryoetganDetectionScore). With --template, each pick is aligned to
    the maps and their decoys. It takes class, place and angles of the best map, and is kept if the
    decoys say that it is more likely right than wrong; the scores of all (correlations) are written
    to PICKS_scores.star, as by `particles score`. The record beside the output has the expected
    precision with its interval: from held-out synthetic parts, and from the decoys if there are
    templates. Coordinates are 0-based voxels, subvoxel.
    """
    from cryoetgan.detection.detect_particles import DetectOptions, detect_particles
    from cryoetgan.detection.detector import read_detector
    from cryoetgan.devices import choose_device
    from cryoetgan.io import mrc
    from cryoetgan.particles.matching.template import SearchOptions

    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"--threshold: got {threshold:g}, wanted a score from 0 to 1")
    if other and search.template:
        raise UserError("--other: picks of `other` have no template; give --other or --template")
    if (search.tilts is None) != (not search.template):
        raise UserError("--template and --tilts need each other; give both, or neither")
    volume = mrc.read_volume(tomogram)
    detector = read_detector(model, choose_device(search.device))
    options = DetectOptions(
        threshold=threshold, top=top, classes=tuple(class_ or ()), with_other=other
    )
    drawn = None if mask is None else mrc.read_mask(mask, volume, tomogram)
    maps, resolved = {}, None
    if search.template and search.tilts:
        found = search.resolve_with(search.tilts, tomogram, volume.voxel_size)
        resolved = SearchOptions(**found)
        maps = mrc.read_maps(search.template, volume.voxel_size, tomogram)
    table, scores, about = detect_particles(
        detector, volume, tomogram, options, drawn, maps, resolved
    )
    outputs = [output]
    if scores is not None:
        outputs.append(output.with_name(f"{output.stem}_scores.star"))
        star.write_star(outputs[1], scores, voxel_size=volume.voxel_size)
    star.write_star(output, table, voxel_size=volume.voxel_size)
    shown = ", ".join(f"{count} {name}" for name, count in about["classes"].items())
    log.info("%s: %d picks%s", output, len(table), f" ({shown})" if shown else "")
    return Record(outputs=outputs, about={"detection": about})

"""Commands of the `translation` stage."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Device, Output, Record, Seed, command, group, log
from cryoetgan.errors import UserError
from cryoetgan.imaging.commands import DensityScale, SceneLabels, SceneMap, SceneTruth, Tile

Checkpoint = Annotated[Path, typer.Argument(help="checkpoint.pt of `translation train`.")]
app = group("")


@command(app, "train")
def train(
    output: Output,
    densities: Annotated[Path, typer.Option(help="Posed densities (STAR).")],
    subtomograms: Annotated[Path, typer.Option(help="Subtomograms (STAR).")],
    preset: Annotated[
        str, typer.Option(help="paper, released, cyclegan, recommended, smoke, or a YAML file.")
    ] = "paper",
    imaging: Annotated[
        list[Path] | None,
        typer.Option(help="Imaging model (JSON) of each tomogram, for `recommended`; repeatable."),
    ] = None,
    group_: Annotated[
        str | None, typer.Option("--group", help="Train on this group of tomograms alone.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Training steps; default: preset.", min=1)
    ] = None,
    devices: Annotated[
        int, typer.Option(help="GPUs of this machine that share a batch.", min=1)
    ] = 1,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard events.")
    ] = False,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Train a model with unpaired volumes: a folder with checkpoint.pt, log.csv, config.yaml.

    Training uses the rows with split train, or all rows if none has a split. It uses no labels. An
    interrupted run resumes when it is started again. Several GPUs need the extra `multi`
    (Lightning Fabric); under srun, with one task a GPU, all tasks are used automatically.
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.io.volume_set import read_volume_set
    from cryoetgan.translation import train as training
    from cryoetgan.translation.presets import read_preset

    settings = read_preset(preset)
    if steps is not None:
        settings = settings.replace(steps=steps, epochs=0.0)
    inputs = training.TrainingInputs(
        densities=read_volume_set(densities, ["cryoetganClass"]),
        subtomograms=read_volume_set(subtomograms),
        imaging=imaging or [],
        group=group_,
    )
    training.train(
        inputs,
        settings,
        output,
        name=Path(preset).stem,
        device=choose_device(device),
        seed=seed,
        devices=devices,
        tensorboard=tensorboard,
    )
    log.info("%s: trained", output / "checkpoint.pt")


@command(app, "translate")
def translate(
    checkpoint: Checkpoint,
    volumes: Annotated[Path, typer.Argument(help="Volume set to translate (STAR).")],
    output: Output,
    direction: Annotated[str, typer.Option(help="ds: density to subtomogram; sd: back.")] = "ds",
    draws: Annotated[int, typer.Option(help="Noise draws of each volume.", min=1)] = 1,
    snapshot: Annotated[int | None, typer.Option(help="0: the untrained generator.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> Record:
    """Translate a volume set: rows keep class, angles (degrees) and origin (angstrom).

    The noise of a volume depends on the seed, its number in its class, and the draw. Grey values
    are on the scale of the training subtomograms. A checkpoint of `recommended` contains its
    imaging models.
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.translation.translate import open_source, open_translator, write_translations

    if snapshot not in (None, 0):
        raise UserError(
            f"--snapshot: got {snapshot}, wanted 0. The generator of epoch N is a checkpoint of its "
            "own, snapshots/epoch_N.pt (snapshot_every in the preset)"
        )
    translator = open_translator(checkpoint, direction, choose_device(device), snapshot == 0)
    count = write_translations(translator, open_source(volumes, translator), output, draws, seed)
    log.info("%s: %d volumes", output, count)
    return Record()


@command(app, "join")
def join(
    sets: Annotated[list[Path], typer.Argument(help="Volume sets (STAR).")],
    output: Output,
) -> Record:
    """Concatenate volume sets of one box and voxel size, with the optics groups of all."""
    from cryoetgan.io.volume_set import concatenate_volume_sets

    count = concatenate_volume_sets(sets, output)
    log.info("%s: %d volumes of %d sets", output, count, len(sets))
    return Record()


@command(app, "uncertainty")
def uncertainty(
    checkpoint: Checkpoint,
    volumes: Annotated[Path, typer.Argument(help="Densities (STAR).")],
    output: Output,
    passes: Annotated[int, typer.Option(help="Translations of each volume.", min=2)] = 20,
    sample: Annotated[
        int | None, typer.Option(help="First volumes of each class; default: all.", min=1)
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> Record:
    """Uncertainty of generated voxels: a folder with dropout_sd.mrcs, noise_sd.mrcs, their STAR.

    dropout_sd: standard deviation over Monte Carlo dropout with fixed noise. noise_sd: standard
    deviation over noise without dropout. Both are grey values of the training subtomograms; rows
    keep class, angles and origin. The maps are illustrations: on simulated volumes neither
    predicts the error better than the density itself does (benchmarks/uncertainty.py).
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.translation.translate import open_source, open_translator
    from cryoetgan.translation.uncertainty import dropout_layers, write_uncertainty

    translator = open_translator(checkpoint, "ds", choose_device(device))
    source = open_source(volumes, translator)
    if not dropout_layers(translator.generator):
        log.warning(
            "%s: was trained without dropout (key dropout of the preset): dropout_sd is zero",
            checkpoint,
        )
    paths, count = write_uncertainty(translator, source, output, passes, sample, seed)
    log.info("%s: %d volumes, %d translations each", output, count, passes)
    return Record(outputs=paths)


@command(app, "synthesize")
def synthesize(
    checkpoint: Annotated[
        Path, typer.Argument(help="checkpoint.pt of preset cyclegan or recommended.")
    ],
    scene: SceneMap,
    output: Output,
    labels: SceneLabels = None,
    particles: SceneTruth = None,
    tomogram: Annotated[
        str | None, typer.Option(help="Training tomogram whose physics it has; default: the first.")
    ] = None,
    density_scale: DensityScale = 1.0,
    tile: Tile = 96,
    device: Device = "auto",
    seed: Seed = 0,
) -> Record:
    """Generate a tomogram from a density scene of any size: T.mrc, T_labels.mrc, T.star.

    Grey values are on the scale of the training tomogram, protein bright. Memory depends on the tile
    alone; the result does not depend on the tile. A network of preset cyclegan mixes all training
    tomograms; of --tomogram it takes the acquisition alone.
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.imaging.simulate.tomogram import write_tomogram
    from cryoetgan.io.scene import open_scene
    from cryoetgan.io.star import class_name
    from cryoetgan.translation.synthesize import open_tiled_generator

    where, name = choose_device(device), class_name(output)
    files = open_scene(scene, labels, particles)
    generator, origin = open_tiled_generator(
        checkpoint, tomogram, name, density_scale, where, seed, files.has_crowders()
    )
    outputs, about = write_tomogram(
        output, files, origin, generator.simulate_block, tile, "generated"
    )
    log.info("%s: generated from %s", output, scene)
    return Record(outputs=outputs, about=about, parameters={"tomogram": origin.tomogram})

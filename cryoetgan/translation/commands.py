"""Commands of the `translation` stage."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Device, Output, Seed, command, group, log
from cryoetgan.errors import UserError
from cryoetgan.translation import commands_synthesis

app = group("")


@command(app, "train")
def train(
    output: Output,
    densities: Annotated[Path, typer.Option(help="Volume set of posed densities (STAR).")],
    subtomograms: Annotated[Path, typer.Option(help="Volume set of subtomograms (STAR).")],
    preset: Annotated[
        str, typer.Option(help="paper, released, recommended, smoke, or a YAML file of settings.")
    ] = "paper",
    imaging: Annotated[
        list[Path] | None,
        typer.Option(help="Imaging model (M.json) of each tomogram, for recommended; repeatable."),
    ] = None,
    group_: Annotated[
        str | None,
        typer.Option("--group", help="Learn from the subtomograms of this group of tomograms."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Generator steps; the preset's own.")] = None,
    devices: Annotated[
        int, typer.Option(help="Of this machine, to share each batch; srun tells by itself.")
    ] = 1,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Numbers of the log as TensorBoard events, too.")
    ] = False,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Train the CycleGAN, unpaired: a folder with checkpoint.pt, log.csv, config.yaml.

    Rows of split train are learnt from (all, where there are no splits); labels are not.
    Killed, it goes on where it was when run again. Several devices want Lightning Fabric (extra
    `multi`); under srun, one task a device, they are used without being asked for.
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.io.volume_set import read_volume_set
    from cryoetgan.translation.presets import read_preset
    from cryoetgan.translation.train import train as run
    from cryoetgan.translation.train import with_steps

    if steps is not None and steps < 1:
        raise UserError(f"--steps: got {steps}, wanted one or more")
    if devices < 1:
        raise UserError(f"--devices: got {devices}, wanted one or more")
    settings = with_steps(read_preset(preset), steps)
    where = choose_device(device)
    sets = read_volume_set(densities, ["cryoetganClass"]), read_volume_set(subtomograms)
    name, models = Path(preset).stem, imaging or []
    run(*sets, settings, output, where, seed, name, models, group_, devices, tensorboard)
    log.info("%s: trained", output / "checkpoint.pt")


@command(app, "translate")
def translate(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pt of `translation train`.")],
    volumes: Annotated[Path, typer.Argument(help="Volume set to translate (STAR).")],
    output: Output,
    direction: Annotated[str, typer.Option(help="ds: density to subtomogram; sd: back.")] = "ds",
    draws: Annotated[int, typer.Option(help="Noise draws of each volume.")] = 1,
    snapshot: Annotated[int | None, typer.Option(help="0: the generator before training.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Translate a volume set: rows keep class, angles (degrees) and origin (angstrom).

    Each volume draws its noise from (seed, its place in its class, draw). Grey values
    are those of the subtomograms trained on. A checkpoint of `recommended` holds its imaging
    models: nothing else is needed.
    """
    import pandas as pd

    from cryoetgan.devices import choose_device
    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.mrc import check_same_voxel_size
    from cryoetgan.io.star import item_names
    from cryoetgan.io.volume_set import VolumeSetWriter, read_volume_set
    from cryoetgan.progress import track
    from cryoetgan.translation.translator import check_box, open_translator

    if draws < 1:
        raise UserError(f"--draws: got {draws}, wanted one or more")
    translator = open_translator(checkpoint, direction, snapshot, choose_device(device))
    source = read_volume_set(volumes)
    check_same_voxel_size(
        source.voxel_size, float(translator.content["voxel_size"]), volumes, checkpoint
    )
    check_box(translator, source)
    table = source.table.copy()
    table["cryoetganSource"] = "generated" if direction == "ds" else "density"
    optics = pd.DataFrame(translator.optics()) if direction == "ds" else source.optics
    classes = table["cryoetganClass"] if "cryoetganClass" in table else ["particle"] * len(table)
    rows = table.to_dict("records")
    count = len(rows) * draws
    made = translator.translated(source, item_names(classes), draws, seed)
    with VolumeSetWriter(output, count, source.box, source.voxel_size, optics) as writer:
        for row, group, volume in track(made, "translating", count):
            own = {"rlnOpticsGroup": group + 1} if direction == "ds" else {}
            writer.add(volume, rows[row] | own)
    parameters = {"direction": direction, "draws": draws, "snapshot": snapshot}
    record = provenance("translation translate", [checkpoint, volumes], parameters, seed)
    write_json(sidecar(output), {"provenance": record})
    log.info("%s: %d volumes", output, count)


@command(app, "join")
def join(
    sets: Annotated[list[Path], typer.Argument(help="Volume sets (STAR), of each group one.")],
    output: Output,
) -> None:
    """Join volume sets, one behind the other: a volume set with the optics groups of all.

    Box and voxel size (angstrom) must be the same; rows keep all they have.
    """
    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.translation.concatenate import write_joined

    count = write_joined(sets, output)
    write_json(sidecar(output), {"provenance": provenance("translation join", sets)})
    log.info("%s: %d volumes of %d sets", output, count, len(sets))


@command(app, "uncertainty")
def uncertainty(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pt of `translation train`.")],
    volumes: Annotated[Path, typer.Argument(help="Volume set of densities (STAR).")],
    output: Output,
    passes: Annotated[int, typer.Option(help="Translations of each volume, two or more.")] = 20,
    sample: Annotated[int | None, typer.Option(help="First volumes of each class; all.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """How much generated voxels vary: a folder with dropout_sd.mrcs, noise_sd.mrcs, their STAR.

    dropout_sd: standard deviation over Monte Carlo dropout, the noise fixed; noise_sd: over
    the noise, without dropout. In grey values of the subtomograms trained on; rows keep class,
    angles and origin. Illustrative: on simulated volumes with known truth neither follows the
    error any better than the density itself does (benchmarks/uncertainty.py).
    """
    import contextlib

    import pandas as pd

    from cryoetgan.devices import choose_device
    from cryoetgan.io.files import check_not_overwritten, provenance, sidecar, write_json
    from cryoetgan.io.mrc import check_same_voxel_size
    from cryoetgan.io.star import item_names
    from cryoetgan.io.volume_set import VolumeSetWriter, read_volume_set
    from cryoetgan.progress import track
    from cryoetgan.translation.translator import check_box, open_translator
    from cryoetgan.translation.uncertainty import has_dropout, spreads

    if passes < 2:
        raise UserError(f"--passes: got {passes}, wanted two or more")
    if sample is not None and sample < 1:
        raise UserError(f"--sample: got {sample}, wanted one or more")
    translator = open_translator(checkpoint, "ds", None, choose_device(device))
    source = read_volume_set(volumes)
    check_same_voxel_size(
        source.voxel_size, float(translator.content["voxel_size"]), volumes, checkpoint
    )
    check_box(translator, source)
    if not has_dropout(translator.generator):
        log.warning(
            "%s: was trained without dropout: dropout_sd is zero everywhere (key dropout of the "
            "preset)",
            checkpoint,
        )
    table = source.table.drop(columns="rlnOpticsGroup", errors="ignore")
    table["cryoetganSource"] = "generated"
    classes = table["cryoetganClass"] if "cryoetganClass" in table else ["particle"] * len(table)
    rows, names = table.to_dict("records"), item_names(classes)
    # a name ends in the volume's number within its class
    chosen = [
        row
        for row, name in enumerate(names)
        if sample is None or int(name.rpartition("/")[2]) < sample
    ]
    paths = [output / f"{name}.star" for name in ("dropout_sd", "noise_sd")]
    for path in paths:
        check_not_overwritten(volumes, path)
    optics = pd.DataFrame(translator.optics())
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                VolumeSetWriter(path, len(chosen), source.box, source.voxel_size, optics)
            )
            for path in paths
        ]
        made = spreads(translator, source, names, passes, seed, chosen)
        for row, *both in track(made, "passing", len(chosen)):
            group = {"rlnOpticsGroup": translator.look(names[row], seed) + 1}
            for writer, volume in zip(writers, both, strict=True):
                writer.add(volume, rows[row] | group)
    made_with = {"passes": passes, "sample": sample}
    record = provenance("translation uncertainty", [checkpoint, volumes], made_with, seed)
    for path in paths:
        write_json(sidecar(path), {"provenance": record})
    log.info("%s: %d volumes, %d passes each", output, len(chosen), passes)


commands_synthesis.register(app)

"""Commands of the `translation` stage."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Device, Output, Seed, command, group, log
from cryoetgan.errors import UserError

app = group("")


@command(app, "train")
def train(
    output: Output,
    densities: Annotated[Path, typer.Option(help="Volume set of posed densities (STAR).")],
    subtomograms: Annotated[Path, typer.Option(help="Volume set of subtomograms (STAR).")],
    preset: Annotated[
        str, typer.Option(help="paper, released, smoke, or a YAML file of settings.")
    ] = "paper",
    steps: Annotated[int | None, typer.Option(help="Generator steps; the preset's own.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Train the CycleGAN, unpaired: a folder with checkpoint.pt, log.csv, config.yaml.

    Rows of split train are learnt from (all, where there are no splits); labels are not.
    Killed, it goes on where it was when run again.
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.translation.presets import read_preset
    from cryoetgan.translation.run import train as run
    from cryoetgan.translation.run import with_steps
    from cryoetgan.volumes import read_volume_set

    if steps is not None and steps < 1:
        raise UserError(f"--steps: got {steps}, wanted one or more")
    settings = with_steps(read_preset(preset), steps)
    where = choose_device(device)
    sets = read_volume_set(densities), read_volume_set(subtomograms)
    run(*sets, settings, output, where, seed, Path(preset).stem)
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
    are those of the subtomograms trained on.
    """
    import pandas as pd

    from cryoetgan.devices import choose_device
    from cryoetgan.files import provenance, sidecar, write_json
    from cryoetgan.progress import track
    from cryoetgan.star import item_names
    from cryoetgan.translation.inference import Translator, translated
    from cryoetgan.volumes import VolumeSetWriter, read_volume_set, same_voxel_size

    if draws < 1:
        raise UserError(f"--draws: got {draws}, wanted one or more")
    translator = Translator(checkpoint, direction, snapshot, choose_device(device))
    source = read_volume_set(volumes)
    same_voxel_size(source.voxel_size, float(translator.content["voxel_size"]), volumes, checkpoint)
    if source.box % 4:
        raise UserError(f"{volumes}: boxes of {source.box} voxels; wanted a multiple of 4")
    table = source.table.copy()
    table["cryoetganSource"] = "generated" if direction == "ds" else "density"
    optics = None
    if direction == "ds":
        # one group: the generator mixes what it learnt of all tomograms
        optics = pd.DataFrame(translator.content["optics"][:1]).assign(rlnOpticsGroup=1)
        table["rlnOpticsGroup"] = 1
    classes = table["cryoetganClass"] if "cryoetganClass" in table else ["particle"] * len(table)
    rows = table.to_dict("records")
    count = len(rows) * draws
    made = translated(translator, source.volumes, item_names(classes), draws, seed)
    with VolumeSetWriter(output, count, source.box, source.voxel_size, optics) as writer:
        for row, volume in track(made, "translating", count):
            writer.add(volume, rows[row])
    parameters = {"direction": direction, "draws": draws, "snapshot": snapshot}
    record = provenance("translation translate", [checkpoint, volumes], parameters, seed)
    write_json(sidecar(output), {"provenance": record})
    log.info("%s: %d volumes", output, count)

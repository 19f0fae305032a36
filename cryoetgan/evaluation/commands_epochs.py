"""Command of the `evaluation` stage that measures a generator's snapshots."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Device, Output, Seed, command, log
from cryoetgan.errors import UserError


def register(app: typer.Typer) -> None:
    """Add this module's command to the stage's group."""
    command(app, "epochs")(epochs)


def epochs(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="checkpoint.pt of `translation train`; its snapshots beside it."),
    ],
    output: Output,
    densities: Annotated[Path, typer.Option(help="Volume set to translate (STAR).")],
    real: Annotated[Path, typer.Option(help="Real volume set (STAR).")],
    features: Annotated[Path, typer.Option(help="Of `evaluation classify --checkpoint`.")],
    real_split: Annotated[str | None, typer.Option(help="Only rows of this split.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Scores as training goes: CSV, a row a kept generator of each checkpoint.

    Columns: noise (input noise the generator was trained with), step (0: untrained), is, fid,
    kid of the translated densities against the real set, and their 95 % intervals. Generators
    are kept by the preset's key snapshot_every.
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.evaluation.classifiers.classifier import load_classifier
    from cryoetgan.evaluation.comparison.table import csv_text
    from cryoetgan.evaluation.labelled_sets import load, same_boxes
    from cryoetgan.evaluation.snapshots import SNAPSHOTS, scores
    from cryoetgan.io.files import check_exists, provenance, sidecar, write_json, write_text
    from cryoetgan.io.volume_set import read_volume_set, stack_path

    where = choose_device(device)
    source = read_volume_set(densities, ["cryoetganClass"])
    crops = read_volume_set(real, ["cryoetganClass"])
    same_boxes(source, crops)
    classifier, _ = load_classifier(features, where)
    if classifier.box != crops.box:
        raise UserError(f"{features}: was trained on boxes of {classifier.box}, not {crops.box}")
    kept = {path: sorted(check_exists(path).parent.glob(SNAPSHOTS)) for path in checkpoints}
    for path, snapshots in kept.items():
        if not snapshots:
            log.warning(
                "%s: no snapshots beside it (snapshot_every in the preset): its first and last "
                "generator alone",
                path,
            )
    rows = list(scores(load(crops, real_split), source, checkpoints, classifier, where, seed))
    write_text(output, csv_text(rows))
    inputs = [densities, stack_path(densities), real, stack_path(real), features, *checkpoints]
    made = provenance("evaluation epochs", inputs, {"real_split": real_split}, seed)
    write_json(sidecar(output), {"provenance": made})
    log.info("%s: %d generators", output, len(rows))

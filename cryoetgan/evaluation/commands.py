"""Commands of the `evaluation` stage."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Device, Output, Seed, command, group, log, tilt_range
from cryoetgan.errors import UserError

app = group("")


@command(app, "classify")
def classify(
    output: Output,
    train: Annotated[Path, typer.Option(help="Volume set to train on (STAR).")],
    test: Annotated[Path, typer.Option(help="Volume set to test on (STAR).")],
    train_split: Annotated[str | None, typer.Option(help="Only rows of this split.")] = None,
    test_split: Annotated[str | None, typer.Option(help="Only rows of this split.")] = None,
    network: Annotated[str, typer.Option(help="small, or cb3d (the paper's).")] = "small",
    epochs: Annotated[int | None, typer.Option(help="At most; by the set's size.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Where the trained classifier is kept.")
    ] = None,
    reuse: Annotated[
        Path | None, typer.Option(help="A kept classifier of the same training set.")
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Train a classifier on one volume set, test it on another: JSON.

    Keys: accuracy and its 95 % interval, classes, confusion (rows true, columns found),
    n_train, n_test. All rows of both sets are used, unless a split is named.
    """
    import numpy as np

    from cryoetgan.devices import choose_device
    from cryoetgan.evaluation.classifier import (
        NETWORKS,
        load_classifier,
        save_classifier,
        train_classifier,
    )
    from cryoetgan.evaluation.intervals import clustered
    from cryoetgan.evaluation.sets import common_classes, load, validation_groups
    from cryoetgan.files import provenance, sha256, write_json
    from cryoetgan.seeds import rng
    from cryoetgan.volumes import read_volume_set, same_voxel_size, stack_of

    if network not in NETWORKS:
        raise UserError(f"--network: got '{network}', wanted {' or '.join(NETWORKS)}")
    where = choose_device(device)
    first = read_volume_set(train, ["cryoetganClass"])
    second = read_volume_set(test, ["cryoetganClass"])
    same_voxel_size(first.voxel_size, second.voxel_size, train, test)
    if first.box != second.box:
        raise UserError(f"{train} has boxes of {first.box} voxels, {test} of {second.box}")
    learnt, tested = load(first, train_split), load(second, test_split)
    classes = common_classes(learnt, tested)
    key = {
        "train": sha256(stack_of(train)),
        "labels": sha256(train),
        "split": train_split,
        "network": network,
        "epochs": epochs,
        "seed": seed,
    }
    trained = None
    if reuse is not None:
        kept, kept_key = load_classifier(reuse, where)
        if kept_key == key:
            trained = kept
            log.info("%s: is the classifier of this training set; used again", reuse)
    if trained is None:
        trained = train_classifier(
            learnt.volumes,
            np.searchsorted(classes, learnt.names),
            classes,
            validation_groups(learnt.table, first.box, rng(seed, "validation")),
            network,
            epochs,
            learnt.symmetric,
            where,
            seed,
            f"training {network} on {train.name}",
        )
    found = np.array(classes)[trained.scores(tested.volumes).argmax(axis=1)]
    right = found == tested.names
    shown = sorted({*classes, *tested.names})
    confusion = [[int(((tested.names == a) & (found == b)).sum()) for b in shown] for a in shown]
    groups = np.full(len(right), "one")
    if "rlnTomoName" in tested.table:
        groups = tested.table["rlnTomoName"].to_numpy(str)
    interval = clustered(right, groups)
    if checkpoint is not None:
        save_classifier(checkpoint, trained, key)
    parameters = {
        "network": network,
        "epochs": epochs,
        "train_split": train_split,
        "test_split": test_split,
    }
    inputs = [train, stack_of(train), test, stack_of(test)]
    write_json(
        output,
        {
            "accuracy": float(right.mean()),
            "interval": list(interval),
            "classes": shown,
            "confusion": confusion,
            "n_train": len(learnt.names),
            "n_test": len(tested.names),
            "network": network,
            "weights": trained.weights_hash(),
            "provenance": provenance("evaluation classify", inputs, parameters, seed),
        },
    )
    log.info("%s: accuracy %.3f (%.3f to %.3f)", output, right.mean(), *interval)


@command(app, "measure")
def measure(
    output: Output,
    real: Annotated[Path, typer.Option(help="Real volume set (STAR).")],
    generated: Annotated[Path, typer.Option(help="Generated volume set (STAR).")],
    real_split: Annotated[str | None, typer.Option(help="Only rows of this split.")] = None,
    densities: Annotated[
        Path | None, typer.Option(help="Volume set of the densities (STAR).")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="Classifier of `evaluation classify --checkpoint`.")
    ] = None,
    map_: Annotated[
        list[Path] | None, typer.Option("--map", help="Density map of a class; repeatable.")
    ] = None,
    tilts: Annotated[str | None, typer.Option(metavar="LO,HI", help="Degrees about y.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Measure a generated set against a real one: JSON, a metric with interval and nulls.

    is, fid, kid, precision, recall, density, coverage (features of --features), ssim_class,
    ssim_best, power_ratio, sd_ratio, pose_recovery (--map, --tilts), two_sample_auc.
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.evaluation.classifier import load_classifier
    from cryoetgan.evaluation.measuring import measure as compute
    from cryoetgan.evaluation.sets import load
    from cryoetgan.files import provenance, sidecar, write_json
    from cryoetgan.star import class_name
    from cryoetgan.volumes import read_volume, read_volume_set, same_voxel_size, stack_of

    where = choose_device(device)
    first = read_volume_set(real, ["cryoetganClass"])
    second = read_volume_set(generated, ["cryoetganClass"])
    same_voxel_size(first.voxel_size, second.voxel_size, real, generated)
    if first.box != second.box:
        raise UserError(f"{real} has boxes of {first.box} voxels, {generated} of {second.box}")
    if densities is not None:
        read_volume_set(densities)
    classifier = load_classifier(features, where)[0] if features else None
    if classifier is not None and classifier.box != first.box:
        raise UserError(f"{features}: was trained on boxes of {classifier.box}, not {first.box}")
    maps = {}
    for path in map_ or []:
        volume = read_volume(path)
        same_voxel_size(first.voxel_size, volume.voxel_size, real, path)
        maps[class_name(path)] = volume.data
    span = tilt_range(tilts)[:2] if tilts else None
    metrics = compute(
        load(first, real_split),
        load(second, None),
        classifier,
        maps,
        span,  # type: ignore[arg-type]
        first.voxel_size,
        seed,
        where,
    )
    inputs = [real, stack_of(real), generated, stack_of(generated), *(map_ or [])]
    made = provenance(
        "evaluation measure", inputs, {"tilts": tilts, "real_split": real_split}, seed
    )
    # numbers made with other weights cannot be compared: the extractor is named beside them
    extractor = (
        {"network": classifier.name, "weights": classifier.weights_hash()} if classifier else None
    )
    write_json(sidecar(output), {"provenance": made, "features": extractor})
    write_json(output, metrics)
    for name, entry in metrics.items():
        if entry["warning"]:
            log.warning("%s: %s", name, entry["warning"])
    log.info("%s: %d metrics", output, len(metrics))

"""Commands of the `evaluation` stage."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoetgan.command import Device, Output, Seed, command, group, log, parse_tilt_range
from cryoetgan.errors import UserError
from cryoetgan.evaluation import commands_epochs

if TYPE_CHECKING:
    from cryoetgan.io.volume_set import VolumeSet

app = group("")


@command(app, "classify")
def classify(
    output: Output,
    train: Annotated[Path, typer.Option(help="Volume set to train on (STAR).")],
    test: Annotated[Path, typer.Option(help="Volume set to test on (STAR).")],
    train_split: Annotated[str | None, typer.Option(help="Only rows of this split.")] = None,
    test_split: Annotated[str | None, typer.Option(help="Only rows of this split.")] = None,
    count: Annotated[
        int | None, typer.Option(help="Train on so many volumes only, classes in equal parts.")
    ] = None,
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
    n_train, n_test. All rows of both sets are used, unless a split or a count is named:
    runs with several counts draw the points of a learning curve.
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.evaluation.classifiers import train_test
    from cryoetgan.evaluation.classifiers.classifier import (
        NETWORKS,
        load_classifier,
        save_classifier,
    )
    from cryoetgan.evaluation.comparison.subsets import first as first_of
    from cryoetgan.evaluation.labelled_sets import load, same_boxes
    from cryoetgan.io.files import provenance, sha256, write_json
    from cryoetgan.io.volume_set import read_volume_set, stack_path
    from cryoetgan.seeds import rng

    if network not in NETWORKS:
        raise UserError(f"--network: got '{network}', wanted {' or '.join(NETWORKS)}")
    if epochs is not None and epochs < 1:
        raise UserError(f"--epochs: got {epochs}, wanted one or more")
    where = choose_device(device)
    first = read_volume_set(train, ["cryoetganClass"])
    second = read_volume_set(test, ["cryoetganClass"])
    same_boxes(first, second)
    learnt, tested = load(first, train_split), load(second, test_split)
    if count is not None:
        if not 2 <= count <= len(learnt.names):
            raise UserError(
                f"--count: got {count}, wanted 2 to {len(learnt.names)}, {train}'s size"
            )
        learnt = first_of(learnt, count, rng(seed, "count"))
    train_test.check(learnt, tested)
    key = {
        "train": sha256(stack_path(train)),
        "labels": sha256(train),
        "split": train_split,
        "count": count,
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
        what = f"training {network} on {train.name}"
        trained = train_test.train(learnt, network, epochs, where, seed, what)
    found = train_test.tested_on(trained, tested)
    if checkpoint is not None:
        save_classifier(checkpoint, trained, key)
    parameters = {
        "network": network,
        "epochs": epochs,
        "count": count,
        "train_split": train_split,
        "test_split": test_split,
    }
    inputs = [train, stack_path(train), test, stack_path(test)]
    content = found | {
        "n_train": len(learnt.names),
        "network": network,
        "weights": trained.weights_hash(),
        "validation": trained.validation,
        "provenance": provenance("evaluation classify", inputs, parameters, seed),
    }
    write_json(output, content)
    log.info("%s: accuracy %.3f (%.3f to %.3f)", output, found["accuracy"], *found["interval"])


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
    layer: Annotated[
        str | None, typer.Option(help="Of the classifier: pool; flatten, fc6 or fc7 of cb3d.")
    ] = None,
    map_: Annotated[
        list[Path] | None, typer.Option("--map", help="Density map of a class; repeatable.")
    ] = None,
    tilts: Annotated[
        str | None, typer.Option(metavar="LO,HI", help="Degrees about y; the real set's own.")
    ] = None,
    cycle: Annotated[
        Path | None,
        typer.Option(help="Volume set translated there and back: of --densities, or of --real."),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Only this metric; repeatable. All, if none is named.")
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Measure a generated set against a real one: JSON, a metric with interval and baselines.

    is, fid, kid, precision, recall, density, coverage (features of --features), ssim_class,
    ssim_best, ssim_cycle (--cycle), power_ratio, sd_ratio, pose_recovery (--map),
    c2st_auc. A value without its baselines says little: real is one half of the real
    set against the other. Features and the two-sample test see each volume standardised by
    itself: grey values are sd_ratio's.
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.evaluation.classifiers.classifier import load_classifier
    from cryoetgan.evaluation.labelled_sets import load, same_boxes
    from cryoetgan.evaluation.measurement.measure import cycle_pairs
    from cryoetgan.evaluation.measurement.measure import measure as compute
    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.volume_set import read_volume_set, stack_path

    where = choose_device(device)
    span = parse_tilt_range(tilts)[:2] if tilts else None
    first = read_volume_set(real, ["cryoetganClass"])
    second = read_volume_set(generated, ["cryoetganClass"])
    same_boxes(first, second)
    source = read_volume_set(densities) if densities is not None else None
    back = None
    if cycle is not None:
        there = read_volume_set(cycle, ["cryoetganSource"])
        of_density = (there.table["cryoetganSource"] == "density").all()
        if of_density and source is None:
            raise UserError(f"{cycle}: holds densities; name what they were by --densities")
        back = cycle_pairs(there, source if of_density and source is not None else first)
    classifier = load_classifier(features, where)[0] if features else None
    if classifier is not None and classifier.box != first.box:
        raise UserError(f"{features}: was trained on boxes of {classifier.box}, not {first.box}")
    metrics = compute(
        load(first, real_split),
        load(second, None),
        first.voxel_size,
        seed,
        where,
        classifier,
        layer,
        _maps(map_ or [], first),
        span,  # type: ignore[arg-type]
        back,
        metric or None,
    )
    inputs = [real, stack_path(real), generated, stack_path(generated), *(map_ or [])]
    inputs += [path for path in (features, densities, cycle) if path is not None]
    parameters: dict[str, Any] = {"tilts": tilts, "real_split": real_split, "layer": layer}
    parameters |= {"metric": metric} if metric else {}
    made = provenance("evaluation measure", inputs, parameters, seed)
    write_json(output, metrics)
    write_json(sidecar(output), {"provenance": made})  # last: it holds the hash of what it is for
    for warning in dict.fromkeys(
        f"{name}: {entry['warning']}" for name, entry in metrics.items() if entry["warning"]
    ):
        log.warning(warning)
    log.info("%s: %d metrics", output, len(metrics))


@command(app, "choose")
def choose(
    output: Output,
    generated: Annotated[
        Path | None,
        typer.Option(help="What `evaluation measure` says of the generated set (JSON)."),
    ] = None,
    fitted: Annotated[
        Path | None, typer.Option(help="The same of fitted physics; none: nothing to compare with.")
    ] = None,
    source: Annotated[
        str, typer.Option(help="auto, generated or fitted.", metavar="auto|generated|fitted")
    ] = "auto",
) -> None:
    """Choose, without labels, whether to export generated volumes or fitted physics: JSON.

    Keys: exported (generated or fitted), requested, reason, compared. Generated volumes are exported
    where KID or c2st_auc to real picks is less than that of fitted physics, the 95 %
    intervals apart, neither is more, sd_ratio is 0.8 to 1.25, and pose_recovery is at least
    0.95 of that of fitted physics, and of physics at equal signal-to-noise ratio. Else physics is. Measure both
    against the same real picks, in a split that nothing was trained on, with features that
    no label entered.
    """
    from cryoetgan.evaluation import selection
    from cryoetgan.io.files import provenance, read_json, write_json

    if source not in selection.SOURCES:
        raise UserError(f"--source: got '{source}', wanted {', '.join(selection.SOURCES)}")
    if generated is None and fitted is not None:
        raise UserError("--fitted: has nothing to be compared with; name --generated too")
    named = [path for path in (generated, fitted) if path is not None]
    contents = [read_json(path) for path in named]
    found = [selection.evidence_from(c, p) for c, p in zip(contents, named, strict=True)]
    selection.check_same_features(contents, named)
    first, second = (found[0], found[1]) if len(found) == 2 else (None, None)
    chosen = selection.choose(first, second, source)
    compared = selection.table(first, second) if first and second else {}
    made = provenance("evaluation choose", named, {"source": source})
    content = {"exported": chosen.exported, "requested": chosen.requested, "reason": chosen.reason}
    write_json(output, content | {"compared": compared, "provenance": made})
    log.info("%s: %s", output, chosen.reason)


@command(app, "compare")
def compare(
    output: Output,
    config: Annotated[Path, typer.Option(help="YAML: sets, seeds, controls; see below.")],
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Rank synthetic sets by what classifiers learn from them: a folder with a table.

    Writes comparison.json and comparison.csv; runs.json keeps what is done, so that a
    killed run goes on. For each set, over the same seeds, with 95 % intervals over seeds and
    test crops: gan_train (trained on it, tested on held-out real crops), gan_test (trained
    on real crops, tested on it), mixed (with a few real crops), and the difference from a
    baseline and from the ceiling. The file names `real_train`, `real_test` and `methods`
    (name: set); also `baseline`, `template_matching`, `seeds`, `few_shot`, `curve`, `background`,
    `leave_one_out`, `network`, `epochs`. Paths count from the file's folder.
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.evaluation.comparison.config import read_config
    from cryoetgan.evaluation.comparison.run import run
    from cryoetgan.evaluation.comparison.table import csv_text, flat
    from cryoetgan.io.files import provenance, write_json, write_text

    where = choose_device(device)
    plan = read_config(config)
    table = run(plan, config.parent, output, where, seed)
    made = provenance("evaluation compare", [config], plan.model_dump(), seed)
    write_text(output / "comparison.csv", csv_text(flat(table)))
    write_json(output / "comparison.json", table | {"provenance": made})
    for row in table["methods"]:
        found = row["gan_train"]
        log.info("%s: %.3f (%.3f to %.3f)", row["name"], found["value"], *found["interval"])
    if table.get("background", {}).get("warning"):
        log.warning(table["background"]["warning"])
    log.info("%s: %d methods", output / "comparison.json", len(table["methods"]))


@command(app, "ablate")
def ablate(
    ablation: Annotated[str, typer.Argument(help="input_noise_0, wasserstein, dropout_off …")],
    output: Output,
    preset: Annotated[str, typer.Option(help="Preset that is changed, or a YAML file.")] = "paper",
    snapshot_every: Annotated[
        int | None, typer.Option(help="Epochs from one kept generator to the next.")
    ] = None,
) -> None:
    """Write the preset of one ablation (YAML), for `translation train --preset`.

    input_noise_0, input_noise_0.2, input_noise_0.5 (the paper's table 3), wasserstein_spectral,
    spectral, wasserstein (table 4), dropout_off, bottleneck_noise_off.
    """
    from dataclasses import replace

    import yaml

    from cryoetgan.errors import suggest
    from cryoetgan.evaluation.ablations import ABLATIONS, refuse_residual
    from cryoetgan.io.files import write_text
    from cryoetgan.translation.presets import as_plain, read_preset

    if ablation not in ABLATIONS:
        raise UserError(
            f"unknown ablation '{ablation}'{suggest(ablation, ABLATIONS)} "
            f"(known: {', '.join(ABLATIONS)})"
        )
    if snapshot_every is not None and snapshot_every < 1:
        raise UserError(f"--snapshot-every: got {snapshot_every}, wanted one or more")
    kept: dict[str, Any] = {} if snapshot_every is None else {"snapshot_every": snapshot_every}
    before = read_preset(preset)
    refuse_residual(before, preset)
    changed = replace(before, **ABLATIONS[ablation].settings, **kept)
    write_text(output, yaml.safe_dump(as_plain(changed), sort_keys=False))
    log.info("%s: %s with %s", output, preset, ABLATIONS[ablation].settings)


@command(app, "ablations")
def ablations(
    folder: Annotated[
        Path, typer.Argument(help="Holds ABLATION/SEED/{measure,gan_test,gan_train}.json.")
    ],
    output: Output,
) -> None:
    """Tabulate ablations over seeds beside the paper's tables 3 and 4: CSV, and JSON beside it.

    Means, 95 % intervals over seeds, and how many generators collapsed. The paper's numbers
    are of other data: not comparable.
    """
    from cryoetgan.evaluation.ablations import ABLATIONS, tabulate
    from cryoetgan.evaluation.comparison.table import csv_text
    from cryoetgan.io.files import check_exists, provenance, read_json, write_json, write_text

    found: dict[str, list[dict[str, Any]]] = {}
    inputs = []
    for name in ABLATIONS:
        for path in sorted(
            check_exists(folder, "folder of ablations").glob(f"{name}/*/measure.json")
        ):
            files = {key: path.with_name(f"{key}.json") for key in ("measure", "gan_test")}
            extra = path.with_name("gan_train.json")
            files |= {"gan_train": extra} if extra.exists() else {}
            found.setdefault(name, []).append({k: read_json(file) for k, file in files.items()})
            inputs += list(files.values())
    if not found:
        raise UserError(
            f"{folder}: holds no ABLATION/SEED/measure.json with ABLATION of {', '.join(ABLATIONS)}"
        )
    rows = tabulate(found)
    write_text(output, csv_text(rows))
    made = provenance("evaluation ablations", inputs)
    write_json(output.with_suffix(".json"), {"rows": rows, "provenance": made})
    log.info("%s: %d ablations", output, len(rows))


def _maps(paths: list[Path], real: "VolumeSet") -> "dict[str, Any]":
    """Return class to density, of the real set's box and voxel size."""
    from cryoetgan.io.mrc import check_same_voxel_size, read_map
    from cryoetgan.io.star import paths_by_class

    maps = {}
    for name, path in paths_by_class(paths).items():
        volume = read_map(path)
        check_same_voxel_size(real.voxel_size, volume.voxel_size, real.path, path)
        if set(volume.data.shape) != {real.box}:
            raise UserError(
                f"{path}: has shape {volume.data.shape}, but boxes are of {real.box} voxels; "
                "make the map with that --box"
            )
        maps[name] = volume.data
    return maps


commands_epochs.register(app)

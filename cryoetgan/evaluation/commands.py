"""Commands of the `evaluation` stage."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cryoetgan.command import (
    Device,
    Output,
    Record,
    Seed,
    check_positive,
    command,
    group,
    log,
    parse_tilt_range,
)
from cryoetgan.errors import UserError
from cryoetgan.evaluation import selection
from cryoetgan.evaluation.labelled_sets import (
    add_other,
    draw_balanced,
    load_labelled,
    load_others,
    open_sets,
)
from cryoetgan.io import mrc, star
from cryoetgan.io.files import check_exists, provenance, read_json, sha256, write_json, write_text
from cryoetgan.io.star import COORDINATES, OTHER, class_name
from cryoetgan.io.volume_set import open_tomogram, stack_path
from cryoetgan.particles.template_search import TemplateSearch
from cryoetgan.seeds import rng

app = group("")
Split = Annotated[str | None, typer.Option(help="Only rows of this split.")]
FEATURES = typer.Option(help="Classifier of `evaluation classify --checkpoint`.")
RealSet = Annotated[Path, typer.Option(help="Real volume set (STAR).")]
MeasureFile = Annotated[
    Path | None, typer.Option(help="JSON of `evaluation measure` for this set.")
]


@command(app, "classify")
def classify(
    output: Output,
    train: Annotated[Path, typer.Option(help="Volume set to train on (STAR).")],
    test: Annotated[Path, typer.Option(help="Volume set to test on (STAR).")],
    train_split: Split = None,
    test_split: Split = None,
    count: Annotated[int | None, typer.Option(help="Number of training volumes.")] = None,
    network: Annotated[str, typer.Option(help="small, or cb3d (the paper's).")] = "small",
    epochs: Annotated[int | None, typer.Option(help="At most; default: by set size.")] = None,
    train_other: Annotated[
        list[Path] | None, typer.Option(help="Crops without particles, for training; repeatable.")
    ] = None,
    test_other: Annotated[
        list[Path] | None, typer.Option(help="The same, for the test; repeatable.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="File for the classifier.")] = None,
    reuse: Annotated[Path | None, typer.Option(help="Classifier to reuse if possible.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Train a classifier on one volume set and test it on another: JSON.

    Keys: accuracy and its 95 % interval, classes, confusion (rows true, columns predicted),
    n_train, n_test. All rows of both sets are used, unless a split or a count (of all classes in
    equal parts) is given. Runs with several counts are the points of a learning curve. The
    classifier of --reuse is used if its training set and options are the same.

    --train-other and --test-other add crops of class `other` (background and unnamed picks), at
    most as many for training as the largest class has; crops at the place of a particle of the set
    are left out. Key `open` then has precision, recall and F1 of each class, `other` included, and
    their mean F1 with its interval; accuracy counts the named classes alone. With one named class,
    it is the accuracy of telling it from `other`.
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.evaluation.classifiers import train_classifier as training
    from cryoetgan.evaluation.classifiers.classifier import load_classifier, save_classifier

    title = f"training {network} on {train.name}"
    options = training.TrainingOptions(network, epochs, choose_device(device), seed, title)
    both = [train_other or [], test_other or []]
    first, second, *others = open_sets(train, test, *both[0], *both[1])
    train_set, test_set = load_labelled(first, train_split), load_labelled(second, test_split)
    if count is not None:
        train_set = draw_balanced(train_set, count, rng(seed, "count"))
    parts = others[: len(both[0])], others[len(both[0]) :]
    train_set = add_other(train_set, load_others(parts[0], train_split), rng(seed, "other"))
    test_set = add_other(test_set, load_others(parts[1], test_split))
    training.check_train_and_test(train_set, test_set)
    chosen = {"network": network, "epochs": epochs, "count": count}
    hashes = {"train": sha256(stack_path(train)), "labels": sha256(train)}
    hashes |= {f"other {i}": sha256(stack_path(path)) for i, path in enumerate(both[0])}
    key: dict[str, Any] = {**hashes, "split": train_split, **chosen, "seed": seed}
    classifier, reused_key = load_classifier(reuse, options.device) if reuse else (None, {})
    if classifier is None or reused_key != key:
        classifier = training.train_on_set(train_set, options)
    else:
        log.info("%s: reused, its training set is the same", reuse)
    found = training.evaluate_classifier(classifier, test_set)
    if checkpoint is not None:
        save_classifier(checkpoint, classifier, key)
    parameters = chosen | {"train_split": train_split, "test_split": test_split}
    content = found | {
        "n_train": len(train_set),
        "network": network,
        "weights": classifier.weights_hash(),
        "validation": classifier.validation,
        "provenance": provenance(
            "evaluation classify", [train, test, *both[0], *both[1]], parameters, seed
        ),
    }
    write_json(output, content)
    log.info("%s: accuracy %.3f (%.3f to %.3f)", output, found["accuracy"], *found["interval"])
    if "open" in found:
        figures = found["open"]["f1"], *found["open"]["interval"], OTHER
        log.info("%s: F1 %.3f (%.3f to %.3f) over classes with %s", output, *figures)


@command(app, "measure")
def measure(
    output: Output,
    real: RealSet,
    generated: Annotated[Path, typer.Option(help="Volume set to measure (STAR).")],
    real_split: Split = None,
    densities: Annotated[Path | None, typer.Option(help="Set of the densities (STAR).")] = None,
    features: Annotated[Path | None, FEATURES] = None,
    layer: Annotated[str | None, typer.Option(help="pool; of cb3d: flatten, fc6, fc7.")] = None,
    map_: Annotated[list[Path] | None, typer.Option("--map", help="Density of a class.")] = None,
    tilts: Annotated[
        str | None,
        typer.Option(metavar="LO,HI", help="Degrees about y; default: the real set's own."),
    ] = None,
    cycle: Annotated[Path | None, typer.Option(help="Set translated there and back.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Only this metric; repeatable.")] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> Record:
    """Measure a generated set against a real one: JSON of metrics with interval and baselines.

    Metrics: is, fid, kid, precision, recall, density, coverage (they need --features),
    ssim_class, ssim_best, ssim_cycle (--cycle, from --densities or --real), power_ratio, sd_ratio,
    pose_recovery (--map of each class), c2st_auc (classifier two-sample test). Compare each value
    with its baselines: `real_half` is one half of the real set against the other. Only sd_ratio
    and power_ratio depend on the grey-value scale: each volume is standardised for the others.
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.evaluation.classifiers.classifier import load_classifier
    from cryoetgan.evaluation.measurement import measure as measurement
    from cryoetgan.evaluation.measurement import metrics_io

    on = choose_device(device)
    span = parse_tilt_range(tilts) if tilts else None
    first, second = open_sets(real, generated)
    inputs = metrics_io.MetricInputs(
        load_labelled(first, real_split),
        load_labelled(second),
        first.voxel_size,
        load_classifier(features, on, first.box)[0] if features else None,
        layer,
        metrics_io.read_class_maps(map_ or [], first),
        (span[0], span[1]) if span else None,
        metrics_io.read_cycle(cycle, first, densities) if cycle else None,
    )
    found = measurement.measure(inputs, seed, on, metric or None)
    write_json(output, found)
    for name, record in found.items():
        if record["warning"]:
            log.warning("%s: %s", name, record["warning"])
    log.info("%s: %d metrics", output, len(found))
    return Record()


@command(app, "hand")
def hand(
    picks: Annotated[Path, typer.Argument(help="STAR of picks, or of `particles score`.")],
    output: Output,
    tomogram: Annotated[Path, typer.Option(help="Their tomogram, MRC; or a set, STAR.")],
    search: TemplateSearch,
    fdr: Annotated[
        float, typer.Option(help="Of scores: the rate to which ranks are judged.")
    ] = 0.05,
) -> None:
    """Test, without labels, the share of picks that prefer their map to its mirror image: JSON.

    Keys for each of `classes`, and for `all`: share r, its 95 % interval, n, and precision, the
    share of right picks that r implies: 2 r - 1, a lower bound. Picks of any program are aligned to
    both. Of a file of `particles score --decoys mirror`, its columns are used; judged are the best
    ranks, whichever hand they prefer, because selected particles prefer theirs by construction.
    The warning says if the tomogram has the wrong hand, or a map none (mirror_likeness).
    """
    from cryoetgan.evaluation import hand as hands
    from cryoetgan.particles.matching.template import SearchOptions

    volume = open_tomogram(tomogram)
    options = SearchOptions(**search.resolve(tomogram, volume.voxel_size))
    maps = mrc.read_maps(search.template, volume.voxel_size, tomogram)
    table = star.read_star(picks, COORDINATES).particles
    table = hands.rows_of_tomogram(table, class_name(tomogram), picks)
    found = hands.compare_hands(volume, table, maps, options, fdr)
    inputs = [picks, tomogram, *search.template]
    parameters = {"fdr": fdr, "tilts": list(options.acquisition.tilts), "lowpass": options.lowpass}
    made = provenance("evaluation hand", inputs, parameters)
    write_json(output, {"tomogram": class_name(tomogram), **found, "provenance": made})
    for text in [found["warning"], *(one["warning"] for one in found["classes"].values())]:
        if text:
            log.warning("%s: %s", class_name(tomogram), text)
    share = found["all"]["share"]
    log.info("%s: own hand %s", output, "not tested" if share is None else f"{100 * share:.0f} %")


@command(app, "halves")
def halves(
    particles: Annotated[Path, typer.Argument(help="STAR of selected particles.")],
    output: Output,
    tomogram: Annotated[Path, typer.Option(help="Their tomogram, MRC.")],
    even: Annotated[Path, typer.Option(help="Its even half, imported like it, MRC.")],
    odd: Annotated[Path, typer.Option(help="Its odd half, MRC.")],
    search: TemplateSearch,
    others: Annotated[
        Path | None, typer.Option(help="STAR of picks without a particle, to compare with.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Test, without labels, the share of particles that both halves of the data confirm: JSON.

    Each particle is aligned in one half, and the pose found is scored in the other half, whose
    noise is independent. The half confirms it if the score is among the best 2 % of the scores of
    the same pose all over the tomogram. Keys of `all`, each of `classes`, and `others`: share that
    both halves confirm, its 95 % interval, n, and the shares of each half. Noise is confirmed by
    both with probability `chance`. The warning says if particles are not found again.
    """
    import pandas as pd

    from cryoetgan.evaluation import half_agreement
    from cryoetgan.evaluation.hand import one_row_a_pick
    from cryoetgan.particles.matching.template import SearchOptions

    volume, name = mrc.read_volume(tomogram), class_name(tomogram)
    paths = {"even": even, "odd": odd}
    volumes = {half: mrc.read_tomogram(path) for half, path in paths.items()}
    half_agreement.check_halves(volume, volumes, paths | {"tomogram": tomogram})
    options = SearchOptions(**search.resolve(tomogram, volume.voxel_size))
    maps = mrc.read_maps(search.template, volume.voxel_size, tomogram)
    columns = ["rlnTomoName", *COORDINATES]
    table = star.read_star(particles, [*columns, "cryoetganClass"]).particles
    table = table[table["rlnTomoName"] == name]
    # a tomogram without a selected particle is a result
    table = one_row_a_pick(table, maps) if len(table) else table
    rest = pd.DataFrame(columns=COORDINATES)
    if others is not None:
        rest = star.read_star(others, columns).particles
        rest = rest[rest["rlnTomoName"] == name]
    random = rng(seed, "evaluation", "halves", name)
    found = half_agreement.compare_halves(volumes, table, rest, maps, options, random)
    inputs = [particles, tomogram, even, odd, *search.template, *([others] if others else [])]
    parameters = {"tilts": list(options.acquisition.tilts), "lowpass": options.lowpass}
    made = provenance("evaluation halves", inputs, parameters)
    write_json(output, {"tomogram": name, **found, "provenance": made})
    if found["warning"]:
        log.warning("%s: %s", name, found["warning"])
    share = found["all"]["share"]
    log.info(
        "%s: both halves confirm %s", output, "none" if share is None else f"{100 * share:.0f} %"
    )


@command(app, "detect")
def detect(
    picks: Annotated[Path, typer.Argument(help="STAR of picks with classes.")],
    output: Output,
    truth: Annotated[Path, typer.Option(help="STAR of the particles in the tomograms.")],
    radius: Annotated[float, typer.Option(help="Angstrom; a hit lies within it.")] = 80.0,
    class_: Annotated[
        list[str] | None, typer.Option("--class", help="Only this class; repeatable.")
    ] = None,
    voxel_size: Annotated[
        float | None, typer.Option(help="Angstrom; default: of the files.")
    ] = None,
) -> Record:
    """Score picks against the truth: JSON with precision, recall and F1 by class and their means.

    A hit is a pick of the particle's class within --radius, one-to-one in each tomogram: further
    picks of a particle are wrong. Classes are taken from the truth, without other, background and
    crowder_*: these are neither hits nor misses, and a pick of a class on them is wrong. Picks of
    class other are right if no particle is near. Key places ignores classes, for picks without.
    """
    from cryoetgan.evaluation.detection_scores import score_detections, voxel_size_of

    check_positive(radius, "--radius", " A")
    tables = {
        picks: star.read_star(picks, ["rlnTomoName", *COORDINATES]),
        truth: star.read_star(truth, ["rlnTomoName", *COORDINATES, "cryoetganClass"]),
    }
    size = voxel_size_of(tables, voxel_size)
    if unknown := sorted(set(class_ or ()) - set(tables[truth].particles["cryoetganClass"])):
        raise UserError(f"--class: {truth} has no particle of class {', '.join(unknown)}")
    found_in, true_in = (
        set(tables[p].particles["rlnTomoName"].astype(str)) for p in (picks, truth)
    )
    if found_in and true_in and not found_in & true_in:
        raise UserError(
            f"{picks}: its tomograms are {', '.join(sorted(found_in)[:5])}, those in {truth} "
            f"{', '.join(sorted(true_in)[:5])}, so no pick can be right; correct rlnTomoName"
        )
    found = score_detections(
        tables[picks].particles, tables[truth].particles, radius / size, class_ or ()
    )
    made = provenance("evaluation detect", [picks, truth], {"radius": radius})
    write_json(output, found | {"radius": radius, "voxel_size": size, "provenance": made})
    for name, row in (found["classes"] or {"places": found["places"]}).items():
        figures = name, row["precision"], row["recall"], row["f1"]
        log.info("%s: precision %.3f, recall %.3f, F1 %.3f", *figures)
    return Record()


@command(app, "choose")
def choose(
    output: Output,
    generated: MeasureFile = None,
    fitted: MeasureFile = None,
    source: Annotated[
        str, typer.Option(help="auto, or the set to export.", metavar="auto|generated|fitted")
    ] = "auto",
) -> None:
    """Choose, without labels, the set to export: generated volumes or fitted simulation: JSON.

    Keys: exported (generated or fitted), requested, reason, compared. The generated set is
    exported if all four conditions hold: (1) its KID or c2st_auc is significantly lower (95 %);
    (2) neither is significantly higher; (3) sd_ratio is 0.8 to 1.25; (4) its pose
    recovery is at least 95 % of the fitted simulation's, and of a simulation's at equal
    signal-to-noise ratio. Otherwise the fitted simulation is exported.
    Measure both against the same real picks, of a split that was not used in any training,
    with features that were trained without labels.
    """
    if source not in selection.SOURCES:
        raise UserError(f"--source: got '{source}', wanted {', '.join(selection.SOURCES)}")
    if generated is None and fitted is not None:
        raise UserError("--fitted requires --generated")
    paths = [path for path in (generated, fitted) if path is not None]
    contents = [read_json(path) for path in paths]
    found = [selection.parse_metrics(c, p) for c, p in zip(contents, paths, strict=True)]
    selection.check_same_features(contents, paths)
    first, second = found if len(found) == 2 else (None, None)
    choice = selection.choose(first, second, source)
    content = vars(choice) | {
        "compared": selection.as_table(first, second) if first and second else {},
        "provenance": provenance("evaluation choose", paths, {"source": source}),
    }
    write_json(output, content)
    log.info("%s: %s", output, choice.reason)


@command(app, "compare")
def compare(
    output: Output,
    config: Annotated[Path, typer.Option(help="YAML file, see above.")],
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Compare methods by the accuracy of classifiers trained on their sets: a folder.

    Writes comparison.json and comparison.csv. Finished trainings are kept in runs.json, so
    an interrupted run resumes. Accuracies, over the same seeds for each method, have 95 %
    intervals over seeds and test crops: gan_train (trained on the set, tested on real crops),
    gan_test (trained on real crops, tested on the set), mixed (trained with `few_shot` real
    crops per class added), and the difference from a baseline method and from the upper bound,
    which is trained on real crops. Keys of the file: `real_train`, `real_test`, `methods`
    (name: set); also `baseline`, `template_matching`, `seeds`, `few_shot`, `curve`,
    `background`, `mask_diameter`, `leave_one_out`, `network`, `epochs`. Paths are relative to
    the file's folder.
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.evaluation.classifiers.train_classifier import TrainingOptions
    from cryoetgan.evaluation.comparison.comparison_config import read_config
    from cryoetgan.evaluation.comparison.table import csv_rows
    from cryoetgan.evaluation.comparison.trials import run_comparison

    options = TrainingOptions(device=choose_device(device), seed=seed)
    plan = read_config(config)
    table = run_comparison(plan, config.parent, output, options)
    _write_csv(output / "comparison.csv", csv_rows(table))
    made = provenance("evaluation compare", [config], plan.model_dump(), seed)
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
    preset: Annotated[str, typer.Option(help="Preset to change, or a YAML file.")] = "paper",
    snapshot_every: Annotated[
        int | None, typer.Option(help="Epochs between snapshots.", min=1)
    ] = None,
) -> None:
    """Write the preset of one ablation (YAML), for `translation train --preset`.

    input_noise_0, input_noise_0.2, input_noise_0.5 (the paper's table 3), wasserstein_spectral,
    spectral, wasserstein (table 4), dropout_off, bottleneck_noise_off.
    """
    import yaml

    from cryoetgan.evaluation.ablations import ABLATIONS, ablate_preset

    settings = ablate_preset(ablation, preset, snapshot_every)
    write_text(output, yaml.safe_dump(settings.plain(), sort_keys=False))
    log.info("%s: %s with %s", output, preset, ABLATIONS[ablation].settings)


@command(app, "ablations")
def ablations(
    folder: Annotated[
        Path, typer.Argument(help="Holds ABLATION/SEED/{measure,gan_test,gan_train}.json.")
    ],
    output: Output,
) -> None:
    """Tabulate ablations over seeds beside the paper's tables 3 and 4: CSV, and JSON beside it.

    Columns: means, 95 % intervals over seeds, and the fraction of collapsed generators. The
    paper's numbers are not comparable: they were measured on other data.
    """
    from cryoetgan.evaluation.ablations import ABLATIONS, tabulate

    found: dict[str, list[dict[str, Any]]] = {}
    inputs = []
    for measured in sorted(check_exists(folder, "folder of ablations").glob("*/*/measure.json")):
        name = measured.parent.parent.name
        files = {key: measured.with_name(f"{key}.json") for key in ("measure", "gan_test")}
        if (gan_train := measured.with_name("gan_train.json")).exists():
            files["gan_train"] = gan_train
        if name in ABLATIONS:
            found.setdefault(name, []).append({k: read_json(file) for k, file in files.items()})
            inputs += list(files.values())
    if not found:
        raise UserError(
            f"{folder}: holds no ABLATION/SEED/measure.json with ABLATION of {', '.join(ABLATIONS)}"
        )
    rows = tabulate(found)
    _write_csv(output, rows)
    made = provenance("evaluation ablations", inputs)
    write_json(output.with_suffix(".json"), {"rows": rows, "provenance": made})
    log.info("%s: %d ablations", output, len(rows))


@command(app, "epochs")
def epochs(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="checkpoint.pt of `translation train`, with its snapshots beside it."),
    ],
    output: Output,
    densities: Annotated[Path, typer.Option(help="Volume set to translate (STAR).")],
    real: RealSet,
    features: Annotated[Path, FEATURES],
    real_split: Split = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> Record:
    """Tabulate the scores of a generator during training: CSV, a row per snapshot.

    Columns: noise (input noise of the training), step (0: untrained), is, fid, kid of the
    translated densities against the real set, and their 95 % intervals. Key snapshot_every of
    the preset sets how often a generator is kept.
    """
    from cryoetgan.devices import choose_device
    from cryoetgan.evaluation.classifiers.classifier import load_classifier
    from cryoetgan.evaluation.snapshots import measure_generators

    on = choose_device(device)
    source, crops = open_sets(densities, real)
    classifier, _ = load_classifier(features, on, crops.box)
    crops_of_split = load_labelled(crops, real_split)
    rows = list(measure_generators(crops_of_split, source, checkpoints, classifier, on, seed))
    _write_csv(output, rows)
    log.info("%s: %d generators", output, len(rows))
    return Record()


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV with six digits; a column for every key that occurs."""
    import pandas as pd

    write_text(
        path, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    )

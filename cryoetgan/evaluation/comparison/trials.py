"""Run a comparison: its trials, each a classifier with its training set and test sets."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.evaluation import labelled_sets
from cryoetgan.evaluation.classifiers import train_classifier as training
from cryoetgan.evaluation.comparison.comparison_config import (
    REAL,
    ComparisonConfig,
    Method,
    VolumeRows,
)
from cryoetgan.evaluation.comparison.table import tabulate
from cryoetgan.evaluation.labelled_sets import LabelledSet
from cryoetgan.evaluation.metrics.precision_recall import f1_contributions
from cryoetgan.io.files import read_record, sha256, write_json
from cryoetgan.io.star import COORDINATES, OTHER, read_star
from cryoetgan.io.volume_set import stack_path
from cryoetgan.progress import track
from cryoetgan.seeds import rng

log = logging.getLogger("cryoetgan")


@dataclass(frozen=True)
class Part:
    """Rows of a volume set, as part of a training set or as a test set."""

    rows: VolumeRows
    only: str | None = None  # the one class that is taken
    without: str | None = None  # the left-out class
    per_class: int | None = None  # at most this number of random volumes per class
    draw: tuple[Any, ...] = ()  # seed and names of the random numbers
    mask_diameter: float | None = None  # of a ball that hides the particle, fraction of the box
    repeat: bool = False  # the volumes are repeated, to a third of the first part


@dataclass(frozen=True)
class Trial:
    """One classifier to train, and its test sets by name.

    `name` holds the kind of the trial, and the method and the class left out, if any.
    """

    name: tuple[str, ...]
    seed: int
    train: tuple[Part, ...]
    tests: Mapping[str, Part]


class ComparisonData:
    """The volume sets of a comparison in a folder, read when needed; the headers at once."""

    def __init__(self, config: ComparisonConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.hashes: dict[str, str] = {}
        stars = [config.real_train.star]
        for method in config.methods.values():
            stars += [*method.stars, *method.without.values(), *method.other]
        stars += [*config.real_train.other, *config.real_test.other]
        opened = labelled_sets.open_sets(
            folder / config.real_test.star, *(folder / star for star in stars)
        )
        self.sets = dict(zip((config.real_test.star, *stars), opened, strict=True))
        self.real = {rows: self._load(rows) for rows in (config.real_train, config.real_test)}
        self.real_train, self.real_test = self.real[config.real_train], self.real[config.real_test]
        training.check_train_and_test(self.real_train, self.real_test)

    def _load(self, rows: VolumeRows) -> LabelledSet:
        first, *others = (self.sets[star] for star in (rows.star, *rows.other))
        # a test set holds every pick, a training set as many without a particle as of a class
        drawn = None if rows == self.config.real_test else rng(0, "comparison", "other")
        return labelled_sets.add_other(
            labelled_sets.load_labelled(first, rows.split),
            labelled_sets.load_others(others, rows.split),
            drawn,
        )

    def read(self, part: Part) -> LabelledSet:
        """Return the volumes of one part."""
        volumes = self.real[part.rows] if part.rows in self.real else self._load(part.rows)
        if part.only is not None:
            volumes = volumes.subset(np.flatnonzero(volumes.names == part.only))
        if part.without is not None:
            volumes = volumes.subset(np.flatnonzero(volumes.names != part.without))
        if part.per_class is not None and len(volumes):
            volumes = labelled_sets.draw_per_class(volumes, part.per_class, rng(*part.draw))
        if part.mask_diameter is not None:
            volumes = labelled_sets.mask_centre(volumes, part.mask_diameter)
        return volumes

    def read_training_set(self, parts: tuple[Part, ...]) -> LabelledSet:
        """Return the volumes of all parts as one set."""
        first, *others = map(self.read, parts)
        sets = [first]
        for part, volumes in zip(parts[1:], others, strict=True):
            # repeats share coordinates or pose: they stay on one side of the validation split
            third = max(1, len(first) // (3 * max(len(volumes), 1)))
            sets += [volumes] * (third if part.repeat else 1)
        return labelled_sets.concatenate(*sets) if others else first

    def key(self, trial: Trial, options: training.TrainingOptions) -> str:
        """Return a key of a trial that changes with its sets and options."""
        parts = (*trial.train, *trial.tests.values())
        stars = sorted({star for part in parts for star in (part.rows.star, *part.rows.other)})
        for star in set(stars) - set(self.hashes):
            path = self.folder / star
            self.hashes[star] = sha256(path)[:16] + sha256(stack_path(path))[:16]
        hashes = [self.hashes[star] for star in stars]
        content = (trial, hashes, options.network, options.epochs, options.seed)
        digest = hashlib.sha256(repr(content).encode()).hexdigest()[:12]
        return f"{'/'.join(trial.name)} {trial.seed} {digest}"

    def classify_by_templates(self) -> NDArray[np.str_] | None:
        """Return the class `(N,)` of each real test crop by template matching."""
        if (matching := self.config.template_matching) is None:
            return None
        path = self.folder / matching.star
        picks = read_star(path, ["rlnTomoName", *COORDINATES, "cryoetganClass"]).particles
        if not {"rlnTomoName", *COORDINATES} <= set(self.real_test.table):
            raise UserError(
                f"{self.config.real_test.star}: lacks tomograms and coordinates to match the picks "
                f"of {path}; leave `template_matching` out"
            )
        classes = labelled_sets.classes_of_picks(self.real_test, picks, matching.radius)
        return np.where(classes == "", OTHER, classes)


def run_comparison(
    config: ComparisonConfig, folder: Path, output: Path, options: training.TrainingOptions
) -> dict[str, Any]:
    """Train and test all classifiers; return the table.

    Finished trials are kept in `runs.json` in the output folder, so an interrupted comparison
    resumes. Paths of `config` are relative to `folder`. `options` gives the device, and a seed
    that is added to the number of each trial.
    """
    data = ComparisonData(config, folder)
    unknown = [name for name, m in config.methods.items() if m.uses_picks and not m.without]
    if config.leave_one_out and unknown:
        log.warning(
            "no class is left out for %s, because their picks may contain it; give sets made "
            "`without` it, or `uses_picks: false`",
            ", ".join(unknown),
        )
    path = output / "runs.json"
    known: dict[str, Any] = read_record(path) if path.exists() else {}
    results: dict[tuple[str, ...], list[Any]] = {}
    for trial in track(list(_plan_trials(data)), "comparison"):
        own = replace(
            options,
            network=config.network,
            epochs=config.epochs,
            seed=options.seed + trial.seed,
            title=f"{'/'.join(trial.name)}, seed {trial.seed}",
        )
        key = data.key(trial, own)
        if key not in known:
            known[key] = _run_trial(trial, data, own)
            write_json(path, known)
        results.setdefault(trial.name, []).append(known[key])
    return tabulate(config, results, data.real_test, data.classify_by_templates())


def _run_trial(
    trial: Trial, data: ComparisonData, options: training.TrainingOptions
) -> dict[str, Any]:
    """Return `n_train`, and by test set one number a volume.

    `correct` is a string of 1 (correct) and 0; `values` are contributions to the mean F1 if the
    test set holds `other`, and else the same as `correct`.
    """
    train = data.read_training_set(trial.train)
    labelled_sets.check_classes(train.names, data.real_test.names)
    classifier = training.train_on_set(train, options)
    correct: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, part in trial.tests.items():
        test = data.read(part)
        predicted = classifier.predict(test.volumes)
        correct[name] = "".join("1" if hit else "0" for hit in predicted == test.names)
        values[name] = correct[name]
        if OTHER in test.names:
            classes = np.unique(test.names).tolist()
            contributions = f1_contributions(test.names, predicted, classes)
            values[name] = contributions.round(6).tolist()
    return {"n_train": len(train), "correct": correct, "values": values}


def _plan_trials(data: ComparisonData) -> Iterator[Trial]:
    config = data.config
    test = {REAL: Part(config.real_test)}
    for seed in range(config.seeds):
        methods = {name: Part(method.rows(seed)) for name, method in config.methods.items()}
        yield Trial((REAL,), seed, (Part(config.real_train),), test | methods)
        for count in config.curve:
            few = Part(config.real_train, per_class=count, draw=(seed, "curve", count))
            yield Trial(("curve", str(count)), seed, (few,), test)
        if config.background:
            train, masked_test = (
                Part(rows, mask_diameter=config.mask_diameter)
                for rows in (config.real_train, config.real_test)
            )
            yield Trial(("background",), seed, (train,), {REAL: masked_test})
        # the same real crops for every method
        few = Part(config.real_train, per_class=config.few_shot, draw=(seed, "few"), repeat=True)
        for name, method in config.methods.items():
            yield Trial(("gan_train", name), seed, (methods[name],), test)
            if config.few_shot and method.mix:
                yield Trial(("mixed", name), seed, (methods[name], few), test)
            if config.leave_one_out:
                yield from _left_out_trials(data, seed, name, method)


def _left_out_trials(data: ComparisonData, seed: int, name: str, method: Method) -> Iterator[Trial]:
    test = {REAL: Part(data.config.real_test)}
    for new in sorted(set(map(str, data.real_test.names)) - {OTHER}):
        rows = method.rows(seed)
        if new in method.without:
            rows = VolumeRows(star=method.without[new])
            yield Trial(("left_out_synthetic", name, new), seed, (Part(rows),), test)
        elif method.uses_picks:
            continue  # its picks contain the class
        others = data.real_train.names[data.real_train.names != new]
        count = max(1, len(others) // max(len(np.unique(others)), 1))
        synthetic = Part(rows, only=new, per_class=count, draw=(seed, "new", new))
        real = Part(data.config.real_train, without=new)
        yield Trial(("left_out", name, new), seed, (real, synthetic), test)

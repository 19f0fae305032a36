"""Trials of a comparison: a classifier, its training set and its test sets."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.evaluation.classifiers.train import TrainingOptions
from cryoetgan.evaluation.classifiers.train_test import check_train_and_test, train_on_set
from cryoetgan.evaluation.comparison import subsets
from cryoetgan.evaluation.comparison.config import ComparisonConfig, Method, VolumeRows
from cryoetgan.evaluation.labelled_sets import (
    LabelledSet,
    check_classes,
    check_same_boxes,
    load_labelled,
)
from cryoetgan.io.files import sha256
from cryoetgan.io.star import COORDINATES, read_star
from cryoetgan.io.volume_set import VolumeSet, read_volume_set, stack_path
from cryoetgan.seeds import rng

REAL = "real"
"""Name of the test set of real crops."""


@dataclass(frozen=True)
class Part:
    """Rows of a volume set, as part of a training set or as a test set.

    Attributes
    ----------
    rows : VolumeRows
        Volume set and split.
    only, without : str, optional
        The one class that is taken, or that is left out.
    per_class : int, optional
        At most this number of random volumes per class.
    draw : tuple
        Names of the random numbers, seed first.
    mask_diameter : float, optional
        Diameter of the ball that hides the particle, fraction of the box.
    repeat : bool
        True to repeat the volumes, to a third of the first part of the training set.
    """

    rows: VolumeRows
    only: str | None = None
    without: str | None = None
    per_class: int | None = None
    draw: tuple[Any, ...] = ()
    mask_diameter: float | None = None
    repeat: bool = False


@dataclass(frozen=True)
class Trial:
    """One classifier to train, and its test sets.

    Attributes
    ----------
    name : tuple of str
        Kind of the trial, name of the method, class that is left out, as far as they apply.
    seed : int
        Number of the trial among the trials of equal name.
    train : tuple of Part
        Training set.
    tests : mapping
        Name to test set.
    """

    name: tuple[str, ...]
    seed: int
    train: tuple[Part, ...]
    tests: Mapping[str, Part]


@dataclass(frozen=True)
class TrialResult:
    """Size of the training set, and which test volumes were classified correctly."""

    n_train: int
    correct: Mapping[str, NDArray[np.bool_]]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "TrialResult":
        """Return a result from the output of `to_json`."""
        found = {k: np.array(list(text)) == "1" for k, text in content["correct"].items()}
        return cls(content["n_train"], found)

    def to_json(self) -> dict[str, Any]:
        """Return the result for JSON: a string of 0 and 1 for each test set."""
        found = {
            k: "".join("1" if hit else "0" for hit in hits) for k, hits in self.correct.items()
        }
        return {"n_train": self.n_train, "correct": found}


@dataclass
class ComparisonData:
    """The volume sets of a comparison, read when they are needed.

    Parameters
    ----------
    config : ComparisonConfig
        The comparison.
    folder : Path
        Folder that its paths are relative to.

    Raises
    ------
    UserError
        If a set is missing or does not fit the others; before any training.
    """

    config: ComparisonConfig
    folder: Path
    _hashes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = self.config
        methods = [file for method in config.methods.values() for file in method.files()]
        for star in (config.real_train.star, *methods):
            check_same_boxes(self.open(star), self.open(config.real_test.star))
        self.real_train, self.real_test = map(self._load, (config.real_train, config.real_test))
        check_train_and_test(self.real_train, self.real_test)

    def open(self, star: str) -> VolumeSet:
        """Open a volume set."""
        return read_volume_set(self.folder / star, ["cryoetganClass"])

    def _load(self, rows: VolumeRows) -> LabelledSet:
        return load_labelled(self.open(rows.star), rows.split)

    def read(self, part: Part) -> LabelledSet:
        """Return the volumes of one part."""
        known = {self.config.real_train: self.real_train, self.config.real_test: self.real_test}
        volumes = known[part.rows] if part.rows in known else self._load(part.rows)
        if part.only is not None:
            volumes = volumes.subset(np.flatnonzero(volumes.names == part.only))
        if part.without is not None:
            volumes = volumes.subset(np.flatnonzero(volumes.names != part.without))
        if part.per_class is not None and len(volumes):
            volumes = subsets.draw_per_class(volumes, part.per_class, rng(*part.draw))
        if part.mask_diameter is not None:
            volumes = subsets.mask_centre(volumes, part.mask_diameter)
        return volumes

    def read_training_set(self, parts: tuple[Part, ...]) -> LabelledSet:
        """Return the volumes of all parts as one set."""
        first, *others = map(self.read, parts)
        sets = [first]
        for part, volumes in zip(parts[1:], others, strict=True):
            sets += [volumes] * (subsets.count_repeats(volumes, first) if part.repeat else 1)
        return subsets.concatenate(*sets) if others else first

    def hash(self, star: str) -> str:
        """Return a hash of the content of a volume set."""
        if star not in self._hashes:
            path = self.folder / star
            self._hashes[star] = sha256(path)[:16] + sha256(stack_path(path))[:16]
        return self._hashes[star]

    def key(self, trial: Trial, options: TrainingOptions) -> str:
        """Return a key of a trial that depends on all that its result depends on."""

        def describe(part: Part) -> dict[str, Any]:
            values = asdict(part) | {"rows": [self.hash(part.rows.star), part.rows.split]}
            return {name: value for name, value in values.items() if value}

        content = [
            [describe(part) for part in trial.train],
            {name: describe(part) for name, part in trial.tests.items()},
            [options.network, options.epochs, options.seed],
        ]
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
        return f"{'/'.join(trial.name)} {trial.seed} {digest}"

    def classify_by_templates(self) -> NDArray[np.bool_] | None:
        """Return which real test crops template matching classifies correctly."""
        matching = self.config.template_matching
        if matching is None:
            return None
        path = self.folder / matching.star
        picks = read_star(path, ["rlnTomoName", *COORDINATES, "cryoetganClass"]).particles
        if not {"rlnTomoName", *COORDINATES} <= set(self.real_test.table):
            raise UserError(
                f"{self.config.real_test.star}: lacks tomograms and coordinates to match the picks "
                f"of {path}; leave `template_matching` out"
            )
        return subsets.classes_of_picks(self.real_test, picks, matching.radius) == (
            self.real_test.names
        )


def run_trial(trial: Trial, data: ComparisonData, options: TrainingOptions) -> TrialResult:
    """Train a classifier and test it."""
    train = data.read_training_set(trial.train)
    check_classes(train.names, data.real_test.names)
    classifier = train_on_set(train, options)
    correct = {}
    for name, part in trial.tests.items():
        test = data.read(part)
        correct[name] = classifier.predict(test.volumes) == test.names
    return TrialResult(len(train), correct)


def plan_trials(data: ComparisonData) -> Iterator[Trial]:
    """Yield every trial of a comparison."""
    config = data.config
    for seed in range(config.seeds):
        yield from _real_trials(config, seed)
        for name, method in config.methods.items():
            yield from _method_trials(config, seed, name, method)
            if config.leave_one_out:
                yield from _left_out_trials(data, seed, name, method)


def _real_trials(config: ComparisonConfig, seed: int) -> Iterator[Trial]:
    test = {REAL: Part(config.real_test)}
    methods = {name: Part(method.rows(seed)) for name, method in config.methods.items()}
    yield Trial(("real",), seed, (Part(config.real_train),), test | methods)
    for count in config.curve:
        few = Part(config.real_train, per_class=count, draw=(seed, "curve", count))
        yield Trial(("curve", str(count)), seed, (few,), test)
    if config.background:
        train, test_rows = (
            Part(rows, mask_diameter=config.mask_diameter)
            for rows in (config.real_train, config.real_test)
        )
        yield Trial(("background",), seed, (train,), {REAL: test_rows})


def _method_trials(
    config: ComparisonConfig, seed: int, name: str, method: Method
) -> Iterator[Trial]:
    test, synthetic = {REAL: Part(config.real_test)}, Part(method.rows(seed))
    yield Trial(("gan_train", name), seed, (synthetic,), test)
    if config.few_shot and method.mix:
        # the same real crops for every method
        real = Part(config.real_train, per_class=config.few_shot, draw=(seed, "few"), repeat=True)
        yield Trial(("mixed", name), seed, (synthetic, real), test)


def _left_out_trials(data: ComparisonData, seed: int, name: str, method: Method) -> Iterator[Trial]:
    config, names = data.config, data.real_train.names
    test = {REAL: Part(config.real_test)}
    for new in map(str, np.unique(data.real_test.names)):
        rows = method.rows(seed)
        if new in method.without:
            rows = VolumeRows(star=method.without[new])
            yield Trial(("left_out_synthetic", name, new), seed, (Part(rows),), test)
        elif method.uses_picks:
            continue  # its picks contain the class
        others = names[names != new]
        count = max(1, len(others) // max(len(np.unique(others)), 1))
        synthetic = Part(rows, only=new, per_class=count, draw=(seed, "new", new))
        real = Part(config.real_train, without=new)
        yield Trial(("left_out", name, new), seed, (real, synthetic), test)

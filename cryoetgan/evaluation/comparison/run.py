"""Run a competition: every competitor over the same seeds, with controls and paired intervals."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoetgan.errors import UserError
from cryoetgan.evaluation.classifiers.classifier import FORMAT
from cryoetgan.evaluation.classifiers.train_test import check, train
from cryoetgan.evaluation.comparison import subsets
from cryoetgan.evaluation.comparison.config import ComparisonConfig, Method
from cryoetgan.evaluation.comparison.table import standings
from cryoetgan.evaluation.labelled_sets import Labelled, common_classes, load
from cryoetgan.evaluation.statistics.intervals import clusters
from cryoetgan.io.files import read_json, sha256, write_json
from cryoetgan.io.mrc import check_same_voxel_size
from cryoetgan.io.star import COORDINATES, read_star
from cryoetgan.io.volume_set import VolumeSet, read_volume_set, stack_path
from cryoetgan.progress import track
from cryoetgan.seeds import rng

log = logging.getLogger("cryoetgan")
UNNAMED = 3
"""The classifiers' format that keys of `runs.json` do not name, since those of it did not."""
PARTED = "each row parted by what it is, a few crops all learnt from"
"""In the keys of joined sets, of which runs of before were split otherwise for validation."""


@dataclass(frozen=True)
class Job:
    """One classifier to train, and what it is tested on.

    Attributes
    ----------
    name : str
        What it is, as `gan_train/NAME`.
    seed : int
        Its own.
    build : callable
        Returns the training set.
    tests : mapping
        Name to a function that returns the test set.
    sources : tuple of str
        What it depends on: names of volume sets, and settings.
    """

    name: str
    seed: int
    build: Callable[[], Labelled]
    tests: Mapping[str, Callable[[], Labelled]]
    sources: tuple[str, ...]


@dataclass
class Runs:
    """What is already known, kept in a file: a killed competition goes on where it was."""

    path: Path
    known: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> "Runs":
        """Read what an earlier run left."""
        return cls(path, dict(read_json(path)) if path.exists() else {})

    def add(self, key: str, found: dict[str, Any]) -> None:
        """Keep a result at once."""
        self.known[key] = found
        write_json(self.path, self.known)


class Arena:
    """The sets of a competition, read when they are needed."""

    def __init__(self, plan: ComparisonConfig, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.hashes: dict[Path, str] = {}
        self.first = read_volume_set(self.path(plan.real_test.star), ["cryoetganClass"])
        for name in _sets(plan):  # what is wrong is said before anything is trained
            self.open(name)
        self.real_train = self.read(plan.real_train.star, plan.real_train.split)
        self.real_test = self.read(plan.real_test.star, plan.real_test.split)
        check(self.real_train, self.real_test)
        self.groups = clusters(self.real_test.table)

    def path(self, name: str) -> Path:
        """Return a path of the file, counted from its folder."""
        return self.folder / name

    def open(self, name: str) -> VolumeSet:
        """Open a set; its box and voxel size must be those of the real test crops."""
        volumes = read_volume_set(self.path(name), ["cryoetganClass"])
        check_same_voxel_size(
            volumes.voxel_size, self.first.voxel_size, volumes.path, self.first.path
        )
        if volumes.box != self.first.box:
            raise UserError(
                f"{volumes.path} has boxes of {volumes.box} voxels, {self.first.path} of "
                f"{self.first.box}; make both with one densities.box"
            )
        return volumes

    def read(self, name: str, split: str | None) -> Labelled:
        """Return the rows of a set, or of one split of it."""
        return load(self.open(name), split)

    def star(self, competitor: Method, seed: int) -> str:
        """Return the set of one seed."""
        given = competitor.star
        return given if isinstance(given, str) else given[seed % len(given)]

    def hash(self, name: str) -> str:
        """Return what changes with a set's content."""
        path = self.path(name)
        if path not in self.hashes:
            self.hashes[path] = sha256(path)[:16] + sha256(stack_path(path))[:16]
        return self.hashes[path]


def jobs(arena: Arena) -> Iterator[Job]:
    """Yield every classifier that the competition trains."""
    plan = arena.plan
    for seed in range(plan.seeds):
        yield from _real(arena, seed)
        for name, competitor in plan.methods.items():
            yield from _synthetic(arena, seed, name, competitor)
        if plan.leave_one_out:
            yield from _left_out(arena, seed)


def _real(arena: Arena, seed: int) -> Iterator[Job]:
    plan, real = arena.plan, plan_rows(arena.plan)
    tests: dict[str, Callable[[], Labelled]] = {"real": lambda: arena.real_test}
    stars = []
    for name, competitor in plan.methods.items():
        star, split = arena.star(competitor, seed), competitor.split
        tests[name] = lambda star=star, split=split: arena.read(star, split)  # type: ignore[misc]
        stars += [star, str(split)]
    yield Job("real", seed, lambda: arena.real_train, tests, (*real, *stars))
    test = {"real": lambda: arena.real_test}
    for count in plan.curve:
        numbers = rng(seed, "curve", count)
        yield Job(
            f"curve/{count}",
            seed,
            lambda count=count, numbers=numbers: subsets.few(arena.real_train, count, numbers),  # type: ignore[misc]
            test,
            (*real, str(count)),
        )
    if plan.background:
        yield Job(
            "background",
            seed,
            lambda: subsets.hidden(arena.real_train, plan.mask_diameter),
            {"real": lambda: subsets.hidden(arena.real_test, plan.mask_diameter)},
            (*real, str(plan.mask_diameter)),
        )


def _synthetic(arena: Arena, seed: int, name: str, competitor: Method) -> Iterator[Job]:
    plan, real = arena.plan, plan_rows(arena.plan)
    star, split = arena.star(competitor, seed), competitor.split
    test = {"real": lambda: arena.real_test}
    sources = (*real, star, str(split))
    yield Job(f"gan_train/{name}", seed, lambda: arena.read(star, split), test, sources)
    if plan.few_shot and competitor.mix:
        numbers = rng(seed, "few")  # the same real crops for every competitor
        yield Job(
            f"mixed/{name}",
            seed,
            lambda: subsets.joined(
                arena.read(star, split), subsets.few(arena.real_train, plan.few_shot, numbers)
            ),
            test,
            (*sources, str(plan.few_shot), PARTED),
        )


def _left_out(arena: Arena, seed: int) -> Iterator[Job]:
    plan, real = arena.plan, plan_rows(arena.plan)
    test = {"real": lambda: arena.real_test}
    for name, competitor in plan.methods.items():
        for new in np.unique(arena.real_test.names):
            star = competitor.without.get(str(new), arena.star(competitor, seed))
            if competitor.uses_picks and str(new) not in competitor.without:
                continue  # it has learnt from picks of that class: that would tell nothing
            own = str(new) in competitor.without
            split = None if own else competitor.split

            def mixed(star: str = star, new: str = str(new), split: Any = split) -> Labelled:
                others = subsets.without(arena.real_train, new)
                count = max(1, len(others.names) // max(len(np.unique(others.names)), 1))
                numbers = rng(seed, "new", new)
                return subsets.stacked(
                    others, subsets.only(arena.read(star, split), new, count, numbers)
                )

            def alone(star: str = star, split: Any = split) -> Labelled:
                return arena.read(star, split)

            sources = (*real, star, str(split))
            yield Job(f"new/{name}/{new}", seed, mixed, test, (*sources, PARTED))
            if own:  # else it is what `gan_train` has trained already
                yield Job(f"new_synthetic/{name}/{new}", seed, alone, test, sources)


def _sets(plan: ComparisonConfig) -> Iterator[str]:
    yield plan.real_train.star
    for competitor in plan.methods.values():
        yield from [competitor.star] if isinstance(competitor.star, str) else competitor.star
        yield from competitor.without.values()


def plan_rows(plan: ComparisonConfig) -> tuple[str, ...]:
    """Return what every job depends on: the real sets and their splits."""
    return (
        plan.real_train.star,
        str(plan.real_train.split),
        plan.real_test.star,
        str(plan.real_test.split),
    )


def run(
    plan: ComparisonConfig, folder: Path, output: Path, device: torch.device, seed: int
) -> dict[str, Any]:
    """Train and test everything; return the table.

    Parameters
    ----------
    plan : ComparisonConfig
        Who and how.
    folder : Path
        Where the plan's paths count from.
    output : Path
        Folder in which `runs.json` keeps what is done.
    device : torch.device
        Where classifiers are trained.
    seed : int
        Added to each classifier's own.
    """
    arena = Arena(plan, folder)
    unseen = [name for name, c in plan.methods.items() if c.uses_picks and not c.without]
    if plan.leave_one_out and unseen:
        log.warning(
            "no class is left out for %s: they may have learnt from its picks; give sets made "
            "`without` it, or `uses_picks: false`",
            ", ".join(unseen),
        )
    runs = Runs.open(output / "runs.json")
    todo = list(jobs(arena))
    found: dict[str, list[dict[str, Any]]] = {}
    for job in track(todo, "comparison", len(todo)):
        key = _key(job, arena, seed)
        if key not in runs.known:
            runs.add(key, _run(job, arena, device, seed))
        found.setdefault(job.name, []).append(runs.known[key])
    template = _template(arena) if plan.template_matching else None
    return standings(plan, found, arena.real_test.names, arena.groups, template)


def _run(job: Job, arena: Arena, device: torch.device, seed: int) -> dict[str, Any]:
    learnt = job.build()
    common_classes(learnt.names, arena.real_test.names)
    trained = train(
        learnt,
        arena.plan.network,
        arena.plan.epochs,
        device,
        seed + job.seed,
        f"{job.name}, seed {job.seed}",
    )
    right = {}
    for name, test in job.tests.items():
        tested = test()
        guess = np.array(trained.classes)[trained.scores(tested.volumes).argmax(axis=1)]
        right[name] = "".join("1" if hit else "0" for hit in guess == tested.names)
    return {"n_train": len(learnt.names), "right": right}


def _key(job: Job, arena: Arena, seed: int) -> str:
    content = [
        arena.hash(source) if arena.path(source).suffix == ".star" else source
        for source in job.sources
    ]
    about = [job.name, job.seed + seed, content, arena.plan.network, arena.plan.epochs]
    about += [FORMAT] if FORMAT != UNNAMED else []
    return f"{job.name} {job.seed} {hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]}"


def _template(arena: Arena) -> NDArray[np.bool_]:
    assert arena.plan.template_matching is not None
    path = arena.path(arena.plan.template_matching.star)
    picks = read_star(path, ["rlnTomoName", *COORDINATES, "cryoetganClass"]).particles
    if not {"rlnTomoName", *COORDINATES} <= set(arena.real_test.table):
        raise UserError(
            f"{arena.plan.real_test.star}: lacks tomograms and coordinates, by which the picks of "
            f"{path} are found again; leave `template_matching` out"
        )
    classes = subsets.matched_classes(arena.real_test, picks, arena.plan.template_matching.radius)
    return classes == arena.real_test.names

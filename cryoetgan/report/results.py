"""Reader of a results folder; it records the files that are missing or invalid."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cryoetgan.errors import UserError
from cryoetgan.evaluation.selection import Choice, read_choice
from cryoetgan.io.files import COMPANIONS, check_exists, read_json, sidecar
from cryoetgan.io.mrc import Volume, read_volume
from cryoetgan.io.star import read_star
from cryoetgan.io.volume_set import VolumeSet, read_volume_set
from cryoetgan.report.evaluation_json import (
    INVALID,
    Accuracy,
    HalfTest,
    HandTest,
    Metric,
    parse_accuracy,
    parse_halves,
    parse_hands,
    parse_metrics,
    to_float,
)

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
Parser = Callable[[dict[str, Any]], tuple[dict[str, T], list[str]]]


@dataclass
class Results:
    """The results of a run: its folder, a line for each missing or invalid file, files in use.

    Methods that return None, or nothing, have found no valid file.
    """

    folder: Path
    gaps: list[str] = field(default_factory=list)
    used: set[Path] = field(default_factory=set)

    def has(self, name: str) -> bool:
        """Return whether a file exists."""
        return (self.folder / name).exists()

    def _read(self, name: str, read: Callable[[Path], T], optional: bool) -> T | None:
        """Return the content of a file and note its use, or add a gap."""
        path = self.folder / name
        if not path.exists():
            if not optional:
                self.gaps.append(f"{name}: missing")
            return None
        try:
            found = read(path)
        except UserError as error:
            self.gaps.append(str(error).replace(f"{self.folder}/", ""))
            return None
        # a side-car is not used itself: its result is; tomograms are too large to be hashed
        is_sidecar = path.suffix == ".json" and path.with_suffix("").exists()
        if not is_sidecar and path.suffix != ".mrc":
            self.used.add(path)
        return found

    def volume_set(self, name: str, optional: bool = False) -> VolumeSet | None:
        """Return a volume set."""
        return self._read(name, lambda path: read_volume_set(path, ["cryoetganClass"]), optional)

    def opened_set(self, name: str) -> VolumeSet | None:
        """Return a volume set whose volumes may have no class."""
        return self._read(name, read_volume_set, optional=True)

    def table(self, name: str, columns: Sequence[str]) -> "pd.DataFrame | None":
        """Return the particles of a STAR file."""
        return self._read(name, lambda path: read_star(path, columns).particles, optional=True)

    def tomogram(self, path: Path) -> Volume | None:
        """Return a tomogram."""
        return self._read(path.relative_to(self.folder).as_posix(), read_volume, optional=False)

    def choice(self) -> Choice | None:
        """Return the choice of the exported set."""
        return self._read("evaluation/choice.json", read_choice, optional=True)

    def json(self, name: str, optional: bool = False) -> dict[str, Any]:
        """Return the content of a JSON file."""
        content = self._read(name, read_json, optional)
        if content is not None and not isinstance(content, dict):
            self.gaps.append(f"{name}: is not a JSON object")
        return content if isinstance(content, dict) else {}

    def accuracies(self, expected: Sequence[str]) -> dict[str, Accuracy]:
        """Return the results of all classifiers: the expected ones first, then the others."""
        others = [path.stem for path in sorted(self.folder.glob("evaluation/*.json"))]
        found = {}
        for name in dict.fromkeys([*expected, *others]):
            content = self.json(f"evaluation/{name}.json")
            if name not in expected and "accuracy" not in content:
                continue  # metrics or a side-car
            if content:
                try:
                    found[name] = parse_accuracy(content)
                except INVALID as error:
                    self.add_invalid(f"evaluation/{name}.json", error)
        return found

    def metrics(self, name: str, optional: bool = False) -> dict[str, Metric]:
        """Return the metrics of one set."""
        content = self.json(f"evaluation/{name}.json", optional)
        try:
            return parse_metrics(content)
        except INVALID as error:
            self.add_invalid(f"evaluation/{name}.json", error)
            return {}

    def hand_tests(self) -> Iterator[tuple[str, dict[str, HandTest], list[str]]]:
        """Yield each tomogram with its hand tests by class and their warnings."""
        return self._tests("hand", parse_hands)

    def half_tests(self) -> Iterator[tuple[str, dict[str, HalfTest], list[str]]]:
        """Yield each tomogram with its half tests by class and their warnings."""
        return self._tests("halves", parse_halves)

    def hand_test(self, name: str) -> tuple[dict[str, HandTest], list[str]]:
        """Return the hand tests of a file by class, and their warnings; both empty without it."""
        return self._test(name, parse_hands)

    def _tests(self, kind: str, parse: Parser[T]) -> Iterator[tuple[str, dict[str, T], list[str]]]:
        """Yield each tomogram of the files evaluation/<kind>_<tomogram>.json with their content."""
        for path in sorted(self.folder.glob(f"evaluation/{kind}_*.json")):
            if path.name.endswith(".json.json"):
                continue
            tests, warnings = self._test(f"evaluation/{path.name}", parse)
            if tests:
                yield path.stem.removeprefix(f"{kind}_"), tests, warnings

    def _test(self, name: str, parse: Parser[T]) -> tuple[dict[str, T], list[str]]:
        content = self.json(name, optional=True)
        if not content:
            return {}, []
        try:
            return parse(content)
        except INVALID as error:
            self.add_invalid(name, error)
            return {}, []

    def presets(self) -> list[str]:
        """Return the trained presets, whether for all tomograms or for each group of them."""
        found = [*self.folder.glob("translation/*/checkpoint.pt")]
        found += [path.parent for path in self.folder.glob("translation/*/*/checkpoint.pt")]
        return sorted({path.parent.name for path in found})

    def training_logs(self, preset: str, per_group: bool) -> dict[str, dict[str, list[float]]]:
        """Return training logs by group of tomograms; the group of all tomograms is ""."""
        folder = f"translation/{preset}"
        groups = sorted(path.parent for path in (self.folder / folder).glob("*/checkpoint.pt"))
        if groups and (per_group or not self.has(f"{folder}/checkpoint.pt")):
            return {path.name: self._training_log(f"{folder}/{path.name}") for path in groups}
        return {"": self._training_log(folder)}

    def _training_log(self, folder: str) -> dict[str, list[float]]:
        """Return the columns of log.csv; invalid numbers are NaN."""
        name = f"{folder}/log.csv"
        rows = self.rows(name)
        if rows and "step" not in rows[0]:
            self.gaps.append(f"{name}: has no column 'step'")
            return {}
        return {key: [to_float(row.get(key)) for row in rows] for key in (rows[0] if rows else ())}

    def timings(self) -> list[dict[str, Any]]:
        """Return time (seconds) and memory (MB) of each job, from Snakemake's benchmark files."""
        columns = {"seconds": "s", "cpu": "cpu_time", "memory": "max_rss"}
        return [
            {"step": step} | {key: to_float(row.get(name)) for key, name in columns.items()}
            for path, step in self._jobs("benchmarks", ".tsv")
            for row in self.rows(path.relative_to(self.folder).as_posix(), "\t")
        ]

    def log_lines(self, start: str) -> Iterator[tuple[str, str]]:
        """Yield the job and the rest of each log line that begins with `start`."""
        for path, step in self._jobs("logs", ".log"):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.startswith(start):
                    yield step, line.removeprefix(start).replace(f"{self.folder}/", "")

    def _jobs(self, folder: str, suffix: str) -> Iterator[tuple[Path, str]]:
        """Yield each file that Snakemake wrote about a job, and the name of the job."""
        for path in sorted((self.folder / folder).glob(f"**/*{suffix}")):
            yield path, path.relative_to(self.folder / folder).with_suffix("").as_posix()

    def provenance(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each file that has provenance, beside it or inside it, and the record."""
        for path in sorted(self.folder.rglob("*.json")):
            target = path.with_suffix("")
            name = path.relative_to(self.folder).as_posix()
            if {"export", "report"} & set(path.relative_to(self.folder).parts):
                continue  # these are outputs of the page's own stage or later
            file = target if target.exists() and path == sidecar(target) else path
            record = self.json(name).get("provenance")
            if isinstance(record, dict):
                inputs = record.get("inputs")
                checked = record | {"inputs": inputs if isinstance(inputs, dict) else {}}
                yield file.relative_to(self.folder).as_posix(), checked

    def rows(self, name: str, delimiter: str = ",") -> list[dict[str, Any]]:
        """Return the rows of a table by column name; empty if the file is missing."""
        lines = self.text(name).splitlines()
        return [dict(row) for row in csv.DictReader(lines, delimiter=delimiter)]

    def text(self, name: str) -> str:
        """Return the content of a text file; empty if it is missing or invalid."""
        try:
            return (self.folder / name).read_text(encoding="utf-8") if self.has(name) else ""
        except UnicodeDecodeError:
            self.gaps.append(f"{name}: is not a text file")
            return ""

    def add_invalid(self, name: str, error: Exception) -> None:
        """Add a file of unexpected content to the gaps."""
        self.gaps.append(f"{name}: has unexpected content ({type(error).__name__}: {error})")


def open_results(folder: Path) -> Results:
    """Return the results of a run's folder."""
    folder = check_exists(folder, "results folder")
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; give the folder of a run, results/<run>")
    return Results(folder)


def volumes_in(folder: Path) -> list[Path]:
    """Return the tomograms of a folder, without the volumes that belong to them."""
    found = sorted(folder.glob("*.mrc"))
    return [path for path in found if not path.stem.endswith(COMPANIONS)]

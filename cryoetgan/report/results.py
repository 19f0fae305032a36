"""What a results folder holds, read as far as it is there; what is not is written down."""

import csv
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoetgan.errors import UserError
from cryoetgan.io.files import check_exists, read_json, sidecar
from cryoetgan.io.mrc import Volume, read_volume
from cryoetgan.io.star import read_star
from cryoetgan.io.volume_set import VolumeSet, read_volume_set
from cryoetgan.report.evaluation_results import Accuracy, Metric, accuracy_from, metrics_from

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("cryoetgan")
BESIDE = ("_labels", "_mask")
"""Endings of volumes that lie beside tomograms."""


@dataclass
class Results:
    """A run's results; what could not be read is said in `gaps`, what was in `used`."""

    folder: Path
    gaps: list[str] = field(default_factory=list)
    used: set[Path] = field(default_factory=set)

    def has(self, name: str) -> bool:
        """Return whether a file is there."""
        return (self.folder / name).exists()

    def volume_set(self, name: str, optional: bool = False) -> VolumeSet | None:
        """Return a volume set, or None where it is not there or not whole."""
        if not self.has(name):
            self._lacks(name, optional)
            return None
        try:
            found = read_volume_set(self.folder / name, ["cryoetganClass"])
            self.used.add(found.path)
            return found
        except UserError as error:
            self._broken(error)
            return None

    def table(self, name: str, columns: Sequence[str]) -> "pd.DataFrame | None":
        """Return the particles of a STAR file, or None where it is not there or not whole."""
        if not self.has(name):
            return None
        try:
            found = read_star(self.folder / name, columns).particles
            self.used.add(self.folder / name)
            return found
        except UserError as error:
            self._broken(error)
            return None

    def tomogram(self, path: Path) -> Volume | None:
        """Return a tomogram, or None where it is broken."""
        try:
            return read_volume(path)
        except UserError as error:
            self._broken(error)
            return None

    def json(self, name: str, optional: bool = False) -> dict[str, Any]:
        """Return a JSON file's content, empty where it is not there or broken."""
        if not self.has(name):
            self._lacks(name, optional)
            return {}
        try:
            content = read_json(self.folder / name)
        except UserError as error:
            self._broken(error)
            return {}
        if not isinstance(content, dict):
            self.gaps.append(f"{name}: holds no keys and values")
            return {}
        # a record tells of a result that is counted itself
        if not (self.folder / name).with_suffix("").exists():
            self.used.add(self.folder / name)
        return content

    def accuracies(self, expected: Sequence[str]) -> dict[str, Accuracy]:
        """Return the classifiers' results: those expected first, then whatever else is there."""
        others = [path.stem for path in sorted(self.folder.glob("evaluation/*.json"))]
        found = {}
        for name in dict.fromkeys([*expected, *others]):
            content = self.json(f"evaluation/{name}.json")
            if name not in expected and "accuracy" not in content:
                continue  # a table of metrics or a record
            if content:
                try:
                    found[name] = accuracy_from(content)
                except (KeyError, TypeError, ValueError) as error:
                    self._odd(f"evaluation/{name}.json", error)
        return found

    def metrics(self, name: str, optional: bool = False) -> dict[str, Metric]:
        """Return the metrics of one set, empty where they are not there."""
        content = self.json(f"evaluation/{name}.json", optional)
        try:
            return metrics_from(content)
        except (KeyError, TypeError, ValueError) as error:
            self._odd(f"evaluation/{name}.json", error)
            return {}

    def presets(self) -> list[str]:
        """Return the presets that were trained, for all tomograms or for each group of them."""
        found = [*self.folder.glob("translation/*/checkpoint.pt")]
        found += [path.parent for path in self.folder.glob("translation/*/*/checkpoint.pt")]
        return sorted({path.parent.name for path in found})

    def training_logs(self, preset: str, per_group: bool) -> dict[str, dict[str, list[float]]]:
        """Return the logs of what was trained, by group of tomograms; "": of all of them."""
        folder = f"translation/{preset}"
        groups = sorted(path.parent for path in (self.folder / folder).glob("*/checkpoint.pt"))
        if groups and (per_group or not self.has(f"{folder}/checkpoint.pt")):
            return {path.name: self._training_log(f"{folder}/{path.name}") for path in groups}
        return {"": self._training_log(folder)}

    def tomograms(self) -> list[Path]:
        """Return the tomograms, without label volumes and masks."""
        found = sorted(self.folder.glob("tomograms/*.mrc"))
        return [path for path in found if not path.stem.endswith(BESIDE)]

    def _training_log(self, folder: str) -> dict[str, list[float]]:
        """Return the columns of log.csv; a value that is no number is NaN."""
        name = f"{folder}/log.csv"
        rows = self.rows(name, ",")
        if rows and "step" not in rows[0]:
            self.gaps.append(f"{name}: has no column 'step'")
            return {}
        return {key: [_number(row.get(key)) for row in rows] for key in (rows[0] if rows else ())}

    def timings(self) -> list[dict[str, Any]]:
        """Return time (seconds) and memory (MB) of each rule, from Snakemake's benchmark files."""
        found = []
        for path in sorted(self.folder.glob("benchmarks/**/*.tsv")):
            step = path.relative_to(self.folder / "benchmarks").with_suffix("").as_posix()
            for row in self.rows(path.relative_to(self.folder).as_posix(), "\t"):
                seconds, memory = _number(row.get("s")), _number(row.get("max_rss"))
                cpu = _number(row.get("cpu_time"))
                found.append({"step": step, "seconds": seconds, "cpu": cpu, "memory": memory})
        return found

    def log_lines(self, start: str) -> Iterator[tuple[str, str]]:
        """Yield (step, rest of the line) of each log's lines that begin so."""
        for path in sorted(self.folder.glob("logs/**/*.log")):
            step = path.relative_to(self.folder / "logs").with_suffix("").as_posix()
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.startswith(start):
                    yield step, line.removeprefix(start).replace(f"{self.folder}/", "")

    def provenance(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (file, record) of every record beside or inside a result."""
        for path in sorted(self.folder.rglob("*.json")):
            target = path.with_suffix("")
            name = path.relative_to(self.folder).as_posix()
            if {"export", "report"} & set(path.relative_to(self.folder).parts):
                continue  # not what the page was made from
            of = target if target.exists() and path == sidecar(target) else path
            record = self.json(name).get("provenance")
            if isinstance(record, dict):
                inputs = record.get("inputs")
                whole = record | {"inputs": inputs if isinstance(inputs, dict) else {}}
                yield of.relative_to(self.folder).as_posix(), whole

    def rows(self, name: str, delimiter: str = ",") -> list[dict[str, Any]]:
        """Return the rows of a table under its heading; none where it is not there."""
        lines = self.text(name).splitlines()
        return [dict(row) for row in csv.DictReader(lines, delimiter=delimiter)]

    def text(self, name: str) -> str:
        """Return a text file, empty where it is not there or no text."""
        try:
            return (self.folder / name).read_text(encoding="utf-8") if self.has(name) else ""
        except UnicodeDecodeError:
            self.gaps.append(f"{name}: is not text")
            return ""

    def _lacks(self, name: str, optional: bool) -> None:
        if not optional:
            self.gaps.append(f"{name}: is not there")

    def _broken(self, error: UserError) -> None:
        self.gaps.append(str(error).replace(f"{self.folder}/", ""))

    def _odd(self, name: str, error: Exception) -> None:
        self.gaps.append(f"{name}: is not as it should be ({type(error).__name__}: {error})")


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return float("nan")


def open_results(folder: Path) -> Results:
    """Return the results of a run's folder."""
    folder = check_exists(folder, "results folder")
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a run's folder, results/<run>")
    return Results(folder)

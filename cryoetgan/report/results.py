"""What a results folder holds, read as far as it is there."""

import csv
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryoetgan.errors import UserError
from cryoetgan.files import existing, read_json, sidecar
from cryoetgan.star import read_star
from cryoetgan.volumes import VolumeSet, read_volume_set

log = logging.getLogger("cryoetgan")
ACCURACIES = ("gan_train", "physics_train", "ceiling", "gan_test")


@dataclass
class Results:
    """A run's results; what could not be read is said in `gaps`."""

    folder: Path
    gaps: list[str] = field(default_factory=list)

    def volume_set(self, name: str) -> VolumeSet | None:
        """Return a volume set, or None where it is not there or not whole."""
        path = self.folder / name
        if not path.exists():
            self.gaps.append(f"{name} is not there")
            return None
        try:
            return read_volume_set(path)
        except UserError as error:
            self.gaps.append(str(error))
            return None

    def json(self, name: str) -> dict[str, Any]:
        """Return a JSON file's content, empty where it is not there or broken."""
        path = self.folder / name
        if not path.exists():
            self.gaps.append(f"{name} is not there")
            return {}
        try:
            return dict(read_json(path))
        except (UserError, TypeError, ValueError) as error:
            self.gaps.append(str(error))
            return {}

    def presets(self) -> list[str]:
        """Return the presets that were trained."""
        return sorted(path.parent.name for path in self.folder.glob("translation/*/checkpoint.pt"))

    def tomograms(self) -> list[Path]:
        """Return the tomograms, without label volumes."""
        found = sorted(self.folder.glob("tomograms/*.mrc"))
        return [path for path in found if not path.stem.endswith("_labels")]

    def training_log(self, preset: str) -> list[dict[str, float]]:
        """Return the rows of log.csv as numbers."""
        path = self.folder / "translation" / preset / "log.csv"
        if not path.exists():
            return []
        with open(path, newline="") as file:
            return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]

    def timings(self) -> list[dict[str, str]]:
        """Return time and memory of each rule, from Snakemake's benchmark files."""
        rows = []
        for path in sorted(self.folder.glob("benchmarks/**/*.tsv")):
            with open(path, newline="") as file:
                for row in csv.DictReader(file, delimiter="\t"):
                    name = path.relative_to(self.folder / "benchmarks").with_suffix("")
                    rows.append(
                        {
                            "step": str(name),
                            "seconds": row.get("s", ""),
                            "memory_mb": row.get("max_rss", ""),
                        }
                    )
        return rows

    def provenance(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (file, record) of every record beside a result."""
        for path in sorted(self.folder.rglob("*.json")):
            target = path.with_suffix("")
            if target.exists() and path == sidecar(target):
                record = self.json(str(path.relative_to(self.folder))).get("provenance")
                if isinstance(record, dict):
                    yield str(target.relative_to(self.folder)), record

    def counts(self) -> list[dict[str, Any]]:
        """Return how many particles of each tomogram, class and split were taken."""
        path = self.folder / "particles" / "subtomograms.star"
        if not path.exists():
            return []
        table = read_star(path).particles
        columns = ["rlnTomoName", "cryoetganClass", "cryoetganSplit"]
        if not set(columns) <= set(table.columns):
            return []
        groups = table.groupby(columns).size()
        return [
            dict(zip([*columns, "n"], [*index, int(count)], strict=True))
            for index, count in groups.items()
        ]


def open_results(folder: Path) -> Results:
    """Return the results of a run's folder."""
    folder = existing(folder, "results folder")
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a run's folder, results/<run>")
    return Results(folder)

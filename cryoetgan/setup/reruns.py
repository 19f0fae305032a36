"""docs/reruns.md: what runs again after an edit of a key, of a table, or of code.

Computed from the workflow itself on a small run that has every kind of class and tomogram.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryoetgan.code_hash import code_files
from cryoetgan.config import Config, check
from cryoetgan.setup.edits import TABLES, WITHOUT, edit, keys, without
from cryoetgan.setup.plans import Plan, edited, plan, rules, with_followers
from cryoetgan.tables import ClassRow, TomogramRow, columns

PAGE = "docs/reruns.md"
CLASSES = {
    "fetched": {"source": "1bxn"},
    "own": {"source": "own.cif"},
    "mapped": {"source": "mapped.mrc"},
    "phantom": {"source": "phantom:proteasome"},
    "membrane": {"source": "membrane"},
}
TOMOGRAMS = {
    "simulated": {"path": "simulate", "split": "train"},
    "imported": {
        "path": "imported.mrc",
        "split": "train",
        "group": "other",
        "annotations": "annotations.csv",
        "mask": "mask.mrc",
        "ctf": "raw",
    },
    "online": {"path": "emdb:1234", "split": "test"},
}
GEOMETRY = {"tilt_low": "-60", "tilt_high": "60"}
FILES = (
    "own.cif",
    "mapped.mrc",
    "imported.mrc",
    "another.mrc",
    "annotations.csv",
    "other_annotations.csv",
    "mask.mrc",
    "other_mask.mrc",
)
PRIORS = ("prior.star", "another.star")
CURATION = ("decisions/a.csv", "others/a.csv")
CELLS = {
    # another value of each column: (row it is changed in, value)
    "class": ("phantom", "renamed"),
    "source": ("phantom", "phantom:hexamer"),
    "assembly": ("own", "2"),
    "model": ("own", "2"),
    "component": ("own", "2"),
    "chains": ("own", "A"),
    "radius": ("own", "77"),
    "copies": ("own", "5"),
    "count": ("own", "5"),
    "tomogram": ("imported", "renamed"),
    "path": ("imported", "another.mrc"),
    "voxel_size": ("imported", "7.5"),
    "tilt_low": ("imported", "-50"),
    "tilt_high": ("imported", "50"),
    "tilt_step": ("imported", "2"),
    "tilt_axis": ("imported", "x"),
    "beam_axis": ("imported", "y"),
    "voltage": ("imported", "200"),
    "cs": ("imported", "2.0"),
    "amplitude_contrast": ("imported", "0.1"),
    "defocus": ("imported", "3"),
    "ctf": ("imported", "phase-flipped"),
    "contrast": ("imported", "bright"),
    "split": ("simulated", "test"),
    "group": ("imported", "second"),
    "annotations": ("imported", "other_annotations.csv"),
    "annotations_voxel_size": ("imported", "5"),
    "mask": ("imported", "other_mask.mrc"),
}
HEAD = """# What runs again

Made by `python -m cryoetgan.setup.reruns` from the workflow itself; do not edit. The run it is
computed on has a class and a tomogram of every kind, synthetic tomograms, all exports, and imported
tomograms with annotations. `make test` checks that this page is current, `make test-all` every row of the
keys against `snakemake -n` on a finished run.

A rule runs again where what it reads has changed (first column of rules), and after those, what
comes behind them (second column). Of several tomograms or classes, only those edited run again.
"""


class Example:
    """A small run in a folder, with tables that can be edited."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.workflow, self.folder = root / "workflow" / "Snakefile", folder
        for name in (*FILES, *PRIORS, *CURATION):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        content = Config().model_dump(mode="json")
        content["structures"]["table"] = "classes.tsv"
        content["tomograms"]["table"] = "tomograms.tsv"
        content["densities"]["prior"] = PRIORS[0]
        content["particles"]["curation"] = "decisions"
        content["export"]["formats"] = ["relion", "copick", "plain"]
        content["translation"]["tomograms"] = 2
        self.config = check(content, "example")
        self.base = self.plan()

    def plan(
        self,
        content: dict[str, Any] | None = None,
        classes: dict[str, dict[str, str]] = CLASSES,
        tomograms: dict[str, dict[str, str]] = TOMOGRAMS,
    ) -> Plan:
        """Return the jobs under a configuration and tables."""
        tomograms = {name: GEOMETRY | row for name, row in tomograms.items()}
        _write(self.folder / "classes.tsv", "class", ClassRow, classes)
        _write(self.folder / "tomograms.tsv", "tomogram", TomogramRow, tomograms)
        return plan(self.workflow, self.folder, content or self.config.model_dump(mode="json"))

    def before(self, key: str) -> Plan:
        """Return the jobs that an edit of a key is compared with."""
        return self.plan(without(self.config, key)) if key in WITHOUT else self.base

    def after(self, key: str) -> Plan:
        """Return the jobs after an edit of a key."""
        return self.plan(edit(self.config, key))

    def after_cell(self, column: str) -> Plan:
        """Return the jobs after an edit of one cell of a table."""
        row, value = CELLS[column]
        classes, tomograms = _changed(CLASSES, row, column, value), TOMOGRAMS
        if row in TOMOGRAMS:
            classes, tomograms = CLASSES, _changed(TOMOGRAMS, row, column, value)
        return self.plan(None, classes, tomograms)


def _changed(
    rows: dict[str, dict[str, str]], name: str, column: str, value: str
) -> dict[str, dict[str, str]]:
    if column in ("class", "tomogram"):
        return {(value if row == name else row): cells for row, cells in rows.items()}
    return {row: cells | ({column: value} if row == name else {}) for row, cells in rows.items()}


def _write(path: Path, key: str, model: Any, rows: dict[str, dict[str, str]]) -> None:
    heading = [name for name, _ in columns(model)]
    lines = ["\t".join(heading)]
    for name, cells in rows.items():
        row = {key: name, **cells}
        lines.append("\t".join(row.get(column, "") for column in heading))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def page(root: Path) -> str:
    """Return the text of docs/reruns.md for the project in `root`."""
    with tempfile.TemporaryDirectory() as folder:
        return "\n".join(_page(Example(root, Path(folder)), root)) + "\n"


def _page(example: Example, root: Path) -> Iterator[str]:
    yield HEAD
    yield "## Keys\n\n| key | rules that read it | what follows |\n|---|---|---|"
    for key in keys():
        if key in TABLES:
            yield f"| `{key}` | see the tables below | |"
        elif key == "run":
            yield "| `run` | all: another run, in its own folder | |"
        else:
            yield _line(key, example.before(key), example.after(key))
    for title, model in (("classes", ClassRow), ("tomograms", TomogramRow)):
        yield f"\n## A cell of the table of {title}\n"
        yield "| column | rules that read it | what follows |\n|---|---|---|"
        for column, _ in columns(model):
            yield _line(column, example.base, example.after_cell(column))
    yield from _added(example)
    yield "\n## An edit of code\n\nA file of the package runs again the rules of the stages that"
    yield "import it, however far down.\n\n| file | stages |\n|---|---|"
    yield from _code(root / "cryoetgan")


def _added(example: Example) -> Iterator[str]:
    yield "\n## A row more\n"
    yield "Give the tomograms their splits: where the column is empty, the last one is for testing,"
    yield "and a tomogram added behind it takes its place.\n"
    yield "| added | its own jobs | jobs over all of them, and what follows |\n|---|---|---|"
    rows = {"imported tomogram": {"path": "another.mrc", "split": "train"}}
    rows["simulated tomogram"] = {"path": "simulate", "split": "train"}
    for title, row in rows.items():
        grown = example.plan(None, CLASSES, TOMOGRAMS | {"added": row})
        yield _grown(title, example.base, grown)
    grown = example.plan(None, CLASSES | {"added": {"source": "phantom:hexamer"}})
    yield _grown("class", example.base, grown)


def _grown(title: str, base: Plan, grown: Plan) -> str:
    run = with_followers(edited(base, grown), grown)
    new = run - set(base)
    return f"| {title} | {_names(rules(new, grown))} | {_names(rules(run - new, grown))} |"


def _line(what: str, base: Plan, after: Plan) -> str:
    first = edited(base, after)
    run = with_followers(first, after)
    follow = rules(run, after) - rules(first, after)
    return f"| `{what}` | {_names(rules(first, after))} | {_names(follow)} |"


def _names(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _code(package: Path) -> Iterator[str]:
    from cryoetgan.cli import STAGES

    parts: dict[str, set[str]] = {}
    for stage in STAGES:
        for name in code_files(package, stage):
            head = name.split("/")[0]
            parts.setdefault(f"{head}/" if "/" in name else head, set()).add(stage)
    every = {path.name for path in package.glob("*.py")}
    for name in sorted(every | set(parts)):
        stages = sorted(parts.get(name, ()), key=list(STAGES).index)
        yield f"| `{name}` | {', '.join(stages) or 'none'} |"


if __name__ == "__main__":
    from cryoetgan.io.files import write_text

    here = Path(__file__).resolve().parents[2]
    write_text(here / PAGE, page(here))

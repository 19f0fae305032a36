"""Jobs that an edit of the configuration or of a table runs again, planned in this process.

Snakemake runs a job again if its parameters or the set of its inputs differ from those of its last
run, and then every job after it. Two plans are compared here by the same rule, without results.
Snakemake keeps state, so this runs as a process of its own that prints JSON (see `answer`).
"""

import functools
import gc
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError

from cryoetgan.config import Config, check, load
from cryoetgan.tables import ClassRow, SubtomogramRow, TomogramRow, columns

TABLES = {"structures.table", "tomograms.table", "particles.table"}
TEXTS = {
    # other values of keys that name something
    "run": "another",
    "structures.mirror": "mirror",
    "densities.assembly": "none",
    "densities.prior": "another.star",
    "particles.curation": "others",
    "translation.preset": "paper",
    "evaluation.ablation_preset": "smoke",
    "report.title": "Another",
}
REQUIRES = {"imaging.fit": ("tomograms", "synthetic", 0)}
"""Keys that can change only if another key has a certain value."""
SOURCES = {"fetched": "1bxn", "own": "own.cif", "mapped": "mapped.mrc", "membrane": "membrane"}
SOURCES["phantom"] = "phantom:proteasome"
CLASSES = {name: {"source": source} for name, source in SOURCES.items()}
RANGE = {"tilt_low": "-60", "tilt_high": "60", "split": "train"}
OWN_FILES = {"path": "in.mrc", "group": "g", "annotations": "in.csv", "mask": "m.mrc"}
OWN_FILES |= {"even": "even.mrc", "odd": "odd.mrc"}
TOMOGRAMS = {
    "simulated": RANGE | {"path": "simulate"},
    "imported": RANGE | OWN_FILES,
    "online": RANGE | {"path": "emdb:1234", "split": "test"},
}
SETS = {"given": RANGE | {"path": "set.star", "class": "own", "group": "g"}}
FILES = "set.star less.star own.cif mapped.mrc in.mrc other.mrc in.csv other.csv m.mrc n.mrc prior.star another.star"
FILES += " even.mrc odd.mrc other_even.mrc other_odd.mrc"
CELLS = {
    # other values of a row's cells: together, of all columns
    "phantom": "class=renamed source=phantom:hexamer",
    "own": "assembly=2 model=2 component=2 chains=A radius=77 copies=5 count=5 min_confidence=50",
    "simulated": "split=test",
    "imported": "tomogram=renamed path=other.mrc voxel_size=7.5 tilt_low=-50 tilt_high=50 "
    "tilt_step=2 tilt_axis=x beam_axis=y flip_hand=yes voltage=200 cs=2.0 amplitude_contrast=0.1 defocus=3 "
    "ctf=phase-flipped contrast=bright group=h annotations=other.csv annotations_voxel_size=5 "
    "mask=n.mrc even=other_even.mrc odd=other_odd.mrc",
}
SET_CELLS = (
    "name=renamed path=less.star class=1=own flip_hand=yes voxel_size=7.5 tilt_low=-50 tilt_high=50 "
    "tilt_step=2 tilt_axis=x beam_axis=y voltage=200 cs=2.0 amplitude_contrast=0.1 defocus=3 "
    "ctf=phase-flipped contrast=bright group=h split=test"
)
"""Other values of all columns of the set."""


@dataclass(frozen=True)
class Job:
    """One job of a plan: its rule, what it reads, and the jobs that it follows."""

    rule: str
    reads: str
    after: frozenset[str]


def plan(root, folder, content):
    """Return all jobs of a configuration (nested mappings), by their outputs."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings import types

    file = folder / "planned.json"
    file.write_text(json.dumps(content))
    with SnakemakeApi(types.OutputSettings(quiet={types.Quietness.ALL}, stdout=False)) as api:
        called = api.workflow(
            resource_settings=types.ResourceSettings(cores=2),
            config_settings=types.ConfigSettings(configfiles=[file]),
            snakefile=root / "workflow" / "Snakefile",
            workdir=folder,
        )
        called.dag(types.DAGSettings(forceall=True))
        inside = called._workflow
        inside._prepare_dag(forceall=True, ignore_incomplete=True, lock_warn_only=True, nolock=True)
        inside.dag.update_conda_envs = lambda: None  # an eighth of the time; no job needs it here
        inside.async_run(inside.dag.init())
        name = {job: " ".join(sorted(map(str, job.output))) for job in inside.dag.jobs}
        return {
            name[job]: Job(
                job.rule.name,
                repr((sorted(set(map(str, job.input))), list(job.params.items()))),
                frozenset(name[before] for before in inside.dag.dependencies[job]),
            )
            for job in inside.dag.jobs
            if job.rule.name != "all"
        }


def compare(base, now):
    """Return the jobs of `now` that are new or read something else, and those plus followers."""
    edited = {n for n, job in now.items() if n not in base or base[n].reads != job.reads}
    again, before = set(edited), set()
    while again != before:
        before = set(again)
        again |= {name for name, job in now.items() if job.after & again}
    return [{n: [now[n].rule, n not in base] for n in part} for part in (edited, again)]


def config_keys(model=Config, prefix=""):
    """Yield the dotted keys of the configuration."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from config_keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def prepare(config, key):
    """Return the configuration, as nested mappings, in which `key` may change."""
    content = config.model_dump(mode="json")
    if key in REQUIRES:
        section, name, value = REQUIRES[key]
        content[section][name] = value
    return content


def edit(config, key):
    """Return the configuration, as nested mappings, with another valid value of one key."""
    *parents, last = key.split(".")
    model = functools.reduce(getattr, parents, config)
    for other in [TEXTS[key]] if key in TEXTS else other_values(model, last):
        content = prepare(config, key)
        functools.reduce(dict.get, parents, content)[last] = other
        try:
            if Config.model_validate(content) != config:
                return content
        except ValidationError:
            continue
    raise KeyError(f"{key}: no other valid value found; name one in replan.TEXTS")


def other_values(model, name):
    """Return candidates for another value of a field, by the kind of its value."""
    value, words = getattr(model, name), words_of(type(model).model_fields[name].annotation)
    if isinstance(value, list):
        return [value[:-1], [*value, *words]] if words else [value[1:] or [10]]
    if isinstance(value, tuple):
        return [[*value[:-1], value[-1] + 4]]
    if words or value is None:
        return [word for word in words if word != value] or [1, 2.5, 10.0, 20.0, "text", True]
    return [not value] if isinstance(value, bool) else [value + s for s in (1, 4, -1, 0.25, -0.01)]


def words_of(annotation):
    """Return the words of a Literal, wherever it stands in an annotation."""
    parts = get_args(annotation)
    return [w for part in parts for w in ([part] if isinstance(part, str) else words_of(part))]


def write_tables(folder, classes, tomograms, sets=None):
    """Write the tables of classes, tomograms and sets of subtomograms."""
    for name, model, rows in (
        ("class", ClassRow, classes),
        ("tomogram", TomogramRow, tomograms),
        ("name", SubtomogramRow, sets or SETS),
    ):
        heading = [column for column, _ in columns(model)]
        lines = [[({name: row} | rows[row]).get(column, "") for column in heading] for row in rows]
        text = "\n".join("\t".join(line) for line in [heading, *lines])
        (folder / f"{name}.tsv").write_text(text + "\n")


def table_edits():
    """Yield the edits of all columns, an added class and an added tomogram: name, the tables."""
    for column, value in (cell.split("=", 1) for cell in SET_CELLS.split()):
        row = (
            {value: SETS["given"]}
            if column == "name"
            else {"given": SETS["given"] | {column: value}}
        )
        yield f"set {column}", (CLASSES, TOMOGRAMS, row)
    for row, cells in CELLS.items():
        for column, value in (cell.split("=") for cell in cells.split()):
            tables = CLASSES, TOMOGRAMS
            if column in ("class", "tomogram"):
                tables = ({value if n == row else n: t[n] for n in t} for t in tables)
            else:
                tables = (t | {row: t[row] | {column: value}} if row in t else t for t in tables)
            yield f"column {column}", tuple(tables)
    yield "added class", (CLASSES | {"added": {"source": "phantom:hexamer"}}, TOMOGRAMS)
    yield "added tomogram", (CLASSES, TOMOGRAMS | {"added": RANGE | {"path": "other.mrc"}})


def example(folder):
    """Write the files of a run with every kind of class and tomogram; return its configuration."""
    for name in [*FILES.split(), "decisions/a.csv", "others/a.csv"]:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    write_tables(folder, CLASSES, TOMOGRAMS)
    content = Config().model_dump(mode="json")
    content["structures"]["table"], content["tomograms"]["table"] = "class.tsv", "tomogram.tsv"
    content["particles"]["table"] = "name.tsv"
    content["densities"]["prior"], content["particles"]["curation"] = "prior.star", "decisions"
    content["export"]["formats"] = ["relion", "copick", "plain"]
    content["tomograms"]["synthetic"] = 1
    content["evaluation"]["learning_curve"] = [100]
    return check(content, "example")


def answer(root, *words):
    """Return, by edit, the jobs that read it and all that run again: output to [rule, new].

    Without more words, all keys and columns of the example are edited. Otherwise the words are a
    configuration file of a finished run in `root`, and the keys to edit.
    """
    root = folder = Path(root)
    if words:
        config, wanted = load(root / "config/config.yaml", Path(words[0])), words[1:]
    else:
        folder = Path(tempfile.mkdtemp())
        config = example(folder)
        wanted = [key for key in config_keys() if key not in {*TABLES, "run"}]
    content = config.model_dump(mode="json")
    base = plan(root, folder, content)
    gc.freeze()  # a tenth of the time of each plan
    found = {"reads": {job.rule: job.reads for job in base.values()}}
    for key in wanted:
        before = plan(root, folder, prepare(config, key)) if key in REQUIRES else base
        found[key] = compare(before, plan(root, folder, edit(config, key)))
    for name, tables in () if words else table_edits():
        write_tables(folder, *tables)
        found[name] = compare(base, plan(root, folder, content))
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(answer(*sys.argv[1:])))

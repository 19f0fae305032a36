"""Jobs that an edit of the configuration or of a table runs again, planned in this process.

Snakemake runs a job again if its parameters or the set of its inputs differ from those of its last
run, and then every job after it. Two plans are compared here by the same rule, without results.
Snakemake keeps state, so this runs as a process of its own that prints JSON (see `answer`).
"""

import functools
import gc
import json
import re
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
ALONE = {*REQUIRES, "particles.picker", "export.formats"}
"""Keys that decide which other keys are read."""
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
OTHER_STAGES = {
    "densities.voxel_size": {"tomograms", "particles"},
    "densities.resolution": {"tomograms"},
    "densities.box": {"particles", "detection"},
    "tomograms.synthetic": {"imaging", "export", "report", "detection"},
    "imaging.fit": {"evaluation", "export", "report", "detection"},
    "imaging.per_group": {"evaluation", "report"},
    "translation.preset": {"evaluation", "export", "report", "detection"},
    "translation.draws": {"evaluation", "report"},
    "translation.per_group": {"evaluation", "report"},
    "evaluation.second_network": {"report"},
    "evaluation.match_radius": {"report"},
    "evaluation.learning_curve": {"report"},
    "export.source": {"evaluation", "report", "detection"},
    "column class": {
        *("densities", "tomograms", "particles", "imaging", "evaluation", "export", "detection")
    },
    "particles.subpixel": {"detection"},
    **{f"particles.{key}": {"evaluation", "detection"} for key in ("fdr", "rotations", "lowpass")},
    "particles.highpass_shells": {"evaluation", "detection"},
    "column tomogram": {"particles", "imaging", "evaluation", "export", "report", "detection"},
    "column split": {"particles", "imaging"},
    "column group": {"particles"},
    **{
        f"column {name}": {"particles", "imaging", "evaluation", "detection"}
        for name in ("tilt_low", "tilt_high", "flip_hand")
    },
    **{f"column {name}": {"imaging"} for name in ("voltage", "cs", "amplitude_contrast")},
    **{f"column {name}": {"imaging"} for name in ("defocus", "ctf")},
    **{f"column annotations{name}": {"particles"} for name in ("", "_voxel_size")},
    "set name": {"imaging", "evaluation", "export", "report"},
    **{f"set {name}": {"imaging"} for name in ("voltage", "cs", "amplitude_contrast")},
    **{f"set {name}": {"imaging"} for name in ("defocus", "ctf", "split")},
    **{f"set {name}": {"imaging", "evaluation"} for name in ("tilt_low", "tilt_high", "flip_hand")},
}
"""Stages beside a key's own whose rules read it: their inputs or sizes depend on it."""
STAGE = {
    "column class": "structures",
    "column source": "structures",
    **{f"column {name}": "densities" for name in ("assembly", "model", "component", "chains")},
    "column min_confidence": "densities",
    "column count": "densities",
    "column radius": "particles",
}
"""The stage of a column of the table of classes; other columns belong to `tomograms`."""


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


def find(names, base, plan_with):
    """Return the jobs that edits run again; those that the same stages may read share a plan.

    Each of several names must be seen in a changed option or parameter of its own; the others are
    planned one by one.
    """
    now = plan_with(names)
    seen = [name for name in names if len(names) == 1 or is_option_changed(name, base, now)]
    found = dict.fromkeys(seen, compare(base, now))
    for name in names:
        if name not in seen:
            found |= find([name], base, plan_with)
    return found


def is_option_changed(name, base, now):
    """Return whether a job has another value of the option, or of the parameter, of this name."""
    last = re.split(r"[. ]", name)[-1]
    option = last.replace("_", "-")
    pattern = re.compile(rf"--(?:no-)?{option}(?![\w-])(?:=[^\s']*)?|\('{last}', [^)]*\)")
    both = base.keys() & now.keys()
    return any(pattern.findall(base[n].reads) != pattern.findall(now[n].reads) for n in both)


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


def reading_stages(name):
    """Return the stages whose rules may read a key, column of a table or column of a set."""
    own = STAGE.get(name, "tomograms") if name.startswith("column") else name.split(".")[0]
    own = "particles" if name.startswith("set ") else own
    return frozenset({own, *OTHER_STAGES.get(name, ())})


def group(names):
    """Return lists of names that the same stages may read."""
    found = {}
    for name in names:
        found.setdefault(reading_stages(name), []).append(name)
    return list(found.values())


def cells():
    """Return the row and another value of each column of the tables, by the name of its edit."""
    words = [("column", row, cell) for row, text in CELLS.items() for cell in text.split()]
    words += [("set", "given", cell) for cell in SET_CELLS.split()]
    split = [(kind, row, *cell.split("=", 1)) for kind, row, cell in words]
    return {f"{kind} {column}": (row, column, value) for kind, row, column, value in split}


def edit_cells(names):
    """Return the tables of classes, tomograms and sets with other values of some columns."""
    tables, renamed = [CLASSES, TOMOGRAMS, SETS], {}
    for row, column, value in (cells()[name] for name in names):
        if column in ("class", "tomogram", "name") and (row, column) != ("given", "class"):
            renamed[row] = value
        else:
            tables = [t | {row: t[row] | {column: value}} if row in t else t for t in tables]
    return [{renamed.get(name, name): t[name] for name in t} for t in tables]


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

    Without more words, all keys and columns of the example are edited; those that the same stages
    may read are edited together, which takes a third of the time. Otherwise the words are a
    configuration file of a finished run in `root`, and the keys to edit, one by one.
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

    def with_keys(names):
        changed = config
        for name in names:
            changed = Config.model_validate(edit(changed, name))
        return plan(root, folder, changed.model_dump(mode="json"))

    def with_cells(names):
        write_tables(folder, *edit_cells(names))
        return plan(root, folder, content)

    alone = [name for name in wanted if words or name in ALONE]
    for name in alone:
        before = plan(root, folder, prepare(config, name)) if name in REQUIRES else base
        found[name] = compare(before, plan(root, folder, edit(config, name)))
    if words:
        return found
    for names in group(name for name in wanted if name not in alone):
        found |= find(names, base, with_keys)
    for names in group(cells()):
        found |= find(names, base, with_cells)
    row = RANGE | {"path": "other.mrc"}
    for name, tables in (
        ("added class", (CLASSES | {"added": {"source": "phantom:hexamer"}}, TOMOGRAMS)),
        ("added tomogram", (CLASSES, TOMOGRAMS | {"added": row})),
    ):
        write_tables(folder, *tables)
        found[name] = compare(base, plan(root, folder, content))
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(answer(*sys.argv[1:])))

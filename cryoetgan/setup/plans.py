"""What the workflow would do under a configuration, asked of Snakemake in this process.

A job runs again where its parameters or the set of its inputs are not those it last ran with,
and after any job that runs again. Two plans of one workflow are compared by that rule: no
results are needed, and no process a question.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """One job of a plan: its rule, what it reads, and the jobs it comes after."""

    rule: str
    reads: str
    after: frozenset[str]


Plan = dict[str, Job]
"""Jobs by their outputs, joined by blanks."""


def plan(workflow: Path, folder: Path, config: Mapping[str, Any]) -> Plan:
    """Return all jobs of a run.

    Parameters
    ----------
    workflow : Path
        The Snakefile.
    folder : Path
        Working directory; the files that tables name have to be there.
    config : mapping
        The whole configuration, as nested mappings.
    """
    import importlib

    import yaml

    # by name: Snakemake has no types
    api, kinds = map(importlib.import_module, ("snakemake.api", "snakemake.settings.types"))
    file = folder / "planned.yaml"
    file.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    output = kinds.OutputSettings(quiet={kinds.Quietness.ALL}, stdout=False)
    with _back_here(), api.SnakemakeApi(output) as snakemake:
        called = snakemake.workflow(
            resource_settings=kinds.ResourceSettings(cores=2),
            config_settings=kinds.ConfigSettings(configfiles=[file]),
            snakefile=workflow,
            workdir=folder,
        )
        called.dag(kinds.DAGSettings(forceall=True))
        inside = called._workflow
        inside._prepare_dag(forceall=True, ignore_incomplete=True, lock_warn_only=True, nolock=True)
        inside._build_dag()
        return {
            _name(job): Job(
                job.rule.name,
                repr((sorted(set(map(str, job.input))), list(job.params.items()))),
                frozenset(map(_name, inside.dag.dependencies[job])),
            )
            for job in inside.dag.jobs
            if job.rule.name != "all"
        }


def edited(before: Plan, after: Plan) -> set[str]:
    """Return the jobs of `after` that are new, or that read something else than before."""
    return {
        name for name, job in after.items() if name not in before or before[name].reads != job.reads
    }


def with_followers(jobs: set[str], whole: Plan) -> set[str]:
    """Return `jobs` and all that come after them."""
    found = set(jobs)
    while True:
        more = {name for name, job in whole.items() if job.after & found} - found
        if not more:
            return found
        found |= more


def rules(jobs: set[str], whole: Plan) -> set[str]:
    """Return the names of the rules of some jobs."""
    return {whole[name].rule for name in jobs}


def _name(job: Any) -> str:
    return " ".join(sorted(map(str, job.output)))


@contextmanager
def _back_here() -> Iterator[None]:
    here = Path.cwd()
    try:
        yield
    finally:
        os.chdir(here)

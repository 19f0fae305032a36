"""Commands that belong to no stage: init, check, validate."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import command, log
from cryoetgan.errors import UserError


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    command(app, "init")(init)
    command(app, "check")(check)
    command(app, "validate")(validate)


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of tomograms (MRC, REC).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; default: the folder.")
    ] = None,
) -> None:
    """Write a commented config and tables for one's own tomograms.

    Makes `config.yaml`, `tomograms.tsv` (one row an MRC file, filled from headers, from
    .mdoc, .tlt or .rawtlt files beside it, from `<tomogram>_annotations.star` or .csv and
    `<tomogram>_mask.mrc`) and `classes.tsv` (example rows to replace). Files that exist are
    left alone.
    """
    from cryoetgan.setup.init import write_config

    target = output or folder
    for path in write_config(folder, target):
        log.info("wrote %s", path)
    config = shlex.quote(str(target / "config.yaml"))
    log.info("next: edit %s and what tomograms.tsv lacks, then", target / "classes.tsv")
    log.info("  cryoetgan check --config %s", config)
    log.info("  snakemake --cores all --configfile %s", config)


def check(
    config: Annotated[
        list[Path] | None,
        typer.Option(
            "--config",
            help="Configuration to check as well, config/config.yaml where none is named; "
            "repeatable: later ones win, as in Snakemake.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what this machine lacks, and what a run will need, before anything runs.

    Exit code 2 where the configuration needs something that is missing.
    """
    from cryoetgan.setup.check import examine, table

    paths = config or [Path("config/config.yaml")]
    findings = examine(*paths)
    if as_json:
        import json

        typer.echo(json.dumps(findings, indent=1, sort_keys=True))
    else:
        typer.echo(table(findings))
    missing = [row["what"] for row in findings["machine"] if row["state"] == "missing"]
    if missing:
        named = ", ".join(map(str, paths))
        raise UserError(f"missing for {named}: {', '.join(missing)}; see the lines above")


def validate(
    path: Annotated[Path, typer.Argument(help="A results folder, a volume set, or any one file.")],
) -> None:
    """Say whether results are whole: readable, finite, complete, as they were written.

    Exit code 2, and one line a problem, where they are not.
    """
    from cryoetgan.setup.validate import problems

    found, count = problems(path)
    for line in found:
        typer.echo(line)
    if found:
        raise UserError(f"{path}: {len(found)} of {count} files are not whole (listed above)")
    typer.echo(f"{path}: {count} files, all whole")

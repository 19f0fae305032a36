"""Commands that belong to no stage: init, check, validate."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import command, group, log
from cryoetgan.errors import UserError

app = group("")


@command(app, "init")
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of tomograms (MRC, REC).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Output folder; default: FOLDER.")
    ] = None,
) -> None:
    """Write a commented configuration and tables for your own tomograms.

    Writes `config.yaml`, `tomograms.tsv` and `classes.tsv` (example rows to replace). Table
    `tomograms.tsv` has one row per specimen; half tomograms, denoised copies, segmentations and tilt
    series are named and get no row. Values come from the headers, from .tlt, .rawtlt, .aln, .mdoc or
    .tomostar files, and from `<tomogram>_annotations.star` or .csv and `<tomogram>_mask.mrc`. The
    contrast is measured. Existing files are not changed.
    """
    from cryoetgan.setup.init import write_config

    target = output or folder
    for path in write_config(folder, target):
        log.info("wrote %s", path)
    config = shlex.quote(str(target / "config.yaml"))
    log.info(
        "next: edit %s, fill in the empty columns of tomograms.tsv, then", target / "classes.tsv"
    )
    log.info("  cryoetgan check --config %s", config)
    log.info("  snakemake --cores all --configfile %s", config)


@command(app, "check")
def check(
    config: Annotated[
        list[Path] | None,
        typer.Option(
            "--config",
            help="Configuration to check; default: config/config.yaml. If repeated, later files "
            "override earlier ones, as in Snakemake.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Report missing software and input files, and the expected time, disk space and memory.

    The exit code is 2 if the configuration needs something that is missing.
    """
    from cryoetgan.setup.check import examine, format_table

    paths = config or [Path("config/config.yaml")]
    findings = examine(*paths)
    if as_json:
        import json

        typer.echo(json.dumps(findings, indent=1, sort_keys=True))
    else:
        typer.echo(format_table(findings))
    missing = [row["what"] for row in findings["machine"] if row["state"] == "missing"]
    if missing:
        names = ", ".join(map(str, paths))
        raise UserError(f"missing for {names}: {', '.join(missing)}; see the lines above")


@command(app, "validate")
def validate(
    path: Annotated[Path, typer.Argument(help="A results folder, a volume set, or any one file.")],
) -> None:
    """Check that results are readable, finite, complete and unchanged since they were written.

    The exit code is 2 if a file is not, with one line per problem.
    """
    from cryoetgan.setup.validate import find_problems

    problems, count = find_problems(path)
    for line in problems:
        typer.echo(line)
    if problems:
        raise UserError(f"{path}: {len(problems)} of {count} files have problems (listed above)")
    typer.echo(f"{path}: {count} files, no problems")

"""The command line: one group per stage, one command per workflow rule."""

import errno
import importlib
import os
import sys
from typing import Annotated, Any

import typer

from cryoetgan import __version__
from cryoetgan.command import configure_logging, group
from cryoetgan.errors import LINES, UserError, escape_controls
from cryoetgan.machine import set_up_processor

STAGES = {
    "structures": "Download structures from the PDB, and write phantoms.",
    "densities": "Simulate density maps and draw random poses: the density domain D.",
    "tomograms": "Import tomograms, or simulate tomograms with ground truth.",
    "particles": "Pick, match, score, select and extract particles: the subtomogram domain S.",
    "imaging": "Fit and simulate the imaging physics between D and S.",
    "translation": "Train the networks between D and S, and translate with them.",
    "detection": "Train a detector on synthetic tomograms, and find particles with it.",
    "evaluation": "Classifiers, metrics, ablations and comparisons of generated data.",
    "report": "One page with all figures and the verdict.",
    "export": "Write labelled data in the formats of other programs.",
}

OS_MESSAGES = {
    errno.EEXIST: "is a file; a folder is required",
    errno.ENOTDIR: "is a file; a folder is required",
    errno.EISDIR: "is a folder; a file is required",
}
"""Clearer text for errors of the operating system, by number."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cryoetgan {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


# base class of all usage errors; typer has a copy of click, and its module differs by version
UsageError: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


def build(stage: str | None = None) -> Any:
    """Return the tree of all commands, or of one stage's: its start needs no other stage."""
    app = group("Labelled synthetic cryo-electron tomograms that match your own data.")
    app.callback()(_root)
    for name in [stage] if stage in STAGES else STAGES:
        commands = importlib.import_module(f"cryoetgan.{name}.commands")
        commands.app.info.help = STAGES[name]
        app.add_typer(commands.app, name=name)
    app.add_typer(importlib.import_module("cryoetgan.setup.commands").app)
    return typer.main.get_command(app)


def main() -> None:
    """Run the command line. Exit code: 0 if done, 2 for a mistake of the user, 1 for a defect."""
    configure_logging()
    set_up_processor()
    try:
        stage = sys.argv[1] if len(sys.argv) > 1 else None
        status = build(stage).main(prog_name="cryoetgan", standalone_mode=False)
    except UserError as error:
        sys.exit(_refuse(str(error)))
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(2)
        sys.exit(_refuse(error.format_message().replace("Value error, ", "")))
    except (typer.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except OSError as error:
        # disk full, no permission, a folder instead of a file: the user can correct these
        known = OS_MESSAGES.get(error.errno or 0)
        reason = known or (os.strerror(error.errno) if error.errno else str(error))
        sys.exit(_refuse(f"{error.filename or 'file system'}: {reason}"))
    except MemoryError as error:
        sys.exit(_refuse(f"out of memory: {error or 'use a smaller box or fewer volumes'}"))
    sys.exit(status if isinstance(status, int) else 0)


def _refuse(message: str) -> int:
    sys.stderr.write(f"cryoetgan: {escape_controls(message, keep=LINES)}\n")
    return 2

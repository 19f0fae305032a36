"""The command line: one group a stage, one command a workflow rule, no logic."""

import errno
import importlib
import os
import sys
from typing import Annotated, Any

import typer

from cryoetgan import __version__
from cryoetgan.command import configure_logging, group
from cryoetgan.errors import UserError

STAGES = {
    "structures": "PDB download and phantoms.",
    "densities": "Structures to density maps, membranes, random poses: the density domain D.",
    "tomograms": "Bring tomograms in, or simulate some with ground truth.",
    "particles": "Pick, match, score, select, extract: the subtomogram domain S.",
    "imaging": "The physics between D and S.",
    "translation": "The CycleGAN: train it, translate with it.",
    "evaluation": "Classifiers, metrics, ablations and comparisons.",
    "report": "One page with figures and the verdict.",
    "export": "The labelled data in other programs' formats.",
}

SAID = {
    errno.EEXIST: "is a file, and a folder is wanted here",
    errno.ENOTDIR: "is a file, and a folder is wanted here",
    errno.EISDIR: "is a folder, and a file is wanted here",
}
"""What the system says in words that name the wrong thing."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cryoetgan {__version__}")
        raise typer.Exit


app = group("Labelled synthetic cryo-electron tomograms that look like your own microscope's.")


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


# typer's own copy of click, whatever module it lives in: the base of all usage errors
UsageError: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


def build() -> Any:
    """Return the whole command tree (imports no stage's heavy parts)."""
    for stage, text in STAGES.items():
        commands = importlib.import_module(f"cryoetgan.{stage}.commands")
        commands.app.info.help = text
        app.add_typer(commands.app, name=stage)
    importlib.import_module("cryoetgan.setup.commands").register(app)
    return typer.main.get_command(app)


def main() -> None:
    """Run the command line; exit 0 when done, 2 on the user's mistake, 1 on ours."""
    configure_logging()
    try:
        status = build().main(prog_name="cryoetgan", standalone_mode=False)
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
        # disk full, no permission, a folder where a file should be: the user's to mend
        what = SAID.get(error.errno or 0, os.strerror(error.errno or 0))
        sys.exit(_refuse(f"{error.filename or 'file system'}: {what}"))
    except MemoryError as error:
        sys.exit(_refuse(f"out of memory: {error or 'use a smaller box or fewer volumes'}"))
    sys.exit(status if isinstance(status, int) else 0)


def _refuse(message: str) -> int:
    sys.stderr.write(f"cryoetgan: {message}\n")
    return 2

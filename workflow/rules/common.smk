"""Where the project lies, and how a rule calls one command of the package."""

import os
import shlex
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError

# not workflow.basedir: used as a module, that is the outer workflow's folder
ROOT = (
    Path(str(workflow.current_basedir.get_path_or_uri(secret_free=True))) / "../.."
).resolve()
STARTED = time.time()
sys.path.insert(0, str(ROOT))

# after activation of a conda environment, which drops PYTHONPATH
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={shlex.quote(str(ROOT))} PYTHONUNBUFFERED=1; "
)

from cryoetgan.code_hash import code_hash

# an image made of envs/Dockerfile, for `--sdm conda apptainer`: docs/cluster.md
if os.environ.get("CRYOETGAN_CONTAINER"):

    envvars:
        "CRYOETGAN_CONTAINER",

    containerized: os.environ.get("CRYOETGAN_CONTAINER")


def workflow_file(name):
    """A file of the project, or of the working directory where it has one of that name."""
    return name if Path(name).exists() else str(ROOT.joinpath(name))


def cryoetgan(command):
    """The command line of one rule; what it says goes to the log and to the screen."""
    return f"python -m cryoetgan {command} 2>&1 | tee {{log:q}} >&2"


def code(stage):
    """Changes when the code of the stage, or what it imports, changes: the rule runs again."""
    return code_hash(ROOT.joinpath("cryoetgan"), stage)


def folder(wildcards, output):
    """Where a command that takes a folder writes."""
    return os.path.dirname(output[0])


def options(section, *keys, **renamed):
    """`--some-key value` of the config's keys; keys without a value are left out.

    Only the named keys reach the rule: an edit to another key does not run it again.
    """
    values = {key: getattr(section, key) for key in keys}
    values |= {name: getattr(section, key) for name, key in renamed.items()}
    return flags(**values)


def flags(**values):
    """`--some-key value` of what is given; None is left out, lists are repeated."""
    words = []
    for key, value in values.items():
        name = f"--{key.replace('_', '-')}"
        for item in value if isinstance(value, list) else [value]:
            if item is True:
                words.append(name)
            elif item is not None and item is not False:
                words.append(f"{name}={shlex.quote(format_value(item))}")
    return " ".join(words)


def format_value(value):
    if isinstance(value, tuple):
        return ",".join(format_value(item) for item in value)
    return str(value)

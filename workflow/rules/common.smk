"""The plan of the run, and how a rule calls one command of the package."""

import os
import re
import shlex
import sys
import time
from pathlib import Path

import snakemake.logging
from snakemake.exceptions import WorkflowError

STARTED = time.time()
# not workflow.basedir: if this is a module, that is the outer workflow's folder
ROOT = (
    Path(str(workflow.current_basedir.get_path_or_uri(secret_free=True))) / "../.."
).resolve()
# a checkout brings the package; a deployed workflow takes the installed one
IS_CHECKOUT = (ROOT / "cryoetgan/__init__.py").exists()
if IS_CHECKOUT:
    sys.path.insert(0, str(ROOT))

import cryoetgan
from cryoetgan.code_hash import code_hash
from cryoetgan.errors import UserError
from cryoetgan.evaluation.ablations import ABLATIONS
from cryoetgan.io.files import write_text
from cryoetgan.setup.input_files import refuse_unsafe_tables
from cryoetgan.tomograms.sources.addresses import is_remote
from cryoetgan.translation.presets import read_preset
from cryoetgan.workflow import console
from cryoetgan.workflow.shell_options import format_options, section_options
from cryoetgan.workflow.plan import Plan, arrays, find_file, one_of, stack
from cryoetgan.workflow.translation import SETS, UNCERTAINTY_MAPS

PACKAGE = Path(cryoetgan.__file__).parent
if set("{}") & set(str(ROOT)):
    raise WorkflowError(
        f"{ROOT}: has braces, which Snakemake takes for variables; rename it"
    )
# activation of a conda environment drops PYTHONPATH: it is set again after it
PATHS = f"PYTHONPATH={shlex.quote(str(ROOT))} " if IS_CHECKOUT else ""
shell.prefix(f"set -euo pipefail; export {PATHS}PYTHONUNBUFFERED=1; ")

if workflow.is_main_process:
    console.install(snakemake.logging.logger, lambda: workflow.dryrun)

# an image made from envs/Dockerfile, for `--sdm conda apptainer`: docs/cluster.md
if os.environ.get("CRYOETGAN_CONTAINER"):

    envvars:
        "CRYOETGAN_CONTAINER",

    containerized: os.environ.get("CRYOETGAN_CONTAINER")


def checked(function, *arguments):
    """Call a function; a user's mistake ends the workflow with its message alone."""
    try:
        return function(*arguments)
    except UserError as error:
        raise WorkflowError(str(error)) from None


def step(command):
    """The command line of one rule; its output goes to the rule's log."""
    return f"python -m cryoetgan {command} > {{log:q}} 2>&1"


def code(stage):
    """Hash of the code of a stage and its imports: if it changes, the rule runs again."""
    return code_hash(PACKAGE, stage)


def folder(wildcards, output):
    """The folder of a rule's output, for commands that write a folder."""
    return os.path.dirname(output[0])


def more_each_attempt(amount):
    """A resource that grows with each attempt: retries follow lack of memory or time."""
    return lambda wildcards, attempt: amount * attempt


def save_config():
    """Write the configuration of the run beside its results."""
    import yaml

    text = yaml.safe_dump(plan.config.model_dump(mode="json"), sort_keys=False)
    path = Path(plan.results("config.yaml"))
    if not path.exists() or path.read_text() != text:
        write_text(path, text)


def write_yaml(path, content, log):
    """Write a file that a rule makes of the configuration alone."""
    import yaml

    write_text(Path(path), yaml.safe_dump(content, sort_keys=False))
    write_text(Path(log), f"wrote {path}\n")


def print_report_path():
    page = Path(plan.results("report/index.html")).resolve()
    if page.exists():
        print(f"\nThe report: {page}\n", file=sys.stderr)


def print_failures():
    """Repeat the message of each failed command at the end of the run."""
    failures = console.failures_since(Path(plan.results("logs")), STARTED)
    if failures:
        print("\nErrors:", file=sys.stderr)
    for message, path in failures:
        print(f"  {message}\n    (log: {path})", file=sys.stderr)

"""`snakemake --use-conda --cores 8`, for real, in environments made from envs/*.yaml.

The channel is local: conda packages made from wheels, solved and installed by rattler behind
a stand-in for the `conda` command. So this checks that the environment files parse and solve
against the names and versions they state, and that each rule runs in its own isolated
environment. It does not check that conda-forge holds those versions, nor CUDA builds, nor
EMAN2, which a stand-in package with the same command replaces.
"""

import ast
import os
import re
import subprocess
import sys

import pytest
import yaml

from cryoetgan.cli import STAGES
from cryoetgan.code_hash import code_files
from tests.conftest import ROOT
from tests.workflow.channel import ENVS
from tests.workflow.conftest import TINY

PACKAGE_OF = {
    "PIL": "pillow",
    "torch": "pytorch",
    "yaml": "pyyaml",
    "skimage": "scikit-image",
    "matplotlib": "matplotlib-base",
    "cryoet_data_portal": "cryoet-data-portal",
}
BROUGHT_BY = {
    "markupsafe": "jinja2",
    "zarr": "copick",
    "gql": "cryoet-data-portal",
    "requests": "cryoet-data-portal",
}


def test_environments_are_pinned_to_minor_versions():
    for path in ENVS:
        content = yaml.safe_load(path.read_text())
        assert content["channels"][-1] == "nodefaults", path.name
        listed = content["dependencies"]
        for entry in [e for e in listed if isinstance(e, str)]:
            # EMAN2 brings its own Python and numpy: what is built on them is left to the solver
            free = path.stem == "eman2" and entry in ("pandas", "scipy")
            assert re.fullmatch(r"[\w.-]+ =\d[\w.]*", entry) or free, f"{path.name}: {entry}"
        for entry in [word for e in listed if isinstance(e, dict) for word in e["pip"]]:
            assert re.fullmatch(r"[\w.-]+ ==\d+\.\d+\.\*", entry), f"{path.name}: {entry}"


FOREIGN = "export/run_deepfinder.py"
"""Part of an export, which DeepFinder's own Python runs."""


def imported_packages(stage):
    """Return the conda packages that a stage imports, its shared modules included."""
    found = set()
    for name in code_files(ROOT / "cryoetgan", stage):
        first = name.split("/")[0]
        if not name.endswith(".py") or first in set(STAGES) - {stage} or name == FOREIGN:
            continue
        for node in ast.walk(ast.parse((ROOT / "cryoetgan" / name).read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    found -= {"cryoetgan", *sys.stdlib_module_names}
    return {PACKAGE_OF.get(name, BROUGHT_BY.get(name, name)) for name in found}


@pytest.mark.parametrize("stage", STAGES)
def test_each_environment_holds_what_its_stage_imports(stage):
    text = (ROOT / "envs" / f"{stage}.yaml").read_text()
    held = set(re.findall(r'^ +- "?([\w.-]+) =', text, re.MULTILINE))
    assert imported_packages(stage) - held == set()


def test_torch_is_only_where_tensors_are_computed():
    having = {path.stem for path in ENVS if "pytorch" in path.read_text()}
    assert having <= {"particles", "imaging", "translation", "detection", "evaluation"}


@pytest.mark.slow
def test_the_tiny_chain_runs_in_conda_environments(project, conda):
    words = ("--config", "run=conda", "--configfile", TINY[1])
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--use-conda", "--cores", "8", *words],
        cwd=project.folder,
        env={**os.environ, **conda},
        capture_output=True,
        text=True,
        timeout=900,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-5000:]
    assert (project.folder / "results/conda/report/index.html").exists()
    made = list((project.folder / ".snakemake/conda").glob("*/conda-meta"))
    assert len(made) == len(ENVS) - 2, "one environment a stage; here none of eman2 and detection"
    # the rules ran in those environments, not in the tests' own
    for meta in made:
        assert not list(meta.parent.glob("lib/python*/site-packages/pytest"))

"""`snakemake --use-conda --cores 8`, for real, in environments made from envs/*.yaml.

The channel is local: conda packages made from wheels, solved and installed by rattler behind
a stand-in for the `conda` command. So this checks that the environment files parse and solve
against the names and versions they state, and that each rule runs in its own isolated
environment. It does not check that conda-forge holds those versions, nor CUDA builds, nor
EMAN2, which a stand-in package with the same command replaces.
"""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.workflow.conftest import TINY

TOOLS = ROOT / "tests/workflow/conda_offline"
ENVS = sorted((ROOT / "envs").glob("*.yaml"))
CHANNELS = ("conda-forge", "cryoem")
TO_WHEEL = {"pytorch": "torch", "matplotlib-base": "matplotlib", "snakemake-minimal": "snakemake"}
NOT_WHEELS = {"python", "eman-dev"}


def requirements() -> list[str]:
    """What all environments ask for, as wheels: `pytorch =2.13` is torch 2.13.*."""
    found = {}
    for path in ENVS:
        for entry in yaml.safe_load(path.read_text())["dependencies"]:
            if isinstance(entry, str):
                name, _, version = re.fullmatch(r"([\w.-]+)\s*(=?)\s*([\w.]*)", entry).groups()
                found.setdefault(name, set()).update({version} - {""})
    words = []
    for name, versions in sorted(found.items()):
        assert len(versions) < 2, f"{name} is pinned differently in two environments: {versions}"
        version = versions.pop() if versions else ""
        if name not in NOT_WHEELS:
            # the CPU build on this kind of machine is one exact version
            pin = "==2.13.0" if name == "pytorch" else f"=={version}.*" if version else ""
            words.append(TO_WHEEL.get(name, name) + pin)
    return words


@pytest.fixture(scope="session")
def conda(tmp_path_factory):
    """Environment variables that put the stand-in and its channel in place."""
    pytest.importorskip("rattler")
    wanted = requirements()
    key = hashlib.sha256(" ".join(wanted).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("CRYOETGAN_TEST_CACHE", tmp_path_factory.mktemp("conda")))
    channels = cache / f"channel-{key}"
    if not (channels / "ready").exists():
        for channel in CHANNELS:
            (channels / channel).mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, TOOLS / "mkchannel.py", channels / CHANNELS[0], *wanted],
            check=True,
            timeout=900,
        )
        standin = channels / "eman2"
        (standin / "bin").mkdir(parents=True, exist_ok=True)
        program = standin / "bin" / "e2pdb2mrc.py"
        program.write_text("#!/bin/sh\necho 'a stand-in for EMAN2'\n")
        program.chmod(0o755)
        subprocess.run(
            [
                sys.executable,
                TOOLS / "mkchannel.py",
                channels / CHANNELS[1],
                "--tree",
                f"eman-dev=2.99.72={standin}",
            ],
            check=True,
            timeout=300,
        )
        (channels / "ready").touch()
    return {
        "CONDA_CHANNEL_ALIAS": f"file://{channels}",
        "CONDA_PKGS_DIRS": str(cache / "packages"),
        "CONDA_STANDIN_PYTHON": sys.executable,
        "PATH": f"{TOOLS / 'root/bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
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


def test_torch_is_only_where_tensors_are_computed():
    having = {path.stem for path in ENVS if "pytorch" in path.read_text()}
    assert having <= {"particles", "imaging", "translation", "evaluation"}


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
    assert len(made) == len(ENVS) - 1, "one environment a stage; eman2's is not asked for here"
    # the rules ran in those environments, not in the tests' own
    for meta in made:
        assert not list(meta.parent.glob("lib/python*/site-packages/pytest"))

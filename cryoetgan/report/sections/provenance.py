"""Section: run times, configuration, provenance of each file, and the machine."""

import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from markupsafe import Markup

from cryoetgan.report.evaluation_json import short
from cryoetgan.report.html import Section, macros
from cryoetgan.report.results import Results
from cryoetgan.report.run import Run

PACKAGES = ("numpy", "scipy", "torch", "mrcfile", "starfile", "pandas", "snakemake")
SHOWN_ELSEWHERE = ("evaluation", "report")
"""Stages whose warnings are read from their results, not from their logs."""


def render(run: Run) -> Iterator[Markup]:
    """Yield timings, configuration, provenance and machine, each folded."""
    if rows := sorted(run.results.timings(), key=lambda row: -_finite(row["seconds"])):
        minutes = sum(_finite(row["seconds"]) for row in rows) / 60
        memory = max(_finite(row["memory"]) for row in rows)
        heading = ["job", "seconds", "CPU seconds", "memory, MB"]
        cells = [[r["step"], *(short(r[k]) for k in ("seconds", "cpu", "memory"))] for r in rows]
        yield macros.details(
            f"Time and memory: {minutes:.{0 if minutes >= 10 else 1}f} minutes in total, at most "
            f"{memory:.0f} MB",
            macros.grid([heading, *cells], "timings"),
        )
    if config := run.results.text("config.yaml"):
        yield macros.details("Configuration", macros.pre(config))
    if records := list(run.results.provenance()):
        yield macros.details("Origin of each file", macros.records(records))
    machine = macros.pairs(describe_machine(), "machine")
    yield macros.details("Hardware and versions of this report", machine)
    yield macros.note(
        "Created by cryoetgan. Please cite Wu et al. 2022, Frontiers in Physiology 13:760404, "
        "doi 10.3389/fphys.2022.760404."
    )


def warnings(run: Run, max_lines: int = 30) -> list[str]:
    """Return the warnings in the logs of all jobs; jobs with the same warning share a line."""
    jobs: dict[str, list[str]] = {}
    for job, text in run.results.log_lines("WARNING "):
        if job.split("/")[0] not in SHOWN_ELSEWHERE and not job.endswith("/uncertainty"):
            jobs.setdefault(text, []).append(job)
    return [f"{', '.join(names)}: {text}" for text, names in jobs.items()][:max_lines]


def failed_jobs(results: Results) -> list[str]:
    """Return the last message of each job that failed."""
    return [f"{job} failed: {text}" for job, text in results.log_lines("cryoetgan: ")]


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def describe_machine() -> list[tuple[str, str]]:
    """Return hardware, system and versions as (name, value), without host or user names."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = [
        ("processor", processor_name()),
        ("cores", str(os.cpu_count() or "?")),
        ("memory", f"{memory:.0f} GiB"),
        ("GPU", gpu_names()),
        ("system", f"{platform.system()} {platform.machine()}"),
        ("Python", platform.python_version()),
    ]
    for name in PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue  # the report's environment is small
    return found


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of the processor."""
    if cpuinfo.exists():
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
        named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        if named:
            return named[1].strip()
    return platform.processor() or platform.machine()


def gpu_names() -> str:
    """Return the names of the GPUs, or "none"."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "none"
    words = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "none"
    names = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return "; ".join(names) if done.returncode == 0 and names else "none"


SECTION = Section("provenance", "Provenance", render, warnings)

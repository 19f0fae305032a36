"""Section: run times, configuration, provenance of each file, and the machine."""

import math
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from cryoetgan.machine import gpu_names, memory_bytes
from cryoetgan.report.evaluation_json import short
from cryoetgan.report.results import Results
from cryoetgan.report.run import Run
from cryoetgan.report.sections import imaging

PACKAGES = ("numpy", "scipy", "torch", "mrcfile", "starfile", "pandas", "snakemake")
SHOWN_ELSEWHERE = ("evaluation", "report")
"""Stages whose warnings are read from their results, not from their logs."""


def describe_run(run: Run) -> dict[str, Any]:
    """Return timings, configuration, provenance and machine."""
    rows = sorted(run.results.timings(), key=lambda row: -_finite(row["seconds"]))
    minutes = sum(_finite(row["seconds"]) for row in rows) / 60
    memory = max((_finite(row["memory"]) for row in rows), default=0)
    cells = [[r["step"], *(short(r[k]) for k in ("seconds", "cpu", "memory"))] for r in rows]
    return {
        "total": f"{minutes:.{0 if minutes >= 10 else 1}f} minutes, summed over all jobs; at most "
        f"{memory:.0f} MB",
        "timings": [["job", "seconds", "CPU seconds", "memory, MB"], *cells] if rows else [],
        "config": run.results.text("config.yaml"),
        "records": list(run.results.provenance()),
        "machine": describe_machine(),
    }


def warnings(run: Run, max_lines: int = 30) -> list[str]:
    """Return the warnings in the logs of all jobs; jobs with the same warning share a line.

    Warnings that the results of a job hold, too, are left to the section of these results.
    """
    jobs: dict[str, list[str]] = {}
    of_fits = imaging.warnings(run)
    texts = {text.partition(": ")[2] for text in of_fits}
    with_power = {text.partition(": ")[0] for text in of_fits if imaging.POWER in text}
    for job, text in run.results.log_lines("WARNING "):
        if job.split("/")[0] in SHOWN_ELSEWHERE or job.endswith(("/uncertainty", "_hand")):
            continue
        is_power = text.startswith(f"{job}.json: ") and job.partition("/")[2] in with_power
        if is_power or text.partition(": ")[2] in texts:
            continue
        jobs.setdefault(text, []).append(job)
    return [f"{', '.join(names)}: {text}" for text, names in jobs.items()][:max_lines]


def failed_jobs(results: Results) -> list[str]:
    """Return the last message of each job that failed."""
    return [f"{job} failed: {text}" for job, text in results.log_lines("cryoetgan: ")]


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def describe_machine() -> dict[str, str]:
    """Return hardware, system and versions, without host or user names."""
    memory = memory_bytes() / 2**30
    found = {
        "processor": processor_name(),
        "cores": str(os.cpu_count() or "?"),
        "memory": f"{memory:.0f} GiB",
        "GPU": "; ".join(gpu_names()) or "none",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # the report's environment is small
    return found


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of the processor."""
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()

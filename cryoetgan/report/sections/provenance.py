"""Section: run times, configuration, provenance of each file, and the machine."""

import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from cryoetgan.report.evaluation_json import short
from cryoetgan.report.results import Results
from cryoetgan.report.run import Run
from cryoetgan.report.section import Section

PACKAGES = ("numpy", "scipy", "torch", "mrcfile", "starfile", "pandas", "snakemake")
SHOWN_ELSEWHERE = ("evaluation", "report")
"""Stages whose warnings are read from their results, not from their logs."""
TEMPLATE = """
{% if timings %}
<details><summary>Time and memory: {{ minutes }} minutes in total, at most {{ memory }} MB</summary>
{{ m.grid(timings, "timings") }}</details>
{% endif %}
{% if config %}<details><summary>Configuration</summary><pre>{{ config }}</pre></details>{% endif %}
{% if records %}
<details><summary>Origin of each file</summary><div class="wide"><table><thead><tr><th>file</th>
<th>command</th><th>version</th><th class="n">seed</th><th>inputs (SHA-256)</th></tr></thead><tbody>
{% for name, record in records %}
<tr><td><code>{{ name }}</code></td><td>{{ record.get("command", "") }}</td>
<td>{{ record.get("version", "") }}</td>
<td class="n">{{ "" if record.get("seed") is none else record.get("seed") }}</td>
<td class="inputs">{% for file, hash in record.inputs.items() %}{{ file }}&nbsp;<code>{{
(hash|string)[:10] }}</code>{% if not loop.last %}, {% endif %}{% endfor %}</td></tr>
{% endfor %}
</tbody></table></div></details>
{% endif %}
<details><summary>Hardware and versions of this report</summary><div class="wide">
<table id="machine"><tbody>
{% for name, value in machine %}<tr><th>{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}
</tbody></table></div></details>
<p class="dim">Created by cryoetgan. Please cite Wu et al. 2022, Frontiers in Physiology 13:760404,
doi 10.3389/fphys.2022.760404.</p>
"""


def context(run: Run) -> Mapping[str, Any]:
    """Return timings, configuration, provenance and machine."""
    return {
        **summarise_timings(run.results),
        "config": run.results.text("config.yaml"),
        "records": list(run.results.provenance()),
        "machine": describe_machine(),
    }


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


def summarise_timings(results: Results) -> dict[str, Any]:
    """Return time and memory of each job, the longest first, with total and maximum."""
    rows = sorted(results.timings(), key=lambda row: -_finite(row["seconds"]))
    minutes = sum(_finite(row["seconds"]) for row in rows) / 60
    memory = max((_finite(row["memory"]) for row in rows), default=0.0)
    heading = ["job", "seconds", "CPU seconds", "memory, MB"]
    cells = [
        [row["step"], *(short(row[key]) for key in ("seconds", "cpu", "memory"))] for row in rows
    ]
    return {
        "timings": [heading, *cells] if cells else [],
        "minutes": f"{minutes:.0f}" if minutes >= 10 else f"{minutes:.1f}",
        "memory": f"{memory:.0f}",
    }


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


SECTION = Section(
    name="provenance",
    title="Provenance",
    template=TEMPLATE,
    context=context,
    warnings=warnings,
)

"""Where the page was made, and with what; no name of the machine or its user."""

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("numpy", "scipy", "torch", "mrcfile", "starfile", "pandas", "snakemake")
CPUINFO = Path("/proc/cpuinfo")


def machine() -> list[tuple[str, str]]:
    """Return hardware, system and versions as (what, value)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = [
        ("processor", processor()),
        ("cores", str(os.cpu_count() or "?")),
        ("memory", f"{memory:.0f} GiB"),
        ("GPU", gpu()),
        ("system", f"{platform.system()} {platform.machine()}"),
        ("Python", platform.python_version()),
    ]
    for name in PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue  # the report's own environment is small
    return found


def processor() -> str:
    """Return the processor's name as the system has it."""
    if CPUINFO.exists():
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
        named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        if named:
            return named[1].strip()
    return platform.processor() or platform.machine()


def gpu() -> str:
    """Return the GPUs' names, or that there is none."""
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

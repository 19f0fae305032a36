"""Programs of this machine, and what they say about it."""

import os
import shutil
import subprocess


def run_program(*command: str) -> str | None:
    """Return the output of a program, or None if it does not exist or fails."""
    program = shutil.which(command[0])
    if program is None:
        return None
    words = [program, *command[1:]]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def memory_bytes() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def gpu_names() -> list[str]:
    """Return name and memory of each GPU."""
    found = run_program("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    return [line.strip() for line in (found or "").splitlines()]

"""Programs of this machine, what they say about it, and how ours uses its processor."""

import ctypes
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


TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt: the sizes from which memory returns to the system, and from which
it is asked of the system anew."""


def set_up_processor() -> None:
    """Let threads sleep while they wait, and arrays reuse freed memory; call it before torch.

    By default, waiting threads of OpenMP spin, which takes the core from a thread that works.
    Arrays of some megabytes return to the system when they are freed, and the next ones are cleared
    page by page: up to a third of the time of small networks.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, 256 << 20)
        mallopt(MMAP_THRESHOLD, 32 << 20)  # the largest that is allowed

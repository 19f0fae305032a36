"""Fixtures of all tests, and the order of the files."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import fork_server
from tests.in_process import cryoetgan

# Before numpy and torch are loaded: tests run in parallel, so more threads would only wait. Processes
# that keep no compiled modules would compile the libraries again.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

__all__ = ["cryoetgan"]
ROOT = Path(__file__).resolve().parents[1]
LONGEST = (
    "workflow/test_chain.py",
    "workflow/test_one_class.py",
    "workflow/test_slurm.py",
    "workflow/test_extended.py",
    "workflow/test_reruns.py",
    "workflow/test_groups.py",
    "setup/test_tutorial.py",
    "particles/test_score.py",
    "conventions/test_truth.py",
    "workflow/test_deployed.py",
)
"""Files that take longest; parallel runs start with them. The third waits for its cluster while the
others work; the fourth needs the run of the first."""


def pytest_configure(config):
    """Let all test processes share one server of commands."""
    if not hasattr(config, "workerinput"):
        fork_server.prepare()


def pytest_unconfigure(config):
    """Remove what `pytest_configure` made."""
    if not hasattr(config, "workerinput"):
        fork_server.close()


def pytest_collection():
    """Let the first worker compile all modules; the others wait, and read the compiled ones."""
    collected = Path(os.environ[fork_server.VARIABLE]) / "collected"
    end = time.monotonic() + 120
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0" and not sys.dont_write_bytecode:
        while not collected.exists() and time.monotonic() < end:
            time.sleep(0.2)


def pytest_collection_finish():
    """Let the other workers collect."""
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw0":
        (Path(os.environ[fork_server.VARIABLE]) / "collected").touch()


def pytest_collection_modifyitems(items):
    """Put the longest files first, and keep the order of the others."""

    def rank(item):
        name = "/".join(Path(item.path).parts[-2:])
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=rank)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real structures, maps and tomograms; the test is skipped without it."""
    folder = os.environ.get("CRYOETGAN_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CRYOETGAN_TEST_DATA names no folder: the tests on real data do not run")
    return Path(folder).resolve()


@pytest.fixture
def rng():
    """Return a random generator, the same in every test."""
    import numpy as np

    return np.random.default_rng(7)


@pytest.fixture
def process(tmp_path):
    """Run the command line in a separate process; the fixture `cryoetgan` runs it in this one."""

    def run(*words: object, code: int = 0, cwd: Path = tmp_path, **environment: str):
        done = subprocess.run(
            [sys.executable, "-m", "cryoetgan", *map(str, words)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def refused(done, *words: str) -> None:
    """Assert that a command ended with one message that holds all `words`."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("cryoetgan: ")]
    assert "Traceback" not in done.stderr, done.stderr
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in done.stderr, f"{word!r} not in {done.stderr!r}"

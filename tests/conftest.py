"""Fixtures all tests share."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real structures, reference maps and tomograms; the test is skipped without them."""
    folder = os.environ.get("CRYOETGAN_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CRYOETGAN_TEST_DATA names no folder: the tests on real data do not run")
    return Path(folder).resolve()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def cryoetgan(tmp_path):
    """Run the command line in a process of its own: `cryoetgan("particles", "pick", ...)`."""

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
    """Assert that a command ended in one clear message that holds all `words`."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("cryoetgan: ")]
    assert "Traceback" not in done.stderr, done.stderr
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in done.stderr, f"{word!r} not in {done.stderr!r}"

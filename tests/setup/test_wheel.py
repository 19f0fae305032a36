"""The wheel builds, holds the package's data, and runs where nothing else of the project is."""

import os
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_wheel_installs_and_runs_alone(tmp_path):
    # from a copy: a build leaves folders behind, and old ones get into the wheel
    source = tmp_path / "source"
    source.mkdir()
    tracked = subprocess.run(
        [
            "git",
            "ls-files",
            "-co",
            "--exclude-standard",
            "cryoetgan",
            "pyproject.toml",
            "README.md",
            "LICENSE",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split()
    if not tracked:
        pytest.skip("no git here: what belongs into the wheel is not known")
    for name in tracked:
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, source], check=True, timeout=600)
    (wheel,) = tmp_path.glob("cryoetgan-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    wanted = {name for name in tracked if name.startswith("cryoetgan/") and (ROOT / name).exists()}
    assert wanted <= held, wanted - held
    alone = tmp_path / "alone"
    subprocess.run([*pip, "install", "--no-deps", "--target", alone, wheel], check=True)

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-P", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(alone)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("-c", "import cryoetgan; print(cryoetgan.__file__)")
    assert where.startswith(str(alone))
    assert "cryoetgan" in run("-m", "cryoetgan", "--version")
    presets = run("-c", "from cryoetgan.translation.presets import *; print(known_presets())")
    assert "paper" in presets
    run("-m", "cryoetgan", "structures", "phantom", "tric", "-o", "tric.cif")
    assert (tmp_path / "tric.cif").stat().st_size > 1000

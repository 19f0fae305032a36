"""The wheel builds, holds the package's data, and runs where nothing else of the project is."""

import os
import subprocess
import sys
import sysconfig
import zipfile

import mrcfile
import numpy as np
import pytest

from tests.conftest import ROOT

FILES = ("cryoetgan", "pyproject.toml", "README.md", "LICENSE")


@pytest.mark.slow
def test_the_wheel_installs_and_runs_alone(tmp_path):
    pytest.importorskip("build", reason="NO WHEEL IS TESTED: pip install build")
    # from a copy: a build leaves folders behind, and old ones get into the wheel
    source = tmp_path / "source"
    listed = ["git", "ls-files", "-co", "--exclude-standard", *FILES]
    tracked = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not tracked:
        pytest.skip("no git here: what belongs into the wheel is not known")
    for name in tracked:
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--outdir", tmp_path / "dist", source]
    subprocess.run(build, check=True, timeout=600, stdout=subprocess.DEVNULL)
    # the wheel was made of the source archive, so that one is whole too
    assert list((tmp_path / "dist").glob("cryoetgan-*.tar.gz"))
    (wheel,) = (tmp_path / "dist").glob("cryoetgan-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    wanted = {name for name in tracked if name.startswith("cryoetgan/") and (ROOT / name).exists()}
    assert wanted <= held, wanted - held

    # an environment of its own; what the wheel needs is lent by this one
    home = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", home], check=True, timeout=300)
    python, command = home / "bin" / "python", home / "bin" / "cryoetgan"
    subprocess.run([python, "-m", "pip", "-q", "install", "--no-deps", wheel], check=True)
    paths = {"base": home, "platbase": home}
    lent = sysconfig.get_path("purelib")
    own = sysconfig.get_path("purelib", vars=paths)
    with open(os.path.join(own, "lent.pth"), "w") as file:
        file.write(f"{lent}\n")

    def run(*words):
        done = subprocess.run(
            list(map(str, words)),
            cwd=tmp_path,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    where = run(python, "-P", "-c", "import cryoetgan; print(cryoetgan.__file__)")
    assert where.startswith(str(home)), where
    assert "cryoetgan" in run(command, "--version")
    assert "translation" in run(command, "--help")
    presets = run(
        python, "-P", "-c",
        "from cryoetgan.translation.presets import *; print(known_presets())",
    )  # fmt: skip
    assert "paper" in presets
    run(command, "structures", "phantom", "tric", "-o", "tric.cif")
    assert (tmp_path / "tric.cif").stat().st_size > 1000
    (tmp_path / "mine").mkdir()
    with mrcfile.new(tmp_path / "mine" / "TS_1.mrc") as tomogram:
        tomogram.set_data(np.zeros((4, 6, 8), np.float32))
        tomogram.voxel_size = 10.0
    (tmp_path / "mine" / "TS_1.rawtlt").write_text("-60\n0\n60\n")
    run(command, "init", "mine")
    assert "TS_1" in (tmp_path / "mine" / "tomograms.tsv").read_text()
    assert "1 tomograms" in run(command, "check", "--config", "mine/config.yaml")

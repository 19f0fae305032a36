"""The tutorial's commands do what it says: up to the dry run always, to the end where time allows."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.fork_server import forking_python

PAGE = ROOT / "docs" / "tutorial.md"
COPIED = ["workflow", "config", "envs", "cryoetgan", "slurm"]


def commands() -> list[str]:
    """Return the page's blocks of commands."""
    return re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Return a function that runs commands in a copy of the project."""
    folder = tmp_path_factory.mktemp("tutorial") / "project"
    half = shutil.ignore_patterns("*.pyc.*")  # compiled modules that others are writing
    for name in COPIED:
        if (ROOT / name).is_symlink():
            (folder / name).symlink_to(os.readlink(ROOT / name))
        else:
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=half)
    # the commands of this environment, whether it is activated or not; the copy's code
    paths = f"{forking_python().parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {**os.environ, "PATH": paths, "PYTHONPATH": str(folder)}

    def run(block: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            timeout=1200,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{block}\n{said[-5000:]}"
        return said

    run.folder = folder
    return run


def test_the_tutorial_up_to_the_dry_run(shell):
    blocks = commands()
    dry = next(i for i, block in enumerate(blocks) if "snakemake --dry-run" in block)
    said = [shell(block) for block in blocks[: dry + 1]]
    checked = next(s for b, s in zip(blocks, said, strict=False) if "cryoetgan check" in b)
    assert "2 classes, 2 tomograms" in checked
    assert "missing" not in checked
    mine = shell.folder / "tutorial/my_tomograms"
    rows = (mine / "tomograms.tsv").read_text().splitlines()
    # nothing has to be filled in by hand: contrast, tilts, defocus and annotations were found
    assert rows[1].split("\t") == [
        "TS_1",
        "tutorial/my_tomograms/TS_1.mrc",
        *("20", "-60", "60", "3", "300", "4", "raw", "bright", "", ""),
        *("tutorial/my_tomograms/TS_1_annotations.star", "", "", ""),
    ]
    assert yaml.safe_load((mine / "config.yaml").read_text())["run"] == "my_tomograms"
    for rule in ("tomograms_import", "translation_train", "report_build"):
        assert rule in said[-1]


@pytest.mark.slow
def test_the_tutorial_to_the_end(shell):
    blocks = commands()
    first = 0
    if (shell.folder / "tutorial/small.yaml").exists():  # the test above was here
        first = next(i for i, b in enumerate(blocks) if "snakemake --cores" in b)
    for block in blocks[first:]:
        shell(block)
    results = shell.folder / "results/my_tomograms"
    page = (results / "report/index.html").read_text()
    assert "tested on" in page
    assert "annotated, test" in page  # the data that the classifiers were tested on
    for name in ("relion/particles.star", "plain/objects.xml", "copick/config.json"):
        assert (shell.folder / "tutorial/export" / name).exists()
    assert (shell.folder / "tutorial/export/picked/particles_relion5.star").exists()
    assert (shell.folder / "tutorial/gallery.html").exists()
    for folder in ("relion", "plain", "copick", "picked"):
        assert (shell.folder / "tutorial/export" / folder / "README.md").stat().st_size > 500


def test_every_file_the_page_links_to_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text()):
        assert (PAGE.parent / target).exists(), target

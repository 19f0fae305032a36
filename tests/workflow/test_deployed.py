"""The workflow without a checkout: copied elsewhere, or used as a module, with the package installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.fork_server import forking_python

MAP = "results/tiny/densities/membrane.mrc"
MODULE = """
configfile: "own.yaml"


module cryoetgan:
    snakefile:
        "{snakefile}"
    config:
        config


use rule * from cryoetgan as cryo_*
"""


@pytest.fixture
def deployed(tmp_path):
    """A copy of the workflow, its environments and the tiny run's tables; no package."""
    folder = tmp_path / "deployed"
    for name in ("workflow", "envs", "config", "tests/workflow"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True)
    return folder


def snakemake(folder: Path, *words: str) -> str:
    """Run snakemake in a folder; the package is found as an installed one is."""
    python = forking_python()
    paths = f"{python.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [python, "-m", "snakemake", "--cores", "1", *words],
        cwd=folder,
        env={**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    return said


def test_deployed_elsewhere_it_takes_the_installed_package(deployed):
    assert not (deployed / "cryoetgan").exists()
    words = ("--configfile", "tests/workflow/tiny.yaml")
    assert "report_build" in snakemake(deployed, "-n", *words)
    snakemake(deployed, *words, "--", MAP)
    assert (deployed / MAP).exists()


def test_as_a_module_it_takes_the_outer_configuration(deployed, tmp_path):
    outer = tmp_path / "outer"
    outer.mkdir()
    config = (deployed / "tests/workflow/tiny.yaml").read_text()
    (outer / "own.yaml").write_text(config.replace("tests/workflow/", ""))
    for table in ("tiny_classes.tsv", "tiny_tomograms.tsv"):
        shutil.copy(deployed / "tests/workflow" / table, outer)
    text = MODULE.format(snakefile=deployed / "workflow/Snakefile")
    (outer / "Snakefile").write_text(text)
    assert "cryo_report_build" in snakemake(outer, "-n", "--", "cryo_all")
    snakemake(outer, "--", MAP)
    assert (outer / MAP).exists()

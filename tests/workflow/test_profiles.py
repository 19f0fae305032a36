"""Profiles resolve as typed, and every rule asks for what a cluster wants to know."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.workflow.conftest import TINY

STANDIN = ROOT / "tests/workflow/conda_offline/root/bin"


@pytest.fixture
def conda_on_path():
    return {
        "PATH": f"{STANDIN}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CONDA_STANDIN_PYTHON": sys.executable,
    }


def test_profile_slurm_resolves_from_the_projects_root(project, conda_on_path):
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--profile", "slurm", "-n", *TINY],
        cwd=project.folder,
        env={**os.environ, **conda_on_path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    jobs = re.findall(r"^rule (\w+):.*?(?=^\[|^rule |\Z)", said, re.MULTILINE | re.DOTALL)
    assert "translation_train" in jobs
    training = said.split("rule translation_train:")[1].split("Shell command")[0]
    for word in ("slurm_partition=gpu", "gpu=1", "mem_mb=16000", "runtime=720"):
        assert word in training, training


def test_every_rule_has_log_benchmark_threads_resources_and_an_environment():
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for rule in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            name = rule.split(":")[0]
            for part in ("log:", "benchmark:", "threads:", "resources:", "conda:", "code=code("):
                assert part in rule, f"{path.name}: {name} lacks {part}"
            assert rule.count("cryoetgan(") == 1, f"{name} calls more than one command"


def test_each_stage_has_its_environment():
    from cryoetgan.cli import STAGES

    for stage in [*STAGES, "eman2"]:
        assert (ROOT / "envs" / f"{stage}.yaml").exists(), stage

"""Whatever ends a run, the next one goes on: kills, two runs at once, damaged intermediates."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cryoetgan.setup.validate import find_problems
from tests.workflow.cluster import wait_until
from tests.workflow.conftest import TINY, Project

pytestmark = pytest.mark.slow
STAGES = (
    "structures", "densities", "tomograms", "particles", "imaging", "translation", "evaluation",
    "export", "report",
)  # fmt: skip
DATA = (".mrc", ".mrcs", ".star", ".pt", ".csv", ".cif", ".npz")
DAMAGED = {
    "densities/proteasome.mrc": "densities/poses.star",
    "densities/poses.mrcs": "imaging/simulated.star",
    "tomograms/t1.mrc": "particles/t1_picks.star",
    "particles/t1_picks.star": "particles/t1_scores.star",
    "particles/subtomograms.mrcs": "translation/smoke/checkpoint.pt",
    "translation/smoke/checkpoint.pt": "translation/smoke/generated.star",
    "translation/smoke/generated.mrcs": "evaluation/gan_train.json",
    "evaluation/real_train.pt": "evaluation/measure.json",
    "evaluation/measure.json": "report/index.html",
}
"""What lies between two stages, and what is made of it."""


def started(project: Project, *words: str) -> subprocess.Popen:
    """Return snakemake running in the project, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "2", *TINY, *words],
        cwd=project.folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.fixture
def wanted(tiny_run, shared):
    """The results of the tiny run, to which no other test adds any."""
    return shared / "tiny" / "a project" / "results" / "tiny"


def data(results: Path) -> dict[str, bytes]:
    """Return the bytes of all data files."""
    return {
        str(path.relative_to(results)): path.read_bytes()
        for path in sorted(results.rglob("*"))
        if path.suffix in DATA and "benchmarks" not in path.parts
    }


def begins(logs: Path, run: subprocess.Popen) -> Callable[[], bool]:
    """Return what is true once a job of a stage writes its log, or the run has ended."""
    before = {path: path.stat().st_mtime_ns for path in logs.rglob("*.log")}

    def true() -> bool:
        now = {path: path.stat().st_mtime_ns for path in logs.rglob("*.log")}
        return now != before or run.poll() is not None

    return true


def test_killed_in_every_stage_and_resumed_it_makes_the_same_bytes(wanted, tmp_path):
    project = Project(tmp_path / "killed")
    for stage in STAGES:
        run = started(project)
        wait_until(begins(project.results / "logs" / stage, run), 900, f"{stage} begins")
        assert run.poll() is None, f"ended before {stage} began"
        time.sleep(0.3)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        project.snakemake("--unlock", *TINY)
    project.snakemake(*TINY)
    assert find_problems(project.results)[0] == []
    made, expected = data(project.results), data(wanted)
    assert made.keys() == expected.keys()
    assert [name for name in made if made[name] != expected[name]] == []


def test_of_two_runs_at_once_one_is_refused_and_the_other_ends(wanted, tmp_path):
    project = Project(tmp_path / "twice")
    run = started(project)
    wait_until(lambda: any(project.results.glob("structures/*")), 120, "the first run works")
    said = project.snakemake(*TINY, code=1)
    assert "lock" in said
    assert run.wait(timeout=1200) == 0
    assert data(project.results) == data(wanted)


def test_a_damaged_intermediate_is_named_and_loses_nothing(tiny_run, tmp_path):
    source, _ = tiny_run
    folder = tmp_path / "damaged"
    shutil.copytree(source.folder, folder, symlinks=True)
    project = Project.__new__(Project)
    project.folder = folder
    for name, made in DAMAGED.items():
        path = project.results / name
        whole, times = path.read_bytes(), path.stat()
        before = {k: v for k, v in data(project.results).items() if k != name}
        target = f"results/tiny/{made}"
        path.unlink()  # a checkpoint is a second name of the last state, which is not damaged here
        path.write_bytes(whole[: len(whole) // 2])
        assert find_problems(project.results)[0] != [], name
        # a report is built of what is there, and says what it lacks
        code, says = (0, "missing in the report") if made.startswith("report/") else (1, "results/")
        said = project.snakemake(*TINY, "--keep-going", "--", target, code=code)
        told = [line for line in said.splitlines() if says in line]
        assert any(path.name in line for line in told), (name, said[-3000:])
        assert "Traceback (most recent call last)" not in said, name
        # Snakemake removes what a job makes before it runs; whose job failed is missing, not half
        kept, failed = data(project.results), outputs_of_failed_jobs(project)
        assert {k for k in before if k not in kept} <= failed, name
        assert [k for k in before if k in kept and kept[k] != before[k]] == [], name
        path.write_bytes(whole)
        if code:
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        project.snakemake(*TINY, "--", target)
        after = data(project.results)
        assert [k for k in before if after.get(k) != before[k]] == [], name
    project.snakemake(*TINY)
    assert find_problems(project.results)[0] == []


def outputs_of_failed_jobs(project: Project) -> set[str]:
    """Return the outputs of the jobs that failed in the last run, relative to the results."""
    logs = (project.folder / ".snakemake/log").glob("*.log")
    said = max(logs, key=lambda path: path.stat().st_mtime_ns).read_text()
    blocks = re.findall(r"Error in rule \w+:.*?\n((?: +.*\n)+)", said)
    lines = [line for block in blocks for line in re.findall(r"^ +output: (.*)$", block, re.M)]
    names = [name.split(" (")[0] for line in lines for name in line.split(", ")]
    return {name.removeprefix("results/tiny/") for name in names}

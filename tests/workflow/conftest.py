"""A copy of the project in a folder with a space, and the tiny run in it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.fork_server import forking_python
from tests.workflow.channel import conda_variables, locked
from tests.workflow.cluster import Cluster, why_not

COPIED = ["workflow", "envs", "config", "cryoetgan", "slurm", "tests/workflow"]
TINY = ("--configfile", "tests/workflow/tiny.yaml")


class Project:
    """A project folder in which `snakemake` can be called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_symlink():
                target.symlink_to(os.readlink(source))
            else:
                # compiled modules too, but for those that others are writing
                half = shutil.ignore_patterns("*.pyc.*")
                shutil.copytree(source, target, ignore=half, symlinks=True)

    def snakemake(self, *words: str, code: int = 0, **environment: str):
        """Call snakemake in the project, with two cores unless `words` say otherwise."""
        python = forking_python()
        paths = f"{python.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            [python, "-m", "snakemake", "--cores", "2", *words],
            cwd=self.folder,
            env={**os.environ, "PATH": paths, **environment},
            capture_output=True,
            text=True,
            timeout=1200,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said[-6000:]
        return said

    def planned(self, *words: str) -> set[str]:
        """Return the names of the rules that would run."""
        said = self.snakemake("-n", *TINY, *words)
        return set(re.findall(r"^(?:local)?rule (\w+):", said, re.MULTILINE)) - {"all"}

    @property
    def results(self) -> Path:
        return self.folder / "results" / "tiny"


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("workflow") / "a project")


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder that all who test side by side share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def conda(shared) -> dict[str, str]:
    """Environment variables that put the stand-in for conda and its channel in place."""
    pytest.importorskip("rattler")
    return conda_variables(Path(os.environ.get("CRYOETGAN_TEST_CACHE", shared / "conda")))


@pytest.fixture(scope="session")
def tiny_run(project, shared):
    """The whole chain, run once and copied to whoever asks; (project, what snakemake said)."""
    folder, said = shared / "tiny" / "a project", shared / "tiny" / "said.txt"
    with locked(shared / "tiny.lock"):
        if not said.exists():
            said.parent.mkdir(exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            text = Project(folder).snakemake(*TINY)
            said.write_text(text)
    for name in (".snakemake", "results"):
        shutil.copytree(folder / name, project.folder / name, symlinks=True, dirs_exist_ok=True)
    return project, said.read_text().replace(str(folder), str(project.folder))


@pytest.fixture
def little(tiny_run, tmp_path):
    """The tiny run's project, and a configuration with one short training an ablation."""
    project, _ = tiny_run
    content = yaml.safe_load((project.folder / TINY[1]).read_text())
    content["evaluation"] |= {"ablation_preset": "smoke", "ablation_steps": 6, "ablation_seeds": 1}
    content["evaluation"]["ablation_snapshots"] = 1
    path = tmp_path / "little.yaml"
    path.write_text(yaml.safe_dump(content))
    return project, ("--configfile", str(path))


@pytest.fixture
def cluster(request):
    """A cluster; `@pytest.mark.parametrize("cluster", [True], indirect=True)`: with accounting."""
    accounting = getattr(request, "param", False)
    reason = why_not(accounting)
    if reason:
        pytest.skip(f"NO SLURM IS TESTED: {reason}")
    # a short path that the database's own user can reach: pytest's folders are root's alone
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    made = Cluster(folder, accounting)
    try:
        made("up")
        yield made
    finally:
        made("down")
        shutil.rmtree(folder, ignore_errors=True)

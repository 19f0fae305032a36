"""`snakemake --profile slurm` on a real one-node Slurm, brought up for the test.

Its GPU is a stand-in that Slurm counts as one. The long test runs the whole chain while
Snakemake is killed, a job is killed for its memory, and the controller is stopped.
"""

import logging
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cryoetgan.setup.validate import find_problems
from tests.fork_server import forking_python
from tests.workflow.cluster import wait_until
from tests.workflow.conftest import TINY, Project

# what happened: pytest --log-cli-level=info
log = logging.getLogger("slurm")
# one second before the first look at the jobs would be worse than five: looks get rarer from there
QUICK = ("--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "10")


@pytest.fixture
def own_project(tmp_path):
    return Project(tmp_path / "a project")


@pytest.fixture
def submit():
    """Start `snakemake --profile slurm`; it does not outlive the test."""
    started = []

    def start(*arguments, **environment):
        started.append(_submit(*arguments, **environment))
        return started[-1]

    yield start
    for run in started:
        run.kill()


def _submit(project, cluster, *words, python=sys.executable, **environment):
    command = [python, "-m", "snakemake", "--profile", "slurm", *QUICK]
    command += ["--slurm-status-command", cluster.status, *TINY, *words]
    paths = f"{Path(python).parent}:{Path(sys.executable).parent}:{cluster.environment['PATH']}"
    with open(project.folder / "said.txt", "a") as said:
        return subprocess.Popen(
            command,
            cwd=project.folder,
            env={**cluster.environment, "PATH": paths, **environment},
            stdout=said,
            stderr=subprocess.STDOUT,
        )


def said(project):
    return (project.folder / "said.txt").read_text()


def test_profile_slurm_runs_jobs_on_a_cluster(own_project, cluster, submit):
    picks = [f"results/tiny/particles/{name}_picks.star" for name in ("t1", "t2")]
    words = ("--sdm", "env-modules", "--", *picks)
    run = submit(own_project, cluster, *words, python=forking_python())
    assert run.wait(timeout=900) == 0, said(own_project)[-5000:]
    for path in picks:
        assert (own_project.folder / path).exists()
    # small jobs went together: two maps in one Slurm job, each tomogram and its picks in one
    assert len(re.findall(r"submitted with SLURM jobid", said(own_project))) == 3
    assert said(own_project).count("Auto-selected partition 'cpu'") == 3


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [True], indirect=True)
def test_the_whole_chain_outlives_kills_and_outages(own_project, cluster, submit, conda):
    project = own_project
    profile = project.folder / "workflow/profiles/slurm/config.yaml"
    settings = yaml.safe_load(profile.read_text())
    # too little for torch beside the two Snakemakes of a job; enough at the third try at latest
    settings["set-resources"]["translation_train"]["mem_mb"] = "500 * attempt"
    profile.write_text(yaml.safe_dump(settings))
    environment = {
        **{name: value for name, value in conda.items() if name != "PATH"},
        "PATH": f"{conda['PATH']}:/usr/sbin:/sbin",
    }

    # Snakemake is killed while the scores are computed; its jobs live on in Slurm
    run = submit(project, cluster, **environment)
    wait_until(lambda: "RUNNING rule_particles_score" in queue(cluster), 900, "scores computed")
    run.send_signal(signal.SIGKILL)
    run.wait()
    uuid = re.findall(r"SLURM run ID: (\S+)", said(project))[-1]
    cluster.output("scancel", f"--name={uuid}")
    wait_until(lambda: not cluster.output("squeue", "-h").strip(), 120, "jobs cancelled")
    picks = project.results / "particles/t1_picks.star"
    before = picks.stat().st_mtime_ns
    log.info("Snakemake killed; its run %s cancelled", uuid)

    # as typed again, after --unlock: goes on; and the controller is away while a network trains
    project.snakemake("--unlock", *TINY)
    run = submit(project, cluster, **environment)
    wait_until(lambda: "RUNNING rule_translation_train" in queue(cluster), 1800, "training runs")
    cluster("stop-ctld")
    time.sleep(25)
    cluster("restart-ctld")
    log.info("controller stopped for 25 s while the network trained")
    assert run.wait(timeout=3000) == 0, said(project)[-8000:]
    assert picks.stat().st_mtime_ns == before, "what was whole before the kill is kept"
    assert (project.results / "report/index.html").exists()
    found, count = find_problems(project.results)
    assert found == []
    assert count > 30

    jobs = cluster.jobs()
    for job in jobs:
        log.info("  ".join(job.values()))
    # killed for its memory, then done with more
    trained = [job for job in jobs if "translation_train" in job["Comment"]]
    states = [job["State"].split()[0] for job in trained]
    assert states[-1] == "COMPLETED", states
    assert {"FAILED", "OUT_OF_MEMORY", "CANCELLED"} & set(states[:-1]), states
    asked = [int(re.search(r"mem=(\d+)M", job["ReqTRES"])[1]) for job in trained]
    assert asked == [500 * (number + 1) for number in range(len(asked))]
    assert "cpu=8," in trained[-1]["ReqTRES"]
    # a GPU where the profile says so, and nowhere else
    asked = settings["set-resources"].items()
    gpu_rules = {f"rule_{name}" for name, wanted in asked if "gpu" in wanted}
    assert "rule_translation_train" in gpu_rules
    for job in jobs:
        wants = re.sub("_wildcards_.*", "", job["Comment"]) in gpu_rules
        assert ("gres/gpu=1" in job["ReqTRES"]) == wants, job
        assert (job["Partition"] == "gpu") == wants, job


def queue(cluster):
    # accounting learns a job's comment, which names its rule, only when the job ends
    return cluster.output("squeue", "-h", "-o", "%T %k")

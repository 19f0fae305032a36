"""A real one-node Slurm on the loopback address, up for the length of a test."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT

SCRIPT = ROOT / "tests/workflow/slurm/slurm_up.sh"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "munge")
ACCOUNTING = ("slurmdbd", "mariadbd", "sacctmgr")
# more than the machine has: jobs ask for what the real thing needs, and use little of it
NODE = {"SLURM_CPUS": "16", "SLURM_MEM": "200000"}


def why_not(accounting: bool) -> str | None:
    """Return why a cluster cannot be brought up here, or None where it can."""
    wanted = (*PROGRAMS, *ACCOUNTING) if accounting else PROGRAMS
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    gone = [name for name in wanted if shutil.which(name, path=path) is None]
    if gone:
        packages = "slurm-wlm munge"
        packages += " slurmdbd mariadb-server slurm-wlm-mysql-plugin" if accounting else ""
        return f"no {', '.join(gone)}: apt-get install {packages}"
    if os.geteuid() != 0:
        return "a cluster of one's own is brought up by root only"
    if Path("/etc/slurm/slurm.conf").exists():
        return "/etc/slurm/slurm.conf: this machine has a Slurm of its own, which is left alone"
    return None


class Cluster:
    """`slurm_up.sh` and what Slurm says about the jobs."""

    def __init__(self, folder: Path, accounting: bool) -> None:
        self.environment = {
            **os.environ,
            **NODE,
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
            "SLURM_DIR": str(folder),
            "SLURM_ACCT": "db" if accounting else "none",
        }
        # without accounting sacct knows nothing, and the plugin would wait for it for ever
        self.status = "sacct" if accounting else "squeue"

    def __call__(self, verb: str) -> None:
        self.output(str(SCRIPT), verb)

    def output(self, *words: str) -> str:
        """Return what a program of Slurm prints."""
        # into a file, not a pipe: the daemons keep what they were given open
        path = Path(self.environment["SLURM_DIR"]) / f"{Path(words[0]).name}.out"
        with open(path, "w+") as file:
            done = subprocess.run(
                words, env=self.environment, stdout=file, stderr=subprocess.STDOUT, timeout=120
            )
        said = path.read_text()
        assert done.returncode == 0, said
        return said

    def jobs(self) -> list[dict[str, str]]:
        """Return the jobs Slurm's accounting has seen, one a dictionary of sacct's columns."""
        names = ("JobID", "JobName", "State", "Partition", "ReqTRES", "Comment", "Timelimit")
        lines = self.output("sacct", "-X", "-n", "-P", f"--format={','.join(names)}").splitlines()
        return [dict(zip(names, line.split("|"), strict=True)) for line in lines if line]


def wait_until(true: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until `true()` is; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what}: not in {seconds:.0f} s"
        time.sleep(0.5)

"""Several processes: they equal one with the whole batch; refusals name the way out."""

import csv
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from cryoetgan.errors import UserError
from cryoetgan.io.volume_set import write_volume_set
from cryoetgan.translation.engine.distributed import ProcessGroup, check_devices, slurm_tasks
from tests.conftest import ROOT, refused
from tests.fork_server import forking_python
from tests.translation.helpers import deterministic_trainer, load

PRESET = """
widths: [4, 4, 8]
blocks: 1
discriminator_widths: [4, 4, 4]
objective: wgan
noise_channels: 0
input_noise: 0.0
dropout: 0.0
optimiser: rmsprop
lr_generator: 1.0e-3
batch: 4
steps: 4
replay_pool: 0
precision: float32
"""
DIAGNOSTICS = {
    "noise_ratio", "cycle_hidden", "signal_cosine_distance", "centre_shift", "background_offset",
    "back_sd_ratio",
}  # fmt: skip


@pytest.fixture
def sets(tmp_path, rng):
    """Write sets of six boxes, and a preset that draws nothing but its batches."""
    table = pd.DataFrame({"cryoetganClass": ["a"] * 6})
    for name in ("d", "s"):
        volumes = rng.random((6, 16, 16, 16)).astype(np.float32)
        write_volume_set(tmp_path / f"{name}.star", volumes, table, 10.0)
    (tmp_path / "p.yaml").write_text(PRESET)
    return ("--densities", "d.star", "--subtomograms", "s.star", "--preset", "./p.yaml")


def by_option(tmp_path, words, environment):
    """Train in two processes, of which the first starts the second."""
    command = [*words, "--devices", "2"]
    return [subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)]


def by_slurm(tmp_path, words, environment):
    """Start two processes as srun does."""
    environment |= {
        "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_NNODES": "1", "SLURM_JOB_ID": str(10000 + os.getpid() % 9999), "SLURM_NODEID": "0",
        "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "127.0.0.1",
    }  # fmt: skip
    return [
        subprocess.Popen(
            words, cwd=tmp_path, stderr=subprocess.PIPE,
            env=environment | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize("start", [by_option, pytest.param(by_slurm, marks=pytest.mark.slow)])
def test_two_processes_equal_one_with_the_whole_batch(here, tmp_path, sets, start):
    here("translation", "train", *sets, "-o", "one")
    words = [forking_python(), "-m", "cryoetgan", "translation", "train", *sets, "-o", "two"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = start(tmp_path, [*words, "--device", "cpu"], environment)
    said = b"".join(process.communicate(timeout=600)[1] for process in started)
    assert [process.returncode for process in started] == [0] * len(started), said
    assert said.count(b"trained") == 1  # one process logs and writes
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == sorted(
        p.name for p in (tmp_path / "one").iterdir()
    )
    one, two = (load(tmp_path / n / "checkpoint.pt") for n in ("one", "two"))
    assert (len(one["processes"]), len(two["processes"])) == (1, 2)
    start = one["initial"]
    moved = [
        torch.cat([(state["networks"][k] - start[k]).flatten() for k in start])
        for state in (one, two)
    ]
    assert moved[0].norm() > 0
    # rounding, which RMSprop magnifies: up to 0.011, by the processor; without the exchange of gradients it is 0.79
    assert (moved[1] - moved[0]).norm() < 0.05 * moved[0].norm()
    logs = []
    for name in ("one", "two"):
        with open(tmp_path / name / "log.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        logs.append([[float(row[name]) for name in row if name not in DIAGNOSTICS] for row in rows])
    # losses are those of the whole batch; diagnostics use each process's own volumes
    assert np.allclose(*logs, rtol=0.02, atol=1e-4)


class TwoProcesses(ProcessGroup):
    """One of two processes; the other has given gradients."""

    rank, count = 0, 2

    def __init__(self, other):
        self.other, self.full = other, 0

    def average(self, tensors):
        for tensor, value in zip(tensors, self.other, strict=True):
            tensor.copy_((tensor + value) / 2)

    def any(self, flag):
        self.full = max(self.full - 1, 0)
        return flag or self.full == 1


def test_a_step_uses_the_mean_of_all_gradients():
    trainer = deterministic_trainer(precision="float32")
    parameters = [*trainer.networks["G_ds"].parameters(), *trainer.networks["G_sd"].parameters()]
    others = [torch.randn_like(p) for p in parameters]
    trainer.join(TwoProcesses(others))
    assert trainer.batch == 2
    optimiser = trainer.optimisers["generators"]
    own = [torch.randn_like(p) for p in parameters]
    for parameter, slope in zip(parameters, own, strict=True):
        parameter.grad = slope.clone()
    trainer.before_optimiser_step(optimiser)
    for parameter, slope, other in zip(parameters, own, others, strict=True):
        assert torch.allclose(parameter.grad, (slope + other) / 2)


def test_out_of_memory_of_one_process_halves_the_micro_batches_of_all():
    trainer = deterministic_trainer()
    processes = TwoProcesses([])
    processes.average = lambda tensors: None
    trainer.join(processes)
    processes.full = 2  # at the second call of `any`, in the middle of a step
    trainer.train_step_in_memory()
    assert trainer.micro_batches == 2


def test_only_the_tasks_of_a_job_step_count(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    assert slurm_tasks() == 1
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert slurm_tasks() == 4


def test_tasks_and_gpus_of_a_node_must_match(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"4 tasks.*--gpus-per-node"):
        check_devices(1, per_node=4, tasks=4, device=torch.device("cuda"))
    with pytest.raises(UserError, match=r"got 2.*--ntasks-per-node"):
        check_devices(2, per_node=4, tasks=4, device=torch.device("cpu"))
    with pytest.raises(UserError, match="finds 1 GPUs"):
        check_devices(2, per_node=2, tasks=1, device=torch.device("cuda"))


def test_several_devices_without_fabric_are_refused_with_the_way_out(here, sets, monkeypatch):
    for name in ("lightning_fabric", "lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    words = ("translation", "train", *sets, "--device", "cpu", "-o", "t")
    refused(here(*words, "--devices", 2, code=2), "--devices", "cryoetgan[multi]")
    refused(here(*words, "--devices", 0, code=2), "--devices")
    refused(here(*words, "--devices", 3, code=2), "--devices", "batch")
    here(*words)  # one device needs no Fabric

"""The engine: several processes, TensorBoard, numbers out of range, batches read one at a time."""

import ast
import csv
import os
import subprocess
import sys
from dataclasses import asdict
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

from cryoetgan.errors import UserError
from cryoetgan.io.volume_set import write_volume_set
from cryoetgan.translation.engine import distributed
from cryoetgan.translation.engine.batches import Volumes
from cryoetgan.translation.engine.distributed import slurm_tasks
from cryoetgan.translation.engine.process_group import Team
from cryoetgan.translation.presets import _ABOVE_0, _FROM_0, _FROM_1, _UP_TO_1
from cryoetgan.translation.settings import Settings
from cryoetgan.translation.train import _counted
from cryoetgan.translation.translator import Translator
from tests.conftest import ROOT, refused
from tests.translation.test_networks import still

STILL = """
widths: [4, 4, 8]
blocks: 1
critic_widths: [4, 4, 4]
objective: wgan
noise_channels: 0
input_noise: 0.0
dropout: 0.0
optimiser: rmsprop
lr_generator: 1.0e-3
batch: 4
steps: 4
pool: 0
precision: float32
"""
LOOKED_AT = {"noise_ratio", "cycle_hidden", "label", "drift", "far"}


@pytest.fixture
def sets(tmp_path, rng):
    """Sets of six boxes, and a recipe that draws nothing but its batches."""
    table = pd.DataFrame({"cryoetganClass": ["a"] * 6})
    for name in ("d", "s"):
        volumes = rng.random((6, 16, 16, 16)).astype(np.float32)
        write_volume_set(tmp_path / f"{name}.star", volumes, table, 10.0)
    (tmp_path / "p.yaml").write_text(STILL)
    return ("--densities", "d.star", "--subtomograms", "s.star", "--preset", "./p.yaml")


def weights(path):
    return torch.load(path, weights_only=True)


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
def test_two_processes_of_half_a_batch_equal_one_of_the_whole(here, tmp_path, sets, start):
    here("translation", "train", *sets, "-o", "one")
    words = [sys.executable, "-m", "cryoetgan", "translation", "train", *sets, "-o", "two"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = start(tmp_path, [*words, "--device", "cpu"], environment)
    said = b"".join(process.communicate(timeout=600)[1] for process in started)
    assert [process.returncode for process in started] == [0] * len(started), said
    assert said.count(b"trained") == 1  # one speaks, and one writes
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == sorted(
        p.name for p in (tmp_path / "one").iterdir()
    )
    one, two = (weights(tmp_path / n / "checkpoint.pt") for n in ("one", "two"))
    assert (len(one["ranks"]), len(two["ranks"])) == (1, 2)
    start = one["initial"]
    moved = [
        torch.cat([(state["networks"][f"G_ds.{k}"] - start[k]).flatten() for k in start])
        for state in (one, two)
    ]
    assert moved[0].norm() > 0
    assert (moved[1] - moved[0]).norm() < 0.01 * moved[0].norm()
    logs = []
    for name in ("one", "two"):
        with open(tmp_path / name / "log.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        logs.append([[float(row[name]) for name in row if name not in LOOKED_AT] for row in rows])
    # the numbers are those of the whole batch; each process looks at volumes of its own
    assert np.allclose(*logs, rtol=0.02, atol=1e-4)


def test_training_on_one_device_wants_torch_and_numpy_alone():
    # every module of ours that the loops reach, and what those import when they are loaded
    todo, seen, outside = ["translation.training", "translation.residual_training"], set(), set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        tree = ast.parse((ROOT / "cryoetgan" / f"{name.replace('.', '/')}.py").read_text())
        for node in tree.body:
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [node.module] if isinstance(node, ast.ImportFrom) else []
            todo += [word.removeprefix("cryoetgan.") for word in found if "cryoetgan." in word]
            outside |= {word.split(".")[0] for word in found}
    assert {"translation.loop", "translation.networks", "translation.objectives"} <= seen
    assert outside - set(sys.stdlib_module_names) == {"cryoetgan", "numpy", "torch"}


class Halves(Team):
    """Two processes in one: the other has the gradients that are given."""

    rank, count = 0, 2

    def __init__(self, other):
        self.other, self.full = other, 0

    def average(self, tensors):
        for tensor, value in zip(tensors, self.other, strict=True):
            tensor.copy_((tensor + value) / 2)

    def anyone(self, flag):
        self.full = max(self.full - 1, 0)
        return flag or self.full == 1


def test_a_step_is_taken_by_the_mean_of_all_gradients():
    trainer = still(precision="float32")
    parameters = [*trainer.networks["G_ds"].parameters(), *trainer.networks["G_sd"].parameters()]
    others = [torch.randn_like(p) for p in parameters]
    trainer.join(Halves(others))
    assert trainer.batch == 2
    optimiser = trainer.optimisers["generators"]
    own = [torch.randn_like(p) for p in parameters]
    for parameter, slope in zip(parameters, own, strict=True):
        parameter.grad = slope.clone()
    trainer._before_step(optimiser)
    for parameter, slope, other in zip(parameters, own, others, strict=True):
        assert torch.allclose(parameter.grad, (slope + other) / 2)


def test_out_of_memory_of_one_process_halves_the_batches_of_all():
    trainer = still()
    team = Halves([])
    team.average = lambda tensors: None
    trainer.join(team)
    team.full = 2  # at the second question, in the middle of a step
    trainer._step_that_fits()
    assert trainer.parts == 2


def test_slurm_counts_the_tasks_of_a_step_not_those_of_a_batch_script(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    assert slurm_tasks() == 1
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert slurm_tasks() == 4


def test_a_task_that_sees_one_gpu_is_told_how_to_see_all(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setattr(distributed, "_fabric", lambda *_: (None, None))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"4 tasks.*--gpus-per-node"):
        distributed.join_team(1, torch.device("cuda"))


def test_several_devices_without_fabric_are_refused_with_the_way_out(here, sets, monkeypatch):
    for name in ("lightning_fabric", "lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    words = ("translation", "train", *sets, "--device", "cpu", "-o", "t")
    refused(here(*words, "--devices", 2, code=2), "--devices", "cryoetgan[multi]")
    refused(here(*words, "--devices", 0, code=2), "--devices")
    refused(here(*words, "--devices", 3, code=2), "--devices", "batch")
    here(*words)  # one device needs no Fabric


def test_tensorboard_is_written_only_where_it_is_asked_for(here, tmp_path, sets, monkeypatch):
    seen = []

    class Writer:
        def __init__(self, folder, purge_step):
            seen.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            seen.append((name, value, step))

        def close(self):
            seen.append("closed")

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    here("translation", "train", *sets, "-o", "quiet")
    assert seen == []
    here("translation", "train", *sets, "--tensorboard", "-o", "t")
    assert seen[0] == ("t/tensorboard", 1)
    assert seen[-1] == "closed"
    with open(tmp_path / "t" / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name, value in row.items():
            found = [v for n, v, s in seen[1:-1] if n == name and s == int(row["step"])]
            assert name == "step" or found == [pytest.approx(float(value), rel=1e-5)]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    done = here("translation", "train", *sets, "--tensorboard", "-o", "u", code=2)
    refused(done, "--tensorboard", "cryoetgan[tensorboard]")
    assert not (tmp_path / "u").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("n_critic: 0", ("n_critic is 0", "1 or more")),
        ("dropout: 1.5", ("dropout is 1.5", "0 to 1")),
        ("lr_critic: .nan", ("lr_critic is nan", "more than 0")),
        ("critic_widths: []", ("critic_widths",)),
        ("betas: [0.5, 1.5]", ("betas is (0.5, 1.5)", "below 1")),
    ],
)
def test_numbers_out_of_range_are_refused(here, tmp_path, sets, line, words):
    key = line.split(":")[0]
    kept = [old for old in STILL.splitlines() if not old.startswith(f"{key}:")]
    (tmp_path / "p.yaml").write_text("\n".join([*kept, line]))
    refused(here("translation", "train", *sets, "-o", "t", code=2), "p.yaml", *words)


def test_every_number_of_a_recipe_has_bounds():
    numbers = {
        name for name, value in asdict(Settings()).items() if type(value) in (int, float)
    } - {"critic_stride", "real_label"}  # one of two; any
    assert numbers == {*_FROM_0, *_FROM_1, *_ABOVE_0, *_UP_TO_1}


def test_epochs_are_passes_over_the_subtomograms():
    assert _counted(Settings(epochs=2.5, batch=4), 6).steps == 4  # 15 volumes
    assert _counted(Settings(steps=7), 6).steps == 7


def test_volumes_that_a_device_has_no_room_for_stay_in_main_memory(monkeypatch):
    volumes = torch.rand(4, 1, 8, 8, 8)
    there = Volumes(volumes, torch.device("cpu"))
    assert torch.equal(there.batch(torch.tensor([2, 0])), volumes[[2, 0]])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (volumes.nbytes, 1))
    assert Volumes(volumes, torch.device("cuda")).data.device.type == "cpu"


def test_a_set_is_translated_a_few_volumes_at_a_time():
    read = []

    class Stack:
        def __getitem__(self, rows):
            read.extend(np.atleast_1d(rows))
            return np.zeros((len(rows), 64, 64, 64), np.float32)

    class Source:
        box, volumes = 64, Stack()

    translator = Translator.__new__(Translator)
    translator.translate = lambda volumes, seeds: volumes
    made = translator.translated(Source, [f"a/{i}" for i in range(1000)], 1, 0)
    next(made)
    # as many voxels as eight boxes of 40^3
    assert len(read) * 64**3 <= 8 * 40**3

"""Resuming: the same settings reach the same bits; others are refused, or trained anew."""

import csv
import os
import signal
import subprocess

import numpy as np
import pytest
import torch

from cryoetgan.io.star import read_star, write_star
from cryoetgan.translation.cyclegan.trainer import CycleGANTrainer
from cryoetgan.translation.engine import checkpoint
from cryoetgan.translation.translate import open_translator
from tests.conftest import ROOT, refused
from tests.fork_server import forking_python
from tests.translation.helpers import equal, load, write_preset

KILLED = """
import os, signal, torch
whole, saved = torch.save, []

def save(content, file):
    saved.append(file)
    if len(saved) == 2:  # in the middle of writing the second state
        file.write(b"half a state")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    whole(content, file)

torch.save = save
from cryoetgan.cli import main
main()
"""


@pytest.fixture(autouse=True)
def seven_steps(sets, tmp_path):
    """States are saved after steps three and six, and at the end."""
    write_preset(tmp_path, 7)


@pytest.fixture
def train(sets):
    """Return the words of a training in folder t."""
    return ("translation", "train", *sets, "-o", "t")


def interrupt_at(step, here, train, monkeypatch):
    """Train until this step, which is interrupted; a state is saved every three steps."""
    whole = CycleGANTrainer.train_step

    def train_step(self):
        if self.step == step:
            raise KeyboardInterrupt
        whole(self)

    with monkeypatch.context() as context:
        context.setenv("CRYOETGAN_SAVE_EVERY_STEPS", "3")
        context.setattr(CycleGANTrainer, "train_step", train_step)
        here(*train, code=128 + signal.SIGINT)


@pytest.mark.parametrize(
    ("done", "planned", "wanted", "decay_start", "resumes"),
    [
        (12, 12, 12, 1.0, True),
        (5, 12, 12, 0.5, True),
        (12, 12, 20, 1.0, True),  # no learning rate has fallen
        (12, 12, 20, 0.5, False),
        (12, 24, 30, 0.5, True),
        (13, 24, 30, 0.5, True),  # step 12 of 24 is the last with the full rate
        (14, 24, 30, 0.5, False),
        (12, 12, 4, 1.0, False),
        (5, 40, 5, 1.0, True),
        (5, 40, 5, 0.5, False),  # in a run of 5 steps, rates would have fallen
    ],
)
def test_steps_resume_if_an_unbroken_run_has_the_same_state(
    done, planned, wanted, decay_start, resumes
):
    key = {"decay_start": decay_start, "seed": 1}
    content = {"step": done, "key": {**key, "steps": planned}}
    different = checkpoint.find_differences(content, {**key, "steps": wanted})
    assert different == [] if resumes else [word.split()[0] for word in different] == ["steps"]
    other = checkpoint.find_differences(content, {**key, "steps": wanted, "seed": 2})
    assert other == ["seed", *different]


def test_learning_rates_are_full_up_to_the_decay_start():
    """`find_differences` rests on it."""
    trainer = CycleGANTrainer.__new__(CycleGANTrainer)
    parameter = torch.nn.Parameter(torch.zeros(()))
    trainer.optimisers, trainer.rates = {"g": torch.optim.SGD([parameter], 1.0)}, {"g": 1.0}

    class Settings:
        decay_start = 0.5

    trainer.settings = Settings
    rates = []
    for trainer.step in (11, 12, 13):
        trainer.set_learning_rates(24)
        rates.append(trainer.optimisers["g"].param_groups[0]["lr"])
    assert rates == [1.0, 1.0, pytest.approx(11 / 12)]


def test_a_killed_run_resumes_to_the_bits_of_an_unbroken_one(here, tmp_path, sets):
    here("translation", "train", *sets, "-o", "whole")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CRYOETGAN_SAVE_EVERY_STEPS": "3",
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    command = [forking_python(), "-c", KILLED, "translation", "train", *sets, "-o", "broken"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "broken" / "checkpoint.pt").exists()
    assert load(tmp_path / "broken" / "training.pt")["step"] == 3
    assert "resumes from step 3" in here("translation", "train", *sets, "-o", "broken").stderr
    whole, resumed = (load(tmp_path / n / "checkpoint.pt") for n in ("whole", "broken"))
    assert whole["step"] == 7
    assert equal(whole, resumed)
    for name in ("checkpoint.pt", "log.csv", "config.yaml"):
        files = [(tmp_path / folder / name).read_bytes() for folder in ("whole", "broken")]
        assert files[0] == files[1]


def test_a_finished_run_is_kept_and_more_steps_resume(here, tmp_path, train):
    here(*train)
    finished = tmp_path / "t" / "checkpoint.pt"
    before = finished.read_bytes()
    assert "trained already" in here(*train).stderr
    assert finished.read_bytes() == before
    finished.unlink()
    assert "trained already" in here(*train).stderr
    assert finished.read_bytes() == before
    assert "resumes from step 7" in here(*train, "--steps", 9).stderr
    with open(tmp_path / "t" / "log.csv", newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == list(range(1, 10))
    here(*train[:-1], "whole", "--steps", 9)
    whole, resumed = (load(tmp_path / n / "checkpoint.pt") for n in ("whole", "t"))
    assert equal(whole["networks"], resumed["networks"])


def test_other_settings_are_refused_and_change_nothing(here, tmp_path, train):
    write_preset(tmp_path, 2)
    here(*train)
    before = (tmp_path / "t" / "checkpoint.pt").read_bytes()
    refused(here(*train, "--seed", 5, code=2), "t/checkpoint.pt", "seed", "another folder")
    refused(here(*train, "--steps", 1, code=2), "2 of 2 are done, 1 wanted", "delete the folder")
    write_preset(tmp_path, 2, "lr_discriminator: 1.0e-5\n")
    refused(here(*train, code=2), "lr_discriminator")
    # random numbers depend on the preset's name: held-out subtomograms would be trained on
    (tmp_path / "p.yaml").rename(tmp_path / "q.yaml")
    renamed = [word.replace("p.yaml", "q.yaml") for word in train]
    refused(here(*renamed, code=2), "other lr_discriminator, preset")
    assert (tmp_path / "t" / "checkpoint.pt").read_bytes() == before


def test_other_settings_train_anew_once_the_checkpoint_is_gone(here, tmp_path, train):
    """The workflow removes the finished file before it trains with an edited configuration."""
    write_preset(tmp_path, 4)
    here(*train)
    write_preset(tmp_path, 2)
    (tmp_path / "t/checkpoint.pt").unlink()
    assert "training starts anew" in here(*train).stderr
    assert load(tmp_path / "t/training.old.pt")["step"] == 4
    here(*train[:-1], "fresh")
    anew, fresh = (load(tmp_path / name / "checkpoint.pt") for name in ("t", "fresh"))
    assert anew["step"] == 2
    assert equal(anew["networks"], fresh["networks"])


@pytest.mark.parametrize("edit", ["split", "tilts"])
def test_other_rows_or_tilts_train_anew(here, tmp_path, train, edit):
    write_preset(tmp_path, 1)
    here(*train)
    tables = read_star(tmp_path / "s.star")
    split = tables.particles["cryoetganSplit"]
    if edit == "split":
        tables.particles["cryoetganSplit"] = np.where(split == "train", "test", "train")
    else:
        tables.optics["cryoetganTiltHigh"] = [40.0, 50.0]
    write_star(tmp_path / "s.star", tables.particles, tables.optics)
    refused(here(*train, code=2), "t/checkpoint.pt", "other inputs")
    (tmp_path / "t/checkpoint.pt").unlink()
    assert "training starts anew" in here(*train).stderr
    translator = open_translator(tmp_path / "t/checkpoint.pt", "ds", torch.device("cpu"))
    assert translator.optics()[0]["cryoetganTiltHigh"] == {"split": 40, "tilts": 50}[edit]


def test_edited_code_trains_anew_once_its_checkpoint_is_gone(here, tmp_path, train, monkeypatch):
    write_preset(tmp_path, 2)
    finished = tmp_path / "t/checkpoint.pt"
    here(*train)
    before = finished.read_bytes()
    monkeypatch.setattr("cryoetgan.translation.train.code_hash", lambda *_: "edited")
    assert "by other code" in here(*train).stderr
    assert finished.read_bytes() == before
    finished.unlink()
    assert "training starts anew" in here(*train).stderr
    assert (tmp_path / "t/training.old.pt").read_bytes() == before
    anew, old = load(finished), load(tmp_path / "t/training.old.pt")
    assert anew["code"] == "edited" != old["code"]
    assert equal(anew["average"], old["average"])


def test_edited_code_resumes_an_unfinished_run(here, tmp_path, train, monkeypatch):
    interrupt_at(5, here, train, monkeypatch)
    monkeypatch.setattr("cryoetgan.translation.train.code_hash", lambda *_: "edited")
    messages = here(*train).stderr
    assert "by other code" in messages
    assert "resumes from step 3" in messages
    assert load(tmp_path / "t/checkpoint.pt")["step"] == 7


def test_a_killed_extension_resumes_from_its_own_state(here, tmp_path, train, monkeypatch):
    write_preset(tmp_path, 2)
    here(*train)
    write_preset(tmp_path, 5)
    interrupt_at(4, here, train, monkeypatch)
    assert load(tmp_path / "t/checkpoint.pt")["step"] == 2
    assert "resumes from step 3" in here(*train).stderr
    assert load(tmp_path / "t/checkpoint.pt")["step"] == 5


def test_an_extension_killed_at_its_end_is_finished(here, tmp_path, train):
    write_preset(tmp_path, 2)
    here(*train)
    finished = tmp_path / "t/checkpoint.pt"
    before = finished.read_bytes()
    write_preset(tmp_path, 4)
    here(*train)
    finished.unlink()
    finished.write_bytes(before)  # killed before the newest state had its final name
    assert "trained already (4 steps)" in here(*train).stderr
    assert load(finished)["step"] == 4


def test_a_damaged_state_is_kept(here, tmp_path, train):
    write_preset(tmp_path, 1)
    state = tmp_path / "t/training.pt"
    state.parent.mkdir()
    state.write_bytes(b"half a state")
    assert "training.old.pt" in here(*train).stderr
    assert (tmp_path / "t/training.old.pt").read_bytes() == b"half a state"


def test_a_damaged_checkpoint_does_not_block_training(here, tmp_path, train):
    """checkpoint.pt and training.pt are one file at the end of a run; damage hits both."""
    write_preset(tmp_path, 1)
    here(*train)
    finished, state = tmp_path / "t/checkpoint.pt", tmp_path / "t/training.pt"
    whole = finished.read_bytes()
    with open(finished, "r+b") as file:
        file.truncate(1000)
    said = here(*train).stderr
    assert "checkpoint.old.pt" in said
    assert "training.old.pt" in said
    assert finished.read_bytes() == whole
    # damage to one of them alone costs nothing
    state.unlink()
    state.write_bytes(whole)
    finished.unlink()
    finished.write_bytes(whole[:-1])
    assert "trained already" in here(*train).stderr
    assert finished.read_bytes() == whole


def test_a_run_without_log_or_settings_is_completed(here, tmp_path, train):
    write_preset(tmp_path, 2)
    here(*train)
    whole = {name: (tmp_path / "t" / name).read_text() for name in ("config.yaml", "log.csv")}
    for name in whole:
        (tmp_path / "t" / name).unlink()
    here(*train)
    assert {name: (tmp_path / "t" / name).read_text() for name in whole} == whole
    # the state holds the rows of the log, so that a lost or edited log loses none
    (tmp_path / "t/log.csv").write_text("garbage\n1,2\n")
    here(*train, "--steps", 3)
    log = (tmp_path / "t/log.csv").read_text()
    assert log.startswith(whole["log.csv"])
    assert log.splitlines()[-1].startswith("3,")


def test_the_settings_of_a_run_are_a_preset(here, tmp_path, sets, trained):
    here("translation", "train", *sets[:4], "--preset", "t/config.yaml", "-o", "u")
    first, second = (load(tmp_path / name / "checkpoint.pt")["settings"] for name in "tu")
    assert first == second

"""Training runs: resumed equals unbroken, bitwise; labels by construction; clear refusals."""

import copy
import csv
import os
import signal
import subprocess
import sys

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch

from cryoetgan.io.star import ANGLES
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.translation.uncertainty import spread
from tests.conftest import ROOT, refused

PRESET = """
widths: [4, 4, 8]
blocks: 1
critic_widths: [4, 4, 4]
critic_norm: none
objective: hinge
clip: 0.0
optimiser: adam
noise_channels: 2
batch: 2
steps: {steps}
pool: 3
ema: 0.9
dropout: 0.1
"""


@pytest.fixture
def sets(tmp_path, rng):
    table = pd.DataFrame({"cryoetganClass": ["a", "b"] * 6, **{a: rng.random(12) for a in ANGLES}})
    table["cryoetganSource"] = "density"
    density = rng.random((12, 16, 16, 16)).astype(np.float32)
    write_volume_set(tmp_path / "d.star", density, table, 10.0)
    real = table.assign(cryoetganSplit=["train"] * 8 + ["test"] * 4, cryoetganSource="real")
    noise = rng.standard_normal((12, 16, 16, 16)).astype(np.float32) * 2 + 1
    write_volume_set(tmp_path / "s.star", noise, real, 10.0)
    (tmp_path / "p.yaml").write_text(PRESET.format(steps=12))
    return ("--densities", "d.star", "--subtomograms", "s.star", "--preset", "./p.yaml")


def weights(path):
    return torch.load(path, weights_only=True)


def equal(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    return first == second


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


def test_a_killed_run_resumes_to_the_bits_of_an_unbroken_one(here, tmp_path, sets):
    here("translation", "train", *sets, "-o", "whole")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CRYOETGAN_SAVE_EVERY_STEPS": "5",
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    command = [sys.executable, "-c", KILLED, "translation", "train", *sets, "-o", "broken"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "broken" / "checkpoint.pt").exists()
    assert weights(tmp_path / "broken" / "training.pt")["step"] == 5
    assert "goes on from step 5" in here("translation", "train", *sets, "-o", "broken").stderr
    whole, resumed = (weights(tmp_path / n / "checkpoint.pt") for n in ("whole", "broken"))
    assert whole["step"] == 12
    assert equal(whole, resumed)
    files = [(tmp_path / n / "checkpoint.pt").read_bytes() for n in ("whole", "broken")]
    assert files[0] == files[1]
    logs = [(tmp_path / n / "log.csv").read_text() for n in ("whole", "broken")]
    assert logs[0] == logs[1]


def test_a_finished_run_is_left_alone_and_more_steps_go_on(here, tmp_path, sets):
    here("translation", "train", *sets, "-o", "t")
    before = (tmp_path / "t" / "checkpoint.pt").read_bytes()
    assert "trained already" in here("translation", "train", *sets, "-o", "t").stderr
    assert (tmp_path / "t" / "checkpoint.pt").read_bytes() == before
    (tmp_path / "t" / "checkpoint.pt").unlink()
    here("translation", "train", *sets, "-o", "t")
    assert (tmp_path / "t" / "checkpoint.pt").read_bytes() == before
    here("translation", "train", *sets, "-o", "again")
    assert (tmp_path / "again" / "checkpoint.pt").read_bytes() == before
    said = here("translation", "train", *sets, "--steps", 14, "-o", "t").stderr
    assert "goes on from step 12" in said
    with open(tmp_path / "t" / "log.csv", newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == list(range(1, 15))


def test_other_settings_are_refused_and_touch_nothing(here, tmp_path, sets):
    here("translation", "train", *sets, "-o", "t")
    before = (tmp_path / "t" / "checkpoint.pt").read_bytes()
    done = here("translation", "train", *sets, "--seed", 5, "-o", "t", code=2)
    refused(done, "seed", "another folder")
    (tmp_path / "p.yaml").write_text(PRESET.format(steps=12) + "lr_critic: 1.0e-5\n")
    refused(here("translation", "train", *sets, "-o", "t", code=2), "lr_critic")
    assert (tmp_path / "t" / "checkpoint.pt").read_bytes() == before


def test_translation_keeps_labels_and_draws_noise_by_item(here, tmp_path, sets):
    here("translation", "train", *sets, "-o", "t")
    words = ("translation", "translate", "t/checkpoint.pt")
    here(*words, "d.star", "-o", "g.star", "--seed", 3)
    here(*words, "d.star", "-o", "again.star", "--seed", 3)
    assert (tmp_path / "g.mrcs").read_bytes() == (tmp_path / "again.mrcs").read_bytes()
    made, source = read_volume_set(tmp_path / "g.star"), read_volume_set(tmp_path / "d.star")
    for column in ("cryoetganClass", *ANGLES):
        assert list(made.table[column]) == list(source.table[column])
    assert set(made.table["cryoetganSource"]) == {"generated"}
    # fewer items of one class: the others keep their noise
    some = source.table.iloc[[0, 1, 3]].reset_index(drop=True)
    write_volume_set(tmp_path / "some.star", source.volumes[[0, 1, 3]], some, 10.0)
    here(*words, "some.star", "-o", "h.star", "--seed", 3)
    few = read_volume_set(tmp_path / "h.star").volumes
    assert np.allclose(few, made.volumes[[0, 1, 3]], atol=0.05 * made.volumes.std())
    here(*words, "d.star", "--draws", 2, "-o", "two.star")
    two = read_volume_set(tmp_path / "two.star")
    assert list(two.table["cryoetganClass"]) == [
        c for c in source.table["cryoetganClass"] for _ in "12"
    ]
    assert not np.array_equal(two.volumes[0], two.volumes[1])
    here(*words, "d.star", "--snapshot", 0, "-o", "u.star", "--seed", 3)
    assert not np.allclose(read_volume_set(tmp_path / "u.star").volumes, made.volumes, atol=0.01)
    here(*words, "s.star", "--direction", "sd", "-o", "back.star")
    assert set(read_volume_set(tmp_path / "back.star").table["cryoetganSource"]) == {"density"}


def test_the_generator_of_an_epoch_is_kept_to_translate_with(here, tmp_path, sets):
    # 8 training volumes, batches of 2: four steps an epoch
    (tmp_path / "p.yaml").write_text(PRESET.format(steps=9) + "snapshot_every: 1\n")
    here("translation", "train", *sets, "-o", "t")
    kept = sorted((tmp_path / "t" / "snapshots").iterdir())
    assert [path.name for path in kept] == ["epoch_00001.pt", "epoch_00002.pt"]
    assert [weights(path)["step"] for path in kept] == [4, 8]
    here("translation", "translate", kept[0], "d.star", "-o", "early.star")
    here("translation", "translate", "t/checkpoint.pt", "d.star", "-o", "late.star")
    early, late = (read_volume_set(tmp_path / f"{n}.star").volumes for n in ("early", "late"))
    assert not np.allclose(early, late, atol=1e-3)


def test_uncertainty_tells_dropout_from_noise(here, tmp_path, sets):
    (tmp_path / "p.yaml").write_text(PRESET.format(steps=2))
    here("translation", "train", *sets, "-o", "t")
    words = ("translation", "uncertainty", "t/checkpoint.pt", "d.star", "--passes", 4)
    here(*words, "-o", "u")
    here(*words, "-o", "again")
    both = {}
    for name in ("dropout_sd", "noise_sd"):
        made = read_volume_set(tmp_path / "u" / f"{name}.star")
        assert list(made.table["cryoetganClass"]) == ["a", "b"] * 6
        assert (made.volumes > 0).mean() > 0.9
        stack = f"{name}.mrcs"
        first, second = ((tmp_path / n / stack).read_bytes() for n in ("u", "again"))
        assert first == second
        both[name] = made.volumes
    assert not np.allclose(both["dropout_sd"], both["noise_sd"])
    # some rows only: those of the whole, the first of each class
    here(*words, "--sample", 1, "-o", "few")
    for name, whole in both.items():
        few = read_volume_set(tmp_path / "few" / f"{name}.star")
        assert list(few.table["cryoetganClass"]) == ["a", "b"]
        assert np.array_equal(few.volumes, whole[:2])
    refused(here(*words, "--sample", 0, "-o", "x", code=2), "--sample")
    refused(here(*words[:-1], 1, "-o", "x", code=2), "--passes")


def test_a_group_learns_from_its_own_and_sets_are_joined(here, tmp_path, sets):
    (tmp_path / "p.yaml").write_text(PRESET.format(steps=2))
    whole = read_volume_set(tmp_path / "s.star")
    first, second = (
        Acquisition(group=name, tilt_low=low) for name, low in (("x", -60), ("y", -40))
    )
    optics = pd.DataFrame([first.to_optics(1, "t1"), second.to_optics(2, "t2")])
    table = whole.table.assign(rlnOpticsGroup=[1, 2, 2] * 4)
    write_volume_set(tmp_path / "s.star", np.array(whole.volumes), table, 10.0, optics)
    mine = (table["rlnOpticsGroup"] == 2).to_numpy()
    only = table[mine].reset_index(drop=True)
    write_volume_set(tmp_path / "only.star", whole.volumes[mine], only, 10.0, optics)
    words = ("translation", "train", *sets, "--group")
    for group in "xy":
        here(*words, group, "-o", group)
        here("translation", "translate", f"{group}/checkpoint.pt", "d.star", "-o", f"{group}.star")
    here("translation", "train", *sets[:3], "only.star", *sets[4:], "-o", "alone")
    y, alone = (weights(tmp_path / n / "checkpoint.pt") for n in ("y", "alone"))
    assert equal(y["average"], alone["average"])
    assert y["optics"][0]["cryoetganGroup"] == "y"
    here("translation", "join", "x.star", "y.star", "-o", "both.star")
    x, y, both = (read_volume_set(tmp_path / f"{name}.star") for name in ("x", "y", "both"))
    assert np.array_equal(both.volumes, np.concatenate([x.volumes, y.volumes]))
    assert list(both.table["cryoetganClass"]) == 2 * list(x.table["cryoetganClass"])
    of = both.optics.set_index("rlnOpticsGroup")
    assert [of["cryoetganGroup"][n] for n in both.table["rlnOpticsGroup"]] == ["x"] * 12 + [
        "y"
    ] * 12
    assert list(of["cryoetganTiltLow"]) == [-60, -40]
    # trained for one group, a folder is not gone on with for another
    refused(here(*words, "x", "-o", "y", code=2), "y/checkpoint.pt", "inputs")
    refused(here(*words, "z", "-o", "z", code=2), "'z'", "x, y", "column group")
    write_volume_set(tmp_path / "b.star", np.zeros((1, 8, 8, 8)), only[:1], 10.0)
    done = here("translation", "join", "x.star", "b.star", "-o", "no.star", code=2)
    refused(done, "16 voxels", "densities.box")


def test_the_spread_is_numpys():
    values = np.random.default_rng(0).normal(5, 2, (7, 3, 3, 3))
    assert np.allclose(spread([values[:4], values[4:]]), values.std(axis=0, ddof=1))


def test_what_cannot_be_trained_is_said(here, tmp_path, sets, rng):
    words = ("translation", "train", *sets[:4])
    refused(here(*words, "--preset", "smok", "-o", "t", code=2), "smok", "'smoke'")
    (tmp_path / "bad.yaml").write_text("widhts: [1, 2, 3]\nbatch: none\n")
    done = here(*words, "--preset", "./bad.yaml", "-o", "t", code=2)
    refused(done, "widhts", "'widths'", "batch")
    table = pd.DataFrame({"cryoetganClass": ["a"] * 4})
    write_volume_set(tmp_path / "big.star", rng.random((4, 20, 20, 20)), table, 10.0)
    write_volume_set(tmp_path / "fine.star", rng.random((4, 16, 16, 16)), table, 5.0)
    write_volume_set(tmp_path / "nan.star", rng.random((4, 16, 16, 16)), table, 10.0)
    with mrcfile.mmap(tmp_path / "nan.mrcs", mode="r+") as file:
        file.data[2, 3, 4, 5] = np.nan
    for name, word in (("big", "20"), ("fine", "5.000"), ("nan", "not finite")):
        done = here(
            "translation", "train", "--densities", "d.star", "--subtomograms", f"{name}.star",
            "--preset", "./p.yaml", "-o", "t", code=2,
        )  # fmt: skip
        refused(done, word)
    write_volume_set(tmp_path / "bare.star", rng.random((4, 16, 16, 16)), table[[]], 10.0)
    done = here("translation", "train", "--densities", "bare.star", *sets[2:], "-o", "t", code=2)
    refused(done, "bare.star", "cryoetganClass")
    (tmp_path / "c.pt").write_bytes(b"not a checkpoint")
    done = here("translation", "translate", "c.pt", "d.star", "-o", "x.star", code=2)
    refused(done, "c.pt")
    torch.save({"format": 3, "state": {}}, tmp_path / "c.pt")  # a classifier's
    done = here("translation", "translate", "c.pt", "d.star", "-o", "x.star", code=2)
    refused(done, "c.pt: is not a checkpoint of `translation train`")
    assert not (tmp_path / "t" / "checkpoint.pt").exists()


def test_broken_densities_are_not_translated(here, tmp_path, sets):
    (tmp_path / "p.yaml").write_text(PRESET.format(steps=1))
    here("translation", "train", *sets, "-o", "t")
    with mrcfile.mmap(tmp_path / "d.mrcs", mode="r+") as file:
        file.data[1, 8, 8, 8] = np.nan
    words = ("t/checkpoint.pt", "d.star")
    done = here("translation", "translate", *words, "-o", "g.star", code=2)
    refused(done, "g.star", "volume 2", "not finite")
    here("translation", "uncertainty", *words, "--passes", 2, "-o", "u", code=2)
    table = pd.DataFrame({"cryoetganClass": ["a"] * 4})
    write_volume_set(tmp_path / "tiny.star", np.ones((4, 4, 4, 4), np.float32), table, 10.0)
    words = ("t/checkpoint.pt", "tiny.star", "-o", "g.star")
    refused(here("translation", "translate", *words, code=2), "tiny.star", "4 voxels", "8 or more")
    assert not list(tmp_path.glob("g.*"))
    assert not list(tmp_path.glob("u/*"))


def test_a_diverging_run_stops_with_the_step(here, tmp_path, sets):
    (tmp_path / "p.yaml").write_text(PRESET.format(steps=50) + "lr_generator: 1.0e+30\n")
    done = here("translation", "train", *sets, "-o", "t", code=2)
    refused(done, "diverged", "step", "lr_generator")
    assert not (tmp_path / "t" / "checkpoint.pt").exists()


def test_checkpoints_of_older_versions_are_read_or_refused_by_name(here, tmp_path, sets):
    here("translation", "train", *sets, "-o", "t")
    path = tmp_path / "t" / "checkpoint.pt"
    content = weights(path)
    words = ("translation", "translate", "t/checkpoint.pt", "d.star", "-o")
    here(*words, "new.star")

    def written(**changed):
        torch.save({**content, "version": "0.0.7", **changed}, path)

    # a switch that is younger than the checkpoint was at its default
    younger = {"patch_weight", "texture_weight", "stages"} & set(content["settings"])
    assert younger
    kept = {name: value for name, value in content["settings"].items() if name not in younger}
    written(settings=kept)
    here(*words, "old.star")
    assert (tmp_path / "old.mrcs").read_bytes() == (tmp_path / "new.mrcs").read_bytes()
    # one there is no more, at the value that meant nothing
    written(settings=content["settings"] | {"pair_weight": 0.0})
    here(*words, "old.star")
    here("translation", "train", *sets, "-o", "t")
    written(settings=content["settings"] | {"pair_weight": 4.0})
    refused(here(*words, "x.star", code=2), "pair_weight", "train again")
    written(settings=content["settings"] | {"sharpness": 3})
    refused(here(*words, "x.star", code=2), "checkpoint.pt", "0.0.7", "sharpness", "train again")
    average = dict(content["average"])
    first = next(iter(average))
    average["before." + first] = average.pop(first)
    written(average=average)
    refused(here(*words, "x.star", code=2), "checkpoint.pt", "0.0.7", first, "train again")
    torch.save({key: value for key, value in content.items() if key != "optics"}, path)
    refused(here(*words, "x.star", code=2), "checkpoint.pt", "no optics", "train again")
    written(format=99, version="9.0.0")
    refused(here(*words, "x.star", code=2), "9.0.0", "newer")
    # a state to go on from, likewise
    networks = {"before." + name: value for name, value in content["networks"].items()}
    path.unlink()
    torch.save({**content, "version": "0.0.7", "networks": networks}, tmp_path / "t/training.pt")
    torch.save({**weights(tmp_path / "t/training.pt"), "step": 5}, tmp_path / "t/training.pt")
    refused(here("translation", "train", *sets, "-o", "t", code=2), "0.0.7", "train again")
    # one whose optimiser held fewer numbers
    optimisers = copy.deepcopy(content["optimisers"])
    optimisers["generators"]["param_groups"][0]["params"].pop()
    fewer = {**content, "version": "0.0.7", "step": 5, "optimisers": optimisers}
    torch.save(fewer, tmp_path / "t/training.pt")
    refused(here("translation", "train", *sets, "-o", "t", code=2), "0.0.7", "optimisers", "anew")
    assert weights(tmp_path / "t/training.pt")["step"] == 5
    assert not list(tmp_path.glob("x.*"))

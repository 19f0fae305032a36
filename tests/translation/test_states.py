"""Which state a run goes on from; which rows it learns from, and whose record they give it."""

import signal

import numpy as np
import pandas as pd
import pytest
import torch

from cryoetgan.io.star import ANGLES, read_star, write_star
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.translation.cyclegan.trainer import Trainer
from cryoetgan.translation.engine.trainer import DivergedError, Loop
from cryoetgan.translation.settings import Settings
from cryoetgan.translation.translator import open_translator
from tests.conftest import refused
from tests.translation.test_run import PRESET

OPTICS = pd.DataFrame(
    {
        "rlnOpticsGroup": [1, 2],
        "rlnOpticsGroupName": ["tested", "learnt"],
        "cryoetganTiltLow": [-40.0, -60.0],
        "cryoetganTiltHigh": [40.0, 60.0],
    }
)


@pytest.fixture
def sets(tmp_path, rng):
    table = pd.DataFrame({"cryoetganClass": ["a", "b"] * 6, **{a: rng.random(12) for a in ANGLES}})
    density = rng.random((12, 16, 16, 16)).astype(np.float32)
    write_volume_set(tmp_path / "d.star", density, table, 10.0)
    real = table.assign(
        cryoetganSplit=["train"] * 8 + ["test"] * 4, rlnOpticsGroup=[2] * 8 + [1] * 4
    )
    noise = rng.standard_normal((12, 16, 16, 16)).astype(np.float32)
    write_volume_set(tmp_path / "s.star", noise, real, 10.0, OPTICS)
    recipe(tmp_path, 12)
    return ("--densities", "d.star", "--subtomograms", "s.star", "--preset", "./p.yaml")


def recipe(folder, steps, decay=1.0):
    (folder / "p.yaml").write_text(PRESET.format(steps=steps) + f"decay_start: {decay}\n")


def content(path):
    return torch.load(path, weights_only=True)


def killed_at(step, here, train, monkeypatch):
    """Train until this step, which is interrupted."""
    whole = Trainer._one_step

    def killed(self):
        if self.step == step:
            raise KeyboardInterrupt
        whole(self)

    with monkeypatch.context() as context:
        context.setattr(Trainer, "_one_step", killed)
        here(*train, code=128 + signal.SIGINT)


def test_fewer_steps_are_not_what_more_steps_made(here, tmp_path, sets):
    train = ("translation", "train", *sets, "-o", "t")
    here(*train)
    recipe(tmp_path, 4)
    refused(here(*train, code=2), "t/checkpoint.pt", "12, not 4", "delete it")
    # the workflow removes the finished file before it trains by an edited config
    (tmp_path / "t/checkpoint.pt").unlink()
    assert "training starts anew" in here(*train).stderr
    assert content(tmp_path / "t/checkpoint.pt")["step"] == 4
    assert content(tmp_path / "t/training.old.pt")["step"] == 12
    here(*train[:-1], "fresh")
    weights = [content(tmp_path / name / "checkpoint.pt")["average"] for name in ("t", "fresh")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_what_other_code_trained_to_the_end_is_trained_anew_once_its_checkpoint_is_gone(
    here, tmp_path, sets, monkeypatch
):
    train = ("translation", "train", *sets, "-o", "t")
    finished = tmp_path / "t/checkpoint.pt"
    here(*train)
    before = finished.read_bytes()
    finished.unlink()
    assert "only its checkpoint was gone" in here(*train).stderr
    assert finished.read_bytes() == before
    monkeypatch.setattr("cryoetgan.translation.train.code_hash", lambda *_: "edited")
    # while it is there nothing is lost
    assert "by other code" in here(*train).stderr
    assert finished.read_bytes() == before
    finished.unlink()
    assert "training starts anew" in here(*train).stderr
    assert (tmp_path / "t/training.old.pt").read_bytes() == before
    made, old = content(finished), content(tmp_path / "t/training.old.pt")
    assert made["code"] == "edited" != old["code"]
    assert all(torch.equal(made["average"][key], old["average"][key]) for key in old["average"])


def test_what_other_code_began_is_gone_on_with_and_said(here, tmp_path, sets, monkeypatch):
    train = ("translation", "train", *sets, "-o", "t")
    with monkeypatch.context() as context:
        context.setattr("cryoetgan.translation.train.SAVE_EVERY_STEPS", 5)
        killed_at(8, here, train, monkeypatch)
    monkeypatch.setattr("cryoetgan.translation.train.code_hash", lambda *_: "edited")
    said = here(*train).stderr
    assert "by other code" in said
    assert "goes on from step 5" in said
    assert content(tmp_path / "t/checkpoint.pt")["step"] == 12


def test_a_preset_of_another_name_is_another_run(here, tmp_path, sets):
    """Random numbers hang on the name: gone on with, held crops would be learnt from."""
    here("translation", "train", *sets, "-o", "t")
    recipe(tmp_path, 20)
    (tmp_path / "p.yaml").rename(tmp_path / "q.yaml")
    renamed = [word.replace("p.yaml", "q.yaml") for word in sets]
    done = here("translation", "train", *renamed, "-o", "t", code=2)
    refused(done, "t/checkpoint.pt", "other preset", "another folder")


def test_weights_that_have_changed_since_are_not_used(here, tmp_path, sets):
    train = ("translation", "train", *sets, "-o", "t")
    here(*train)
    whole = (tmp_path / "t/checkpoint.pt").read_bytes()
    first = next(iter(content(tmp_path / "t/checkpoint.pt")["average"].values()))
    at = whole.index(first.numpy().tobytes())
    (tmp_path / "t/checkpoint.pt").unlink()
    (tmp_path / "t/training.pt").unlink()
    (tmp_path / "t/checkpoint.pt").write_bytes(
        whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :]
    )
    done = here("translation", "translate", "t/checkpoint.pt", "d.star", "-o", "x.star", code=2)
    refused(done, "t/checkpoint.pt", "has changed since it was written", "train again")
    torch.save({"format": 1, "version": "0", "code": recipe}, tmp_path / "code.pt")
    done = here("translation", "translate", "code.pt", "d.star", "-o", "x.star", code=2)
    refused(done, "code.pt", "more than weights and numbers")
    assert "weights_only" not in done.stderr


def test_epochs_are_passes_over_what_is_learnt_from(here, tmp_path, sets):
    more = "epochs: 4\nheld_out: 0.5\nsnapshot_every: 1\n"
    with open(tmp_path / "p.yaml", "a") as file:
        file.write(more)
    here("translation", "train", *sets, "-o", "t")
    names = sorted(path.name for path in (tmp_path / "t/snapshots").iterdir())
    assert names == [f"epoch_0000{n}.pt" for n in range(1, 5)]
    assert content(tmp_path / "t/checkpoint.pt")["step"] == 4 * 4 / 2


def test_a_run_without_its_log_or_settings_is_still_one(here, tmp_path, sets):
    train = ("translation", "train", *sets, "-o", "t")
    here(*train)
    settings = (tmp_path / "t/config.yaml").read_text()
    (tmp_path / "t/config.yaml").unlink()
    (tmp_path / "t/log.csv").unlink()
    assert "its log.csv is gone" in here(*train).stderr
    assert (tmp_path / "t/config.yaml").read_text() == settings
    # the settings are a preset again
    again = ("--preset", "t/config.yaml")
    here("translation", "train", *sets[:4], *again, "-o", "u")
    assert (
        content(tmp_path / "u/checkpoint.pt")["settings"]
        == content(tmp_path / "t/checkpoint.pt")["settings"]
    )
    recipe(tmp_path, 16)
    (tmp_path / "t/log.csv").write_text("garbage\n1,2\n")
    assert "is no log of a training" in here(*train).stderr
    assert (tmp_path / "t/log.csv").read_text().startswith("step,")


def test_a_group_of_a_set_without_groups_is_refused(here, tmp_path, sets):
    tables = read_star(tmp_path / "s.star")
    write_star(tmp_path / "s.star", tables.particles.drop(columns="rlnOpticsGroup"), tables.optics)
    done = here("translation", "train", *sets, "--group", "titan", "-o", "t", code=2)
    refused(done, "s.star", "'titan'", "not recorded")


def test_what_is_read_is_not_written_over(here, tmp_path, sets):
    here("translation", "train", *sets, "-o", "t")
    before = (tmp_path / "d.star").read_bytes()
    for words in (
        ("translate", "t/checkpoint.pt", "d.star", "-o", "./none/../d.star"),
        ("uncertainty", "t/checkpoint.pt", "u/noise_sd.star", "--passes", 2, "-o", "u"),
    ):
        if "u" in words:
            (tmp_path / "u").mkdir()
            for suffix in ("star", "mrcs"):
                (tmp_path / f"u/noise_sd.{suffix}").write_bytes(
                    (tmp_path / f"d.{suffix}").read_bytes()
                )
        refused(here("translation", *words, code=2), "overwrite an input")
    assert (
        (tmp_path / "d.star").read_bytes() == before == (tmp_path / "u/noise_sd.star").read_bytes()
    )


def test_more_steps_than_rates_were_planned_for_are_said(here, tmp_path, sets):
    train = ("translation", "train", *sets, "-o", "t")
    recipe(tmp_path, 6, decay=0.5)
    here(*train)
    recipe(tmp_path, 8, decay=0.5)
    assert "learning rates fell" in here(*train).stderr


def test_another_split_of_the_same_volumes_is_learnt_anew(here, tmp_path, sets):
    train = ("translation", "train", *sets, "-o", "t")
    here(*train)
    tables = read_star(tmp_path / "s.star")
    split = tables.particles["cryoetganSplit"]
    tables.particles["cryoetganSplit"] = np.where(split == "train", "test", "train")
    write_star(tmp_path / "s.star", tables.particles, tables.optics)
    refused(here(*train, code=2), "t/checkpoint.pt", "other inputs")
    (tmp_path / "t/checkpoint.pt").unlink()
    assert "training starts anew" in here(*train).stderr


def test_a_killed_extension_goes_on_from_its_own_last_state(here, tmp_path, sets, monkeypatch):
    train = ("translation", "train", *sets, "-o", "t")
    here(*train)
    recipe(tmp_path, 40)
    monkeypatch.setattr("cryoetgan.translation.train.SAVE_EVERY_STEPS", 5)
    killed_at(22, here, train, monkeypatch)
    assert content(tmp_path / "t/checkpoint.pt")["step"] == 12
    assert "goes on from step 20" in here(*train).stderr
    assert content(tmp_path / "t/checkpoint.pt")["step"] == 40


def test_an_extension_killed_before_it_had_its_name_gets_it(here, tmp_path, sets, monkeypatch):
    train = ("translation", "train", *sets, "-o", "t")
    here(*train)
    recipe(tmp_path, 16)

    def killed(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr("cryoetgan.translation.train.checkpoint.finish", killed)
        here(*train, code=128 + signal.SIGINT)
    assert content(tmp_path / "t/checkpoint.pt")["step"] == 12
    assert "trained already (16 steps)" in here(*train).stderr
    assert content(tmp_path / "t/checkpoint.pt")["step"] == 16


def test_part_of_a_longer_run_is_not_a_shorter_one(here, tmp_path, sets, monkeypatch):
    """Its rates had not fallen: the state at the same step is another."""
    train = ("translation", "train", *sets, "-o", "t")
    recipe(tmp_path, 40, decay=0.5)
    monkeypatch.setattr("cryoetgan.translation.train.SAVE_EVERY_STEPS", 5)
    killed_at(7, here, train, monkeypatch)
    assert content(tmp_path / "t/training.pt")["step"] == 5
    recipe(tmp_path, 5, decay=0.5)
    assert "it has done 5 of 40, 5 are wanted" in here(*train).stderr
    assert content(tmp_path / "t/checkpoint.pt")["settings"]["steps"] == 5


def test_another_record_of_the_tomograms_is_learnt_anew(here, tmp_path, sets):
    train = ("translation", "train", *sets, "-o", "t")
    here(*train)
    tables = read_star(tmp_path / "s.star")
    tables.optics["cryoetganTiltHigh"] = [40.0, 50.0]
    write_star(tmp_path / "s.star", tables.particles, tables.optics)
    (tmp_path / "t/checkpoint.pt").unlink()
    assert "training starts anew" in here(*train).stderr
    translator = open_translator(tmp_path / "t/checkpoint.pt", "ds", None, torch.device("cpu"))
    assert translator.optics()[0]["cryoetganTiltHigh"] == 50


def test_a_state_that_is_of_no_use_is_kept_and_a_newer_one_refused(here, tmp_path, sets):
    train = ("translation", "train", *sets, "-o", "t")
    state = tmp_path / "t/training.pt"
    state.parent.mkdir()
    state.write_bytes(b"half a state")
    assert "training.old.pt" in here(*train).stderr
    assert (tmp_path / "t/training.old.pt").read_bytes() == b"half a state"
    newer = {**content(tmp_path / "t/checkpoint.pt"), "format": 99, "version": "9.0.0"}
    (tmp_path / "t/checkpoint.pt").unlink()
    torch.save(newer, state)
    before = state.read_bytes()
    refused(here(*train, code=2), "9.0.0", "newer")
    assert state.read_bytes() == before


def test_what_is_made_is_recorded_as_what_was_learnt_from(here, tmp_path, sets):
    here("translation", "train", *sets, "-o", "t")
    translator = open_translator(tmp_path / "t/checkpoint.pt", "ds", None, torch.device("cpu"))
    (row,) = translator.optics()
    assert row["rlnOpticsGroupName"] == "learnt"
    assert (row["cryoetganTiltLow"], row["cryoetganTiltHigh"]) == (-60, 60)


def test_tomograms_of_different_tilts_are_said_to_be_mixed(here, tmp_path, sets):
    tables = read_star(tmp_path / "s.star")
    tables.particles["cryoetganSplit"] = "train"
    write_star(tmp_path / "s.star", tables.particles, tables.optics)
    done = here("translation", "train", *sets, "-o", "t").stderr
    assert "-60 to 60, -40 to 40" in done
    assert "per_group" in done


def test_blank_crops_are_left_out_and_do_not_end_training(here, tmp_path, sets):
    kept = read_volume_set(tmp_path / "s.star")
    volumes = np.array(kept.volumes)
    volumes[3] = 0.5
    write_volume_set(tmp_path / "s.star", volumes, kept.table, 10.0, kept.optics)
    assert (
        "1 of 8 volumes are one grey value" in here("translation", "train", *sets, "-o", "t").stderr
    )
    write_volume_set(tmp_path / "s.star", volumes * 0, kept.table, 10.0, kept.optics)
    refused(here("translation", "train", *sets, "-o", "u", code=2), "s.star", "one grey value")


def test_a_diverged_run_leaves_its_log(here, tmp_path, sets):
    (tmp_path / "p.yaml").write_text(PRESET.format(steps=50) + "lr_generator: 1.0e+30\n")
    here("translation", "train", *sets, "-o", "t", code=2)
    assert (tmp_path / "t/log.csv").read_text().startswith("step,")


def test_numbers_for_a_person_to_watch_end_nothing():
    loop = Loop(Settings(), torch.device("cpu"), 0)
    loop.last = {"sd_ratio": torch.tensor(1e9), "noise_ratio": torch.tensor(torch.nan)}
    loop.check()
    loop.last["adversarial"] = torch.tensor(torch.nan)
    with pytest.raises(DivergedError, match="adversarial"):
        loop.check()

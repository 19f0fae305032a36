"""Training runs through the command: files, groups, snapshots, refusals."""

import csv
import sys
from types import ModuleType

import mrcfile
import numpy as np
import pandas as pd
import pytest

from cryoetgan.io.star import read_star, write_star
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.translation.cyclegan.trainer import CycleGANTrainer
from tests.conftest import refused
from tests.translation.helpers import equal, load, train_in, write_preset


def test_tensorboard_events_hold_the_numbers_of_the_log(here, tmp_path, sets, monkeypatch):
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
    write_preset(tmp_path, 3)
    here("translation", "train", *sets, "--tensorboard", "-o", "t")
    assert seen[0] == ("t/tensorboard", 1)
    assert seen[-1] == "closed"
    with open(tmp_path / "t" / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name, value in row.items():
            found = [v for n, v, s in seen[1:-1] if n == name and s == int(row["step"])]
            assert name == "step" or found == [pytest.approx(float(value), rel=1e-5)]


def test_tensorboard_that_is_not_installed_is_refused(here, tmp_path, sets, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    done = here("translation", "train", *sets, "--tensorboard", "-o", "u", code=2)
    refused(done, "--tensorboard", "cryoetgan[tensorboard]")
    assert not (tmp_path / "u").exists()


def test_snapshots_are_checkpoints(here, tmp_path, sets):
    # 8 training volumes, batches of 2: four steps an epoch
    write_preset(tmp_path, 9, "snapshot_every: 1\n")
    here("translation", "train", *sets, "-o", "t")
    kept = sorted((tmp_path / "t" / "snapshots").iterdir())
    assert [path.name for path in kept] == ["epoch_00001.pt", "epoch_00002.pt"]
    assert [load(path)["step"] for path in kept] == [4, 8]
    here("translation", "translate", kept[0], "d.star", "-o", "early.star")
    here("translation", "translate", "t/checkpoint.pt", "d.star", "-o", "late.star")
    early, late = (read_volume_set(tmp_path / f"{n}.star").volumes for n in ("early", "late"))
    assert not np.allclose(early, late, atol=1e-3)


@pytest.mark.parametrize(("ratio", "collapsed"), [(0.3, False), (0.2, True)])
def test_a_collapsed_way_back_is_said(tmp_path, sets, monkeypatch, caplog, ratio, collapsed):
    write_preset(tmp_path, 1)
    monkeypatch.setattr(CycleGANTrainer, "diagnose", lambda t: t.last.update(back_sd_ratio=ratio))
    train_in(tmp_path)
    assert ("way back has collapsed" in caplog.text) == collapsed


def test_epochs_exclude_held_out_subtomograms(here, tmp_path, sets):
    write_preset(tmp_path, 12, "epochs: 2\nheld_out: 0.5\nsnapshot_every: 1\n")
    here("translation", "train", *sets, "-o", "t")
    names = sorted(path.name for path in (tmp_path / "t/snapshots").iterdir())
    assert names == [f"epoch_0000{n}.pt" for n in range(1, 3)]
    assert load(tmp_path / "t/checkpoint.pt")["step"] == 2 * 4 / 2


@pytest.fixture
def groups(tmp_path, sets):
    """Give the subtomograms two groups of tomograms, x and y; return their optics."""
    write_preset(tmp_path, 2)
    whole = read_volume_set(tmp_path / "s.star")
    first, second = (
        Acquisition(group=name, tilt_low=low) for name, low in (("x", -60), ("y", -40))
    )
    optics = pd.DataFrame([first.to_optics(1, "t1"), second.to_optics(2, "t2")])
    table = whole.table.assign(rlnOpticsGroup=[1, 2, 2] * 4)
    write_volume_set(tmp_path / "s.star", np.array(whole.volumes), table, 10.0, optics)
    return optics


def test_a_group_trains_on_its_own_subtomograms(here, tmp_path, sets, groups):
    words = ("translation", "train", *sets, "--group")
    here(*words, "y", "-o", "y")
    whole = read_volume_set(tmp_path / "s.star")
    rows = (whole.table["rlnOpticsGroup"] == 2).to_numpy()
    table = whole.table[rows].reset_index(drop=True)
    write_volume_set(tmp_path / "only.star", whole.volumes[rows], table, 10.0, groups)
    here("translation", "train", *sets[:3], "only.star", *sets[4:], "-o", "alone")
    y, alone = (load(tmp_path / n / "checkpoint.pt") for n in ("y", "alone"))
    assert equal(y["average"], alone["average"])
    assert y["optics"][0]["cryoetganGroup"] == "y"
    refused(here(*words, "x", "-o", "y", code=2), "y/checkpoint.pt", "inputs")
    refused(here(*words, "z", "-o", "z", code=2), "'z'", "x, y", "column group")


def test_joined_sets_have_the_optics_groups_of_all(here, tmp_path, rng):
    table = pd.DataFrame({"cryoetganClass": ["a", "b"], "rlnOpticsGroup": [1, 1]})
    for name, low in (("x", -60), ("y", -40)):
        optics = pd.DataFrame([Acquisition(group=name, tilt_low=low).to_optics(1, name)])
        volumes = rng.random((2, 16, 16, 16)).astype(np.float32)
        write_volume_set(tmp_path / f"{name}.star", volumes, table, 10.0, optics)
    here("translation", "join", "x.star", "y.star", "-o", "both.star")
    x, y, both = (read_volume_set(tmp_path / f"{name}.star") for name in ("x", "y", "both"))
    assert np.array_equal(both.volumes, np.concatenate([x.volumes, y.volumes]))
    assert list(both.table["cryoetganClass"]) == ["a", "b"] * 2
    group = both.optics.set_index("rlnOpticsGroup")["cryoetganGroup"]
    assert [group[number] for number in both.table["rlnOpticsGroup"]] == ["x", "x", "y", "y"]
    assert list(both.optics["cryoetganTiltLow"]) == [-60, -40]


def test_sets_of_different_boxes_are_not_joined(here, tmp_path):
    table = pd.DataFrame({"rlnOpticsGroup": [1]})
    optics = pd.DataFrame([Acquisition().to_optics(1, "t")])
    for box in (16, 8):
        write_volume_set(
            tmp_path / f"b{box}.star", np.zeros((1, box, box, box)), table, 10.0, optics
        )
    done = here("translation", "join", "b16.star", "b8.star", "-o", "no.star", code=2)
    refused(done, "16 voxels", "densities.box")


def test_a_group_of_a_set_without_groups_is_refused(here, tmp_path, sets):
    tables = read_star(tmp_path / "s.star")
    write_star(tmp_path / "s.star", tables.particles.drop(columns="rlnOpticsGroup"), tables.optics)
    done = here("translation", "train", *sets, "--group", "titan", "-o", "t", code=2)
    refused(done, "s.star", "'titan'", "not recorded")


def test_different_tilt_ranges_are_mixed_with_a_warning(here, tmp_path, sets):
    write_preset(tmp_path, 1)
    tables = read_star(tmp_path / "s.star")
    tables.particles["cryoetganSplit"] = "train"
    write_star(tmp_path / "s.star", tables.particles, tables.optics)
    done = here("translation", "train", *sets, "-o", "t").stderr
    assert "-60 to 60, -40 to 40" in done
    assert "per_group" in done


def test_constant_subtomograms_are_excluded(here, tmp_path, sets):
    write_preset(tmp_path, 1)
    kept = read_volume_set(tmp_path / "s.star")
    volumes = np.array(kept.volumes)
    volumes[3] = 0.5
    write_volume_set(tmp_path / "s.star", volumes, kept.table, 10.0, kept.optics)
    assert "1 of 8 volumes are constant" in here("translation", "train", *sets, "-o", "t").stderr
    write_volume_set(tmp_path / "s.star", volumes * 0, kept.table, 10.0, kept.optics)
    refused(here("translation", "train", *sets, "-o", "u", code=2), "s.star", "constant")


def test_an_unknown_preset_names_the_nearest(here, sets):
    words = ("translation", "train", *sets[:4], "--preset", "smok", "-o", "t")
    refused(here(*words, code=2), "smok", "'smoke'")


@pytest.mark.parametrize(
    ("box", "voxel_size", "value", "word"),
    [(20, 10.0, 0.5, "20"), (16, 5.0, 0.5, "5.000"), (16, 10.0, np.nan, "not finite")],
)
def test_subtomograms_that_do_not_fit_are_refused(
    here, tmp_path, sets, box, voxel_size, value, word
):
    table = pd.DataFrame({"cryoetganClass": ["a"] * 4})
    volumes = np.random.default_rng(1).random((4, box, box, box))
    write_volume_set(tmp_path / "x.star", volumes, table, voxel_size)
    with mrcfile.mmap(tmp_path / "x.mrcs", mode="r+") as file:
        file.data[2, 3, 4, 5] = value
    words = ("translation", "train", *sets[:3], "x.star", *sets[4:], "-o", "t")
    refused(here(*words, code=2), word)


def test_densities_need_classes(here, tmp_path, sets):
    write_volume_set(
        tmp_path / "x.star", np.ones((4, 16, 16, 16)), pd.DataFrame(index=range(4)), 10.0
    )
    words = ("translation", "train", "--densities", "x.star", *sets[2:], "-o", "t")
    refused(here(*words, code=2), "x.star", "cryoetganClass")


def test_a_diverging_run_stops_with_the_step_and_leaves_its_log(here, tmp_path, sets):
    write_preset(tmp_path, 50, "lr_generator: 1.0e+30\n")
    done = here("translation", "train", *sets, "-o", "t", code=2)
    refused(done, "diverged", "step", "lr_generator")
    assert not (tmp_path / "t" / "checkpoint.pt").exists()
    assert (tmp_path / "t/log.csv").read_text().startswith("step,")

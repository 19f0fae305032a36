"""Runs of preset recommended through the commands: train, translate, synthesize."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from cryoetgan.imaging.storage import save_model
from cryoetgan.io.files import sidecar, write_json
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import read_star, write_star
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from tests.conftest import refused
from tests.translation.conftest import make_model, write_densities
from tests.translation.helpers import train_in

PRESET = """
model: residual
diffusion_steps: 2
filters: 4
width: 4
blocks: 1
batch: 4
steps: 6
decay_start: 1.0
n_scenes: 12
ema: 0.9
"""


@pytest.fixture(scope="session")
def residual_folder(tmp_path_factory):
    """Train folder t of a folder with sets, preset and imaging model, once for all tests."""
    folder = tmp_path_factory.mktemp("residual")
    save_model(make_model(), folder / "M.json")
    write_densities(folder)
    table = read_volume_set(folder / "d.star").table.assign(cryoetganSource="real")
    noise = np.random.default_rng(7).standard_normal((12, 16, 16, 16)).astype(np.float32)
    write_volume_set(folder / "s.star", noise, table, 10.0)
    (folder / "p.yaml").write_text(PRESET)
    train_in(folder, imaging=[folder / "M.json"])
    return folder


@pytest.fixture
def trained(tmp_path, residual_folder):
    """Copy a trained run to folder t; return the words that train it."""
    shutil.copytree(residual_folder, tmp_path, dirs_exist_ok=True)
    return (
        "translation", "train", "--densities", "d.star", "--subtomograms", "s.star",
        "--preset", "./p.yaml", "--imaging", "M.json",
    )  # fmt: skip


TRANSLATE = ("translation", "translate", "t/checkpoint.pt")


def test_the_untrained_network_is_the_simulation_without_its_files(here, tmp_path, trained):
    here("imaging", "simulate", "d.star", "--model", "M.json", "-o", "simulated.star")
    for name in ("M.json", "M.npz"):
        (tmp_path / name).unlink()
    here(*TRANSLATE, "d.star", "--snapshot", 0, "-o", "zero.star")
    simulated, zero = (read_volume_set(tmp_path / f"{n}.star") for n in ("simulated", "zero"))
    assert np.allclose(simulated.volumes, zero.volumes, atol=1e-4)
    assert list(zero.table["cryoetganClass"]) == ["a", "b"] * 6
    assert zero.optics["rlnOpticsGroupName"][0] == "t1"
    here(*TRANSLATE, "d.star", "-o", "g.star")
    assert not np.allclose(read_volume_set(tmp_path / "g.star").volumes, zero.volumes, atol=1e-3)


def test_draws_differ_and_translate_back(here, tmp_path, trained):
    here(*TRANSLATE, "d.star", "--draws", 2, "-o", "g.star")
    volumes = read_volume_set(tmp_path / "g.star").volumes
    assert not np.allclose(volumes[::2], volumes[1::2], atol=0.1)
    here(*TRANSLATE, "g.star", "--direction", "sd", "-o", "back.star")
    assert set(read_volume_set(tmp_path / "back.star").table["cryoetganSource"]) == {"density"}
    here("translation", "uncertainty", "t/checkpoint.pt", "d.star", "--passes", 3, "-o", "u")
    noise_sd = read_volume_set(tmp_path / "u" / "noise_sd.star").volumes
    assert noise_sd.mean() == pytest.approx(volumes.std(), rel=0.5)
    assert read_volume_set(tmp_path / "u" / "dropout_sd.star").volumes.max() == 0


def test_uncertainty_maps_have_the_imaging_model_of_their_volume(here, tmp_path, model, trained):
    save_model(replace(model, tomogram="other"), tmp_path / "N.json")
    here(*trained, "--imaging", "N.json", "-o", "two")
    here("translation", "translate", "two/checkpoint.pt", "d.star", "-o", "made.star")
    here("translation", "uncertainty", "two/checkpoint.pt", "d.star", "--passes", 2, "-o", "v")
    made, spreads = (read_volume_set(tmp_path / n) for n in ("made.star", "v/noise_sd.star"))
    assert set(made.table["rlnOpticsGroup"]) == {1, 2}
    assert list(spreads.table["rlnOpticsGroup"]) == list(made.table["rlnOpticsGroup"])
    assert list(spreads.optics["rlnOpticsGroupName"]) == [model.tomogram, "other"]


def test_more_steps_resume_to_the_bits_of_an_unbroken_run(here, tmp_path, trained):
    here(*trained, "--steps", 9, "-o", "t")
    here(*trained, "--steps", 9, "-o", "whole")
    first, second = (
        torch.load(tmp_path / n / "checkpoint.pt", weights_only=True) for n in ("t", "whole")
    )
    assert first["step"] == second["step"] == 9
    for name, value in first["networks"].items():
        assert torch.equal(value, second["networks"][name])
    assert first["imaging"][0]["content"] == second["imaging"][0]["content"]


def test_a_residual_preset_needs_imaging_models(here, tmp_path, trained):
    refused(here(*trained[:-2], "-o", "x", code=2), "--imaging", "imaging fit")


SYNTHESIZE = ("translation", "synthesize", "t/checkpoint.pt", "scene.mrc")
BESIDE = ("--labels", "labels.mrc", "--particles", "truth.star")


@pytest.fixture
def scene(tmp_path, trained, rng):
    """Write a scene with labels and truth; return the labels."""
    shape = (20, 24, 28)
    labels = rng.integers(0, 3, shape).astype(np.int8)
    write_volume(tmp_path / "scene.mrc", rng.random(shape).astype(np.float32), 10.0)
    write_volume(tmp_path / "labels.mrc", labels, 10.0)
    write_json(sidecar(tmp_path / "labels.mrc"), {"labels": {"1": "a", "2": "b_c"}})
    truth = pd.DataFrame(
        {"rlnCoordinateX": [3.5], "rlnCoordinateY": [4.0], "rlnCoordinateZ": [5.0],
         "cryoetganClass": ["a"]}
    )  # fmt: skip
    write_star(tmp_path / "truth.star", truth)
    return labels


def test_a_tomogram_has_the_labels_and_truth_of_its_scene(here, tmp_path, scene):
    here(*SYNTHESIZE, *BESIDE, "-o", "T.mrc")
    tomogram = read_volume(tmp_path / "T.mrc").data
    assert tomogram.shape == scene.shape
    assert np.array_equal(read_volume(tmp_path / "T_labels.mrc").data, scene)
    row = read_star(tmp_path / "T.star").particles.iloc[0]
    assert (row["rlnTomoName"], row["cryoetganClass"], row["rlnCoordinateX"]) == ("T", "a", 3.5)
    assert row["cryoetganSource"] == "generated"


def test_a_tomogram_depends_on_its_name_and_not_on_its_tiles(here, tmp_path, scene):
    here(*SYNTHESIZE, "-o", "T.mrc")
    here(*SYNTHESIZE, "--tile", 10, "-o", "tiled/T.mrc")
    here(*SYNTHESIZE, "-o", "S.mrc")
    one, tiled, other = (read_volume(tmp_path / n).data for n in ("T.mrc", "tiled/T.mrc", "S.mrc"))
    assert np.abs(one - tiled).max() < 1e-4 * one.std()
    # each tomogram has its own noise
    assert np.abs(one - other).max() > one.std()


def test_copick_takes_a_tomogram_with_the_names_of_its_labels(here, tmp_path, scene):
    copick = pytest.importorskip("copick")
    here(*SYNTHESIZE, *BESIDE, "-o", "T.mrc")
    beside = ("--labels", "T_labels.mrc", "--particles", "T.star", "--contrast", "bright")
    here("export", "copick", "T.mrc", *beside, "-o", "project")
    root = copick.from_file(str(tmp_path / "project/config.json"))
    run = root.get_run("T")
    (stored,) = run.get_voxel_spacing(10.0).tomograms
    assert np.allclose(stored.numpy(), read_volume(tmp_path / "T.mrc").data, atol=1e-3)
    numbers = {item.name: item.label for item in root.pickable_objects}
    (segmentation,) = (one for one in run.get_segmentations() if one.is_multilabel)
    for number, name in ((1, "a"), (2, "b-c")):
        assert np.array_equal(segmentation.numpy() == numbers[name], scene == number)
    points, _ = run.get_picks("a")[0].numpy()
    assert points[0, 0] == pytest.approx(35.0)


def test_labels_must_cover_the_scene(here, tmp_path, scene):
    write_volume(tmp_path / "labels.mrc", scene[1:], 10.0)
    refused(here(*SYNTHESIZE, "--labels", "labels.mrc", "-o", "X.mrc", code=2), "cover")
    assert not (tmp_path / "X.mrc").exists()

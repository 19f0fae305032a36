"""Translation: labels by construction, noise by item, optics of the training tomograms."""

import shutil

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch

from cryoetgan.io.star import ANGLES
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.translation.cyclegan.translator import CycleGANTranslator
from cryoetgan.translation.engine import checkpoint
from cryoetgan.translation.engine.translator import Item, batch_size
from cryoetgan.translation.presets import parse_settings
from cryoetgan.translation.translate import open_translator, write_translations
from tests.conftest import refused

WORDS = ("translation", "translate", "t/checkpoint.pt")


def volumes_of(path):
    return np.array(read_volume_set(path).volumes)


def test_translation_keeps_labels(here, tmp_path, trained):
    here(*WORDS, "d.star", "-o", "g.star", "--draws", 2)
    generated, source = (read_volume_set(tmp_path / f"{name}.star") for name in "gd")
    for column in ("cryoetganClass", *ANGLES):
        assert list(generated.table[column]) == [v for v in source.table[column] for _ in "12"]
    assert set(generated.table["cryoetganSource"]) == {"generated"}
    assert not np.array_equal(generated.volumes[0], generated.volumes[1])
    here(*WORDS, "s.star", "--direction", "sd", "-o", "back.star")
    assert set(read_volume_set(tmp_path / "back.star").table["cryoetganSource"]) == {"density"}


@pytest.mark.parametrize(("factor", "collapsed"), [(1.0, False), (0.1, True)])
def test_a_way_back_without_contrast_is_said(tmp_path, trained, caplog, factor, collapsed):
    class Scaled(torch.nn.Module):
        """Returns densities of the training, times a factor."""

        noise_channels, noise_shape = 0, staticmethod(lambda x: x.shape)

        def forward(self, x, noise):
            return factor * densities[: len(x), None]

    translator = open_translator(tmp_path / trained, "sd", torch.device("cpu"))
    trained_with = torch.from_numpy(volumes_of(tmp_path / "d.star"))
    densities = translator.scaler("density").forward(trained_with)
    translator.generator = Scaled()
    source = read_volume_set(tmp_path / "s.star")
    write_translations(translator, source, tmp_path / "back.star", 1, 0)
    assert ("collapsed" in caplog.text) == collapsed


def test_noise_depends_on_seed_and_item_alone(here, tmp_path, trained):
    here(*WORDS, "d.star", "-o", "g.star", "--seed", 3)
    here(*WORDS, "d.star", "-o", "again.star", "--seed", 3)
    assert (tmp_path / "g.mrcs").read_bytes() == (tmp_path / "again.mrcs").read_bytes()
    # fewer items of one class: the others keep their noise
    source, generated = read_volume_set(tmp_path / "d.star"), volumes_of(tmp_path / "g.star")
    rows = [0, 1, 3]
    table = source.table.iloc[rows].reset_index(drop=True)
    write_volume_set(tmp_path / "some.star", source.volumes[rows], table, 10.0)
    here(*WORDS, "some.star", "-o", "h.star", "--seed", 3)
    some = volumes_of(tmp_path / "h.star")
    assert np.allclose(some, generated[rows], atol=0.05 * generated.std())


def test_the_untrained_generator_is_another(here, tmp_path, trained):
    here(*WORDS, "d.star", "-o", "g.star")
    here(*WORDS, "d.star", "--snapshot", 0, "-o", "u.star")
    assert not np.allclose(*(volumes_of(tmp_path / f"{n}.star") for n in "gu"), atol=0.01)
    refused(here(*WORDS, "d.star", "--snapshot", 3, "-o", "x.star", code=2), "epoch_N.pt")


def test_generated_volumes_have_the_optics_of_the_training_rows(tmp_path, trained):
    translator = open_translator(tmp_path / trained, "ds", torch.device("cpu"))
    (row,) = translator.optics()
    assert row["rlnOpticsGroupName"] == "train"
    assert (row["cryoetganTiltLow"], row["cryoetganTiltHigh"]) == (-60, 60)


class Identity:
    """A generator that returns its input."""

    noise_channels = 0

    def __init__(self, noise_shape):
        self.noise_shape = noise_shape

    def __call__(self, x, noise):
        return x


def test_neighbours_follow_the_draw_and_not_the_noise(tmp_path, trained):
    content = checkpoint.read(tmp_path / trained)
    content["settings"]["neighbours"], content["noise_sd"] = 9.0, 0.0
    source = read_volume_set(tmp_path / "d.star")
    settings = parse_settings(content["settings"], "p.yaml")
    made = {}
    for direction in ("ds", "sd"):
        translator = CycleGANTranslator(
            content, settings, direction, torch.device("cpu"), tmp_path / trained
        )
        translator.generator = Identity(translator.generator.noise_shape)
        for item in (Item(0, "a/0", 0), Item(0, "a/0", 0, 5), Item(0, "a/0", 1)):
            made[direction, item.draw, item.noise_draw] = translator.translate_batch(
                source, [item], 0
            )[1]
    assert np.array_equal(made["ds", 0, 0], made["ds", 0, 5])
    assert not np.array_equal(made["ds", 0, 0], made["ds", 1, 0])
    assert np.array_equal(made["sd", 0, 0], made["sd", 1, 0])


def test_batches_are_bounded_by_their_voxels():
    assert [batch_size(box) for box in (16, 40, 64, 400)] == [8, 8, 1, 1]


def test_broken_densities_are_not_translated(here, tmp_path, trained):
    with mrcfile.mmap(tmp_path / "d.mrcs", mode="r+") as file:
        file.data[1, 8, 8, 8] = np.nan
    words = ("t/checkpoint.pt", "d.star")
    done = here("translation", "translate", *words, "-o", "g.star", code=2)
    refused(done, "g.star", "volume 2", "not finite")
    here("translation", "uncertainty", *words, "--passes", 2, "-o", "u", code=2)
    assert not list(tmp_path.glob("g.*"))
    assert not list(tmp_path.glob("u/*"))


def test_boxes_must_fit_the_generator(here, tmp_path, trained):
    table = pd.DataFrame({"cryoetganClass": ["a"] * 4})
    write_volume_set(tmp_path / "tiny.star", np.ones((4, 4, 4, 4), np.float32), table, 10.0)
    done = here(*WORDS, "tiny.star", "-o", "g.star", code=2)
    refused(done, "tiny.star", "4 voxels", "8 or more")


def test_inputs_are_not_overwritten(here, tmp_path, trained):
    before = (tmp_path / "d.star").read_bytes()
    (tmp_path / "u").mkdir()
    for suffix in ("star", "mrcs"):
        shutil.copy(tmp_path / f"d.{suffix}", tmp_path / f"u/noise_sd.{suffix}")
    for words in (
        (*WORDS, "d.star", "-o", "./none/../d.star"),
        ("translation", "uncertainty", trained, "u/noise_sd.star", "--passes", 2, "-o", "u"),
    ):
        refused(here(*words, code=2), "overwrite an input")
    for name in ("d.star", "u/noise_sd.star"):
        assert (tmp_path / name).read_bytes() == before

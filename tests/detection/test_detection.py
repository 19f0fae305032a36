"""The detector: windows without seams, picks of planted particles, files, mistakes of the user."""

import json

import numpy as np
import pytest
import torch

from cryoetgan.detection.grey import GreyValues
from cryoetgan.detection.model import read_detector
from cryoetgan.detection.network import HALO, build_network, split_blocks
from cryoetgan.detection.predict import detect
from cryoetgan.evaluation.detection_scores import score_detections
from cryoetgan.io.mrc import Volume, read_volume, write_volume
from cryoetgan.io.star import read_star
from tests.conftest import refused


def test_planted_particles_are_found_and_named(planted, cryoetgan, tmp_path):
    cryoetgan("detection", "run", planted / "model.pt", planted / "b.mrc", "-o", "p.star")
    found, truth = (read_star(path).particles for path in (tmp_path / "p.star", planted / "b.star"))
    scores = score_detections(found, truth, 3.0)
    assert scores["f1"] > 0.8
    assert found["cryoetganScore"].is_monotonic_decreasing
    record = json.loads((tmp_path / "p.star.json").read_text())["detection"]
    assert record["n"] == len(found) == sum(record["classes"].values())
    low, high = record["precision"]["interval"]
    assert 0 <= low <= record["precision"]["value"] <= high <= 1


def test_windows_leave_no_seams(planted):
    detector = read_detector(planted / "model.pt", torch.device("cpu"))
    volume = read_volume(planted / "b.mrc")
    wide = np.tile(volume.data, (1, 1, 4))[:, :, :301]
    grey = GreyValues(Volume(wide, 10.0), "wide")
    whole, parts = (
        detect(detector.network, grey, detector.radii, torch.device("cpu"), core=core)
        for core in (320, 64)
    )
    assert len(whole.scores) > 30
    np.testing.assert_allclose(whole.places, parts.places, atol=1e-3)
    np.testing.assert_allclose(whole.scores, parts.scores, atol=1e-4)
    assert (whole.numbers == parts.numbers).all()


def test_the_halo_covers_the_receptive_field():
    torch.manual_seed(0)
    network = build_network(3, 1).eval()
    edge = 2 * HALO + 8
    given = torch.randn(1, 1, 8, 8, edge, requires_grad=True)
    network(given)[0, :, :, :, edge // 4].abs().sum().backward()
    reached = torch.nonzero(given.grad.abs().sum(dim=(0, 1, 2, 3))).ravel()
    assert edge // 2 - int(reached.min()) <= HALO
    assert int(reached.max()) - edge // 2 <= HALO


def test_blocks_keep_every_voxel_in_its_place():
    volume = torch.arange(4 * 6 * 8.0).reshape(1, 1, 4, 6, 8)
    blocks = split_blocks(volume)
    assert blocks.shape == (1, 8, 2, 3, 4)
    # channel 4 a + 2 b + c holds voxel (2 z + a, 2 y + b, 2 x + c)
    assert blocks[0, 5, 1, 2, 3] == volume[0, 0, 3, 4, 7]


def test_no_pick_in_voxels_without_data(planted, cryoetgan, tmp_path):
    mask = np.zeros(read_volume(planted / "b.mrc").data.shape, np.int8)
    mask[:, :, :50] = 1
    write_volume(tmp_path / "m.mrc", mask, 10.0)
    words = (planted / "model.pt", planted / "b.mrc", "--threshold", 0.02)
    cryoetgan("detection", "run", *words, "--mask", "m.mrc", "-o", "p.star")
    found = read_star(tmp_path / "p.star").particles
    assert len(found)
    assert (found["rlnCoordinateX"] > 49).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--class", "bog"), "big"),
        (("--threshold", "2"), "from 0 to 1"),
        (("--tilts=-60,60",), "--template"),
    ],
)
def test_mistakes_are_said(planted, cryoetgan, words, said):
    command = ("detection", "run", planted / "model.pt", planted / "b.mrc", *words)
    refused(cryoetgan(*command, "-o", "p.star", code=2), said)

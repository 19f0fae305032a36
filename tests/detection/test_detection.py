"""The detector: windows without seams, picks of planted particles, files, mistakes of the user."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from cryoetgan.detection.align_picks import keep_likely
from cryoetgan.detection.detector import read_detector
from cryoetgan.detection.grey import GreyValues
from cryoetgan.detection.network import ALIGN, HALO, build_network, split_blocks
from cryoetgan.detection.predict import (
    LARGEST_WINDOW,
    MARGIN,
    detect,
    split_sides,
    windows,
)
from cryoetgan.detection.train_detector import Training, TrainOptions, state_path
from cryoetgan.detection.training_tomograms import open_inputs
from cryoetgan.errors import UserError
from cryoetgan.evaluation.detection_scores import score_detections
from cryoetgan.io.files import write_json
from cryoetgan.io.mrc import Volume, read_volume, write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, DETECTION_SCORE, read_star
from cryoetgan.io.weights import write_weights
from cryoetgan.physics.acquisition import Acquisition
from tests.conftest import refused
from tests.detection.conftest import SIGMA

CPU = torch.device("cpu")


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


def test_other_changes_no_named_pick(planted):
    detector = read_detector(planted / "model.pt", CPU)
    grey = GreyValues(read_volume(planted / "b.mrc"), "b")
    named, all_kinds = (
        detect(detector.network, grey, detector.radii, CPU, with_other)
        for with_other in (False, True)
    )
    is_named = all_kinds.numbers <= len(detector.classes)
    assert not is_named.all()
    assert np.array_equal(all_kinds.places[is_named], named.places)
    assert np.array_equal(all_kinds.scores[is_named], named.scores)
    assert (np.diff(all_kinds.scores) <= 0).all()


def test_tomograms_of_one_name_and_short_trainings_are_refused(planted, cryoetgan, tmp_path):
    twin = tmp_path / "a.mrc"
    twin.write_bytes((planted / "b.mrc").read_bytes())
    words = ("detection", "train", planted / "a.mrc", "-o", "m.pt")
    refused(cryoetgan(*words, twin, code=2), "the same name")
    inputs = open_inputs([planted / "a.mrc"], [], [], [], None)
    options = TrainOptions(minutes=0.001, batch=1, patch=32, width=2)
    run = Training(inputs.tomograms, 2, options, CPU, {})
    with pytest.raises(UserError, match=r"--minutes.*steps"):
        run.run(lambda: None)
    assert run.step == 20, "the first steps are timed"


def test_asymmetric_tilts_forbid_turns_that_move_the_wedge(planted, tmp_path):
    for end in (".mrc", ".star", "_labels.mrc", "_labels.mrc.json"):
        (tmp_path / f"a{end}").write_bytes((planted / f"a{end}").read_bytes())
    for high, count in ((60, 4), (40, 2)):
        record = {"acquisition": Acquisition(tilt_low=-60, tilt_high=high).to_json()}
        write_json(tmp_path / "a.mrc.json", record)
        (tomogram,) = open_inputs([tmp_path / "a.mrc"], [], [], [], None).tomograms
        assert len(tomogram.turns) == count
    # only half a turn about the tilt axis y maps any wedge onto itself
    assert set(tomogram.turns) == {(), (0, 2)}


def test_windows_leave_no_seams(planted):
    detector = read_detector(planted / "model.pt", CPU)
    volume = read_volume(planted / "b.mrc")
    wide = np.tile(volume.data, (1, 1, 3))[:, :, :251]
    grey = GreyValues(Volume(wide, 10.0), "wide")
    small = wide[:, :, :170].size
    whole, parts = (
        detect(detector.network, grey, detector.radii, CPU, largest=largest)
        for largest in (10**9, small)
    )
    assert len(list(windows(wide.shape, split_sides(wide.shape, small)))) > 1
    assert len(whole.scores) > 20
    np.testing.assert_allclose(whole.places, parts.places, atol=1e-3)
    np.testing.assert_allclose(whole.scores, parts.scores, atol=1e-4)
    assert (whole.numbers == parts.numbers).all()


@pytest.mark.parametrize("shape", [(160, 652, 630), (512, 512, 512), (40, 90, 5000), (9, 9, 9)])
def test_cores_fill_a_tomogram_and_windows_are_small(shape):
    core = split_sides(shape, LARGEST_WINDOW)
    count = np.zeros([-(-n // ALIGN) for n in shape], int)
    for low, size, first in windows(shape, core):
        assert math.prod(size) <= LARGEST_WINDOW
        for a, b, n, side in zip(low, first, shape, core, strict=True):
            assert a in (0, b - MARGIN)
            assert not a % ALIGN
            assert side <= n + ALIGN
        count[
            tuple(slice(a // ALIGN, (a + c) // ALIGN) for a, c in zip(first, core, strict=True))
        ] += 1
    assert (count == 1).all()


def test_the_halo_covers_the_receptive_field():
    torch.manual_seed(0)
    network = build_network(3, 1).eval()
    edge = 4 * HALO
    for position in range(edge // 4, edge // 4 + 4):  # the strides make four kinds of positions
        given = torch.randn(1, 1, 8, 8, edge, requires_grad=True)
        network(given)[0, :, :, :, position].abs().sum().backward()
        reached = torch.nonzero(given.grad.abs().sum(dim=(0, 1, 2, 3))).ravel()
        assert 2 * position - int(reached.min()) <= HALO
        assert int(reached.max()) - 2 * position - 1 <= HALO


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


def planted_maps():
    """Densities of the planted particles."""
    axis = np.arange(16) - 8
    far = np.sqrt((axis[:, None, None] ** 2) + axis[:, None] ** 2 + axis**2)
    return {name: np.exp(-((far / sigma) ** 2) / 2) for name, sigma in SIGMA.items()}


def test_templates_give_angles_q_values_and_scores(planted, cryoetgan, tmp_path):
    templates = []
    for name, density in planted_maps().items():
        write_volume(tmp_path / f"{name}.mrc", density, 10.0)
        templates += ["--template", f"{name}.mrc"]
    words = ("detection", "run", planted / "model.pt", planted / "b.mrc")
    search = ("--tilts=-90,90", "--rotations", 8, "--lowpass", 40)
    cryoetgan(*words, *templates, *search, "-o", "q.star")
    kept, scores = (read_star(tmp_path / f"q{end}.star").particles for end in ("", "_scores"))
    assert {*ANGLES, "cryoetganQValue", DETECTION_SCORE} <= set(kept)
    assert (kept["cryoetganScore"] > kept["cryoetganDecoyScore"]).all()
    best = scores.loc[scores.groupby("cryoetganId")["cryoetganScore"].idxmax()]
    assert set(kept["cryoetganId"]) < set(best["cryoetganId"])
    assert len(scores) == len(SIGMA) * len(best)
    found = json.loads((tmp_path / "q.star.json").read_text())
    low, high = found["detection"]["precision_kept"]["interval"]
    assert 0 <= low <= found["detection"]["precision_kept"]["value"] <= high <= 1
    record = json.loads((tmp_path / "q_scores.star.json").read_text())
    assert record["provenance"]["command"] == found["provenance"]["command"]
    refused(cryoetgan(*words, *templates[:2], *search, "-o", "r.star", code=2), "no map of class")


def test_picks_that_decoys_fit_as_well_are_dropped(rng):
    """Picks of nothing go, the others get the class that fits best, and one stays of two."""
    count, names = 200, ["a", "b"]
    places = 20.0 * np.indices((6, 6, 6)).reshape(3, -1).T[:count]
    right = np.arange(count) % 2 == 0
    ids = [f"t/{number}" for number in range(count)]
    picks = pd.DataFrame(places, columns=COORDINATES).assign(cryoetganId=ids, cryoetganClass="a")
    picks[DETECTION_SCORE] = rng.uniform(0.3, 0.9, count)
    rows = [picks.assign(cryoetganClass=name) for name in names]
    for name, table in zip(names, rows, strict=True):
        fits = right & (np.arange(count) % 4 == (0 if name == "a" else 2))
        table["cryoetganScore"] = rng.normal(0.2, 0.03, count) + 0.15 * fits
        table["cryoetganDecoyScore"] = rng.normal(0.2, 0.03, count)
    scores = pd.concat(rows, ignore_index=True)
    scores = scores.assign(cryoetganDecoys="mirror", **dict.fromkeys(ANGLES, 0.0))
    # the first two particles are one
    scores.loc[scores["cryoetganId"] == "t/4", COORDINATES] = places[0]
    kept, about = keep_likely(picks, scores, 0.5, {"a": 5.0, "b": 5.0})
    found = kept.set_index("cryoetganId")["cryoetganClass"]
    wanted = {ids[i]: names[i % 4 // 2] for i in range(0, count, 2)}
    wrong = [name for name in found.index if found[name] != wanted.get(name)]
    assert len(wrong) <= 0.05 * len(found)
    assert len(found) > 0.9 * len(wanted)
    assert len({"t/0", "t/4"} & set(found.index)) == 1
    above = picks[DETECTION_SCORE] >= 0.5
    assert about["removed"] - about["added"] == above.sum() - len(kept)
    assert about["renamed"] == (kept["cryoetganClass"] == "b").sum()
    # half of the picks of class a are of b, and half of all are of nothing
    alone, joined = about["precision_by_decoys"]["value"], about["precision_kept"]["value"]
    assert alone < 0.5
    assert joined > 0.9
    only_a, _ = keep_likely(picks, scores, 0.5, {"a": 5.0})
    assert set(only_a["cryoetganId"]) == set(found.index[found == "a"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--class", "bog"), "big"),
        (("--threshold", "2"), "from 0 to 1"),
        (("--tilts=-60,60",), "--template"),
        (("--template", "big.mrc"), "--tilts"),
    ],
)
def test_mistakes_are_said(planted, cryoetgan, words, said):
    command = ("detection", "run", planted / "model.pt", planted / "b.mrc", *words)
    refused(cryoetgan(*command, "-o", "p.star", code=2), said)


def test_a_resumed_training_is_an_unbroken_one(planted, tmp_path):
    inputs = open_inputs([planted / "a.mrc"], [], [], [], None)
    options = TrainOptions(steps=4, batch=1, patch=32, width=2)

    def started():
        return Training(inputs.tomograms, 2, options, CPU, {"inputs": "a"})

    whole = started()
    whole.run(lambda: None)
    broken, path = started(), state_path(tmp_path / "m.pt")
    broken.train_step()
    broken.train_step()
    write_weights(path, "detector training", broken.state())
    resumed = started()
    resumed.resume(path)
    assert resumed.step == 2
    resumed.run(lambda: None)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    other = Training(inputs.tomograms, 2, options, CPU, {"inputs": "b"})
    other.resume(path)
    assert other.step == 0, "the state of another training"
    state = broken.state()
    state["network"] = {f"older.{name}": v for name, v in state["network"].items()}
    write_weights(path, "detector training", state)
    later = started()
    later.resume(path)
    assert later.step == 0, "the network of another version"


def test_train_writes_model_and_record(planted, cryoetgan, tmp_path):
    words = ("detection", "train", planted / "a.mrc", "--steps", 1, "--class", "big")
    cryoetgan(*words, "-o", "m.pt")
    record = json.loads((tmp_path / "m.pt.json").read_text())["detector"]
    assert record["classes"] == ["big"]
    assert record["usable"] == (record["held_out"]["f1"] >= 0.5)
    assert set(record["held_out"]) >= {"precision", "recall", "f1", "classes", "places"}
    assert not list(tmp_path.glob("*.training.pt"))
    refused(cryoetgan(*words[:-1], "bigg", "-o", "m.pt", code=2), "did you mean 'big'")
    done = cryoetgan(
        "detection", "run", "m.pt", planted / "b.mrc", "--threshold", 0, "-o", "p.star"
    )
    assert "p.star" in done.stderr

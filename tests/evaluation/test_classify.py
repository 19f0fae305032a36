"""Classifiers: CB3D as published, augmentation that keeps the wedge, the commands."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from cryoetgan.evaluation.cb3d import CB3D
from cryoetgan.evaluation.classifiers.classifier import standardised
from cryoetgan.evaluation.classifiers.train import train_classifier, turned
from cryoetgan.evaluation.comparison import subsets
from cryoetgan.evaluation.comparison.subsets import first
from cryoetgan.evaluation.labelled_sets import Labelled, apart, load, overlapping, validation_groups
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import COORDINATES
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.optics import missing_wedge
from tests.conftest import refused


@pytest.mark.parametrize(
    ("box", "classes", "parameters", "flat"), [(40, 4, 61_231_492, 4096), (28, 7, 46_563_719, 512)]
)
def test_cb3d_is_the_published_one(box, classes, parameters, flat):
    network = CB3D(box, classes).eval()
    assert sum(p.numel() for p in network.parameters()) == parameters
    with torch.no_grad():
        x = torch.zeros(1, 1, box, box, box)
        assert network.features(x, "flatten").shape == (1, flat)
        assert network.features(x, "fc6").shape == (1, 4096)
        assert network.features(x).shape == (1, 4096)
        assert network(x).shape == (1, classes)


@pytest.mark.parametrize("box", [16, 15])
@pytest.mark.parametrize("choice", range(4))
def test_turns_keep_centre_hand_and_wedge(rng, box, choice):
    volume = torch.as_tensor(rng.standard_normal((1, 1, box, box, box)))
    out = turned(volume, np.array([choice]), symmetric=True)
    c = box // 2
    assert out[0, 0, c, c, c] == volume[0, 0, c, c, c]
    # a rotation, not a mirror: the matrix that carries unit steps has determinant 1
    steps = []
    for axis in range(3):
        spot = torch.zeros(1, 1, box, box, box)
        index = [c, c, c]
        index[axis] += 1
        spot[(0, 0, *index)] = 1
        where = torch.nonzero(turned(spot, np.array([choice]), True)[0, 0])[0] - c
        steps.append(where.numpy())
    assert np.linalg.det(np.array(steps)) == pytest.approx(1)
    mask = missing_wedge((box,) * 3, (-60, 60))
    seen = np.fft.irfftn(np.fft.rfftn(volume[0, 0].numpy()) * mask, s=(box,) * 3, axes=(0, 1, 2))
    after = turned(torch.as_tensor(seen)[None, None], np.array([choice]), True)[0, 0].numpy()
    outside = np.abs(np.fft.rfftn(after)) * ~mask
    assert outside.max() < 1e-6 * np.abs(np.fft.rfftn(after)).max()


def test_an_asymmetric_range_is_turned_about_the_tilt_axis_only(rng):
    volume = torch.as_tensor(rng.standard_normal((1, 1, 16, 16, 16)))
    about_y = turned(volume, np.array([1]), symmetric=True)
    for choice in range(4):
        out = turned(volume, np.array([choice]), symmetric=False)
        assert torch.equal(out, volume) or torch.equal(out, about_y)


def test_standardising_is_by_volume():
    x = np.random.default_rng(0).standard_normal((3, 8, 8, 8)) * [[[[5]]], [[[1]]], [[[9]]]] + 3
    out = standardised(x)
    assert torch.allclose(out.mean(dim=(1, 2, 3, 4)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(out.std(dim=(1, 2, 3, 4)), torch.ones(3), atol=1e-4)


def test_validation_shares_no_voxel_with_training(rng):
    table = pd.DataFrame(rng.uniform(0, 300, (200, 3)), columns=COORDINATES)
    table["rlnTomoName"], table["cryoetganClass"] = "t", "a"
    groups = validation_groups(table, 28, rng)
    where = table[COORDINATES].to_numpy()
    apart = np.abs(where[groups == 0][:, None] - where[groups == 1][None]).max(axis=2)
    assert apart.min() >= 28
    assert (groups == 1).sum() >= 20


def test_a_class_is_not_lost_to_the_gap(rng):
    """The only crops of a class lie on the far side: then there is no validation part."""
    table = pd.DataFrame(rng.uniform(0, 300, (60, 3)) * [1, 0.1, 0.1], columns=COORDINATES)
    table["rlnTomoName"], table["cryoetganClass"] = "t", "a"
    table.loc[table[COORDINATES[0]] > 240, "cryoetganClass"] = "b"
    assert (validation_groups(table, 28, rng) == 0).all()


def test_all_draws_of_a_density_lie_on_one_side(rng):
    angles = np.repeat(rng.uniform(0, 180, (50, 3)), 4, axis=0)
    columns = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
    sides = apart(pd.DataFrame(angles, columns=columns), 28, 0.5, rng)
    assert (sides.reshape(50, 4) == sides.reshape(50, 4)[:, :1]).all()
    assert sides.mean() == 0.5


def test_shared_voxels_are_found():
    def rows(tomogram, *x):
        table = pd.DataFrame({COORDINATES[0]: x, COORDINATES[1]: 0.0, COORDINATES[2]: 0.0})
        return table.assign(rlnTomoName=tomogram)

    assert overlapping(rows("t", 0.0, 100.0), rows("t", 27.0, 28.0, 60.0, 128.0), 28) == 1
    assert overlapping(rows("t", 0.0), rows("u", 0.0), 28) == 0
    assert overlapping(rows("t", 0.0), pd.DataFrame({"cryoetganClass": ["a"]}), 28) == 0


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_alone(rng):
    volumes, names = shapes(rng, 24)
    labels = np.array([name == "rod" for name in names]).astype(int)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    made = [train_classifier(volumes, labels, ["ball", "rod"], epochs=2, seed=s) for s in (3, 3, 4)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert made[0].weights_hash() == made[1].weights_hash() != made[2].weights_hash()


def test_grey_scale_does_not_matter_to_the_classifier(rng):
    volumes, names = shapes(rng, 16)
    labels = np.array([name == "rod" for name in names]).astype(int)
    made = train_classifier(volumes, labels, ["ball", "rod"], epochs=1)
    assert made.scores(7 * volumes + 3) == pytest.approx(made.scores(volumes), abs=1e-4)


@pytest.mark.slow
def test_cb3d_learns_and_gives_the_layer_that_is_named(rng):
    volumes, names = shapes(rng, 12, 0.1)
    labels = np.array([name == "rod" for name in names]).astype(int)
    all_of_it = np.zeros(12, np.int8)
    made = train_classifier(volumes, labels, ["ball", "rod"], all_of_it, "cb3d", epochs=60)
    assert (made.scores(volumes).argmax(axis=1) == labels).mean() > 0.9
    assert made.features(volumes[:2], "flatten").shape == (2, 512)
    assert made.features(volumes[:2]).shape == (2, 4096)


def shapes(rng, count, noise=1.0):
    z, y, x = np.indices((16,) * 3) - 8
    balls = {"ball": x**2 + y**2 + z**2 < 20, "rod": (x**2 + y**2 < 5) & (abs(z) < 7)}
    volumes, names = [], []
    for index in range(count):
        name = ["ball", "rod"][index % 2]
        volumes.append(3 * balls[name] + noise * rng.standard_normal((16,) * 3))
        names.append(name)
    return np.array(volumes, np.float32), names


@pytest.fixture
def sets(tmp_path, rng):
    optics = pd.DataFrame([Acquisition().to_optics(1, "t")])
    for name, count in (("train", 60), ("test", 40)):
        volumes, classes = shapes(rng, count)
        table = pd.DataFrame({"cryoetganClass": classes, "cryoetganSplit": name})
        write_volume_set(tmp_path / f"{name}.star", volumes, table, 10.0, optics)
    return tmp_path


def test_what_can_be_told_apart_is(cryoetgan, sets):
    words = ("evaluation", "classify", "--train", "train.star", "--test", "test.star")
    cryoetgan(*words, "--epochs", 12, "--checkpoint", "c.pt", "-o", "a.json")
    found = json.loads((sets / "a.json").read_text())
    assert found["accuracy"] > 0.9
    assert found["interval"][0] <= found["accuracy"] <= found["interval"][1]
    assert found["classes"] == ["ball", "rod"]
    assert np.sum(found["confusion"]) == found["n_test"] == 40
    assert np.trace(found["confusion"]) == round(40 * found["accuracy"])
    assert found["n_train"] == 60
    # the same again, from the kept classifier, and to the same bits
    said = cryoetgan(*words, "--epochs", 12, "--reuse", "c.pt", "-o", "b.json").stderr
    assert "used again" in said
    again = json.loads((sets / "b.json").read_text())
    assert again["weights"] == found["weights"]
    assert again["accuracy"] == found["accuracy"]


def test_a_smaller_training_set_is_part_of_a_larger_one(cryoetgan, sets):
    learnt = load(read_volume_set(sets / "train.star"), None)
    small, large = (first(learnt, n, np.random.default_rng(3)) for n in (11, 25))
    assert (len(small.names), len(large.names)) == (11, 25)
    # classes in equal parts, and every volume of the smaller is in the larger
    assert sorted(np.unique(small.names, return_counts=True)[1]) == [5, 6]
    assert {v.tobytes() for v in small.volumes} < {v.tobytes() for v in large.volumes}
    words = ("evaluation", "classify", "--train", "train.star", "--test", "test.star")
    cryoetgan(*words, "--count", 20, "--epochs", 1, "-o", "c.json")
    assert json.loads((sets / "c.json").read_text())["n_train"] == 20
    refused(cryoetgan(*words, "--count", 61, "-o", "d.json", code=2), "--count", "2 to 60")


def test_measure_gives_each_metric_with_nulls_and_flags_a_constant(cryoetgan, sets, rng):
    words = ("evaluation", "classify", "--train", "train.star", "--test", "test.star")
    cryoetgan(*words, "--epochs", 6, "--checkpoint", "c.pt", "-o", "a.json")
    volumes, classes = shapes(rng, 40)
    table = pd.DataFrame({"cryoetganClass": classes})
    write_volume_set(sets / "good.star", volumes, table, 10.0)
    write_volume_set(sets / "flat.star", 1e-4 * volumes, table, 10.0)
    z, y, x = np.indices((16,) * 3) - 8
    write_volume(sets / "ball.mrc", (x**2 + y**2 + z**2 < 20).astype(np.float32), 10.0)
    for name in ("good", "flat"):
        cryoetgan(
            "evaluation", "measure", "--real", "test.star", "--generated", f"{name}.star",
            "--features", "c.pt", "-o", f"{name}.json",
        )  # fmt: skip
    good, flat = (json.loads((sets / f"{n}.json").read_text()) for n in ("good", "flat"))
    wanted = {"is", "fid", "kid", "precision", "recall", "density", "coverage", "ssim_class"}
    wanted |= {"ssim_best", "power_ratio", "sd_ratio", "c2st_auc"}
    assert wanted <= set(good)
    for entry in good.values():
        assert {"value", "interval", "baselines", "warning"} <= set(entry)
        assert entry["baselines"]
    assert good["kid"]["value"] < good["kid"]["baselines"]["noise"]
    assert good["sd_ratio"]["value"] == pytest.approx(1, abs=0.1)
    assert flat["sd_ratio"]["value"] < 0.01
    assert flat["power_ratio"]["warning"]
    assert abs(good["c2st_auc"]["value"] - 0.5) < 0.25
    # some of them alone: the same numbers
    words = ("evaluation", "measure", "--real", "test.star", "--generated", "good.star")
    cryoetgan(
        *words, "--features", "c.pt", "--metric", "kid", "--metric", "sd_ratio", "-o", "s.json"
    )
    some = json.loads((sets / "s.json").read_text())
    assert some == {name: good[name] for name in ("kid", "sd_ratio")}
    refused(cryoetgan(*words, "--metric", "kids", "-o", "n.json", code=2), "did you mean 'kid'")
    # what was asked for by name is there, or said to lack something
    for name, lacking in (
        ("fid", "--features"), ("ssim_cycle", "--cycle"), ("pose_recovery", "--map"),
    ):  # fmt: skip
        done = cryoetgan(*words, "--metric", name, "-o", "n.json", code=2)
        refused(done, f"--metric {name}", lacking)
    said = cryoetgan(*words, "--map", "ball.mrc", "--metric", "sd_ratio", "-o", "n.json").stderr
    assert "no pose recovery" not in said
    posed = cryoetgan(*words, "--map", "ball.mrc", "-o", "n.json").stderr
    assert "no pose recovery: it needs the generated set's poses" in posed
    # the grey scale is seen where the features cannot see it
    assert flat["sd_ratio"]["warning"].startswith("grey values spread")
    assert good["sd_ratio"]["warning"] is None


def test_sets_that_do_not_fit_are_said(cryoetgan, sets, rng):
    volumes, classes = shapes(rng, 4)
    table = pd.DataFrame({"cryoetganClass": ["x"] * 4})
    write_volume_set(sets / "one.star", volumes, table, 10.0)
    write_volume_set(sets / "fine.star", volumes, table.assign(cryoetganClass=classes), 5.0)

    def classify(train, test, *more):
        return cryoetgan(
            "evaluation", "classify", "--train", f"{train}.star", "--test", f"{test}.star", *more,
            "-o", "x.json", code=2,
        )  # fmt: skip

    refused(classify("one", "test"), "one class")
    refused(classify("train", "one"), "none of the training")
    refused(classify("train", "fine"), "5.000")
    refused(classify("train", "test", "--test-split", "validation"), "validation")
    refused(classify("train", "test", "--network", "resnet"), "resnet")
    refused(classify("train", "test", "--epochs", 0), "--epochs")
    (sets / "broken.pt").write_bytes(b"nothing")
    refused(classify("train", "test", "--reuse", "broken.pt"), "broken.pt", "no classifier")
    torch.save({"format": 2}, sets / "older.pt")
    refused(classify("train", "test", "--reuse", "older.pt"), "older.pt", "train it again")
    assert not (sets / "x.json").exists()


@pytest.mark.parametrize("tomograms", [1, 4, 20])
def test_a_few_crops_joined_to_many_volumes_are_all_learnt_from(rng, tomograms):
    real = pd.DataFrame(rng.uniform(0, 300, (20, 3)), columns=COORDINATES)
    real["rlnTomoName"] = [f"t{i % tomograms}" for i in range(20)]
    columns = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
    made = pd.DataFrame(rng.uniform(0, 180, (200, 3)), columns=columns)
    both = pd.concat([made, real], ignore_index=True).assign(cryoetganClass="a")
    groups = validation_groups(both, 28, rng)
    assert (groups[200:] == 0).all()
    assert groups[:200].mean() == pytest.approx(0.15, abs=0.02)


def test_sets_with_tomograms_but_no_places_are_parted_by_tomogram(rng):
    table = pd.DataFrame({"rlnTomoName": ["a"] * 5 + ["b"] * 5, "cryoetganClass": "x"})
    sides = apart(table, 28, 0.5, rng)
    assert set(sides[:5]) != set(sides[5:])
    assert len(set(sides[:5])) == len(set(sides[5:])) == 1


def test_of_joined_sets_each_row_is_parted_by_what_it_is(rng):
    """Crops without a pose once all came to one side; posed ones were parted one by one."""
    real = pd.DataFrame(rng.uniform(0, 300, (200, 3)), columns=COORDINATES)
    real["rlnTomoName"], real["cryoetganClass"] = "t", "a"
    columns = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
    angles = np.repeat(rng.uniform(0, 180, (50, 3)), 4, axis=0)
    made = pd.DataFrame(angles, columns=columns).assign(cryoetganClass="a")
    sets = [
        Labelled(np.zeros((len(table), 4, 4, 4), np.float32), np.full(len(table), "a"), table)
        for table in (made, real)
    ]
    both = subsets.stacked(*sets).table
    groups = validation_groups(both, 28, rng)
    first, second = groups[:200], groups[200:]
    where = real[COORDINATES].to_numpy()
    apart = np.abs(where[second == 0][:, None] - where[second == 1][None]).max(axis=2)
    assert apart.min() >= 28
    assert (second == 1).sum() >= 20
    assert (first.reshape(50, 4) == first.reshape(50, 4)[:, :1]).all()
    assert first.mean() == pytest.approx(0.15, abs=0.02)

"""Classifiers: CB3D as published, augmentation that keeps the wedge, `evaluation classify`."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from cryoetgan.evaluation.cb3d import CB3D
from cryoetgan.evaluation.classifiers.classifier import KIND, load_classifier, standardise
from cryoetgan.evaluation.classifiers.small_cnn import SmallCNN
from cryoetgan.evaluation.classifiers.train_classifier import (
    TrainingOptions,
    rotate_half_turn,
    train_classifier,
)
from cryoetgan.evaluation.labelled_sets import draw_balanced, load_labelled
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.io.weights import DamagedError, write_weights
from cryoetgan.physics.optics import missing_wedge
from tests.conftest import refused
from tests.evaluation.conftest import shapes

CLASSIFY = ("evaluation", "classify", "--train", "train.star", "--test", "test.star")


@pytest.mark.parametrize(
    ("box", "classes", "parameters", "flat"), [(40, 4, 61_231_492, 4096), (28, 7, 46_563_719, 512)]
)
def test_cb3d_is_the_published_one(box, classes, parameters, flat):
    with torch.device("meta"):  # shapes without values: 60 million weights take seconds
        network = CB3D(box, classes).eval()
        assert sum(p.numel() for p in network.parameters()) == parameters
        x = torch.zeros(1, 1, box, box, box)
        assert network.features(x, "flatten").shape == (1, flat)
        assert network.features(x, "fc6").shape == (1, 4096)
        assert network.features(x).shape == (1, 4096)
        assert network(x).shape == (1, classes)


@pytest.mark.parametrize("box", [16, 15])
@pytest.mark.parametrize("choice", range(4))
def test_half_turns_keep_centre_hand_and_wedge(rng, box, choice):
    def turn(volume):
        return rotate_half_turn(volume, np.array([choice]), symmetric=True)

    volume = torch.as_tensor(rng.standard_normal((1, 1, box, box, box)))
    c = box // 2
    assert turn(volume)[0, 0, c, c, c] == volume[0, 0, c, c, c]
    # a rotation, not a mirror: the matrix that carries unit steps has determinant 1
    steps = []
    for axis in range(3):
        spot = torch.zeros(1, 1, box, box, box)
        index = [c, c, c]
        index[axis] += 1
        spot[(0, 0, *index)] = 1
        steps.append((torch.nonzero(turn(spot)[0, 0])[0] - c).numpy())
    assert np.linalg.det(np.array(steps)) == pytest.approx(1)
    mask = missing_wedge((box,) * 3, (-60, 60))
    seen = np.fft.irfftn(np.fft.rfftn(volume[0, 0].numpy()) * mask, s=(box,) * 3, axes=(0, 1, 2))
    after = turn(torch.as_tensor(seen)[None, None])[0, 0].numpy()
    outside = np.abs(np.fft.rfftn(after)) * ~mask
    assert outside.max() < 1e-6 * np.abs(np.fft.rfftn(after)).max()


def test_an_asymmetric_range_is_turned_about_the_tilt_axis_only(rng):
    volume = torch.as_tensor(rng.standard_normal((1, 1, 16, 16, 16)))
    about_y = rotate_half_turn(volume, np.array([1]), symmetric=True)
    for choice in range(4):
        out = rotate_half_turn(volume, np.array([choice]), symmetric=False)
        assert torch.equal(out, volume) or torch.equal(out, about_y)


def test_standardising_is_by_volume():
    x = np.random.default_rng(0).standard_normal((3, 8, 8, 8)) * [[[[5]]], [[[1]]], [[[9]]]] + 3
    out = standardise(x)
    assert torch.allclose(out.mean(dim=(1, 2, 3, 4)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(out.std(dim=(1, 2, 3, 4)), torch.ones(3), atol=1e-4)


def train_on_shapes(rng, count, *arguments, noise=1.0, **options):
    volumes, names = shapes(rng, count, noise)
    labels = np.array([name == "rod" for name in names]).astype(int)
    chosen = TrainingOptions(**options)
    return train_classifier(volumes, labels, ["ball", "rod"], chosen, *arguments), volumes, labels


def test_the_same_seed_gives_the_same_weights_and_keeps_the_state_of_torch(rng):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    weights = []
    for seed in (3, 3, 4):
        made, _, _ = train_on_shapes(np.random.default_rng(1), 24, epochs=2, seed=seed)
        weights.append(made.weights_hash())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert weights[0] == weights[1] != weights[2]


def test_the_grey_scale_does_not_matter_to_the_classifier(rng):
    made, volumes, _ = train_on_shapes(rng, 16, epochs=1)
    scaled = made.probabilities(7 * volumes + 3)
    assert scaled == pytest.approx(made.probabilities(volumes), abs=1e-4)


@pytest.mark.slow
def test_cb3d_learns_and_gives_the_layer_that_is_named(rng):
    all_training = np.zeros(12, np.int8)
    made, volumes, labels = train_on_shapes(
        rng, 12, all_training, noise=0.1, network="cb3d", epochs=60
    )
    assert (made.probabilities(volumes).argmax(axis=1) == labels).mean() > 0.9
    assert made.features(volumes[:2], "flatten").shape == (2, 512)
    assert made.features(volumes[:2]).shape == (2, 4096)


def test_distinguishable_classes_are_distinguished(cryoetgan, shape_sets):
    cryoetgan(*CLASSIFY, "--epochs", 12, "--checkpoint", "c.pt", "-o", "a.json", cwd=shape_sets)
    found = json.loads((shape_sets / "a.json").read_text())
    assert found["accuracy"] > 0.9
    assert found["interval"][0] <= found["accuracy"] <= found["interval"][1]
    assert found["classes"] == ["ball", "rod"]
    assert np.sum(found["confusion"]) == found["n_test"] == 40
    assert np.trace(found["confusion"]) == round(40 * found["accuracy"])
    assert found["n_train"] == 60


def test_a_kept_classifier_of_the_same_training_set_is_reused(cryoetgan, shape_sets):
    words = (*CLASSIFY, "--epochs", 1, "--reuse", "kept.pt")
    cryoetgan(*words[:-2], "--checkpoint", "kept.pt", "-o", "k.json", cwd=shape_sets)
    said = cryoetgan(*words, "-o", "r.json", cwd=shape_sets).stderr
    assert "kept.pt: reused" in said
    assert "reused" not in cryoetgan(*words, "--seed", 1, "-o", "s.json", cwd=shape_sets).stderr
    first, again = (json.loads((shape_sets / name).read_text()) for name in ("k.json", "r.json"))
    assert again["weights"] == first["weights"]
    assert again["accuracy"] == first["accuracy"]


def test_a_smaller_training_set_is_part_of_a_larger_one(shape_sets):
    train = load_labelled(read_volume_set(shape_sets / "train.star"))
    small, large = (draw_balanced(train, n, np.random.default_rng(3)) for n in (11, 25))
    assert (len(small), len(large)) == (11, 25)
    # classes in equal parts, and every volume of the smaller is in the larger
    assert sorted(np.unique(small.names, return_counts=True)[1]) == [5, 6]
    assert {v.tobytes() for v in small.volumes} < {v.tobytes() for v in large.volumes}


def test_the_number_of_training_volumes_can_be_given(cryoetgan, shape_sets):
    words = (*CLASSIFY, "--epochs", 1, "--count")
    cryoetgan(*words, 20, "-o", "n.json", cwd=shape_sets)
    assert json.loads((shape_sets / "n.json").read_text())["n_train"] == 20
    done = cryoetgan(*words, 61, "-o", "d.json", cwd=shape_sets, code=2)
    refused(done, "--count", "2 to 60")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--train", "one.star"), ["one class"]),
        (("--test", "one.star"), ["do not occur in the training set"]),
        (("--test", "fine.star"), ["5.000"]),
        (("--test-split", "validation"), ["validation"]),
        (("--network", "resnet"), ["resnet"]),
        (("--epochs", 0), ["--epochs"]),
        (("--reuse", "broken.pt"), ["broken.pt", "is not a valid classifier"]),
    ],
)
def test_unsuitable_input_is_refused(cryoetgan, shape_sets, rng, words, expected):
    volumes, classes = shapes(rng, 4)
    table = pd.DataFrame({"cryoetganClass": ["x"] * 4})
    write_volume_set(shape_sets / "one.star", volumes, table, 10.0)
    write_volume_set(shape_sets / "fine.star", volumes, table.assign(cryoetganClass=classes), 5.0)
    (shape_sets / "broken.pt").write_bytes(b"nothing")
    options = dict(zip(CLASSIFY[2::2], CLASSIFY[3::2], strict=True)) | {words[0]: words[1]}
    given = [word for pair in options.items() for word in pair]
    done = cryoetgan("evaluation", "classify", *given, "-o", "x.json", cwd=shape_sets, code=2)
    refused(done, *expected)
    assert not (shape_sets / "x.json").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"network": "resnet"},
        {"network": ["small"]},
        {"classes": [1, 2]},
        {"box": 1 << 40},
        {"box": "16"},
        {"classes": ["a"] * 3},
        {"classes": ["a"] * 2},
        {"classes": ["a", "../b"]},
        {"box": True},
        {"validation": "high"},
        {"state": {}},
        {"state": None},
    ],
)
def test_a_changed_classifier_is_refused(tmp_path, change):
    state = SmallCNN(16, 2).state_dict()
    content = {"network": "small", "classes": ["a", "b"], "box": 16, "validation": None, "key": {}}
    write_weights(tmp_path / "c.pt", KIND, {**content, "state": state})
    loaded, _ = load_classifier(tmp_path / "c.pt", torch.device("cpu"), 16)
    assert loaded.classes == ["a", "b"]
    write_weights(tmp_path / "c.pt", KIND, {**content, "state": state, **change})
    with pytest.raises(DamagedError, match="evaluation classify"):
        load_classifier(tmp_path / "c.pt", torch.device("cpu"))

"""`evaluation measure`: each metric with its baselines, and sets that it warns of."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from cryoetgan.errors import UserError
from cryoetgan.evaluation.labelled_sets import LabelledSet, load_labelled
from cryoetgan.evaluation.measurement.feature_metrics import (
    match_class_proportions,
    weak_classifier_warning,
)
from cryoetgan.evaluation.measurement.measure import measure
from cryoetgan.evaluation.measurement.metrics_io import (
    METRICS,
    MetricInputs,
    read_class_maps,
    read_cycle,
)
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from tests.conftest import refused
from tests.evaluation.conftest import shapes

CPU = torch.device("cpu")
MEASURE = ("evaluation", "measure", "--real", "test.star")


@pytest.fixture(scope="module")
def measured_sets(shape_sets, tmp_path_factory):
    """Write good.star, and flat.star of the same volumes with a small grey scale."""
    volumes, classes = shapes(np.random.default_rng(8), 40)
    table = pd.DataFrame({"cryoetganClass": classes})
    write_volume_set(shape_sets / "good.star", volumes, table, 10.0)
    write_volume_set(shape_sets / "flat.star", 1e-4 * volumes, table, 10.0)
    return shape_sets


@pytest.fixture
def run(cryoetgan, measured_sets):
    """Measure a set; return its metrics, and the log."""

    def measure_set(name, *words, code=0):
        done = cryoetgan(
            *MEASURE, "--generated", f"{name}.star", *words, "-o", f"{name}.json",
            cwd=measured_sets, code=code,
        )  # fmt: skip
        found = json.loads((measured_sets / f"{name}.json").read_text()) if not code else {}
        return found, done

    return measure_set


@pytest.fixture
def features(cryoetgan, measured_sets):
    """Train a classifier once; return its file."""
    path = measured_sets / "features.pt"
    if not path.exists():
        words = ("--train", "train.star", "--test", "test.star", "--epochs", 6)
        cryoetgan(
            "evaluation", "classify", *words, "--checkpoint", path, "-o", "f.json",
            cwd=measured_sets,
        )  # fmt: skip
    return path


def test_each_metric_has_baselines(run, features):
    found, _ = run("good", "--features", features)
    assert set(found) == set(METRICS) - {"ssim_cycle", "pose_recovery"}
    for record in found.values():
        assert {"value", "interval", "baselines", "warning"} <= set(record)
        assert record["baselines"]
    assert found["kid"]["value"] < found["kid"]["baselines"]["noise"]
    assert found["sd_ratio"]["value"] == pytest.approx(1, abs=0.1)
    assert found["sd_ratio"]["warning"] is None
    assert abs(found["c2st_auc"]["value"] - 0.5) < 0.25
    assert found["c2st_auc"]["baselines"]["noise"] > 0.75
    # some metrics alone have the same values
    words = ("--features", features, "--metric", "kid", "--metric", "sd_ratio")
    some, _ = run("good", *words)
    assert some == {name: found[name] for name in ("kid", "sd_ratio")}


def test_a_wrong_grey_scale_is_flagged(run):
    found, done = run("flat", "--metric", "sd_ratio", "--metric", "power_ratio")
    assert found["sd_ratio"]["value"] < 0.01
    assert found["sd_ratio"]["warning"]
    assert found["power_ratio"]["warning"]
    assert "WARNING sd_ratio" in done.stderr


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kids", "did you mean 'kid'"),
        ("fid", "--features"),
        ("ssim_cycle", "--cycle"),
        ("pose_recovery", "--map"),
    ],
)
def test_a_named_metric_without_its_input_is_refused(run, name, expected):
    refused(run("good", "--metric", name, code=2)[1], "--metric", name, expected)


def labelled(rng, count, box=8):
    volumes = rng.standard_normal((count, box, box, box)).astype(np.float32)
    table = pd.DataFrame({"cryoetganClass": ["a"] * count})
    return LabelledSet(volumes, np.full(count, "a"), table)


def test_maps_without_poses_are_warned_of_unless_other_metrics_are_named(rng, caplog):
    maps = {"a": rng.standard_normal((8, 8, 8))}
    inputs = MetricInputs(labelled(rng, 4), labelled(rng, 4), 10.0, maps=maps)
    inputs.check(("sd_ratio",))
    assert not caplog.records
    inputs.check(None)
    assert "rlnAngleRot" in caplog.text


@pytest.mark.parametrize("short", ["real", "generated"])
def test_a_set_of_one_volume_is_refused(short, rng):
    sets = {"real": labelled(rng, 4), "generated": labelled(rng, 4)}
    sets[short] = sets[short].subset(np.array([0]))
    with pytest.raises(UserError, match=f"{short} set has 1 volume"):
        measure(MetricInputs(**sets, voxel_size=10.0), 0, CPU)


def test_a_full_tilt_range_has_no_power_outside(rng):
    inputs = MetricInputs(labelled(rng, 8), labelled(rng, 8), 10.0, tilts=(-90.0, 90.0))
    found = measure(inputs, 0, CPU, ("power_ratio", "sd_ratio"))
    assert found["power_ratio"]["outside"] is None
    assert found["power_ratio"]["value"] == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize(("classes", "least"), [(2, 0.625), (4, 0.4375), (7, 0.357)])
def test_features_of_a_classifier_near_chance_are_unreliable(classes, least):
    """Chance depends on the number of classes: twice the chance of two classes is 1."""
    for accuracy, unreliable in ((least - 0.01, True), (least + 0.01, False), (None, False)):
        assert bool(weak_classifier_warning(classes, accuracy)) == unreliable


def test_class_proportions_are_matched_if_all_classes_are_generated(rng):
    names = np.repeat(["a", "b"], [30, 20])
    found = match_class_proportions(np.array(["a", "b"]), names, rng)
    assert list(names[found]) == ["a"] * 20 + ["b"] * 20
    found = match_class_proportions(np.array(["a", "a", "b"]), np.array(["c"] * 5), rng)
    assert list(found) == [0, 1, 2, 3, 4]


def test_particles_in_their_pose_are_recovered(make_set, maps):
    real, generated = (
        read_volume_set(make_set(f"pose_{source}", noise=0.05, source=source))
        for source in ("real", "generated")
    )
    inputs = MetricInputs(
        load_labelled(real), load_labelled(generated), 10.0, maps=read_class_maps(maps, real)
    )
    found = measure(inputs, 0, CPU, ("pose_recovery",))["pose_recovery"]
    assert set(found["baselines"]) == {"chance", "physics", "noise", "real"}
    assert found["value"] == found["baselines"]["real"] == 1
    assert found["baselines"]["noise"] < 0.9
    assert found["warning"] is None
    assert "rotation_error" not in found  # only if no metric is named


@pytest.mark.parametrize("source", ["real", "density"])
def test_cycled_volumes_are_compared_with_their_own_originals(make_set, tmp_path, source):
    """Crops are matched by their identifier, densities by class and angles, in any order."""
    real, other = (read_volume_set(make_set(f"cycle_{kind}")) for kind in ("real", "other"))
    originals = real if source == "real" else read_volume_set(make_set("cycle_d", source="density"))
    order = np.arange(len(originals))[::-1][:10]
    path = tmp_path / "cycled.star"
    table = originals.table.iloc[order].reset_index(drop=True)
    write_volume_set(path, originals.volumes[order], table, 10.0)
    first, second = read_cycle(path, real, None if source == "real" else originals.path)
    assert np.array_equal(first, second)
    assert np.array_equal(first, originals.volumes[order])
    inputs = MetricInputs(load_labelled(real), load_labelled(real), 10.0, cycle=(first, second))
    found = measure(inputs, 0, CPU, ("ssim_cycle",))["ssim_cycle"]
    assert found["value"] == pytest.approx(1)
    assert set(found["baselines"]) == {"other", "constant", "noise"}
    assert max(found["baselines"].values()) < 0.9
    with pytest.raises(UserError, match="have no row in" if source == "real" else "--densities"):
        read_cycle(path, other, None)

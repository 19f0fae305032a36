"""`evaluation compare`: useless labels rank last, controls, and resuming."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
import yaml

from cryoetgan.errors import UserError
from cryoetgan.evaluation import labelled_sets
from cryoetgan.evaluation.comparison.comparison_config import read_config
from cryoetgan.io.star import COORDINATES, read_star, write_star
from cryoetgan.io.volume_set import read_volume_set
from tests.conftest import refused


@pytest.fixture(scope="module")
def config(make_set):
    """Real crops, a good synthetic set, and one whose labels mean nothing."""
    real = make_set("real", 48, noise=0.1, seed=1)
    good = make_set("good", 48, noise=0.1, seed=2, source="simulated")
    bad = make_set("bad", 48, noise=0.1, seed=3, source="generated")
    tables = read_star(bad)
    table = tables.particles
    # half of each class keeps its name: the labels say nothing
    table["cryoetganClass"] = np.tile(["bent", "bent", "rod", "rod"], 12)
    write_star(bad, table, tables.optics)
    picks = read_star(real).particles
    write_star(real.parent / "picks.star", picks.iloc[:36])
    content = {
        "real_train": {"star": real.name, "split": "train"},
        "real_test": {"star": real.name, "split": "test"},
        "methods": {
            "good": {"star": good.name, "uses_picks": False, "mix": False},
            "bad": bad.name,
        },
        "baseline": "bad",
        "template_matching": "picks.star",
        "seeds": 2,
        "few_shot": 2,
        "curve": [2],
        "epochs": 8,
        "leave_one_out": True,
    }
    path = real.parent / "plan.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def compared(cryoetgan, config):
    """Run the comparison, once; return its folder."""
    folder = config.parent / "compared"
    if not (folder / "comparison.json").exists():
        said = cryoetgan("evaluation", "compare", "--config", config, "-o", folder).stderr
        assert "no class is left out for bad" in said
    return folder


@pytest.fixture
def table(compared):
    return json.loads((compared / "comparison.json").read_text())


def test_the_set_with_useless_labels_ranks_last(table):
    assert [row["name"] for row in table["methods"]] == ["good", "bad"]
    good, bad = table["methods"]
    assert good["gan_train"]["value"] > bad["gan_train"]["value"] + 0.2
    assert good["gan_test"]["value"] > bad["gan_test"]["value"]
    low, high = good["minus_baseline"]["interval"]
    assert low <= good["minus_baseline"]["value"] <= high
    assert "minus_baseline" not in bad


def test_a_few_real_crops_are_added_and_repeated(table, compared):
    assert ["mixed" in row for row in table["methods"]] == [False, True]
    runs = json.loads((compared / "runs.json").read_text())
    (mixed, *_), (alone, *_) = (
        [run["n_train"] for key, run in runs.items() if key.startswith(kind)]
        for kind in ("mixed/bad ", "gan_train/bad ")
    )
    assert mixed == alone + 4 * 4  # two of each class, repeated to a third


def test_controls_stand_beside_the_methods(table):
    assert table["upper_bound"]["n_train"] == 24
    assert [point["n_train"] for point in table["curve"]] == [4]
    assert table["background"]["warning"] is None
    assert table["template_matching"]["value"] == pytest.approx(0.75)
    assert table["provenance"]["seed"] == 0


def test_a_class_is_left_out_of_methods_without_picks_only(table):
    assert set(table["leave_one_out"]) == {"good"}
    assert set(table["leave_one_out"]["good"]) == {"bent", "rod"}
    (good,) = (row for row in table["methods"] if row["name"] == "good")
    for name, found in table["leave_one_out"]["good"].items():
        # without a set of its own, a class is recognised as often as in `gan_train`
        assert found["synthetic"]["value"] == good["classes"][name]
        (other,) = {"bent", "rod"} - {name}
        assert found["synthetic"]["others"]["value"] == good["classes"][other]
        low, high = found["with_real"]["interval"]
        assert 0 <= low <= found["with_real"]["value"] <= high <= 1


def test_the_csv_has_one_order_of_columns(table, compared):
    with open(compared / "comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = ["good", "bad", "real (upper bound)", "real, 2 per class"]
    assert [row["name"] for row in rows] == [*names, "background only", "template matching"]
    columns = list(rows[0])
    assert columns.index("gan_test") < columns.index("mixed") < columns.index("minus_baseline")
    value = table["methods"][0]["gan_train"]["value"]
    assert float(rows[0]["gan_train"]) == pytest.approx(value, abs=1e-5)


def test_finished_trainings_are_not_repeated(cryoetgan, config, compared, table):
    runs = json.loads((compared / "runs.json").read_text())
    removed = next(key for key in runs if key.startswith("gan_train/good 1 "))
    kept = runs.pop(removed)
    other = next(iter(runs))
    marked = runs[other] | {"mark": "as it was"}
    (compared / "runs.json").write_text(json.dumps(runs | {other: marked}))
    cryoetgan("evaluation", "compare", "--config", config, "-o", compared)
    again = json.loads((compared / "runs.json").read_text())
    assert again[removed] == kept
    assert again[other] == marked
    assert json.loads((compared / "comparison.json").read_text()) == table


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"seed": 3}, ["unknown key 'seed'", "seeds"]),
        ({"seeds": 1}, ["seeds is 1"]),
        ({"baseline": "best"}, ["baseline", "best", "bad, good"]),
        ({"methods": {"lost": "lost.star"}, "baseline": None}, ["lost.star", "no such"]),
    ],
)
def test_a_mistake_is_named_before_any_training(cryoetgan, config, tmp_path, change, expected):
    path = config.parent / "wrong.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | change))
    done = cryoetgan("evaluation", "compare", "--config", path, "-o", tmp_path / "x", code=2)
    refused(done, *expected)
    assert not (tmp_path / "x").exists()


def test_a_file_name_stands_for_a_set(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("{real_train: a.star, real_test: b.star, methods: {c: [d.star, e.star]}}")
    found = read_config(path)
    assert found.real_train.star == "a.star"
    assert [found.methods["c"].rows(seed).star for seed in range(3)] == [
        "d.star", "e.star", "d.star",
    ]  # fmt: skip
    path.write_text("[]")
    with pytest.raises(UserError, match="got list"):
        read_config(path)


def test_the_mask_hides_the_particle_and_nothing_else(make_set):
    crops = labelled_sets.load_labelled(read_volume_set(make_set("hide", 4)))
    masked = labelled_sets.mask_centre(crops, 0.5)
    changed = (masked.volumes != crops.volumes).mean(axis=0)
    assert np.linalg.norm(np.argwhere(changed > 0) - 8, axis=1).max() <= 4
    assert changed[8, 8, 8] == 1


def test_equally_many_of_each_class_are_drawn(make_set, rng):
    crops = labelled_sets.load_labelled(read_volume_set(make_set("few", 20)))
    drawn = labelled_sets.draw_per_class(crops, 3, rng)
    assert sorted(drawn.names) == ["bent"] * 3 + ["rod"] * 3


def test_picks_are_matched_by_tomogram_and_coordinate(make_set):
    crops = labelled_sets.load_labelled(read_volume_set(make_set("match", 8)))
    picks = crops.table[["rlnTomoName", *COORDINATES]].assign(cryoetganClass=crops.names)
    picks.loc[0, "rlnCoordinateX"] += 2.0
    picks.loc[1, "rlnCoordinateX"] += 9.0
    picks.loc[2, "rlnTomoName"] = "elsewhere"
    found = labelled_sets.classes_of_picks(crops, pd.DataFrame(picks), 8.0)
    assert found[0] == crops.names[0]
    assert list(found[1:3]) == ["", ""]
    assert (found[3:] == crops.names[3:]).all()


@pytest.fixture(scope="module")
def one_class(make_set):
    """Return the folder of one class, real and simulated, and of crops without a particle."""
    for name, seed, source in (("one", 11, "real"), ("made", 12, "simulated")):
        star = make_set(name, 24, noise=0.1, seed=seed, classes=("bent",), source=source)
        make_set(f"{name}_other", 16, noise=0.1, seed=seed + 9, classes=("rod",), source=source)
    return star.parent


def test_one_class_is_compared_by_f1_on_all_picks(cryoetgan, one_class, tmp_path):
    sets = {f"real_{split}": {"star": "one.star", "split": split, "other": ["one_other.star"]}
            for split in ("train", "test")}  # fmt: skip
    content = sets | {"methods": {"made": {"star": "made.star", "other": ["made_other.star"]}}}
    content |= {"seeds": 2, "epochs": 6, "curve": [], "few_shot": 0, "background": False}
    (one_class / "one.yaml").write_text(yaml.safe_dump(content))
    words = ("evaluation", "compare", "--config", one_class / "one.yaml", "-o", tmp_path / "out")
    cryoetgan(*words)
    found = json.loads((tmp_path / "out/comparison.json").read_text())
    assert (found["figure"], found["chance"], found["n_test"]) == ("f1", 0.5, 12 + 8)
    assert found["upper_bound"]["n_train"] == 12 + 8
    assert set(found["methods"][0]["classes"]) == {"bent", "other"}


def test_one_class_is_classified_against_other(cryoetgan, one_class, tmp_path):
    words = ["evaluation", "classify", "--train", one_class / "made.star", "--epochs", 6]
    words += ["--test", one_class / "one.star", "--test-split", "test", "-o", tmp_path / "x.json"]
    refused(cryoetgan(*words, code=2), "one class", "--train-other")
    others = ["--train-other", one_class / "made_other.star"]
    cryoetgan(*words, *others, "--test-other", one_class / "one_other.star")
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["classes"] == ["bent", "other"]
    assert found["open"]["classes"] == ["bent", "other"]
    assert found["open"]["confusion"] == found["confusion"]
    assert found["n_test"] == sum(row["true"] for row in found["open"]["scores"].values()) == 20

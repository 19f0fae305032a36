"""The competition: who learnt nothing loses, controls tell, a killed run goes on."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
import yaml

from cryoetgan.errors import UserError
from cryoetgan.evaluation.comparison import subsets
from cryoetgan.evaluation.comparison.config import read_config
from cryoetgan.evaluation.labelled_sets import load
from cryoetgan.io.star import read_star, write_star
from cryoetgan.io.volume_set import read_volume_set
from tests.conftest import refused


@pytest.fixture(scope="module")
def arena(make_set):
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
    plan = {
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
        "epochs": 12,
        "leave_one_out": True,
    }
    path = real.parent / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    return path


def test_the_table_ranks_and_the_controls_tell(cryoetgan, arena, tmp_path):
    out = tmp_path / "out"
    said = cryoetgan("evaluation", "compare", "--config", arena, "-o", out).stderr
    assert "no class is left out for bad" in said
    table = json.loads((out / "comparison.json").read_text())
    assert [row["name"] for row in table["methods"]] == ["good", "bad"]
    good, bad = table["methods"]
    assert good["gan_train"]["value"] > bad["gan_train"]["value"] + 0.2
    assert good["gan_test"]["value"] > bad["gan_test"]["value"]
    low, high = good["minus_baseline"]["interval"]
    assert low <= good["minus_baseline"]["value"] <= high
    assert "minus_baseline" not in bad
    assert "mixed" in bad
    assert "mixed" not in good
    runs = json.loads((out / "runs.json").read_text())
    (mixed, *_), (alone, *_) = (
        [run["n_train"] for key, run in runs.items() if key.startswith(kind)]
        for kind in ("mixed/bad ", "gan_train/bad ")
    )
    assert mixed == alone + 4 * 4  # two a class, repeated to a third
    assert table["upper_bound"]["n_train"] == 24
    assert [point["n_train"] for point in table["curve"]] == [4]
    assert table["background"]["warning"] is None
    assert table["template_matching"]["value"] == pytest.approx(0.75)
    # only physics may compete for a class that was never picked
    assert set(table["leave_one_out"]) == {"good"}
    assert set(table["leave_one_out"]["good"]) == {"bent", "rod"}
    # without a set of its own, a class is recognised as often as `gan_train` does
    for name, found in table["leave_one_out"]["good"].items():
        assert found["synthetic"]["value"] == good["classes"][name]
        (other,) = {"bent", "rod"} - {name}
        # what always answers one class is right on none of the others
        assert found["synthetic"]["others"]["value"] == good["classes"][other]
        low, high = found["with_real"]["interval"]
        assert 0 <= low <= found["with_real"]["value"] <= high <= 1
    assert table["provenance"]["seed"] == 0
    with open(out / "comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["name"] == "good"
    # whoever is first, columns stand in one order
    columns = list(rows[0])
    assert columns.index("gan_test") < columns.index("mixed") < columns.index("minus_baseline")
    assert float(rows[0]["gan_train"]) == pytest.approx(good["gan_train"]["value"], abs=1e-5)

    # what is done is not done again, and gives the same table
    runs = json.loads((out / "runs.json").read_text())
    gone = next(key for key in runs if key.startswith("gan_train/good 1 "))
    kept = runs.pop(gone)
    (out / "runs.json").write_text(json.dumps(runs))
    cryoetgan("evaluation", "compare", "--config", arena, "-o", out)
    assert json.loads((out / "runs.json").read_text())[gone] == kept
    assert json.loads((out / "comparison.json").read_text()) == table


def test_a_mistake_in_the_plan_is_said(cryoetgan, arena, tmp_path):
    plan = yaml.safe_load(arena.read_text())

    def compete(**change):
        path = arena.parent / "wrong.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in (plan | change).items() if v != "drop"}))
        return cryoetgan("evaluation", "compare", "--config", path, "-o", tmp_path / "x", code=2)

    refused(compete(seed=3), "unknown key 'seed'", "seeds")
    refused(compete(baseline="best"), "baseline", "best", "bad, good")
    refused(compete(methods={"lost": "lost.star"}, baseline="drop"), "lost.star", "no such")
    # said before anything is trained
    assert not (tmp_path / "x").exists()


def test_seeds_below_two_have_no_interval(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("{real_train: a.star, real_test: b.star, methods: {c: c.star}, seeds: 1}")
    with pytest.raises(UserError, match="seeds is 1"):
        read_config(path)


def test_the_ball_hides_the_particle_and_nothing_else(make_set):
    crops = load(read_volume_set(make_set("hide", 4)), None)
    masked = subsets.hidden(crops, 0.5)
    changed = (masked.volumes != crops.volumes).mean(axis=0)
    places = np.argwhere(changed > 0)
    assert np.linalg.norm(places - 8, axis=1).max() <= 4
    assert changed[8, 8, 8] == 1


def test_few_takes_as_many_of_each_class(make_set, rng):
    crops = load(read_volume_set(make_set("few", 20)), None)
    assert sorted(subsets.few(crops, 3, rng).names) == ["bent"] * 3 + ["rod"] * 3


def test_picks_are_matched_by_tomogram_and_place(make_set):
    crops = load(read_volume_set(make_set("match", 8)), None)
    columns = ["rlnTomoName", "rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"]
    picks = crops.table[columns].assign(cryoetganClass=crops.names)
    picks.loc[0, "rlnCoordinateX"] += 2.0
    picks.loc[1, "rlnCoordinateX"] += 9.0
    picks.loc[2, "rlnTomoName"] = "elsewhere"
    found = subsets.matched_classes(crops, pd.DataFrame(picks), 8.0)
    assert found[0] == crops.names[0]
    assert list(found[1:3]) == ["", ""]
    assert (found[3:] == crops.names[3:]).all()

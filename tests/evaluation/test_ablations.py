"""Ablations: each preset differs in its own keys, collapse is detected, the table."""

import csv
import json

import pytest

from cryoetgan.evaluation.ablations import ABLATIONS, NOT_COMPARABLE, has_collapsed
from cryoetgan.translation.presets import read_preset
from tests.conftest import refused


def results(
    recall=0.6, coverage=0.9, sd=1.0, confusion=((9, 1), (2, 8)), accuracy=0.85, spread=None
):
    measure = {
        name: {"value": value}
        for name, value in {"recall": recall, "coverage": coverage, "sd_ratio": sd}.items()
    } | {"fid": {"value": 100.0}, "is": {"value": 1.9}}
    measure["recall"] |= {} if spread is None else {"spread": spread}
    test = {"accuracy": accuracy, "confusion": [list(row) for row in confusion]}
    return measure, test


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, False),
        ({"recall": 0.0, "coverage": 1.0}, True),
        ({"recall": 0.0, "coverage": 0.0}, True),
        ({"recall": 0.0, "coverage": 0.5}, False),
        # far from real volumes, but as different from each other as these
        ({"recall": 0.0, "coverage": 0.0, "spread": 0.9}, False),
        ({"recall": 0.0, "coverage": 0.0, "spread": 0.1}, True),
        ({"sd": 0.1}, True),
        ({"confusion": ((10, 0), (10, 0))}, True),
        ({"recall": None}, False),
    ],
)
def test_collapse_is_detected(change, expected):
    assert has_collapsed(*results(**change)) is expected


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_ablation_is_a_preset_of_its_own(cryoetgan, tmp_path, name):
    if name not in ("input_noise_0.5", "spectral"):
        settings = ABLATIONS[name].settings
        assert set(settings) <= set(vars(read_preset("paper")))
        return
    cryoetgan("evaluation", "ablate", name, "--preset", "smoke", "-o", "x.yaml")
    made, base = read_preset(str(tmp_path / "x.yaml")), read_preset("smoke")
    changed = {k: v for k, v in vars(made).items() if v != vars(base)[k]}
    wanted = ABLATIONS[name].settings
    assert changed == {k: v for k, v in wanted.items() if vars(base)[k] != v}


def test_the_table_is_beside_the_papers(cryoetgan, tmp_path):
    for seed, fid in (("0", 90.0), ("1", 110.0)):
        measure, test = results(recall=0.0 if seed == "0" else 0.5, coverage=1.0)
        measure["fid"]["value"] = fid
        place = tmp_path / "runs" / "input_noise_0" / seed
        place.mkdir(parents=True)
        (place / "measure.json").write_text(json.dumps(measure))
        (place / "gan_test.json").write_text(json.dumps(test))
    cryoetgan("evaluation", "ablations", "runs", "-o", "table.csv")
    with open(tmp_path / "table.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["ablation"] == "input_noise_0"
    assert float(row["fid"]) == 100
    assert float(row["fid_low"]) < 100 < float(row["fid_high"])
    assert float(row["fid_paper"]) == 828.18
    assert row["paper"] == NOT_COMPARABLE
    assert float(row["collapsed"]) == 0.5


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ablations", "lost"), "lost"),
        (("ablate", "wasserstien"), "did you mean 'wasserstein'"),
        (("ablate", "wasserstein", "--preset", "recommended"), "recommended has no discriminator"),
        (("ablate", "wasserstein", "--snapshot-every", "0"), "--snapshot-every"),
    ],
)
def test_unsuitable_input_is_refused(cryoetgan, words, expected):
    refused(cryoetgan("evaluation", *words, "-o", "x", code=2), expected)


def test_the_interval_of_snapshots_is_added(cryoetgan, tmp_path):
    words = ("evaluation", "ablate", "input_noise_0", "--snapshot-every")
    cryoetgan(*words, 5, "-o", "x.yaml")
    assert "snapshot_every: 5\n" in (tmp_path / "x.yaml").read_text()

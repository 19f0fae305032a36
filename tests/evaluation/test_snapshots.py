"""Scores by step: the last row equals the metrics of the trained generator's own set."""

import csv
import json

import pytest
import starfile

from cryoetgan.evaluation.snapshots import SCORES
from tests.conftest import refused

PRESET = """
widths: [4, 4, 8]
blocks: 1
discriminator_widths: [4, 4]
discriminator_norm: none
objective: hinge
clip: 0.0
input_noise: 0.5
batch: 3
steps: 8
snapshot_every: 1
dropout: 0.0
"""


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_scores_of_a_snapshot_equal_those_measured_on_its_set(cryoetgan, tmp_path, make_set):
    real, made = make_set("epochs_real", 24), make_set("epochs_d", 12, 0.0, source="density")
    assert set(starfile.read(made)["particles"]["cryoetganSource"]) == {"density"}
    (tmp_path / "p.yaml").write_text(PRESET)
    # 12 of the crops are trained on, in batches of 3: steps 4 and 8 end an epoch
    words = ("--densities", made, "--subtomograms", real, "--preset", "./p.yaml")
    cryoetgan("translation", "train", *words, "-o", "t")
    words = ("--train", real, "--train-split", "train", "--test", real, "--epochs", 2)
    cryoetgan("evaluation", "classify", *words, "--checkpoint", "c.pt", "-o", "c.json")
    real_words = ("--real", real, "--real-split", "test", "--features", "c.pt", "--seed", 3)
    words = ("--densities", made, *real_words)
    cryoetgan("evaluation", "epochs", "t/checkpoint.pt", *words, "-o", "epochs.csv")
    found = rows_of(tmp_path / "epochs.csv")
    assert [row["step"] for row in found] == ["0", "4", "8"]
    assert {row["noise"] for row in found} == {"0.5"}
    assert len({row["fid"] for row in found}) == 3
    # the last snapshot is the trained generator
    snapshot = "t/snapshots/epoch_00002.pt"
    said = cryoetgan("evaluation", "epochs", snapshot, *words, "-o", "again.csv").stderr
    assert "snapshot_every" in said
    assert rows_of(tmp_path / "again.csv") == [found[0], found[2]]
    # each number is measured on the set of this generator, too
    metrics = [word for name in SCORES for word in ("--metric", name)]
    for row, checkpoint, more in (
        (found[0], "t/checkpoint.pt", ("--snapshot", 0)),
        (found[1], "t/snapshots/epoch_00001.pt", ()),
        (found[2], "t/checkpoint.pt", ()),
    ):
        words = ("translation", "translate", checkpoint, made, "--seed", 3, *more)
        cryoetgan(*words, "-o", "g.star")
        words = (*real_words, "--generated", "g.star", *metrics)
        cryoetgan("evaluation", "measure", *words, "-o", "m.json")
        measured = json.loads((tmp_path / "m.json").read_text())
        for name in SCORES:
            assert float(row[name]) == pytest.approx(measured[name]["value"], rel=1e-5)
            low, high = measured[name]["interval"]
            assert float(row[f"{name}_low"]) == pytest.approx(low, rel=1e-5, abs=1e-9)
            assert float(row[f"{name}_high"]) == pytest.approx(high, rel=1e-5)


def test_a_missing_classifier_is_refused(cryoetgan, tmp_path, make_set):
    real = make_set("epochs_real", 24)
    words = ("--densities", real, "--real", real, "--features", "no.pt", "-o", "e.csv")
    refused(cryoetgan("evaluation", "epochs", "t.pt", *words, code=2), "no.pt")
    assert not (tmp_path / "e.csv").exists()

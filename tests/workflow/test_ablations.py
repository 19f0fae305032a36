"""`snakemake ablations`: every ablation over seeds, one table, which the report takes up."""

import csv

import pytest
import yaml

from cryoetgan.evaluation.ablations import ABLATIONS
from tests.workflow.conftest import TINY


@pytest.fixture
def little(tiny_run, tmp_path):
    """The tiny run's project, and a configuration with one short training an ablation."""
    project, _ = tiny_run
    content = yaml.safe_load((project.folder / TINY[1]).read_text())
    content["evaluation"] |= {"ablation_preset": "smoke", "ablation_steps": 4, "ablation_seeds": 1}
    path = tmp_path / "little.yaml"
    path.write_text(yaml.safe_dump(content))
    return project, ("--configfile", str(path))


def test_each_ablation_is_trained_and_tested_on_what_the_run_has(little):
    project, config = little
    assert project.planned(*config, "--", "ablations") == {
        "evaluation_ablate",
        "translation_train_ablation",
        "translation_translate_ablation",
        "evaluation_classify_ablation",
        "evaluation_measure_ablation",
        "evaluation_ablations",
        "ablations",
    }


@pytest.mark.slow
def test_the_table_is_made_and_the_report_takes_it_up(little):
    project, config = little
    project.snakemake("ablations", *config)
    with open(project.results / "evaluation/epochs.csv", newline="") as file:
        steps = [(row["noise"], row["step"]) for row in csv.DictReader(file)]
    # 12 training crops, batches of three: the last of four steps ends the first epoch
    assert steps == [(noise, step) for noise in ("0", "0.2", "0.5") for step in ("0", "4")]
    with open(project.results / "evaluation/ablations.csv", newline="") as file:
        rows = {row["ablation"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(ABLATIONS)
    assert all(0 <= float(row["gan_train"]) <= 1 and row["seeds"] == "1" for row in rows.values())
    # nothing trains again, the page does
    assert project.planned(*config) == {"report_build"}
    project.snakemake(*config)
    page = (project.results / "report/index.html").read_text()
    assert all(ablation.label in page for ablation in ABLATIONS.values())

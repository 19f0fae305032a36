"""`snakemake ablations`: every ablation over seeds, one table, which the report takes up."""

import csv

import pytest

from cryoetgan.evaluation.ablations import ABLATIONS


@pytest.mark.slow
def test_the_table_is_made_and_the_report_takes_it_up(little):
    project, config = little
    project.snakemake("ablations", *config)
    with open(project.results / "evaluation/epochs.csv", newline="") as file:
        kept = [(row["noise"], int(row["step"])) for row in csv.DictReader(file)]
    # untrained, after the epochs that end within six steps of two crops each, and trained
    steps = {name: [step for noise, step in kept if noise == name] for name in ("0", "0.2", "0.5")}
    assert len(kept) == sum(map(len, steps.values()))
    for found in steps.values():
        assert (found[0], found[-1]) == (0, 6)
        assert found == steps["0"]
        assert len(found) > 2
    with open(project.results / "evaluation/ablations.csv", newline="") as file:
        rows = {row["ablation"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(ABLATIONS)
    assert all(0 <= float(row["gan_train"]) <= 1 and row["seeds"] == "1" for row in rows.values())
    # nothing trains again, the page does
    assert project.planned(*config) == {"report_build"}
    project.snakemake(*config)
    page = (project.results / "report/index.html").read_text()
    assert all(ablation.label in page for ablation in ABLATIONS.values())
    assert page.count('by step"') == 3

"""One run with all that is optional: comparison, second classifier, synthetic tomograms, copick."""

import csv
import json
import re

import numpy as np
import pytest
import yaml

from cryoetgan.io.files import read_json
from cryoetgan.io.mrc import read_volume
from cryoetgan.io.star import ANGLES, COORDINATES, read_star
from cryoetgan.setup.validate import find_problems
from tests.workflow.conftest import TINY

SECOND = "results/tiny/evaluation/gan_test_cb3d.json"


@pytest.fixture(scope="module")
def extended(tiny_run, tmp_path_factory):
    """The tiny run, gone on with: (project, words of the configuration, rules planned)."""
    project, _ = tiny_run
    content = yaml.safe_load((project.folder / TINY[1]).read_text())
    content["evaluation"]["comparison_seeds"] = 2
    # unnamed species would make it unlike the simulated "real" one, which has none
    content["tomograms"] |= {"synthetic": 1, "crowder_fraction": 0.0}
    content["export"] = {"formats": ["relion", "copick", "plain"]}
    # four steps teach little: some tens of picks
    content["detection"] = {"steps": 4, "threshold": 0.5}
    path = tmp_path_factory.mktemp("extended") / "extended.yaml"
    path.write_text(yaml.safe_dump(content))
    words = ("--configfile", str(path))
    planned = project.planned(*words, "--", "comparison", "all")
    # the page shows the comparison, which has a target of its own
    for target in ("comparison", "all"):
        project.snakemake(*words, "--", target)
    return project, words, planned


def test_only_new_files_are_made(extended):
    project, words, planned = extended
    assert planned == {
        "imaging_simulate",
        "imaging_simulate_fitted",
        "imaging_ablate",
        "evaluation_comparison_config",
        "evaluation_compare",
        "comparison",
        "tomograms_scene",
        "imaging_synthesize",
        "detection_train",
        "detection_run",
        "detection_hand",
        "detection_extract",
        "detection_gallery",
        "export_detected",
        "report_build",
        "export_copick",
        "export_plain_tomograms",
    }
    assert project.planned(*words) == set()


def test_the_comparison_ends_in_one_table_that_the_report_shows(extended):
    project, *_ = extended
    with open(project.results / "evaluation/comparison/comparison.csv", newline="") as file:
        names = {row["name"] for row in csv.DictReader(file)}
    assert names >= {
        "conventional_snr0.01", "conventional_snr0.1", "conventional_snr0.5", "noise_only",
        "no_neighbours", "real_background", "fitted", "pseudo_labels", "generated_smoke",
    }  # fmt: skip
    assert 'id="comparison"' in (project.results / "report/index.html").read_text()


def test_a_synthetic_tomogram_has_labels_and_truth(extended):
    project, *_ = extended
    folder = project.results / "imaging" / "tomograms"
    made, real = (
        read_volume(path).data
        for path in (folder / "synthetic_1.mrc", project.results / "tomograms" / "t1.mrc")
    )
    assert made.shape == real.shape
    assert made.std() == pytest.approx(real.std(), rel=0.3)
    labels = read_volume(folder / "synthetic_1_labels.mrc").data
    assert made[labels > 0].mean() > made.mean() + made.std()  # protein is bright
    assert find_problems(project.results / "imaging")[0] == []
    assert 'id="synthetic"' in (project.results / "report" / "index.html").read_text()


def test_the_detector_brings_picks_with_poses_to_the_report_and_to_exports(extended):
    project, *_ = extended
    folder = project.results / "detection"
    picks = {name: read_star(folder / f"{name}.star").particles for name in ("t1", "t2")}
    assert all(len(table) for table in picks.values())
    columns = {*ANGLES, *COORDINATES, "cryoetganQValue", "cryoetganDetectionScore"}
    assert all(columns <= set(table) for table in picks.values())
    page = (project.results / "report" / "index.html").read_text()
    table = re.search(r'<table id="detected">.*?</table>', page, re.DOTALL)[0]
    for name, found in picks.items():
        assert f'<td>{name}</td><td class="n">{len(found)}</td>' in table
    exported = project.results / "export" / "detected"
    relion5 = read_star(exported / "particles_relion5.star").particles
    assert set(relion5["rlnTomoName"]) <= {"t1", "t2"}
    assert len(relion5) == len(read_star(folder / "particles.star").particles)
    copick = pytest.importorskip("copick")
    root = copick.from_file(str(project.results / "export" / "copick" / "config.json"))
    points = [len(found.numpy()[0]) for found in root.get_run("t1").get_picks()]
    assert sum(points) == len(picks["t1"])


def test_copick_reads_the_synthetic_tomogram(extended):
    copick = pytest.importorskip("copick")
    project, *_ = extended
    folder = project.results / "imaging" / "tomograms"
    truth = read_star(folder / "synthetic_1.star").particles
    labels = read_volume(folder / "synthetic_1_labels.mrc").data
    root = copick.from_file(str(project.results / "export" / "copick" / "config.json"))
    assert {run.name for run in root.runs} >= {"t1", "t2", "synthetic_1"}
    run = root.get_run("synthetic_1")
    points = {picks.pickable_object_name: len(picks.numpy()[0]) for picks in run.get_picks()}
    assert points == truth["cryoetganClass"].value_counts().to_dict()
    (segmentation,) = run.get_segmentations()
    numbers = {item.name: item.label for item in root.pickable_objects}
    names = json.loads((folder / "synthetic_1_labels.mrc.json").read_text())["labels"]
    for number, name in names.items():
        assert np.array_equal(segmentation.numpy() == numbers[name], labels == int(number))


@pytest.fixture
def with_cb3d(tiny_run, tmp_path):
    """The tiny run's project, and the words for a second classifier."""
    project, _ = tiny_run
    content = yaml.safe_load((project.folder / TINY[1]).read_text())
    content["evaluation"] |= {"second_network": "cb3d", "epochs": 1}
    path = tmp_path / "both.yaml"
    path.write_text(yaml.safe_dump(content))
    return project, ("--configfile", str(path), "--", SECOND)


def test_a_second_classifier_is_trained_once_on_the_real_crops(with_cb3d):
    project, words = with_cb3d
    said = project.snakemake("-n", "-p", *words)
    commands = re.findall(r"cryoetgan evaluation classify .*--network=cb3d .*", said)
    trained = [command for command in commands if "--reuse" not in command]
    (weights,) = re.findall(r"--checkpoint (\S+)", trained[0])
    assert weights == "results/tiny/evaluation/real_train_cb3d.pt"
    (tested,) = (command for command in commands if "--reuse" in command)
    assert f"--reuse={weights} " in tested
    assert f"-o {SECOND} " in tested
    assert len(trained) == 1


@pytest.mark.slow
def test_a_second_classifier_has_the_weights_of_the_real_crops(with_cb3d):
    project, words = with_cb3d
    project.snakemake(*words)
    folder = project.results / "evaluation"
    found = {name: read_json(folder / f"{name}.json") for name in ("gan_test", "gan_test_cb3d")}
    assert [content["network"] for content in found.values()] == ["small", "cb3d"]
    real = read_json(folder / "real_train_cb3d.json")
    assert real["weights"] == found["gan_test_cb3d"]["weights"] != found["gan_test"]["weights"]

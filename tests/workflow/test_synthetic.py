"""Synthetic tomograms of a run: made by rules, and exported with their picks and labels."""

import json

import numpy as np
import pytest
import yaml

from cryoetgan.io.mrc import read_volume
from cryoetgan.io.star import read_star
from cryoetgan.setup.validate import problems
from tests.workflow.conftest import TINY


@pytest.fixture
def words(tiny_run, tmp_path):
    """Return the words for the tiny run with some keys of `translation` changed."""
    project, _ = tiny_run
    content = yaml.safe_load((project.folder / TINY[1]).read_text())

    def changed(**keys):
        content["translation"] |= keys
        content["export"] = {"formats": ["copick"]}
        path = tmp_path / "synthetic.yaml"
        path.write_text(yaml.safe_dump(content))
        return "--configfile", str(path)

    return changed


def test_a_run_makes_tomograms_with_labels_and_truth_and_exports_them(tiny_run, words):
    copick = pytest.importorskip("copick")
    project, _ = tiny_run
    new = {"tomograms_scene", "imaging_synthesize", "report_build", "export_copick"}
    config = words(tomograms=1)
    assert project.planned(*config) == new
    project.snakemake(*config)
    assert project.planned(*config) == set()
    folder = project.results / "imaging" / "tomograms"
    made, real = (
        read_volume(path).data
        for path in (folder / "synthetic_1.mrc", project.results / "tomograms" / "t1.mrc")
    )
    assert made.shape == real.shape
    assert made.std() == pytest.approx(real.std(), rel=0.3)
    labels = read_volume(folder / "synthetic_1_labels.mrc").data
    assert made[labels > 0].mean() > made.mean() + made.std()  # protein is bright
    truth = read_star(folder / "synthetic_1.star").particles
    assert problems(project.results / "imaging")[0] == []
    assert 'id="synthetic"' in (project.results / "report" / "index.html").read_text()
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


@pytest.mark.parametrize(
    ("ship", "made"),
    [
        # which of the two is exported is seen at the end
        ("auto", {"translation_synthesize", "imaging_synthesize"}),
        ("generated", {"translation_synthesize"}),
        ("fitted", {"imaging_synthesize"}),
    ],
)
def test_a_trained_network_makes_them_where_it_can_and_what_is_shipped(tiny_run, words, ship, made):
    project, _ = tiny_run
    planned = project.planned(*words(tomograms=2, preset="recommended", ship=ship))
    assert {rule for rule in planned if rule.endswith("synthesize")} == made


def test_without_fitted_physics_there_is_nothing_to_make_them_of(tiny_run, words):
    project, _ = tiny_run
    config = words(tomograms=1)
    said = project.snakemake("-n", *config, "--config", "imaging={fit: false}", code=1)
    assert "imaging.fit" in said
    assert "Traceback" not in said

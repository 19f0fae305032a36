"""An edit of a key or of a cell runs again the rules of its stage, and those after them."""

import json
import os
import subprocess

import pytest
import yaml

from cryoetgan.config import Config, check, load
from cryoetgan.tables import ClassRow, SubtomogramRow, TomogramRow, columns
from tests.conftest import ROOT
from tests.fork_server import forking_python
from tests.workflow import replan
from tests.workflow.conftest import TINY

WITHOUT_EFFECT = {
    # downloads are the same, whatever the patience
    *("structures.retries", "structures.timeout"),
    # a format less
    "export.formats",
    # of another picker, and of targets that have to be asked for
    *("particles.score_threshold_sd", "particles.average_iterations"),
    *("evaluation.comparison_seeds", "evaluation.ablation_preset", "evaluation.ablation_steps"),
    *("evaluation.ablation_seeds", "evaluation.ablation_snapshots"),
}
FILES = {"densities.prior", "particles.curation"}
"""Keys that name a file or folder; the tiny run has none."""


def replanned(*words, cwd=ROOT):
    """Return what `tests.workflow.replan` prints; Snakemake keeps state, hence the process."""
    done = subprocess.run(
        [forking_python(), "-m", "tests.workflow.replan", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def plans():
    return replanned(ROOT)


@pytest.fixture
def edits(plans):
    return {name: jobs for name, jobs in plans.items() if name != "reads"}


def rules(jobs):
    return {rule for rule, _ in jobs.values()}


def test_each_key_and_column_is_read_by_the_rules_of_its_stage(edits):
    wrong = {}
    for name, (edited, _) in edits.items():
        if name.startswith("added") or name in ("seed", "device"):
            continue
        stages = {rule.split("_")[0] for rule in rules(edited)}
        if not stages <= replan.reading_stages(name):
            wrong[name] = sorted(rules(edited))
        assert bool(stages) != (name in WITHOUT_EFFECT), name
    assert not wrong


def test_an_edit_runs_no_rule_before_those_that_read_it(edits):
    assert rules(edits["report.title"][1]) == {"report_build"}
    assert not any(
        rule.startswith(("structures", "densities", "tomograms", "particles", "imaging"))
        for rule in rules(edits["translation.steps"][1])
    )


def test_every_key_and_column_is_edited(edits):
    config = Config()
    for key in replan.config_keys():
        if key not in replan.TABLES:
            assert check(replan.edit(config, key), key) != config
    names = {name for model in (ClassRow, TomogramRow) for name, _ in columns(model)}
    assert {f"column {name}" for name in names} <= set(edits)
    assert {f"set {name}" for name, _ in columns(SubtomogramRow)} <= set(edits)


def test_the_files_of_a_set_are_a_parameter_of_its_import(plans):
    assert "1 files, 0 bytes, newest" in plans["reads"]["particles_import_subtomograms"]


def test_poses_are_drawn_one_and_a_half_voxels_off_centre(plans):
    assert f"--max-shift={1.5 * Config().densities.voxel_size}" in plans["reads"]["densities_pose"]


def test_a_tomogram_added_runs_nothing_of_the_others(edits):
    again = edits["added tomogram"][1]
    assert {"tomograms_import", "particles_pick", "particles_score"} <= {
        rule for rule, new in again.values() if new
    }
    for outputs, (rule, new) in again.items():
        # the halves judge the selected particles, and the selection compares all tomograms
        own = rule != "evaluation_halves" and any(name in outputs for name in replan.TOMOGRAMS)
        assert new or not own, outputs


def test_a_class_added_makes_no_other_structure_or_map_again(edits):
    for outputs, (rule, new) in edits["added class"][1].items():
        alone = rule.startswith("structures_") or (
            rule.startswith("densities_")
            and "poses" not in outputs
            and "densities/other." not in outputs
        )
        assert new or not alone, outputs
        assert rule != "tomograms_import", "the user's own tomograms hold no simulated class"


@pytest.mark.slow
def test_what_is_planned_is_what_a_dry_run_of_a_finished_run_says(tiny_run, tmp_path):
    project, _ = tiny_run
    config = load(project.folder / "config/config.yaml", project.folder / TINY[1])
    wanted = [key for key in replan.config_keys() if key not in replan.TABLES | FILES | {"run"}]
    found = replanned(project.folder, project.folder / TINY[1], *wanted, cwd=project.folder)
    wrong = {}
    for key in wanted:
        path = tmp_path / "edited.yaml"
        path.write_text(yaml.safe_dump(replan.edit(config, key)))
        runs = project.planned("--configfile", str(path))
        if runs != rules(found[key][1]):
            wrong[key] = (sorted(runs), found[key][1])
    assert not wrong, wrong

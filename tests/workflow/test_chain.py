"""The whole chain in little, and what runs again after an edit."""

import base64
import hashlib
import html
import re
import shutil

import pytest
import starfile
import yaml

from cryoetgan.imaging.fit.plot import plot_model
from cryoetgan.imaging.storage import load_model
from cryoetgan.io.files import read_json
from cryoetgan.setup.validate import find_problems
from tests.workflow.conftest import TINY

EVALUATION = {"evaluation_classify", "evaluation_measure", "evaluation_choose"}
AFTER_TRAINING = {
    "translation_translate",
    "translation_uncertainty",
    "export_relion",
    "export_plain",
    "report_build",
}
AFTER_TRAINING |= EVALUATION


def test_the_chain_runs_and_says_where_the_report_is(tiny_run):
    project, said = tiny_run
    report = project.results / "report" / "index.html"
    assert report.exists()
    assert f"The report: {report}" in said
    # a line a step, and warnings: commands are in the logs
    assert len(re.findall(r"^\[ *\d+/\d+\] \w+ [\w-]+", said, re.MULTILINE)) == 47
    assert "python -m cryoetgan" not in said
    generated = starfile.read(project.results / "translation/smoke/generated.star")["particles"]
    poses = starfile.read(project.results / "densities/poses.star")["particles"]
    # labels by construction: a generated volume carries its density's class and angles
    for column in ("cryoetganClass", "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"):
        assert list(generated[column]) == list(poses[column])
    assert set(generated["cryoetganSource"]) == {"generated"}


def test_the_exported_set_is_chosen_on_picks_that_no_label_touched(tiny_run):
    project, _ = tiny_run
    folder = project.results / "evaluation"
    for name in ("measure_unlabelled", "measure_unlabelled_fitted"):
        inputs = set(read_json(folder / f"{name}.json.json")["provenance"]["inputs"])
        assert {"subtomograms.star", "pseudo_label_train.pt"} <= inputs
        assert not {"annotated.star", "real_train.pt"} & inputs
    picks = starfile.read(project.results / "particles/subtomograms.star")["particles"]
    learned = read_json(folder / "pseudo_label_train.json")["n_train"]
    sizes = picks[picks["cryoetganSplit"] == "train"].groupby("cryoetganClass").size()
    # at most as many picks without a particle as of a class
    assert sizes.sum() < learned <= sizes.sum() + sizes.max()
    choice = read_json(folder / "choice.json")
    source = {"generated": "generated", "fitted": "simulated"}[choice["exported"]]
    exported = starfile.read(project.results / "export/relion/particles.star")["particles"]
    assert set(exported["cryoetganSource"]) == {source}
    for export in ("relion", "plain"):
        readme = (project.results / "export" / export / "README.md").read_text()
        assert choice["reason"] in readme
    page = (project.results / "report/index.html").read_text()
    assert choice["reason"] in html.unescape(page)


def test_a_fit_keeps_its_acquisition_inputs_and_plot(tiny_run):
    folder = tiny_run[0].results / "imaging"
    model = load_model(folder / "t1.json")
    assert model.tomogram == "t1"
    assert model.acquisition.tilts == (-60, 60)
    assert model.acquisition.defocus == 3
    inputs = set(read_json(folder / "t1.json")["provenance"]["inputs"])
    assert inputs == {"t1.mrc", "t1_scores.star", "proteasome.mrc", "membrane.mrc"}
    # the same fit gives the same bytes of its plot
    picture = (folder / "t1.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert plot_model(model) == picture


def test_results_are_whole_and_the_config_lies_beside_them(tiny_run):
    project, _ = tiny_run
    found, count = find_problems(project.results)
    assert found == []
    assert count > 30
    saved = yaml.safe_load((project.results / "config.yaml").read_text())
    assert saved["translation"]["steps"] == 4


def test_every_rule_left_a_log_and_a_timing(tiny_run):
    project, _ = tiny_run
    logs = {p.relative_to(project.results / "logs") for p in project.results.rglob("*.log")}
    timings = {
        p.relative_to(project.results / "benchmarks") for p in project.results.rglob("*.tsv")
    }
    assert {p.with_suffix("") for p in timings} <= {p.with_suffix("") for p in logs}
    assert len(timings) >= 25


def test_snakemakes_own_report_holds_the_page(tiny_run):
    project, _ = tiny_run
    project.snakemake("--report", "report.html", *TINY)
    page = (project.results / "report" / "index.html").read_bytes()
    whole = (project.folder / "report.html").read_text()
    assert base64.b64encode(page[:3000]).decode() in whole
    assert project.planned() == set()


def test_run_twice_the_second_run_does_nothing(tiny_run):
    project, _ = tiny_run
    assert project.planned() == set()


# all keys: test_reruns.py
@pytest.mark.parametrize(
    ("edit", "runs"),
    [
        ("report={title: x}", {"report_build"}),
        ("translation={steps: 5}", {"translation_train", *AFTER_TRAINING}),
        ("structures={retries: 2}", set()),
        # the set asked for is exported without further metrics
        (
            "export={source: fitted}",
            {"evaluation_choose", "export_relion", "export_plain", "report_build"},
        ),
    ],
    ids=lambda value: value.split("=")[0] + value.split("{")[1] if isinstance(value, str) else "",
)
def test_an_edit_of_a_key_runs_again_what_reads_it_and_no_more(tiny_run, edit, runs, tmp_path):
    project, _ = tiny_run
    section, keys = edit.split("=", 1)
    content = yaml.safe_load((project.folder / TINY[1]).read_text())
    content.setdefault(section, {}).update(yaml.safe_load(keys))
    path = tmp_path / "edited.yaml"
    path.write_text(yaml.safe_dump(content))
    assert project.planned("--configfile", str(path)) == runs


@pytest.mark.parametrize(
    ("module", "some", "none"),
    [
        ("report/commands.py", {"report_build"}, {"translation_train", "particles_pick"}),
        (
            "translation/cyclegan/networks.py",
            {"translation_train"},
            {"particles_pick", "densities_pose"},
        ),
        ("progress.py", set(), {"translation_train", "particles_pick"}),
    ],
)
def test_an_edit_of_a_stages_code_runs_that_stage_again(tiny_run, module, some, none):
    project, _ = tiny_run
    path = project.folder / "cryoetgan" / module
    before = path.read_bytes()
    try:
        path.write_bytes(before + b"\n# edited\n")
        planned = project.planned()
    finally:
        path.write_bytes(before)
    assert some <= planned
    assert not none & planned


def test_each_ablation_is_trained_and_tested_on_what_the_run_has(little):
    project, config = little
    assert project.planned(*config, "--", "ablations") == {
        "evaluation_ablate",
        "translation_train",
        "translation_translate",
        "evaluation_classify",
        "evaluation_measure",
        "evaluation_ablations",
        "evaluation_epochs",
        "ablations",
    }


def test_a_failure_is_repeated_at_the_end_and_loses_nothing(tiny_run, tmp_path):
    project, _ = tiny_run
    kept = {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in project.results.rglob("*")
        if path.is_file() and path.suffix in (".mrc", ".mrcs", ".star", ".pt")
    }
    content = yaml.safe_load((project.folder / TINY[1]).read_text())
    content["particles"]["threshold"] = 20.0  # above the highest peak: no pick at all
    path = tmp_path / "edited.yaml"
    path.write_text(yaml.safe_dump(content))
    said = project.snakemake("--configfile", str(path), code=1)
    last = said.split("Errors:")[-1]
    assert said.count("Errors:") == 1
    assert "threshold" in last
    assert "Traceback" not in said
    for file, digest in kept.items():
        if "_picks" not in file.name:
            assert hashlib.sha256(file.read_bytes()).hexdigest() == digest, file
    # set right again, what the failure took is made anew to the same bytes, and all else holds
    picks = [f"results/tiny/particles/{name}_picks.star" for name in ("t1", "t2")]
    project.snakemake(*TINY, "--", *picks)
    for file, digest in kept.items():
        assert hashlib.sha256(file.read_bytes()).hexdigest() == digest, file
    assert project.planned() == set()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--config", "sed=3"), ["unknown key 'sed'", "did you mean 'seed'"]),
        (("--config", "structures={table: no.tsv}"), ["no.tsv"]),
    ],
)
def test_a_mistake_in_the_config_ends_before_anything_runs(project, words, expected):
    said = project.snakemake("-n", *TINY, *words, code=1)
    for word in expected:
        assert word in said
    assert "Traceback" not in said


def test_another_working_directory_works(project, tmp_path):
    folder = tmp_path / "else where"
    folder.mkdir()
    said = project.snakemake("-n", "--directory", str(folder), *TINY)
    assert "report_build" in said
    shutil.rmtree(folder)

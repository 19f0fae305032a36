"""Subtomograms without tomograms: forty real ribosomes from their files to the report."""

import pytest
import starfile
import yaml

from cryoetgan.io.files import read_json
from cryoetgan.setup.validate import find_problems
from tests.workflow.conftest import Project

TABLE = (
    "name\tpath\ttilt_low\ttilt_high\tclass\tflip_hand\n"
    "insitu\t{folder}/experimental/ribosome_insitu_12A\t-72\t60\tribosome\tyes\n"
)
SMALL = {
    "run": "insitu",
    "seed": 1,
    "structures": {"table": "classes.tsv"},
    # a box of 16 cuts the ribosome: seconds, not quality
    "densities": {"voxel_size": 24.0, "resolution": 60.0, "box": 16, "count": 12},
    "tomograms": {"table": None},
    "particles": {"table": "sets.tsv", "rotations": 64},
    "imaging": {"lowpass": 60.0},
    "translation": {"preset": "smoke", "steps": 4, "uncertainty": 0},
    "evaluation": {"network": "small", "epochs": 2, "learning_curve": []},
    "export": {"formats": ["relion", "plain"]},
}


@pytest.fixture(scope="module")
def insitu(tmp_path_factory, test_data):
    """Return project and configuration of a run on the real ribosomes alone."""
    project = Project(tmp_path_factory.mktemp("subtomograms") / "project")
    (project.folder / "sets.tsv").write_text(TABLE.format(folder=test_data))
    source = test_data / "structures/ribosome_4v6x.cif.gz"
    (project.folder / "classes.tsv").write_text(f"class\tsource\nribosome\t{source}\n")
    path = project.folder / "insitu.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return project, ("--configfile", str(path))


def test_sets_are_planned_without_picking(insitu):
    project, config = insitu
    said = project.snakemake("-n", "-p", *config)
    assert "particles import-subtomograms" in said
    assert "--flip-hand" in said
    # the mirror image of a tilt series
    assert "--tilts=-60.0,72.0" in said
    for word in ("particles pick", "tomograms import", "real_background"):
        assert word not in said


@pytest.mark.slow
def test_real_subtomograms_go_from_their_files_to_the_report(insitu):
    project, config = insitu
    project.snakemake(*config)
    results = project.folder / "results/insitu"
    problems, count = find_problems(results)
    assert problems == []
    assert count > 20
    rows = starfile.read(results / "particles/subtomograms.star")["particles"]
    # one or two boxes lie in the gap between the blocks
    assert len(rows) >= 38
    assert set(rows["cryoetganClass"]) == {"ribosome"}
    assert set(rows["cryoetganSplit"]) == {"train", "test"}
    model = read_json(results / "imaging/insitu.json")
    assert "unknown" in model["about"]["neighbours"]
    assert model["about"]["agreement"]["overall"]["amplitude"] == pytest.approx(1, abs=0.1)
    assert model["pair_correlation"]["particles_per_A3"] == 0
    page = (results / "report/index.html").read_text()
    assert "insitu" in page
    exported = starfile.read(results / "export/relion/particles.star")["particles"]
    assert set(exported["cryoetganClass"]) == {"ribosome"}


def test_a_class_without_a_structure_is_refused(insitu, tmp_path):
    project, _ = insitu
    table = tmp_path / "sets.tsv"
    table.write_text(TABLE.format(folder=tmp_path).replace("ribosome\tyes", "ribosom\tyes"))
    path = tmp_path / "typo.yaml"
    path.write_text(yaml.safe_dump(SMALL | {"particles": {"table": str(table), "rotations": 64}}))
    said = project.snakemake("-n", "--configfile", str(path), code=1)
    assert "did you mean 'ribosome'" in said


def test_a_run_without_any_table_is_refused(insitu, tmp_path):
    project, _ = insitu
    content = SMALL | {"particles": {"rotations": 64}}
    (tmp_path / "none.yaml").write_text(yaml.safe_dump(content))
    said = project.snakemake("-n", "--configfile", str(tmp_path / "none.yaml"), code=1)
    assert "both empty" in said

"""One class is a valid configuration: the whole chain, from the table to the report."""

import re
import subprocess

import pytest
import starfile
import yaml

from cryoetgan.io.files import read_json
from cryoetgan.io.star import read_star
from cryoetgan.setup.validate import find_problems
from tests.fork_server import forking_python
from tests.workflow.conftest import TINY, Project

TABLE = """tomogram\tpath\ttilt_low\ttilt_high\ttilt_step\tdefocus\tcontrast\tannotations\teven\todd
t1\tin/t1.mrc\t-60\t60\t6\t3\tbright\tin/t1.star\tin/t1_EVN.mrc\tin/t1_ODD.mrc
t2\tsimulate\t-60\t60\t6\t3
"""


def write_halves(folder):
    """Simulate a tomogram with its half tomograms and truth."""
    for words in (
        "structures phantom proteasome -o in/proteasome.cif",
        "densities simulate in/proteasome.cif --voxel-size 20 --resolution 50 --box 16 "
        "-o in/proteasome.mrc",
        "tomograms simulate in/proteasome.mrc --copies 12 --shape=96,96,40 --snr 1 --halves "
        "--tilts=-60,60,6 --defocus 3 -o in/t1.mrc",
    ):
        command = [forking_python(), "-m", "cryoetgan", *words.split()]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)


# a fit takes a third of the time; that of one class is tested in tests/imaging/test_fit.py
@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=pytest.mark.slow)])
def one_class(request, tmp_path_factory):
    """Return the results of the tiny run with one of its classes, without or with fitted physics.

    The first tomogram is imported, with its half tomograms.
    """
    project = Project(tmp_path_factory.mktemp("one class") / "project")
    content = yaml.safe_load((project.folder / TINY[1]).read_text())
    content["structures"]["table"] = "tests/workflow/one_class.tsv"
    content["tomograms"]["table"] = "halves.tsv"
    (project.folder / "halves.tsv").write_text(TABLE)
    write_halves(project.folder)
    content["translation"]["uncertainty"] = 0
    content["imaging"]["fit"] = request.param
    path = project.folder / "one.yaml"
    path.write_text(yaml.safe_dump(content))
    project.snakemake("--configfile", str(path))
    return project.results


def test_the_chain_runs_with_one_class(one_class):
    problems, count = find_problems(one_class)
    assert problems == []
    assert count > 30
    for name in ("translation/smoke/generated", "export/relion/particles"):
        rows = starfile.read(one_class / f"{name}.star")["particles"]
        assert set(rows["cryoetganClass"]) == {"proteasome"}


def test_the_particle_is_told_from_all_other_picks(one_class):
    found = read_json(one_class / "evaluation/gan_train.json")
    assert found["open"]["classes"] == ["proteasome", "other"]
    assert found["classes"] == ["other", "proteasome"]
    truth = starfile.read(one_class / "particles/annotated.star")["particles"]
    others = starfile.read(one_class / "particles/other.star")["particles"]
    tested = found["open"]["scores"]
    assert tested["proteasome"]["true"] == (truth["cryoetganSplit"] == "test").sum()
    assert 0 < tested["other"]["true"] <= (others["cryoetganSplit"] == "test").sum() + 12
    # simulated: as many empty boxes as poses
    assert found["n_train"] == 2 * 12


def test_the_picks_without_a_particle_are_none_of_the_selected(one_class):
    read = {
        name: read_star(one_class / f"particles/{name}.star").particles
        for name in ("selected", "unselected")
    }
    ids = {name: set(table["cryoetganId"]) for name, table in read.items()}
    assert not ids["selected"] & ids["unselected"]
    assert set(read["unselected"]["cryoetganClass"]) == {"other"}
    assert set(read["unselected"]["cryoetganSplit"]) == {"train", "test"}


def test_both_halves_of_the_data_confirm_particles(one_class):
    found = read_json(one_class / "evaluation/halves_t1.json")
    particles = read_star(one_class / "particles/selected.star").particles
    assert found["all"]["n"] == (particles["rlnTomoName"] == "t1").sum() > 2
    assert found["all"]["share"] > max(0.5, found["others"]["share"])
    assert not (one_class / "evaluation/halves_t2.json").exists()
    assert 'id="halves"' in (one_class / "report/index.html").read_text()


def test_no_section_of_the_report_is_empty(one_class):
    page = (one_class / "report/index.html").read_text()
    sections = re.findall(r"<section[^>]*>(.*?)</section>", page, re.DOTALL)
    assert len(sections) > 8
    for section in sections:
        body = re.sub(r"<h2.*?</h2>", "", section, flags=re.DOTALL)
        assert re.search(r"<(table|figure|img|svg|ul|p)\b", body), section[:200]
    scores = re.search(r'<table id="open-scores">(.*?)</table>', page, re.DOTALL)
    assert "other" in scores[1]
    assert "proteasome" in scores[1]

"""One class is a valid configuration: the whole chain, from the table to the report."""

import re

import pytest
import starfile
import yaml

from cryoetgan.io.files import read_json
from cryoetgan.io.star import read_star
from cryoetgan.setup.validate import find_problems
from tests.workflow.conftest import TINY, Project


# a fit takes a third of the time; that of one class is tested in tests/imaging/test_fit.py
@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=pytest.mark.slow)])
def one_class(request, tmp_path_factory):
    """Return the results of the tiny run with one of its classes, without or with fitted physics."""
    project = Project(tmp_path_factory.mktemp("one class") / "project")
    content = yaml.safe_load((project.folder / TINY[1]).read_text())
    content["structures"]["table"] = "tests/workflow/one_class.tsv"
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

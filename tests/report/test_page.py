"""The page: complete without a network, escaped, readable, and never broken by missing files."""

import json
import re
import shutil

import pytest

from cryoetgan.io.files import read_json, sha256
from cryoetgan.io.star import read_star, write_star
from cryoetgan.report.page import build
from cryoetgan.report.results import open_results
from cryoetgan.report.sections import SECTIONS
from tests.browser import chromium
from tests.conftest import refused
from tests.report.conftest import accuracy, half_test, hand_test

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


@pytest.fixture(scope="module")
def page(whole_run):
    return build(open_results(whole_run), "A title", 2)


def test_the_verdict_comes_first_and_every_section_is_there(page):
    sections = re.findall(r'<section[^>]* id="(\w+)"', page)
    assert sections[0] == "verdict"
    omitted = {"tables", "synthetic", "detection"}  # this run has none of them
    wanted = [section.name for section in SECTIONS if section.name not in omitted]
    assert sections[-len(wanted) :] == wanted
    assert re.findall(r'<a href="#(\w+)">', page) == wanted
    assert 'class="verdict good"' in page


def test_numbers_and_warnings_of_all_sections_are_on_the_page(page):
    for text in ("90.0 %", "66", "real half", "density is near its cap", "12.5", "run: small"):
        assert text in page


@pytest.mark.usefixtures("no_pictures")
def test_the_verdict_holds_the_choice_and_its_reason(make_run, tmp_path):
    run = make_run(tmp_path / "chosen")
    (run / "evaluation/fitted_train.json").write_text(json.dumps(accuracy(0.6)))
    path = run / "evaluation/choice.json"
    path.write_text(json.dumps({"exported": "fitted", "requested": "auto", "reason": "KID 3 < 4."}))
    page = build(open_results(run), "T", 1)
    verdict = re.search(r'<section class="verdict.*?</section>', page, re.DOTALL)[0]
    assert "KID 3 &lt; 4." in verdict
    assert "disagrees" in verdict  # gan_train is 0.9
    assert "export.source: generated" in verdict
    path.write_text('{"exported": "both"}')
    results = open_results(run)
    assert results.choice() is None
    assert any("evaluation/choice.json" in gap for gap in results.gaps)


@pytest.mark.usefixtures("no_pictures")
def test_warnings_and_failures_of_jobs_are_at_the_top(make_run, tmp_path):
    run = make_run(tmp_path / "logged")
    for step, line in {
        "densities/a": "WARNING a.cif: the particle is cut <b>",
        "densities/b": "WARNING a.cif: the particle is cut <b>",
        "evaluation/measure": "WARNING power_ratio: said in its JSON",
        "export/copick": "cryoetgan: no room left",
    }.items():
        path = run / "logs" / f"{step}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"INFO fine\n{line}\n")
    page = build(open_results(run), "T", 1)
    warnings = re.search(r'id="warnings">.*?</section>', page, re.DOTALL)[0]
    assert "densities/a, densities/b: a.cif: the particle is cut &lt;b&gt;" in warnings
    assert "said in its JSON" not in page
    gaps = re.search(r'id="gaps">.*?</section>', page, re.DOTALL)[0]
    assert "export/copick failed: no room left" in gaps


def test_the_first_screen_is_a_level_a_chart_and_three_numbers(page):
    verdict = re.search(r'<section class="verdict.*?</section>', page, re.DOTALL)[0]
    screen, reasons = verdict.split("<details>")
    assert "Use it" in screen
    assert screen.count("<picture>") == 1
    numbers = re.findall(r'class="number">([^<]*)<', screen)
    assert numbers == ["4.3 %", "97 %", "0.60"]
    assert "0.51 real against real; conventional simulation 0.95" in screen
    words = re.sub(r"<[^>]*>", " ", screen).split()
    assert len(words) < 90, "the first screen is a picture, not a paragraph"
    assert "90 ± " in reasons
    assert "Other sets: conventional simulation 0.95 (0.85 to 1.05)." in reasons


@pytest.mark.usefixtures("no_pictures")
def test_a_wrong_hand_forbids_the_use_and_names_the_way_out(make_run, tmp_path):
    run = make_run(tmp_path / "flipped")
    path = run / "evaluation/hand_t1.json"
    path.write_text(json.dumps(hand_test(0.03, 120)))
    page = build(open_results(run), "T", 1)
    assert 'class="verdict bad"' in page
    assert "flip" in re.search(r'class="reason">.*?</p>', page, re.DOTALL)[0]
    assert "--flip-hand" in re.search(r'id="warnings">.*?</section>', page, re.DOTALL)[0]
    for name in ("t1", "t2"):  # the same warning of several tomograms is one line
        text = json.dumps(hand_test(0.97, 120, likeness=0.99))
        (run / f"evaluation/hand_{name}.json").write_text(text)
    page = build(open_results(run), "T", 1)
    warnings = re.search(r'id="warnings">.*?</section>', page, re.DOTALL)[0]
    assert warnings.count("says nothing") == 1
    assert "t1, t2: " in warnings
    path.write_text('{"all": 3}')
    results = open_results(run)
    build(results, "T", 1)
    assert any("hand_t1.json" in gap for gap in results.gaps)


@pytest.mark.usefixtures("no_pictures")
def test_half_tomograms_add_a_number_and_a_table(make_run, tmp_path):
    run = make_run(tmp_path / "halves")
    path = run / "evaluation/halves_t1.json"
    path.write_text(json.dumps(half_test(110, 120, 3, 60)))
    page = build(open_results(run), "T", 1)
    screen = page.split("<details>")[0]
    assert re.findall(r'class="number">([^<]*)<', screen) == ["4.3 %", "97 %", "92 %", "0.60"]
    assert "picks without a particle: 5 %" in screen
    rows = re.search(r'<table id="halves">(.*?)</table>', page, re.DOTALL)[1]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", rows)[1:4] == ["ribosome", "120", "92 %"]
    warned = half_test(20, 120, 3, 60) | {"warning": "confirm <few>"}
    path.write_text(json.dumps(warned))
    page = build(open_results(run), "T", 1)
    assert 'class="verdict bad"' in page
    warnings = re.search(r'id="warnings">.*?</section>', page, re.DOTALL)[0]
    assert "t1: confirm &lt;few&gt;" in warnings
    path.write_text('{"all": 3}')
    results = open_results(run)
    build(results, "T", 1)
    assert any("halves_t1.json" in gap for gap in results.gaps)


@pytest.mark.usefixtures("no_pictures")
def test_a_particle_that_a_person_accepted_does_not_raise_the_rate(make_run, tmp_path):
    run = make_run(tmp_path / "accepted")
    path = run / "particles/selected.star"
    rows = read_star(path).particles
    rows.loc[0, "cryoetganQValue"] = 1.0
    write_star(path, rows)
    (run / "config.yaml").write_text("particles: {fdr: 0.05}\n")
    assert '"number">4.3 %<' in build(open_results(run), "T", 1)
    (run / "config.yaml").write_text("particles: {fdr: 1.0}\n")
    assert '"number">100.0 %<' in build(open_results(run), "T", 1)


def test_the_same_results_give_the_same_page(page, whole_run):
    assert build(open_results(whole_run), "A title", 2) == page


def test_nothing_on_the_page_points_outside(page):
    addresses = re.findall(r'(?:src|href|srcset)="([^"]*)"', page)
    assert addresses
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in addresses)
    assert "default-src 'none'" in page


@pytest.mark.usefixtures("no_pictures")
def test_hostile_names_are_escaped(make_run, tmp_path):
    run = make_run(tmp_path / "bad")
    content = json.loads((run / "evaluation/gan_train.json").read_text())
    content["classes"][:2] = [HOSTILE, "<script>alert(3)</script>"]
    (run / "evaluation/gan_train.json").write_text(json.dumps(content))
    measured = json.loads((run / "evaluation/measure.json").read_text())
    measured[HOSTILE] = measured["kid"] | {"warning": HOSTILE}
    (run / "evaluation/measure.json").write_text(json.dumps(measured))
    (run / "config.yaml").write_text(f"run: '{HOSTILE}'\n")
    page = build(open_results(run), HOSTILE, 1)
    assert page.count("<script") == 2  # the blind test's data and the page's own
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(3)" in page
    with chromium() as tab:
        path = tmp_path / "bad.html"
        path.write_text(page)
        tab.open(path)
        assert tab.run("document.querySelectorAll('[onerror]').length") == 0
        assert tab.text("h1") == HOSTILE
        assert tab.errors == []


def test_an_empty_folder_gives_a_page_that_lists_missing_results(tmp_path, cryoetgan):
    (tmp_path / "empty").mkdir()
    done = cryoetgan("report", "build", "empty", "-o", "index.html", "--title", "T")
    page = (tmp_path / "index.html").read_text()
    assert 'class="verdict unknown"' in page
    for name in ("gan_train.json", "poses.star", "translation/", "subtomograms.star"):
        assert name in page
    assert "gan_train.json" in done.stderr


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("gone", ["particles", "tomograms", "translation", "evaluation", "imaging"])
def test_any_part_may_be_missing(make_run, tmp_path, gone):
    run = make_run(tmp_path / "part")
    shutil.rmtree(run / gone)
    page = build(open_results(run), "T", 1)
    assert gone in page
    assert page.rstrip().endswith("</html>")


@pytest.mark.usefixtures("no_pictures")
def test_invalid_files_are_listed_and_the_rest_is_shown(make_run, tmp_path):
    run = make_run(tmp_path / "broken")
    (run / "evaluation/real_train.json").write_text("{")
    (run / "evaluation/conventional_train.json").write_text('{"accuracy": "high"}')
    (run / "evaluation/measure.json").write_text("[1, 2]")
    (run / "imaging/simulated.mrcs").write_bytes(b"short")
    (run / "tomograms/t1.mrc").write_bytes(b"short")
    (run / "particles/selected.star").write_text("no star")
    (run / "config.yaml").write_text("a: [")
    (run / "translation/smoke/log.csv").write_text("nothing,here\n1,2\n")
    (run / "benchmarks/densities/poses.tsv").write_text("s\nlong\n")
    results = open_results(run)
    page = build(results, "T", 1)
    said = " ".join(results.gaps)
    for name in ("real_train", "conventional_train", "measure.json", "simulated.mrcs", "t1.mrc"):
        assert name in said
    for name in ("selected.star", "config.yaml", "log.csv"):
        assert name in said
    assert "90.0 %" in page


@pytest.mark.usefixtures("no_pictures")
def test_pseudo_labels_are_called_so(make_run, tmp_path):
    run = make_run(tmp_path / "unlabelled", annotated=False, simulated=False)
    shutil.copy(run / "evaluation/measure.json", run / "evaluation/measure_fitted.json")
    (run / "evaluation/choice.json").write_text(
        '{"exported": "fitted", "requested": "auto", "reason": "<so>"}'
    )
    page = build(open_results(run), "T", 1)
    assert 'class="verdict good"' in page
    assert "labelled real crops" not in page
    assert "<code>particles gallery --sample 150</code>" in page
    assert "&lt;so&gt;" in page
    # the checks of the exported set come first
    assert re.findall(r"<h4>([^<(]*)", page) == ["fitted simulation ", "generated"]
    # there are no annotations: no circle is dashed
    assert 'class="dashed"' not in page
    assert "pseudo-labelled" in page


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_in_a_browser(page, tmp_path, width, dark):
    path = tmp_path / "index.html"
    path.write_text(page)
    with chromium() as tab:
        tab.open(path, width, dark)
        assert tab.overflow() <= 0, "the page is wider than the window"
        assert tab.external_requests() == []
        assert tab.errors == []
        assert tab.text("#verdict .headline").startswith("✓")
        paper = tab.run("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(22, 24, 28)" if dark else "rgb(255, 255, 255)")
        # every image was decoded
        assert tab.run("[...document.images].every(i => i.naturalWidth > 0)")
        columns = tab.run("getComputedStyle(document.querySelector('.panels')).gridTemplateColumns")
        assert len(columns.split()) == (1 if width < 600 else 3)


def test_a_table_is_copied_with_one_click(page, tmp_path):
    path = tmp_path / "index.html"
    path.write_text(page)
    with chromium() as tab:
        tab.open(path)
        assert tab.run("document.querySelectorAll('button.copy').length") == page.count("<table")
        # what is copied is caught on its way to the clipboard, which a test does not own
        tab.run(
            "window.caught = ''; navigator.clipboard.writeText = (t) => { window.caught = t; }; 0"
        )
        tab.click("#learning .copy")
        lines = tab.run("window.caught").splitlines()
    assert lines[0] == "training set\tvolumes\taccuracy\t95 % interval"
    assert lines[1].startswith("generated\t40\t60.0 %\t")


def test_the_blind_test_keeps_score(page, tmp_path):
    path = tmp_path / "index.html"
    path.write_text(page)
    answers = json.loads(re.search(r'id="blind-data">(.*?)</script>', page)[1])
    assert {item["real"] for item in answers} == {True, False}
    with chromium() as tab:
        tab.open(path)
        for item in answers[:-1]:
            tab.click("#blind-real" if item["real"] else "#blind-synthetic")
        tab.click("#blind-synthetic" if answers[-1]["real"] else "#blind-real")
        score = re.findall(r"\d+", tab.text("#blind-score"))
        assert score[:2] == [str(len(answers) - 1), str(len(answers))]


def test_refusals(tmp_path, cryoetgan):
    (tmp_path / "file").write_text("x")
    (tmp_path / "run").mkdir()
    refused(cryoetgan("report", "build", "none", "-o", "i.html", code=2), "none", "no such")
    refused(cryoetgan("report", "build", "file", "-o", "i.html", code=2), "file", "folder")
    refused(
        cryoetgan("report", "build", "run", "--sample", "0", "-o", "i.html", code=2), "--sample"
    )
    assert not (tmp_path / "i.html").exists()


@pytest.mark.usefixtures("no_pictures")
def test_the_record_names_the_files_on_the_page(whole_run, tmp_path, cryoetgan):
    cryoetgan("report", "build", whole_run, "--sample", 1, "-o", "page.html")
    inputs = read_json(tmp_path / "page.html.json")["provenance"]["inputs"]
    assert inputs["gan_train.json"] == sha256(whole_run / "evaluation/gan_train.json")
    assert {"generated.star", "generated.mrcs", "annotated.mrcs", "measure.json"} <= set(inputs)
    assert not [name for name in inputs if name.endswith(".star.json")]

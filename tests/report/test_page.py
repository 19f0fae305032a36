"""The page: whole without a network, escaped, readable, and never broken by what is missing."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from cryoetgan.evaluation.ablations import ABLATIONS
from cryoetgan.images import png
from cryoetgan.io.files import read_json, sha256
from cryoetgan.io.star import COORDINATES
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.report.evaluation_results import accuracy_from, short
from cryoetgan.report.learning_curves import enough
from cryoetgan.report.page import build
from cryoetgan.report.paper import PAPER_ROWS, ablation_tables, table_2
from cryoetgan.report.picks_agreement import agree
from cryoetgan.report.results import open_results
from tests.browser import chromium
from tests.conftest import refused
from tests.report.conftest import accuracy

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


@pytest.fixture(scope="module")
def page(whole_run):
    return build(open_results(whole_run), "A title", 2)


def test_the_verdict_comes_first_and_every_section_is_there(page):
    sections = re.findall(r'<section[^>]* id="(\w+)"', page)
    assert sections[0] == "verdict"
    wanted = ["pictures", "worth", "metrics", "texture", "picks", "blind", "data", "run"]
    assert [name for name in sections if name in wanted] == wanted
    assert 'class="verdict good"' in page


def test_numbers_intervals_nulls_and_warnings_are_on_the_page(page):
    for text in ("90.0 %", "66", "real half", "density is near its cap", "12.5", "run: small"):
        assert text in page


def test_each_class_shows_every_set_and_says_which_is_not_there(page):
    labels = ("real", "physics, typed in", "density d", "generated G(d)", "back again G(G(d))")
    for name in labels:
        assert page.count(f"<b>{name}</b>, bar 5 nm") == 2  # 192 angstrom a box
    assert page.count("<div>imaging/fitted.star: not made</div>") == 2
    assert "translation.uncertainty" in page  # the way to what is not there
    assert "evaluation.ablation_snapshots" in page


def test_fitted_physics_stands_beside_the_typed(make_run, tmp_path):
    run = make_run(tmp_path / "fitted")
    for suffix in (".star", ".mrcs"):
        shutil.copy(run / f"imaging/simulated{suffix}", run / f"imaging/fitted{suffix}")
    (run / "evaluation/fitted_train.json").write_text(json.dumps(accuracy(0.8)))
    shutil.copy(run / "evaluation/measure.json", run / "evaluation/measure_fitted.json")
    page = build(open_results(run), "T", 1)
    assert page.count("<b>physics, fitted</b>, bar 5 nm") == 2
    assert "80 ± 6 %" in page
    assert "evaluation/fitted_train.json" in page
    assert '<th class="n">physics, fitted</th>' in page


def test_what_is_exported_and_why_stands_in_the_verdict(make_run, tmp_path):
    run = make_run(tmp_path / "shipped")
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
    assert 'id="shipped"' not in build(results, "T", 1)
    assert any("evaluation/choice.json" in gap for gap in results.gaps)


def test_what_steps_warned_of_and_which_failed_stands_at_the_top(make_run, tmp_path):
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
    mind = re.search(r'id="warnings">.*?</section>', page, re.DOTALL)[0]
    assert "densities/a, densities/b: a.cif: the particle is cut &lt;b&gt;" in mind
    assert "said in its JSON" not in page
    gaps = re.search(r'id="gaps">.*?</section>', page, re.DOTALL)[0]
    assert "export/copick failed: no room left" in gaps


def test_a_fit_is_shown_and_a_bad_one_is_warned_of(make_run, tmp_path):
    run = make_run(tmp_path / "fits")
    about = {
        "power": {"real": [1.0, 2.0, 4.0], "simulated": [1.0, 2.1, 3.0]},
        "wedge": {"typed": [-60, 60], "seen": [-44.5, 45.0], "warning": "tilts look wrong <b>"},
        "agreement": {"doubts": {"ribosome": "the picks of ribosome show 0.5 of its map"}},
    }
    model = {"class_fractions": {"ribosome": 0.25, "empty": 0.75}, "about": about}
    (run / "imaging/t1.json").write_text(json.dumps(model))
    (run / "imaging/t1.png").write_bytes(png(np.zeros((4, 4), np.uint8)))
    (run / "imaging/t2.json").write_text(json.dumps(model | {"class_fractions": [1]}))
    (run / "imaging/t2.png").write_text("no picture")
    results = open_results(run)
    page = build(results, "T", 1)
    assert "0.75 to 1.05" in page
    warnings = re.search(r'id="warnings">.*?</section>', page, re.DOTALL)[0]
    assert "0.75 to 1.05" in warnings
    assert "t1: tilts look wrong &lt;b&gt;" in warnings
    assert "t1: the picks of ribosome show 0.5 of its map" in warnings
    assert "ribosome 25 %, empty 75 %" in page
    assert page.count('class="paper"') == 1
    assert any("imaging/t2.json" in gap for gap in results.gaps)


def test_the_learning_curve_says_how_many_are_enough(page):
    table = re.search(r'<table id="curve">.*?</table>', page, re.DOTALL)[0]
    assert re.findall(r'<td class="n">(\d+)</td>', table) == ["40", "100", "400"]
    (sentence,) = re.findall(r'<h3 id="learning">.*?</h3>\s*<p>(.*?)</p>', page, re.DOTALL)
    assert re.findall(r"\d+", sentence) == ["100", "400"]
    # parts of the set are points of the curve, not classifiers of their own
    assert (
        "gan_train_40" not in re.search(r'<table id="accuracies">.*?</table>', page, re.DOTALL)[0]
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.60, 0.61), "From 40"),
        ((0.60, 0.90), "densities.count"),
        ((0.50, 0.51), "guessing"),
    ],
)
def test_what_a_learning_curve_concludes(values, words):
    small, large = (accuracy_from(accuracy(value)) for value in values)
    assert words in enough([(40, small), (400, large)])


def test_both_classifiers_stand_under_their_names_and_the_verdict_is_the_firsts(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    before = build(open_results(run), "T", 1)
    for name, value in (("real_train", 0.31), ("gan_train", 0.29)):
        content = accuracy(value) | {"network": "cb3d"}
        (run / f"evaluation/{name}_cb3d.json").write_text(json.dumps(content))
    page = build(open_results(run), "T", 1)
    rows = re.findall(r"<tr><td><b>(trained on[^<]*)</b>.*?<td>(\w+)</td></tr>", page)
    of_cb3d = [said for said, network in rows if network == "cb3d"]
    assert len(of_cb3d) == 2
    assert [network for _, network in rows] == ["small"] * (len(rows) - 2) + ["cb3d"] * 2
    assert {said for said, network in rows if network == "small"} > set(of_cb3d)
    verdict = re.compile(r'<section class="verdict.*?</section>', re.DOTALL)
    assert verdict.search(page)[0] == verdict.search(before)[0]


def test_ablations_and_scores_by_step_are_shown_beside_the_papers(make_run, tmp_path):
    run = make_run(tmp_path / "ablated")
    rows = "table,ablation,label,seeds,collapsed,fid,fid_low,fid_high\n"
    rows += "Table 3,input_noise_0,without Gaussian noise,3,0.333333,512.4,400,600\n"
    (run / "evaluation/ablations.csv").write_text(rows)
    steps = "noise,step,is,fid\n0,0,1.0,900\n0,10,1.4,300\n0.2,0,1.1,800\n0.2,10,2.2,200\n"
    (run / "evaluation/epochs.csv").write_text(steps)
    page = build(open_results(run), "T", 1)
    assert "512 (400 to 600)" in page
    assert page.index("512 (400 to 600)") < page.index("828.18")
    assert "33 %" in page
    assert "snakemake ablations" not in page
    assert page.count('by step"') == 2
    (run / "evaluation/epochs.csv").write_text("step,is\n1,2\n")
    results = open_results(run)
    build(results, "T", 1)
    assert any("evaluation/epochs.csv" in gap for gap in results.gaps)


def test_the_comparison_is_shown_where_there_was_one(make_run, tmp_path):
    run = make_run(tmp_path / "compared")
    assert "snakemake comparison" in build(open_results(run), "T", 1)
    table = run / "evaluation/comparison/comparison.csv"
    table.parent.mkdir()
    rows = "name,n_train,gan_train,gan_train_low,gan_train_high,minus_baseline\n"
    rows += f"conventional_snr0.01,700,0.4791,0.4,0.55,\n<b>{HOSTILE}</b>,9,x,,,\n"
    table.write_text(rows)
    page = build(open_results(run), "T", 1)
    assert "SNR 0.01" in page
    assert "47.9 % (40.0 to 55.0)" in page
    assert "snakemake comparison" not in page
    assert "<b>" + HOSTILE not in page
    table.write_text("a,b\n1,2\n")
    results = open_results(run)
    build(results, "T", 1)
    assert any("comparison/comparison.csv" in gap for gap in results.gaps)
    table.write_text(
        "name,gan_train,gan_train_low,gan_train_high,minus_baseline,minus_baseline_low,"
        "minus_baseline_high\nfitted,0.9,0.8,1.0,,,\ngenerated_smoke,0.5,0.4,0.6,-0.4,-0.5,-0.3\n"
    )
    table.with_suffix(".json").write_text('{"baseline": "fitted"}')
    page = build(open_results(run), "T", 1)
    assert page.count("-40.0 (-50.0 to -30.0)") == 1


def test_the_papers_numbers_are_the_papers():
    rows = table_2({}, {})
    assert rows[1][1:] == ["0.3071", "1.0", "0.0", "320.0", "1.0", "76.4 %"]
    assert [name for name, _ in ablation_tables([])] == ["Table 3", "Table 4"]
    for table in ("Table 3", "Table 4"):
        for name, ablation in ABLATIONS.items():
            if ablation.table == table:
                shown = dict(PAPER_ROWS[table])[ablation.label]
                for key, value in ablation.paper.items():
                    number = float(shown[key].removesuffix(" %"))
                    assert number == pytest.approx(100 * value if key == "gan_test" else value), (
                        name
                    )


def test_the_same_results_give_the_same_page(page, whole_run):
    assert build(open_results(whole_run), "A title", 2) == page


def test_nothing_on_the_page_points_outside(page):
    addresses = re.findall(r'(?:src|href|srcset)="([^"]*)"', page)
    assert addresses
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in addresses)
    assert "default-src 'none'" in page


def test_hostile_names_are_escaped(make_run, tmp_path):
    run = make_run(tmp_path / "bad")
    for path in run.rglob("*.star"):
        text = path.read_text().replace("ribosome", "<script>alert(3)</script>")
        path.write_text(text)
    content = json.loads((run / "evaluation/gan_train.json").read_text())
    content["classes"][0] = HOSTILE
    (run / "evaluation/gan_train.json").write_text(json.dumps(content))
    measured = json.loads((run / "evaluation/measure.json").read_text())
    measured[HOSTILE] = measured["kid"] | {"warning": HOSTILE}
    (run / "evaluation/measure.json").write_text(json.dumps(measured))
    (run / "config.yaml").write_text(f"run: '{HOSTILE}'\n")
    page = build(open_results(run), HOSTILE, 1)
    assert page.count("<script") == 2  # the blind test's data and the page's own
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(3)" in page
    with chromium(tmp_path) as tab:
        path = tmp_path / "bad.html"
        path.write_text(page)
        tab.open(path)
        assert tab.run("document.querySelectorAll('[onerror]').length") == 0
        assert tab.text("h1") == HOSTILE
        assert tab.complaints == []


def test_an_empty_folder_gives_a_page_that_says_what_lacks(tmp_path, cryoetgan):
    (tmp_path / "empty").mkdir()
    done = cryoetgan("report", "build", "empty", "-o", "index.html", "--title", "T")
    page = (tmp_path / "index.html").read_text()
    assert 'class="verdict unknown"' in page
    for name in ("gan_train.json", "poses.star", "translation/", "subtomograms.star"):
        assert name in page
    assert "gan_train.json" in done.stderr


@pytest.mark.parametrize("gone", ["particles", "tomograms", "translation", "evaluation", "imaging"])
def test_any_part_may_be_missing(make_run, tmp_path, gone):
    run = make_run(tmp_path / "part")
    shutil.rmtree(run / gone)
    page = build(open_results(run), "T", 1)
    assert gone in page
    assert page.rstrip().endswith("</html>")


def test_broken_parts_are_said_and_the_rest_is_shown(make_run, tmp_path):
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


def test_pseudo_labels_are_called_so(make_run, tmp_path):
    run = make_run(tmp_path / "unmarked", marked=False, simulated=False)
    shutil.copy(run / "evaluation/measure.json", run / "evaluation/measure_fitted.json")
    (run / "evaluation/choice.json").write_text('{"exported": "fitted", "reason": "<so>"}')
    page = build(open_results(run), "T", 1)
    assert 'class="verdict fair"' in page
    assert "labelled real crops" not in page
    assert "<code>particles gallery --sample 150</code>" in page
    assert "&lt;so&gt;" in page
    # what needs no labels is said of the set that is exported, then of the other
    assert [
        page.count(f"<h4>{name}</h4>")
        for name in ("fitted physics, which is exported", "generated")
    ] == [1, 1]
    # nothing is marked: no circle is dashed
    assert 'class="dashed"' not in page
    assert "pseudo-labelled" in page


def test_agreement_is_one_to_one_and_knows_the_class():
    marked = pd.DataFrame([[10, 10, 10], [20, 10, 10], [40, 40, 40]], columns=COORDINATES)
    marked["cryoetganClass"] = ["a", "a", "b"]
    # two picks on one mark, one on the second with the wrong class, one far from all
    picked = pd.DataFrame(
        [[11, 10, 10], [9, 10, 10], [21, 10, 10], [90, 9, 9]], columns=COORDINATES
    )
    picked["cryoetganClass"] = ["a", "a", "b", "a"]
    found = agree("t", picked, marked, 4.0)
    assert (found.marked, found.selected, found.both, found.same_class) == (3, 4, 2, 1)
    assert agree("t", picked.iloc[:0], marked, 4.0).both == 0
    assert agree("t", picked, marked, 0.5).both == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (12.345, "12.3"), (1234.5, "1234"), (-0.5, "-0.500"), (2e-5, "2.00e-05")],
)
def test_numbers_are_short(value, text):
    assert short(value) == text
    assert short(np.nan) == "-"


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_in_a_browser(page, tmp_path, width, dark):
    path = tmp_path / "index.html"
    path.write_text(page)
    with chromium(tmp_path) as tab:
        tab.open(path, width, dark)
        assert tab.overflow() <= 0, "the page is wider than the window"
        assert tab.outside() == []
        assert tab.complaints == []
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
    with chromium(tmp_path) as tab:
        tab.open(path)
        assert tab.run("document.querySelectorAll('button.copy').length") == page.count("<table")
        # what is copied is caught on its way to the clipboard, which a test does not own
        tab.run(
            "window.caught = ''; navigator.clipboard.writeText = (t) => { window.caught = t; }; 0"
        )
        tab.click("#learning ~ .copy")
        lines = tab.run("window.caught").splitlines()
    assert lines[0] == "set\tvolumes\taccuracy\t95 % interval"
    assert lines[1].startswith("generated\t40\t60.0 %\t")


def test_the_blind_test_keeps_score(page, tmp_path):
    path = tmp_path / "index.html"
    path.write_text(page)
    answers = json.loads(re.search(r'id="blind-data">(.*?)</script>', page)[1])
    assert {item["real"] for item in answers} == {True, False}
    with chromium(tmp_path) as tab:
        tab.open(path)
        for item in answers[:-1]:
            tab.click("#blind-real" if item["real"] else "#blind-made")
        tab.click("#blind-made" if answers[-1]["real"] else "#blind-real")
        assert f"right on {len(answers) - 1} of {len(answers)}" in tab.text("#blind-score")


def test_refusals(tmp_path, cryoetgan):
    (tmp_path / "file").write_text("x")
    (tmp_path / "run").mkdir()
    refused(cryoetgan("report", "build", "none", "-o", "i.html", code=2), "none", "no such")
    refused(cryoetgan("report", "build", "file", "-o", "i.html", code=2), "file", "folder")
    refused(
        cryoetgan("report", "build", "run", "--sample", "0", "-o", "i.html", code=2), "--sample"
    )
    assert not (tmp_path / "i.html").exists()


def test_purity_of_a_blindly_marked_sample_is_shown(make_run, tmp_path):
    run = make_run(tmp_path / "marked")
    row = {"purity": 0.8, "interval": [0.6, 0.9], "particles": 0.9, "n_marked": 40}
    content = row | {"classes": {"ribosome": row | {"purity": 0.55}, "odd": {"purity": 1}}}
    (run / "particles/purity.json").write_text(json.dumps(content))
    page = build(open_results(run), "T", 1)
    table = re.search(r'<table id="purity">.*?</table>', page, re.DOTALL)[0]
    assert "80 %" in table
    assert "55 %" in table
    assert "odd" not in table


def test_uncertainty_and_tables_are_shown_where_they_are(make_run, tmp_path):
    run = make_run(tmp_path / "more")
    for suffix in (".star", ".mrcs"):
        target = run / "translation/smoke/uncertainty" / f"dropout_sd{suffix}"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(run / f"translation/smoke/generated{suffix}", target)
    # a generator without dropout: said, not drawn
    maps = read_volume_set(run / "translation/smoke/generated.star")
    zero = run / "translation/smoke/uncertainty/noise_sd.star"
    write_volume_set(zero, np.zeros_like(maps.volumes), maps.table, maps.voxel_size)
    (run / "evaluation/compete").mkdir()
    (run / "evaluation/compete/competitors.csv").write_text(
        "name,accuracy,accuracy_low,accuracy_high\npasted <b>,0.61,0.5,0.7\nalone,0.4,,\n"
    )
    page = build(open_results(run), "T", 1)
    assert page.count("<b>dropout SD</b>") == 2
    assert page.count("<b>noise SD</b>: zero everywhere") == 2
    assert "translation.uncertainty" not in page
    assert page.count('class="strip"') == 4  # and the generated volume itself above each
    assert "pasted &lt;b&gt;" in page
    assert "0.610 (0.500 to 0.700)" in page
    assert ">0.4<" in page  # a row without an interval
    assert "accuracy_low" not in page


def test_the_record_names_what_the_page_was_made_of(whole_run, tmp_path, cryoetgan):
    cryoetgan("report", "build", whole_run, "--sample", 1, "-o", "page.html")
    inputs = read_json(tmp_path / "page.html.json")["provenance"]["inputs"]
    assert inputs["gan_train.json"] == sha256(whole_run / "evaluation/gan_train.json")
    assert {"generated.star", "generated.mrcs", "annotated.mrcs", "measure.json"} <= set(inputs)
    assert not [name for name in inputs if name.endswith(".star.json")]

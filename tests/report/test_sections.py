"""Each section shows its numbers, and says what is missing or invalid."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from cryoetgan.evaluation.paper import TABLE_2, TABLE_3, TABLE_4
from cryoetgan.images import encode_png
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, read_star, write_star
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.report.evaluation_json import parse_accuracy, short
from cryoetgan.report.page import render_section
from cryoetgan.report.results import open_results
from cryoetgan.report.run import load_run
from cryoetgan.report.sections import SECTIONS
from cryoetgan.report.sections.accuracy import conclude_curve
from cryoetgan.report.sections.detection import warnings as detection_warnings
from cryoetgan.report.sections.generators import pair_poses
from cryoetgan.report.sections.imaging import warnings as imaging_warnings
from cryoetgan.report.sections.provenance import warnings as log_warnings
from cryoetgan.report.sections.result_tables import ablation_tables, comparison_rows, table_2
from cryoetgan.report.sections.tomograms import score_picks
from cryoetgan.report.sections.training import scores_by_step
from tests.report.conftest import CLASSES, VOXEL, accuracy, hand_test


def show(folder, name):
    """HTML of one section, for one volume of each class."""
    (section,) = (section for section in SECTIONS if section.name == name)
    return render_section(section, load_run(open_results(folder), 1))


def copy_set(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".star", ".mrcs"):
        shutil.copy(source.with_suffix(suffix), target.with_suffix(suffix))


def test_volumes_of_every_set_are_shown_and_missing_sets_named(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    page = show(run, "volumes")
    for label in ("real", "conventional simulation", "density d", "G_ds(d)", "G_sd(G_ds(d))"):
        # a box has 192 angstrom
        assert len(re.findall(rf"<b>[\w ]*{re.escape(label)}</b>, scale bar 5 nm", page)) == 2
    assert page.count('<figure class="absent"><div>imaging/fitted.star') == 2
    copy_set(run / "imaging/simulated", run / "imaging/fitted")
    page = show(run, "volumes")
    assert page.count("<b>fitted simulation</b>, scale bar 5 nm") == 2
    assert 'class="absent"' not in page


def test_generators_stand_side_by_side_with_the_same_particles(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    page = show(run, "generators")
    rows = re.search(r'<div class="rows">(.*?)</div>', page)[1]
    assert re.findall(r"<span>(.*?)</span>", rows) == [
        *("density", "real", "conventional simulation", "preset smoke")
    ]
    columns = re.search(r'<div class="columns">(.*?)</div>', page)[1]
    real = read_volume_set(run / "particles/annotated.star")
    pairs = pair_poses(read_volume_set(run / "densities/poses.star"), real, 8)
    assert re.findall(r"<span>(.*?)</span>", columns) == [pair.class_name for pair in pairs]
    assert sorted(pair.class_name for pair in pairs) == sorted([*CLASSES] * 4)
    names = real.table["cryoetganClass"]
    assert all(names[pair.real] == pair.class_name for pair in pairs)
    # another network with the same densities has a row; one with other densities is named
    for preset, source in (
        ("first", "translation/smoke/generated"),
        ("stale", "particles/annotated"),
    ):
        copy_set(run / source, run / f"translation/{preset}/generated")
        (run / f"translation/{preset}/checkpoint.pt").write_bytes(b"")
    page = show(run, "generators")
    assert "<span>preset first</span>" in page
    assert "of another box: preset stale" in page


def test_real_crops_are_those_in_the_most_similar_poses(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    real = read_volume_set(run / "particles/annotated.star")
    densities = read_volume_set(run / "densities/poses.star")
    # densities in the poses of four crops, in another order
    crops, rows = [0, 4, 1, 7], [2, 6, 11, 3]
    densities.table.loc[rows, ANGLES] = real.table.loc[crops, ANGLES].to_numpy()
    pairs = pair_poses(densities, real, 4)
    assert {(pair.density, pair.real) for pair in pairs} == set(zip(rows, crops, strict=True))
    assert all(pair.angle < 0.01 for pair in pairs)
    # a turn about the particle's own axis is an angle between the poses
    densities.table.loc[rows, ANGLES[0]] += 3.0
    assert [round(pair.angle, 2) for pair in pair_poses(densities, real, 4)] == [3.0] * 4
    assert len(pair_poses(densities, real, 40)) == 12
    # a crop without angles does not take them from the others
    real.table.loc[crops[0], ANGLES[1]] = np.nan
    left = {(pair.density, pair.real) for pair in pair_poses(densities, real, 4)}
    assert crops[0] not in {real for _, real in left}
    assert len(left & set(zip(rows, crops, strict=True))) == 3
    del real.table[ANGLES[0]]
    assert all(np.isnan(pair.angle) for pair in pair_poses(densities, real, 4))


def test_uncertainty_maps(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    assert "translation.uncertainty" in show(run, "volumes")
    folder = run / "translation/smoke"
    copy_set(folder / "generated", folder / "uncertainty/dropout_sd")
    # the maps of a generator without noise are zero: not drawn
    maps = read_volume_set(folder / "generated.star")
    zero = np.zeros_like(maps.volumes)
    write_volume_set(folder / "uncertainty/noise_sd.star", zero, maps.table, maps.voxel_size)
    page = show(run, "volumes")
    assert page.count("<b>dropout SD</b>") == 2
    assert len(re.findall(r'<p class="dim"><b>noise SD</b>', page)) == 2
    assert page.count('class="strip"') == 4  # with the generated volume above each map
    assert "translation.uncertainty" not in page


def test_two_networks_are_listed_in_the_same_order(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    for name, value in (("real_train", 0.31), ("gan_train", 0.29)):
        content = accuracy(value) | {"network": "cb3d"}
        (run / f"evaluation/{name}_cb3d.json").write_text(json.dumps(content))
    pattern = r"<td><b>([^<]*)</b>.*?evaluation/(\w+)\.json.*?<td>(\w+)</td></tr>"
    rows = re.findall(pattern, show(run, "accuracy"), re.DOTALL)
    assert [name for _, name, _ in rows] == [
        *("gan_train", "conventional_train", "real_train", "gan_test"),
        *("gan_train_cb3d", "real_train_cb3d"),
    ]
    assert [network for _, _, network in rows] == ["small"] * 4 + ["cb3d"] * 2
    assert (rows[0][0], rows[2][0]) == (rows[4][0], rows[5][0])
    # the verdict rests on the first network
    assert load_run(open_results(run), 1).accuracies["gan_train"].network == "small"


def test_subsets_are_points_of_the_learning_curve(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    assert "gan_train_40" not in show(run, "accuracy")
    page = show(run, "learning")
    table = re.search(r'<table id="curve">.*?</table>', page, re.DOTALL)[0]
    assert re.findall(r'<td class="n">(\d+)</td>', table) == ["40", "100", "400"]
    (sentence,) = re.findall(r"<p>(.*?)</p>", page, re.DOTALL)
    assert re.findall(r"\d+", sentence) == ["100", "400"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.60, 0.61), "From 40"),
        ((0.60, 0.90), "densities.count"),
        ((0.50, 0.51), "guessing"),
    ],
)
def test_the_conclusion_from_a_learning_curve(values, words):
    small, large = (parse_accuracy(accuracy(value)) for value in values)
    assert words in conclude_curve([(40, small), (400, large)])


def test_metrics_have_intervals_baselines_and_warnings(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    shutil.copy(run / "evaluation/measure.json", run / "evaluation/measure_fitted.json")
    page = show(run, "metrics")
    (row,) = re.findall(r"<tr><td><b>density</b>.*?</tr>", page, re.DOTALL)
    assert row.count("66.0") == 2
    assert row.count("65.9 to 66.1") == 2
    assert row.count("density is near its cap") == 2
    heading = re.search(r"<thead>.*?</thead>", page, re.DOTALL)[0]
    titles = re.findall(r'<th class="n">([^<]*)</th>', heading)
    assert titles[:3] == ["best", "generated", "untrained generator"]
    assert titles[3:] == ["conventional simulation", "fitted simulation"]
    assert "real half&nbsp;0.100" in page


def test_comparison(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    assert "snakemake comparison" in show(run, "comparison")
    table = run / "evaluation/comparison/comparison.csv"
    table.parent.mkdir()
    table.write_text(
        "name,n_train,gan_train,gan_train_low,gan_train_high,minus_baseline\n"
        "conventional_snr0.01,700,0.4791,0.4,0.55,\n<b>,9,x,,,\n"
    )
    page = show(run, "comparison")
    assert "SNR 0.01" in page
    assert "47.9 % (40.0 to 55.0)" in page
    assert "snakemake comparison" not in page
    assert "<b>" not in page
    table.write_text(
        "name,gan_train,gan_train_low,gan_train_high,minus_baseline,minus_baseline_low,"
        "minus_baseline_high\nfitted,0.9,0.8,1.0,,,\ngenerated_smoke,0.5,0.4,0.6,-0.4,-0.5,-0.3\n"
    )
    table.with_suffix(".json").write_text('{"baseline": "fitted"}')
    heading, fitted, generated = comparison_rows(open_results(run))
    assert heading[-1].endswith(fitted[0])  # the baseline's name
    assert fitted[2:] == ["90.0 % (80.0 to 100.0)", ""]
    assert generated[2:] == ["50.0 % (40.0 to 60.0)", "-40.0 (-50.0 to -30.0)"]
    assert generated[0].endswith("smoke")


def test_a_comparison_with_unknown_columns_is_a_gap(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    table = run / "evaluation/comparison/comparison.csv"
    table.parent.mkdir()
    table.write_text("a,b\n1,2\n")
    results = open_results(run)
    assert comparison_rows(results) == []
    assert any("comparison/comparison.csv" in gap for gap in results.gaps)


def test_the_papers_numbers_are_shown_as_printed():
    def numbers(row):
        return [float(cell.removesuffix(" %")) for cell in row[1:] if cell]

    def printed(table):
        percent = {"gan_test": 100.0}
        return [[percent.get(key, 1) * v for key, v in row.items()] for row in table.values()]

    shown = dict(ablation_tables([])) | {"Table 2": table_2({}, {})}
    assert set(shown) == {"Table 2", "Table 3", "Table 4"}
    for name, table in (("Table 2", TABLE_2), ("Table 3", TABLE_3), ("Table 4", TABLE_4)):
        rows = [numbers(row) for row in shown[name][1:]]
        assert [len(row) for row in rows] == [len(row) for row in printed(table)]
        for ours, theirs in zip(rows, printed(table), strict=True):
            assert ours == pytest.approx(theirs)


def test_ablations_are_shown_above_the_papers_rows(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    assert "snakemake ablations" in show(run, "paper")
    rows = "table,ablation,label,seeds,collapsed,fid,fid_low,fid_high\n"
    rows += "Table 3,input_noise_0,without Gaussian noise,3,0.333333,512.4,400,600\n"
    (run / "evaluation/ablations.csv").write_text(rows)
    page = show(run, "paper")
    assert page.index("512 (400 to 600)") < page.index("828.18")
    assert "33 %" in page
    assert "snakemake ablations" not in page


def test_other_tables_are_shown_with_folded_intervals(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    assert show(run, "tables") == ""
    (run / "evaluation/other").mkdir()
    (run / "evaluation/other/table.csv").write_text(
        "name,accuracy,accuracy_low,accuracy_high\nfirst <b>,0.61,0.5,0.7\nsecond,0.4,,\n"
    )
    page = show(run, "tables")
    assert "first &lt;b&gt;" in page
    assert "0.610 (0.500 to 0.700)" in page
    assert ">0.400<" in page  # a row without an interval
    assert "accuracy_low" not in page


def test_imaging_models_are_shown_with_their_warnings(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    about = {
        "power": {"real": [1.0, 2.0, 4.0], "simulated": [1.0, 2.1, 3.0]},
        "wedge": {"given": [-60, 60], "seen": [-44.5, 45.0], "warning": "tilts look wrong <b>"},
        "agreement": {
            "warnings": {"ribosome": "the picks of ribosome show 0.5 of its map"},
            "warning": "the amplitude is 0.6",
        },
    }
    model = {"class_fractions": {"ribosome": 0.25, "other": 0.75}, "about": about}
    (run / "imaging/t1.json").write_text(json.dumps(model))
    (run / "imaging/t1.png").write_bytes(encode_png(np.zeros((4, 4), np.uint8)))
    (run / "imaging/t2.json").write_text(json.dumps(model | {"class_fractions": [1]}))
    (run / "imaging/t2.png").write_text("not an image")
    page = show(run, "imaging")
    assert "0.75 to 1.05" in page
    assert "-60° to 60° specified, -44.5° to 45° measured" in page
    assert "ribosome 25 %, other 75 %" in page
    assert page.count('class="paper"') == 1
    loaded = load_run(open_results(run), 1)
    power, tilts, picks, amplitude = imaging_warnings(loaded)
    assert "amplitude is 0.6" in amplitude
    assert "0.75 to 1.05" in power
    assert tilts == "t1: tilts look wrong <b>"
    assert picks == "t1: the picks of ribosome show 0.5 of its map"
    assert any("imaging/t2.json" in gap for gap in loaded.results.gaps)
    (run / "logs/imaging").mkdir(parents=True)
    (run / "logs/imaging/t1.log").write_text(
        "WARNING tomograms/t1.mrc: tilts look wrong <b>\n"
        f"WARNING {run}/imaging/t1.json: simulated boxes have 0.75 to 1.05 times the power\n"
        "WARNING tomograms/t1.mrc: 7 picks are not aligned\n"
    )
    assert [line for line in log_warnings(loaded) if line.startswith("imaging/")] == [
        "imaging/t1: tomograms/t1.mrc: 7 picks are not aligned"
    ]  # the others are among the warnings of the fit


def test_scores_by_training_step(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    assert "evaluation.ablation_snapshots" in show(run, "training")
    steps = "noise,step,is,fid\n0,0,1.0,900\n0,10,1.4,300\n0.2,0,1.1,800\n0.2,10,2.2,200\n"
    (run / "evaluation/epochs.csv").write_text(steps)
    assert show(run, "training").count('by step"') == 2
    (run / "evaluation/epochs.csv").write_text("step,is\n1,2\n")
    results = open_results(run)
    assert scores_by_step(results) == []
    assert any("evaluation/epochs.csv" in gap for gap in results.gaps)


def test_picks_match_annotations_one_to_one_and_by_class():
    annotated = pd.DataFrame([[10, 10, 10], [20, 10, 10], [40, 40, 40]], columns=COORDINATES)
    annotated["cryoetganClass"] = ["a", "a", "b"]
    # two picks on one annotation, one on the second with the wrong class, one far from all
    picked = pd.DataFrame(
        [[11, 10, 10], [9, 10, 10], [21, 10, 10], [90, 9, 9]], columns=COORDINATES
    )
    picked["cryoetganClass"] = ["a", "a", "b", "a"]
    found = score_picks(picked, annotated, 4.0)
    assert (found.annotated, found.selected, found.matched, found.same_class) == (3, 4, 2, 1)
    assert (found.recall, found.precision, found.class_precision) == (2 / 3, 0.5, 0.25)
    assert score_picks(picked.iloc[:0], annotated, 4.0).matched == 0
    assert score_picks(picked, annotated, 0.5).matched == 0


def test_picks_are_shown_with_annotations_and_purity(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    page = show(run, "picks")
    assert 'class="dashed"' in page
    (scores,) = re.findall(r'<table id="pick-scores">.*?</table>', page, re.DOTALL)
    assert scores.count("100 %") == 3  # the annotations are the selected particles
    row = {"purity": 0.8, "interval": [0.6, 0.9], "particles": 0.9, "n_annotated": 40}
    content = row | {"classes": {"ribosome": row | {"purity": 0.55}, "odd": {"purity": 1}}}
    (run / "particles/purity.json").write_text(json.dumps(content))
    table = re.search(r'<table id="purity">.*?</table>', show(run, "picks"), re.DOTALL)[0]
    assert "80 %" in table
    assert "55 %" in table
    assert "odd" not in table


def test_detected_particles_are_counted_and_compared(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    assert show(run, "detection") == ""
    picks = read_star(run / "particles/selected.star").particles
    kept = picks.iloc[:9].copy()
    kept.loc[kept.index[0], "cryoetganClass"] = "proteasome"  # was ribosome
    write_star(run / "detection/t1.star", kept)
    record = {"detection": {"precision": {"value": 0.91, "interval": [0.86, 0.95]}}}
    (run / "detection/t1.star.json").write_text(json.dumps(record))
    content = hand_test(0.4, 60, warning="the hand is wrong")
    (run / "detection/t1_hand.json").write_text(json.dumps(content))
    page = show(run, "detection")
    table, classes, scores = re.findall(r"<table id=.*?</table>", page, re.DOTALL)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", table)
    assert cells[:3] == ["t1", "9", "91 % (86 to 95)"]
    assert cells[3].startswith("40 % of 60")
    assert cells[4:] == ["12", "9", "89 %"]
    assert re.findall(r"<td[^>]*>(.*?)</td>", classes) == ["proteasome", "5", "ribosome", "4"]
    assert "detected" in scores
    assert "75 %" in scores
    run_of_page = load_run(open_results(run), 1)
    assert detection_warnings(run_of_page) == ["detector, t1: the hand is wrong"]
    # a detector that learned nothing, and finds nothing
    write_star(run / "detection/t1.star", kept.iloc[:0])
    record = {"detector": {"usable": False, "held_out": {"f1": 0.21}}}
    (run / "detection/model.pt.json").write_text(json.dumps(record))
    warned = detection_warnings(load_run(open_results(run), 1))
    assert len(warned) == 3
    assert "0.21" in warned[0]
    assert "detection.steps" in warned[0]
    assert warned[2].startswith("detector, t1: no particle was detected")


def write_synthetic_tomogram(folder, name):
    """A tomogram with labels and four true particles in its central plane."""
    rng = np.random.default_rng(2)
    write_volume(folder / f"{name}.mrc", rng.normal(0, 1, (20, 40, 60)), VOXEL)
    write_volume(folder / f"{name}_labels.mrc", np.zeros((20, 40, 60), np.int16), VOXEL)
    rows = pd.DataFrame(rng.uniform(8, 30, (4, 3)), columns=COORDINATES)
    rows["rlnCoordinateZ"] = 10.0
    write_star(folder / f"{name}.star", rows.assign(cryoetganClass=list(CLASSES) * 2))


def test_synthetic_tomograms_are_shown_with_their_truth(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    assert show(run, "synthetic") == ""
    for number in (1, 2, 3):
        write_synthetic_tomogram(run / "imaging/tomograms", f"synthetic_{number}")
    page = show(run, "synthetic")
    assert page.count("<svg class=") == 2
    assert page.count("<circle cx=") == 2 * (4 + 2)  # particles, and classes of the legend
    assert "imaging/tomograms" in page
    assert "1 more" in page
    assert "_labels" not in page
    write_synthetic_tomogram(run / "translation/smoke/tomograms", "synthetic_1")
    assert "translation/smoke/tomograms" in show(run, "synthetic")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (12.345, "12.3"), (1234.5, "1234"), (-0.5, "-0.500"), (2e-5, "2.00e-05")],
)
def test_numbers_are_short(value, text):
    assert short(value) == text
    assert short(np.nan) == "-"

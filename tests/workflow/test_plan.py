"""The plan of a run: files, options and dependencies, without Snakemake."""

import os
import subprocess

import numpy as np
import pandas as pd
import pytest
import yaml

from cryoetgan.config import Config
from cryoetgan.errors import UserError
from cryoetgan.evaluation.ablations import ABLATIONS
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import write_star
from cryoetgan.workflow.plan import NOTHING, Plan, one_of
from cryoetgan.workflow.shell_options import format_options, section_options
from tests.conftest import ROOT

CLASSES = "class\tsource\tcopies\tcount\nball\tphantom:ribosome\t7\t\nrod\tmap.mrc\t\t30\n"
TOMOGRAMS = """tomogram\tpath\ttilt_low\ttilt_high\tsplit\tgroup\tmask\tannotations\tdefocus
t1\tt1.mrc\t-60\t60\ttrain\ttitan\tcarbon.mrc\t\t3.5
t2\tsimulate\t-50\t50\ttrain\ttalos\t\t\t
t3\tt3.mrc\t-60\t60\ttest\ttitan\t\tpicks.csv\t
"""
SINGLE = "tomogram\tpath\ttilt_low\ttilt_high\nt1\tt1.mrc\t-60\t60\n"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Return a function that makes a plan of two small tables and changed sections."""
    monkeypatch.chdir(tmp_path)

    def make(table=TOMOGRAMS, classes=CLASSES, **sections):
        (tmp_path / "classes.tsv").write_text(classes)
        (tmp_path / "tomograms.tsv").write_text(table)
        sections["structures"] = {"table": "classes.tsv"}
        sections["tomograms"] = {"table": "tomograms.tsv"} | sections.get("tomograms", {})
        return Plan({"run": "r"} | sections, ROOT)

    return make


def test_options_are_quoted_repeated_joined_and_left_out():
    words = format_options(
        some_key=1.5, class_="a b", on=True, off=False, none=None, list=[1, 2], tuple=(3, 4)
    )
    assert words == "--some-key=1.5 --class='a b' --on --list=1 --list=2 --tuple=3,4"
    config = Config()
    assert section_options(config.imaging, "snr", cut="lowpass") == "--snr=0.1 --cut=40.0"


def test_a_constraint_matches_the_names_or_nothing():
    assert one_of(["a", "b"]) == "a|b"
    assert one_of([]) == NOTHING


def test_a_file_of_the_working_directory_wins_over_the_workflows(plan, tmp_path):
    made = plan()
    assert made.find("config/config.yaml") == str(ROOT / "config/config.yaml")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").touch()
    assert made.find("config/config.yaml") == "config/config.yaml"


def test_half_tomograms_are_imported_and_compared(plan):
    table = "tomogram\tpath\ttilt_low\ttilt_high\teven\todd\nt1\tt1.mrc\t-60\t60\tt1_EVN.mrc\temdb:1234\n"
    made = plan(f"{table}t2\tt2.mrc\t-60\t60\n")
    assert made.tomograms_where("halves") == "t1"
    assert made.half_source("t1", "even").endswith("/t1_EVN.mrc")
    assert made.half_source("t1", "odd") == "emdb:1234"
    wanted = [path for path in made.report_inputs() if "halves" in path]
    assert wanted == ["results/r/evaluation/halves_t1.json"]


def test_each_tomogram_reaches_the_rules_that_treat_it(plan):
    made = plan()
    assert (made.simulated, made.annotated, made.training) == (["t2"], ["t2", "t3"], ["t1", "t2"])
    assert made.groups == {"titan": ["t1"], "talos": ["t2"]}
    assert made.tomograms_where("is_simulated") == "t2"
    assert made.tomograms_where("mask") == "t1"
    assert made.mask("t1") == "results/r/tomograms/t1_mask.mrc"
    assert made.mask("t2") is None
    assert made.annotations("t2") == "results/r/tomograms/t2.star"
    assert not made.split_by_blocks
    assert made.annotation_options("t3") == "--split=test"
    assert made.group_options() == "--group=t1=titan --group=t2=talos --group=t3=titan"
    assert "--defocus=3.5" in made.optics_options("t1", 4.0)
    assert "--defocus=4.0" in made.optics_options("t2", 4.0)
    assert "--defocus" not in made.optics_options("t2")


def test_a_single_tomogram_is_split_by_blocks_and_its_picks_are_the_real_crops(plan):
    made = plan(SINGLE)
    assert made.split_by_blocks
    assert made.real == made.picks
    assert made.group_options() == ""
    assert "--box=28" in made.annotation_options("t1")
    # without annotations the choice is made on the evaluation's own crops
    assert made.evaluation.selection_measurements()["generated"].endswith("/measure.json")


def test_numbers_of_a_class_reach_its_options(plan):
    made = plan()
    assert made.class_options("class_copies", "copies") == "--class-copies=ball=7"
    assert made.class_options("class_count", "count") == "--class-count=rod=30"


@pytest.mark.parametrize("named", ["folder", "table", "deep/table"])
def test_boxes_that_were_extracted_again_are_seen(plan, tmp_path, named):
    boxes = [tmp_path / f"boxes/p_{number}.mrc" for number in range(3)]
    for path in boxes:
        write_volume(path, np.zeros((8, 8, 8), np.float32), 10.0)
    star = tmp_path / ("boxes" if named == "folder" else f"{named}.star")
    if star.suffix:
        images = [f"{path.relative_to(tmp_path)}" for path in boxes]
        write_star(star, pd.DataFrame({"rlnImageName": images}))
    (tmp_path / "sets.tsv").write_text(f"name\tpath\ttilt_low\ttilt_high\ns\t{star}\t-60\t60\n")

    def state():
        return plan(particles={"table": "sets.tsv"}).set_files("s")

    before = state()
    assert state() == before
    os.utime(boxes[1], ns=(2**61, 2**61))
    later = state()
    assert later != before
    boxes[0].write_bytes(boxes[0].read_bytes()[:-4])
    assert state() not in (before, later)


def test_one_generator_learns_from_all_groups_or_each_from_its_own(plan):
    shared = plan(translation={"preset": "recommended"}).translation
    (folder,) = shared.run_generators
    assert folder == "translation/recommended"
    assert len(shared.generators[folder].models) == 2
    assert shared.concatenated_sets() == []
    own = plan(translation={"preset": "recommended", "per_group": True}).translation
    assert list(own.run_generators) == [f"{folder}/titan", f"{folder}/talos"]
    assert own.generators[f"{folder}/talos"].models == ("results/r/imaging/t2.json",)
    assert "--group=talos" in own.training_options(f"{folder}/talos")
    assert "generated" in own.concatenated_sets()


def test_the_cyclegan_takes_no_imaging_model(plan):
    made = plan(translation={"preset": "paper"}).translation
    assert made.generators["translation/paper"].models == ()


def test_each_ablation_is_a_preset_trained_over_seeds(plan):
    made = plan(seed=3, evaluation={"ablation_seeds": 2, "ablation_steps": 9})
    folders = made.translation.ablated_generators
    assert len(folders) == 2 * len(ABLATIONS)
    name = next(iter(ABLATIONS))
    one = folders[f"translation/ablations/{name}/1"]
    assert (one.seed, one.steps, one.preset) == (4, 9, one.written_preset)
    evaluation = made.evaluation
    assert f"ablations/{name}/1/measure" in evaluation.measurements
    tested = evaluation.classifications[f"ablations/{name}/1/gan_test"]
    assert tested.reuse == "results/r/evaluation/real_train.pt"
    # the report waits for none of them
    assert not any("ablations" in path for path in made.report_inputs())


@pytest.mark.parametrize(
    ("source", "alternative"), [("auto", True), ("generated", False), ("fitted", False)]
)
def test_the_export_takes_what_was_asked_for(plan, source, alternative):
    made = plan(export={"source": source})
    assert bool(made.alternative) == alternative
    assert bool(made.evaluation.selection_measurements()) == alternative
    assert made.exported == (made.fitted_set if source == "fitted" else made.translation.generated)


def test_the_choice_uses_picks_that_no_label_touched(plan):
    found = plan().evaluation.measurements
    for name in ("measure_unlabelled", "measure_unlabelled_fitted"):
        one = found[name]
        assert one.real == "results/r/particles/subtomograms.star"
        assert one.features.endswith("pseudo_label_train.pt")
    assert found["measure"].real.endswith("annotated.star")


def test_without_fitted_physics_the_generated_set_is_exported(plan):
    made = plan(imaging={"fit": False})
    assert made.models == {}
    assert made.exported == made.translation.generated
    assert "fitted_train" not in made.evaluation.classifications


def test_learning_curves_reach_ten_thousand_if_there_are_as_many_volumes(plan):
    made = plan(densities={"count": 20_000}).evaluation.run_classifications
    for name in ("gan_train", "fitted_train"):
        sizes = {one.count for key, one in made.items() if key.startswith(f"{name}_")}
        assert sizes == {100, 300, 1000, 3000, 10_000}


def test_a_smaller_training_set_keeps_the_number_of_steps(plan):
    made = plan(densities={"count": 770}, evaluation={"epochs": 2, "learning_curve": [100, 400]})
    found = made.evaluation.run_classifications  # 770 + 30 volumes
    assert found["gan_train_400"].epochs == 4
    assert found["gan_train_100"].epochs == 16


def test_a_second_classifier_has_its_own_results_and_one_training_of_real_crops(plan):
    made = plan(evaluation={"second_network": "cb3d"}).evaluation
    assert made.classifications["gan_test_cb3d"].network == "cb3d"
    assert made.classifications["gan_test_cb3d"].reuse.endswith("real_train_cb3d.pt")
    assert made.classifications["gan_test"].reuse.endswith("real_train.pt")
    assert made.classification_threads("real_train") < made.classification_threads(
        "real_train_cb3d"
    )


def test_the_network_makes_synthetic_tomograms_if_it_can(plan):
    two = {"synthetic": 2}
    assert plan(tomograms=two).translation.synthetic_folder == "imaging/tomograms"
    made = plan(tomograms=two, translation={"preset": "recommended"}).translation
    assert made.synthetic_folder == "translation/recommended/tomograms"
    assert [made.imaged_like(name) for name in made.synthetic] == ["t1", "t2"]
    assert len(made.fitted_alternatives()) == 2
    assert made.synthesis_options("synthetic_2") == "--tomogram=t2"
    # a CycleGAN's tomograms are of all training tomograms; fitted physics taught a detector more
    cyclegan = {"tomograms": two, "translation": {"preset": "cyclegan"}}
    assert plan(**cyclegan).translation.synthetic_folder == "imaging/tomograms"
    asked = plan(**cyclegan, export={"source": "generated"}).translation
    assert asked.synthetic_folder == "translation/cyclegan/tomograms"
    assert asked.synthesis_options("synthetic_2") == ""
    fitted = plan(
        tomograms=two, translation={"preset": "recommended"}, export={"source": "fitted"}
    ).translation
    assert fitted.synthetic_folder == "imaging/tomograms"
    assert fitted.fitted_alternatives() == []


def test_a_run_makes_two_synthetic_tomograms_unless_it_is_told_or_cannot(plan):
    made = plan().translation
    assert made.synthetic == ["synthetic_1", "synthetic_2"]
    for changed in (
        {"imaging": {"fit": False}},
        {"tomograms": {"synthetic": 0}},
        {"densities": {"box": 84}},  # of tomograms 80 voxels thin
    ):
        assert plan(**changed).translation.synthetic == []


def test_the_comparison_says_which_sets_used_picks(plan):
    methods = plan().evaluation.comparison_config()["methods"]
    assert {name for name, one in methods.items() if not one["uses_picks"]} == {
        "conventional_snr0.01", "conventional_snr0.1", "conventional_snr0.5",
    }  # fmt: skip
    assert methods["pseudo_labels"]["split"] == "train"
    assert yaml.safe_load(yaml.safe_dump(methods)) == methods


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"classes": "class\tsource\nother\tphantom:ribosome\n"}, ["other", "unnamed"]),
        ({"tomograms": {"synthetic": 1}, "imaging": {"fit": False}}, ["imaging.fit"]),
    ],
)
def test_a_run_that_cannot_work_is_refused(plan, changed, words):
    with pytest.raises(UserError) as refusal:
        plan(**changed)
    for word in words:
        assert word in str(refusal.value)


def test_plain_exports_hold_synthetic_tomograms_if_there_are_any(plan):
    plain = {"formats": ["plain"]}
    none = plan(export=plain, tomograms={"synthetic": 0})
    assert none.exports() == ["results/r/export/plain/README.md"]
    made = plan(export=plain, tomograms={"synthetic": 1})
    assert made.exports()[1:] == ["results/r/export/plain_tomograms/README.md"]
    assert "synthetic_1_labels.mrc" in made.plain_tomograms_options()


def test_a_row_with_the_name_of_a_synthetic_tomogram_is_refused(plan):
    with pytest.raises(UserError, match=r"synthetic_1.*rename"):
        plan(TOMOGRAMS.replace("t2\t", "synthetic_1\t"), tomograms={"synthetic": 1})


@pytest.mark.parametrize(
    "text", ["A {x} {{y}}", "it's {a} \\ $HOME `id` \"", "plain", "%s\n{", "}"]
)
def test_text_with_braces_reaches_the_command_through_snakemake(text):
    options = format_options(title=text)
    assert options.format() == options  # Snakemake formats parameters
    done = subprocess.run(["bash", "-c", f"printf %s {options}"], capture_output=True, text=True)
    assert done.stdout == f"--title={text}"


def test_paths_with_braces_are_refused(plan):
    """Snakemake takes braces in the name of an input for wildcards, and has no escape for them."""
    with pytest.raises(UserError, match=r"my\{x\}/t1.mrc: has braces"):
        plan(SINGLE.replace("t1.mrc", "my{x}/t1.mrc"))

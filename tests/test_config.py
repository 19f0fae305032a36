"""Config and tables: typos are named, and what is generated from them is current."""

from pathlib import Path

import pytest
import yaml

from cryoetgan import config, tables
from cryoetgan.errors import UserError
from docs import generate

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted((ROOT / "config").glob("*.yaml"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"densitys": {}}, ["densitys", "did you mean 'densities'"]),
        ({"particles": {"sigm": 3}}, ["particles.sigm", "did you mean 'sigma'"]),
        ({"densities": {"voxel_size": 0}}, ["densities.voxel_size", "0", "greater than 0"]),
        ({"densities": {"voxel_size": float("nan")}}, ["densities.voxel_size", "nan"]),
        ({"densities": {"box": 30}}, ["densities.box", "30", "multiple of 4"]),
        ({"densities": {"resolution": 5}}, ["densities.resolution", "raise it to 20"]),
        (
            {"evaluation": {"network": "cb3d", "second_network": "cb3d"}},
            ["evaluation.second_network", "name the other"],
        ),
        ({"tomograms": {"voxel_size": 8}}, ["tomograms.voxel_size", "densities.voxel_size"]),
        ({"translation": {"ship": "auto"}}, ["translation.ship", "export.source"]),
        ({"densities": {"engine": "situs"}}, ["densities.engine", "situs", "'builtin'"]),
        ({"run": "../x"}, ["run", "../x"]),
        ({"run": ".."}, ["run", "'..'"]),
        ({"seed": "soon"}, ["seed", "soon"]),
        ({"tomograms": {"shape": [1, 2]}}, ["tomograms.shape"]),
        ({"translation": "smoke"}, ["translation"]),
    ],
)
def test_a_mistake_is_one_message_that_names_key_and_value(content, words):
    with pytest.raises(UserError) as caught:
        config.check(content, "my.yaml")
    for word in ["my.yaml", *words]:
        assert word in str(caught.value)


def test_all_mistakes_are_said_at_once():
    with pytest.raises(UserError) as caught:
        config.check({"seed": -1, "particles": {"sigm": 1, "min_distance": 0}}, "my.yaml")
    for key in ("seed", "particles.sigm", "particles.min_distance"):
        assert key in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "\x00"])
def test_what_is_no_yaml_mapping_is_named(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.yaml"):
        config.load(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_config_is_valid_and_leaves_no_demo_value_behind(path):
    config.load(path)
    demo = set(keys(yaml.safe_load((ROOT / "config/config.yaml").read_text())))
    assert demo <= set(keys(yaml.safe_load(path.read_text()))), (
        "snakemake merges a config over the demo's: it has to set whatever that sets"
    )


def keys(content, prefix=""):
    for name, value in content.items():
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


@pytest.mark.parametrize("name", generate.generated_files())
def test_generated_files_are_current(name):
    assert (ROOT / name).read_text() == generate.generated_files()[name], "run `make docs`"


def test_every_key_says_why():
    for _, model in generate.MODELS.items():
        for field in walk(model):
            assert field.description, field


def walk(model):
    for field in model.model_fields.values():
        if generate.section(field.annotation):
            yield from walk(field.annotation)
        else:
            yield field


def write(path, text):
    path.write_text(text)
    return path


def test_tables_are_read_and_the_last_tomogram_is_kept_for_testing(tmp_path):
    path = write(
        tmp_path / "t.tsv",
        "tomogram\tpath \ttilt_low\ttilt_high\t\n# a comment\na\ta.mrc\t-60\t60\t\t\nb\tb.mrc\t-40\t60\n",
    )
    rows = tables.read_images(path, None)
    assert [row.split for row in rows] == ["train", "test"]
    assert rows[1].tilt_low == -40
    assert not rows[0].is_simulated


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tomogram\tpath\ttilt_lo\n", ["tilt_lo", "did you mean 'tilt_low'"]),
        ("tomogram\tpath\ttilt_low\ttilt_high\n", ["no rows"]),
        ("tomogram\tpath\ttilt_low\ttilt_high\na\tx\t60\t-60\n", ["row 2", "tilt_low is 60"]),
        ("tomogram\tpath\ttilt_low\ttilt_high\na\tx\t-95\t60\n", ["tilt_low", "-95"]),
        ("tomogram\tpath\ttilt_low\ttilt_high\na b\tx\t-60\t60\n", ["tomogram", "a b"]),
        ("tomogram\tpath\ttilt_low\ttilt_high\na_mask\tx\t-60\t60\n", ["choose another name"]),
        ("tomogram\tpath\ttilt_low\ttilt_high\na\tx\t\t\n", ["row 2", "tilt_low is missing"]),
        (
            "tomogram\tpath\ttilt_low\ttilt_high\na\tx\t-60\t60\na\ty\t-60\t60\n",
            ["a", "twice"],
        ),
        ("tomogram\tpath\ttilt_low\ttilt_high\na\tx\t-60\t60\t1\t2\n", ["row 2", "more fields"]),
        (
            "tomogram\tpath\ttilt_low\ttilt_high\tsplit\na\tx\t-60\t60\ttrain\n"
            "b\ty\t-60\t60\tvalidation\n",
            ["split test", "train, validation"],
        ),
        (
            "tomogram\tpath\ttilt_low\ttilt_high\tsplit\na\tx\t-60\t60\ttest\n",
            ["split train", "leave the column empty"],
        ),
        ("tomogram\tpath\ttilt_low\ttilt_high\tpath\na\tx\t-60\t60\ty\n", ["path", "twice"]),
        *(
            (f"tomogram\tpath\ttilt_low\ttilt_high\teven\todd\na\t{cells}\n", ["row 2", *words])
            for cells, *words in (
                ("x\t-60\t60\te.mrc\t", "even is given without odd"),
                ("x\t-60\t60\te.mrc\te.mrc", "three files"),
                ("simulate\t-60\t60\te.mrc\to.mrc", "no files"),
            )
        ),
    ],
)
def test_a_mistake_in_a_table_names_row_and_column(tmp_path, text, words):
    path = write(tmp_path / "t.tsv", text)
    with pytest.raises(UserError) as caught:
        tables.read_images(path, None)
    for word in ["t.tsv", *words]:
        assert word in str(caught.value)


def test_the_source_tells_how_a_structure_is_come_by(tmp_path):
    path = write(
        tmp_path / "c.tsv",
        "class\tsource\nr\t4v6x\nf\tx/y.pdb.gz\nm\tmap.mrc\np\tphantom:tric\nb\tmembrane\n",
    )
    kinds = [row.kind for row in tables.read_classes(path)]
    assert kinds == ["pdb", "file", "map", "phantom", "membrane"]


def test_particles_lie_one_and_a_half_voxels_off_centre_unless_it_is_said():
    def shift(**given):
        return config.Config.model_validate({"densities": given}).densities.greatest_shift

    assert shift(voxel_size=12) == 18
    assert shift(voxel_size=12, max_shift=0.0) == 0


@pytest.mark.parametrize(
    ("text", "kind", "quoted"),
    [
        ("run: 007", "a number", "run: '7'"),
        ("run: 2024-06-01", "a date", "run: '2024-06-01'"),
        ("run: no", "yes or no", "run: 'no'"),
        ("densities: {assembly: 1}", "a number", "assembly: '1'"),
    ],
)
def test_text_that_yaml_reads_as_a_number_is_to_be_quoted(tmp_path, text, kind, quoted):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        config.load(tmp_path / "c.yaml")
    assert f"YAML reads it as {kind}" in str(caught.value)
    assert f"in quotes, as in `{quoted}`" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("densities: {voxel_size: yes}", "densities.voxel_size is True: it must not be yes or no"),
        ("densities: {box: 030}", "base 8 or 60"),
        ("densities: {voxel_size: 12:30}", "base 8 or 60"),
        (f"run: {'x' * 81}", "{0,79}"),
        ("densities: {count: 1e3}", "densities.count is '1e3': write 1000,"),
    ],
)
def test_a_number_is_what_it_looks_like(tmp_path, text, word):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        config.load(tmp_path / "c.yaml")
    assert word in str(caught.value)

"""Names, archives and tables that were made to do harm."""

import csv
import gzip
import io
import re
import zipfile
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import pytest

from cryoetgan.densities import assemblies
from cryoetgan.densities.assemblies import build_assembly
from cryoetgan.errors import UserError
from cryoetgan.export.export_folder import member
from cryoetgan.io.archives import check_archive
from cryoetgan.io.files import read_yaml
from cryoetgan.io.mrc import write_volume
from cryoetgan.io.star import read_star
from cryoetgan.io.volume_set import write_volume_set
from cryoetgan.machine import memory_bytes
from cryoetgan.structures import read_structure
from cryoetgan.tables import read_classes
from cryoetgan.tomograms.sources.copick_project import open_project
from cryoetgan.translation.presets import read_preset
from tests.conftest import refused


@pytest.mark.parametrize("form", ["relion", "plain", "copick"])
@pytest.mark.parametrize("column", ["cryoetganClass", "rlnTomoName"])
def test_no_name_of_a_set_leads_out_of_the_export(cryoetgan, tmp_path, form, column):
    table = pd.DataFrame({"cryoetganClass": ["a"], "rlnTomoName": ["t"]})
    table[column] = "../../../out"
    write_volume_set(tmp_path / "bad.star", np.ones((1, 8, 8, 8), np.float32), table, 10.0)
    refused(cryoetgan("export", form, "bad.star", "-o", "deep/export", code=2), "out", column)
    assert not [path for path in tmp_path.rglob("*") if path.stem not in ("bad", "deep")]


@pytest.mark.parametrize("name", ["../x.mrc", "/x.mrc", "a/../../x", "a\nb.mrc", ""])
def test_a_member_lies_in_the_export(tmp_path, name):
    assert member(tmp_path, "volumes/a.mrc") == tmp_path / "volumes/a.mrc"
    with pytest.raises(UserError):
        member(tmp_path, name)


LAUGHS = "a0: &a0 [x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (LAUGHS, "anchors"),
        ("run: &a [*a]\n", "refers to itself"),
        ("run: " + "[" * 1500 + "]" * 1500, "nested too deeply"),
        ("seed: 1\nrun: x\nseed: 2\n", "'seed' stands twice"),
        ("a: {b: 1, b: 2}\n", "'b' stands twice"),
        ("run: !!python/object/apply:os.system [true]\n", "not valid YAML"),
        ("run: 2026-13-45\n", "not valid YAML"),
        ("run: \x00\n", "not valid YAML"),
        ("- run\n", "expected keys and values"),
    ],
)
def test_yaml_made_to_do_harm_is_one_message(tmp_path, text, word):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    for read in (read_yaml, lambda path: read_preset(str(path))):
        with pytest.raises(UserError, match=word) as caught:
            read(path)
        assert len(str(caught.value)) < 1000


def test_anchors_and_merges_are_read(tmp_path):
    (tmp_path / "c.yaml").write_text("\ufeffa: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\n")
    content = read_yaml(tmp_path / "c.yaml")
    assert content["b"] == {"x": 1, "y": 2}
    assert content["c"] == [{"x": 1}] * 2


def test_a_wrong_value_of_any_size_is_one_short_message(cryoetgan, tmp_path):
    (tmp_path / "c.yaml").write_text("seed: [" + "[x, y], " * 5000 + "]\nrun: " + "\u202ez" * 9000)
    done = cryoetgan("check", "--config", "c.yaml", code=2)
    refused(done, "seed", "a list of 5000 values")
    assert len(done.stderr) < 2000


def test_a_structure_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "bomb.cif.gz"
    path.write_bytes(gzip.compress(b"data_x\n" + b"#\n" * 3_000_000))
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(read_structure, "MAX_STRUCTURE_BYTES", 1_000_000)
    with pytest.raises(UserError, match="the limit for structures"):
        read_structure.read_text(path)
    (tmp_path / "plain.cif").write_bytes(b"data_x\n" + b"#\n" * 3_000_000)
    with pytest.raises(UserError, match="the limit for structures"):
        read_structure.read_text(tmp_path / "plain.cif")


@pytest.mark.parametrize("change", ["blocks: 1000000000", "widths: [1, 1, 1000000]"])
def test_a_preset_cannot_ask_for_a_network_beyond_any_memory(tmp_path, change):
    (tmp_path / "p.yaml").write_text(f"model: cyclegan\n{change}\n")
    with pytest.raises(UserError, match="less than or equal"):
        read_preset(str(tmp_path / "p.yaml"))


def test_names_of_files_cannot_rewrite_the_terminal(process, tmp_path):
    name = "t\x1b[2Jx.mrc"
    done = process(
        "densities", "import", name, "--voxel-size", 10, "--box", 8, "-o", "o.mrc", code=2
    )
    assert "\x1b" not in done.stderr
    assert "\\x1b[2J" in done.stderr


@pytest.mark.parametrize("content", ["[]", "1", '{"sample": {}}', '{"sample": [1]}', "[" * 9999])
def test_records_of_another_kind_are_one_message(cryoetgan, tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    (tmp_path / "d.csv").write_text("id,accepted,class\na,yes,\n")
    words = ("particles", "purity", "d.csv", "--sample", "r.json", "-o", "p.json")
    refused(cryoetgan(*words, code=2), "r.json")


def test_an_array_file_that_unpacks_to_more_than_it_may_is_refused(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("gain.npy", bytes(3_000_000))
    check_archive(out, limit=3_000_000)
    with pytest.raises(ValueError, match="unpack to more"):
        check_archive(out, limit=2_999_999)
    with pytest.raises(ValueError, match="unpack to more"):
        check_archive(out)


def test_init_lists_no_file_whose_name_would_break_the_table(cryoetgan, tmp_path, rng):
    names = [
        "a\nb.mrc",
        "a\tb.mrc",
        "\x1b[2Jx.mrc",
        "t{x}.mrc",
        b"\xff.mrc".decode("utf-8", "surrogateescape"),
    ]
    long = "z" * 200 + ".mrc"
    for name in [*names, 'it"s #1.mrc', "-rf.mrc", long]:
        write_volume(tmp_path / "in" / name, rng.standard_normal((24, 24, 24)), 10.0)
    done = cryoetgan("init", "in", "-o", "config")
    with open(tmp_path / "config/tomograms.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert sorted(Path(row["path"]).name for row in rows) == ["-rf.mrc", 'it"s #1.mrc', long]
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,80}", row["tomogram"]) for row in rows)
    assert done.stderr.count("rename it") == len(names)


def test_an_assembly_beyond_the_memory_is_refused():
    structure = gemmi.Structure()
    structure.add_model(gemmi.Model(1))
    chain, residue, atom = gemmi.Chain("A"), gemmi.Residue(), gemmi.Atom()
    residue.name, residue.seqid, residue.subchain = "ALA", gemmi.SeqId("1"), "Axp"
    residue.add_atom(atom)
    chain.add_residue(residue)
    structure[0].add_chain(chain)
    part = gemmi.Assembly.Gen()
    part.chains = ["A"]
    for number in range(3):
        operator, shift = gemmi.Assembly.Operator(), gemmi.Transform()
        shift.vec.fromlist([10.0 * number, 0, 0])
        operator.transform = shift
        part.operators.append(operator)
    assembly = gemmi.Assembly("1")
    assembly.generators.append(part)
    structure.assemblies.append(assembly)
    copy = structure.clone()
    assert build_assembly(structure, "1", Path("x.cif"))
    assert structure[0].count_atom_sites() == 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemblies, "MEMORY_PER_ATOM", memory_bytes() // 2)
        with pytest.raises(UserError, match="has 3 atoms, but 2 fit"):
            build_assembly(copy, "1", Path("x.cif"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("data_particles\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateX #2\n1 2\n", "stands twice"),
        ("".join(f"data_{n}\nloop_\n_a #1\n1\n" for n in range(3000)), "has 3000 blocks"),
        ("".join(f"data_{n}\nloop_\n_a #1\n1\n" for n in range(9)), "none named 'particles'"),
        (f"data_particles\nloop_\n_rlnCoordinateX #1\n1{'9' * 9000}\n", "must be a number"),
    ],
)
def test_odd_star_files_are_one_short_message(tmp_path, text, word):
    (tmp_path / "x.star").write_text(text)
    with pytest.raises(UserError, match=word) as caught:
        read_star(tmp_path / "x.star")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("row", ["a" * 200_000 + "\tx", "a\t" + "p" * 200_000, '"a\tx\nb\tx'])
def test_odd_tables_are_one_message(tmp_path, row):
    (tmp_path / "c.tsv").write_text(f"class\tsource\n{row}\n")
    with pytest.raises(UserError, match=r"c\.tsv"):
        read_classes(tmp_path / "c.tsv")


@pytest.mark.parametrize(
    "content",
    ["[]", "[" * 100_000, "\x00", '{"config_type": "filesystem", "pickable_objects": 5}'],
)
def test_odd_copick_projects_are_one_message(tmp_path, content):
    pytest.importorskip("copick")
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="not a copick configuration"):
        open_project(f"copick:{tmp_path / 'config.json'}")

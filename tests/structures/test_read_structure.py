"""Hostile structure files: one clear message each."""

import gzip
import os

import pytest

from cryoetgan.structures.read_structure import read_structure
from tests.conftest import refused

COLUMNS = ["group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id"]
COLUMNS += ["label_asym_id", "label_seq_id", "auth_asym_id", "Cartn_x", "Cartn_y", "Cartn_z"]
SITES = "data_a\nloop_\n" + "".join(f"_atom_site.{name}\n" for name in COLUMNS)
SITE = SITES + "ATOM 1 C CA . ALA A 1 A "
ATOM = "ATOM      1  CA  ALA A   1    %8s   2.000   3.000  1.00  0.00           C\nEND\n"


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("page.cif", b"<!DOCTYPE html><html></html>", "web page"),
        ("empty.pdb", b"", "no atoms"),
        ("none.cif", b"data_1ABC\n_entry.id 1ABC\n", "no atoms"),
        ("cut.pdb.gz", gzip.compress((ATOM % "1.000").encode() * 99, mtime=0)[:60], "cut short"),
        ("nan.pdb", (ATOM % "nan").encode(), "not a number"),
        ("broken.cif", b"data_x\nloop_\n_a\n_b\n1 2 3\n", "cannot be read"),
        ("noise.cif", bytes(range(256)) * 8, "noise.cif"),
        ("empty.cif", b"", "is empty"),
        ("comment.pdb", b"\n<!-- 404 --><html></html>", "web page"),
        ("pdbml.xml", b'<?xml version="1.0"?><PDBx:datablock/>', "XML"),
        ("inf.cif", (SITE + "0 inf 0\n").encode(), "not a number"),
        ("unknown.cif", (SITE + "0 0 ?\n").encode(), "not a number"),
        ("cut.cif", (SITE + "0 0\n").encode(), "cannot be read"),
        ("poor.cif", SITE.replace("_atom_site.label_alt_id\n", "").encode() + b"1 2\n", "lacks"),
        ("long.cif", (SITE.replace("ALA A", "ALA chain_of_A") + "1 2 3\n").encode(), "chain"),
        ("map.pdb", b"\x20\0\0\0" * 300, "no atoms"),
    ],
)
def test_an_invalid_file_is_refused_by_name(cryoetgan, tmp_path, name, content, word):
    (tmp_path / name).write_bytes(content)
    done = cryoetgan("structures", "import", name, "-o", "out.cif", code=2)
    refused(done, name, word)
    assert not (tmp_path / "out.cif").exists()


def test_import_keeps_the_coordinates(cryoetgan, tmp_path):
    (tmp_path / "good.pdb").write_text(ATOM % "1.000")
    cryoetgan("structures", "import", "good.pdb", "-o", "good.cif")
    back = read_structure(tmp_path / "good.cif")
    assert back[0][0][0][0].pos.tolist() == [1.0, 2.0, 3.0]


def test_the_text_decides_the_format_and_not_the_name(tmp_path):
    (tmp_path / "a.cif").write_text(ATOM % "1.000")
    (tmp_path / "b.pdb").write_text(SITE + "1 2 3\n")
    (tmp_path / "c.txt").write_bytes(gzip.compress((ATOM % "1.000").encode()))
    (tmp_path / "d.cif").write_bytes((tmp_path / "b.pdb").read_bytes().replace(b"\n", b"\r\n"))
    for name in ("a.cif", "b.pdb", "c.txt", "d.cif"):
        assert read_structure(tmp_path / name)[0][0][0][0].pos.tolist() == [1, 2, 3], name


def test_a_folder_is_refused_and_a_device_is_not_replaced(tmp_path, cryoetgan):
    (tmp_path / "good.pdb").write_text(ATOM % "1.000")
    (tmp_path / "folder.pdb").mkdir()
    words = ("structures", "import")
    refused(cryoetgan(*words, "folder.pdb", "-o", "x.cif", code=2), "folder.pdb", "is a folder")
    # in place of a device of the system, one that may be lost
    os.mkfifo(tmp_path / "pipe.cif")
    refused(cryoetgan(*words, "good.pdb", "-o", "pipe.cif", code=2), "pipe.cif", "device or pipe")
    assert (tmp_path / "pipe.cif").is_fifo()

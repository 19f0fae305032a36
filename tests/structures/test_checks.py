"""Hostile structure files: one clear message each."""

import gzip

import pytest

from cryoetgan.structures.checks import read_structure
from tests.conftest import refused

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
    ],
)
def test_a_hostile_file_is_named(cryoetgan, tmp_path, name, content, word):
    (tmp_path / name).write_bytes(content)
    done = cryoetgan("structures", "import", name, "-o", "out.cif", code=2)
    refused(done, name, word)
    assert not (tmp_path / "out.cif").exists()


def test_a_good_file_keeps_its_atoms(cryoetgan, tmp_path):
    (tmp_path / "good.pdb").write_text(ATOM % "1.000")
    cryoetgan("structures", "import", "good.pdb", "-o", "good.cif")
    back = read_structure(tmp_path / "good.cif")
    assert back[0][0][0][0].pos.tolist() == [1.0, 2.0, 3.0]

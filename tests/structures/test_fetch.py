"""Downloads against a local server that also stalls, truncates, and lies."""

import contextlib
import gzip
import http.server
import threading
import time

import gemmi
import pytest

from cryoetgan.errors import UserError
from cryoetgan.structures.fetch import fetch
from cryoetgan.structures.mirrors import addresses
from tests.conftest import refused


def mmcif(name="1abc"):
    structure = gemmi.Structure()
    structure.name = name.upper()
    chain = gemmi.Chain("A")
    for index in range(1, 200):
        residue = gemmi.Residue()
        residue.name, residue.seqid = "ALA", gemmi.SeqId(str(index))
        atom = gemmi.Atom()
        atom.name, atom.element, atom.pos = "CA", gemmi.Element("C"), gemmi.Position(index, 0, 0)
        residue.add_atom(atom)
        chain.add_residue(residue)
    model = gemmi.Model(1)
    model.add_chain(chain)
    structure.add_model(model)
    structure.setup_entities()
    return structure.make_mmcif_document().as_string().encode()


WHOLE = gzip.compress(mmcif())


class Handler(http.server.BaseHTTPRequestHandler):
    """Behaves as the server's `mood` says; counts what it was asked for."""

    def do_GET(self):
        self.server.asked.append(self.path)
        mood = self.server.moods.pop(0) if self.server.moods else "whole"
        body, status = WHOLE, 200
        if mood == "404":
            body, status = b"no such entry", 404
        elif mood == "503":
            body, status = b"busy", 503
        elif mood == "page":
            body = b"<!DOCTYPE html><html><body>maintenance</body></html>"
        elif mood == "wrong":
            body = gzip.compress(mmcif("9xyz"))
        elif mood == "damaged":
            body = WHOLE[: len(WHOLE) // 2]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            if mood == "truncated":
                self.wfile.write(body[:100])
                self.wfile.flush()
                self.connection.close()
            elif mood == "stall":
                self.wfile.write(body[:10])
                self.wfile.flush()
                self.server.released.wait(10)
            else:
                self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.asked, made.moods, made.released = [], [], threading.Event()
    made.url = f"http://127.0.0.1:{made.server_address[1]}"
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.released.set()
    made.shutdown()
    made.server_close()


def test_an_entry_is_complete_and_named_in_lower_case(server, tmp_path):
    fetch("1ABC", tmp_path / "1abc.cif", server.url)
    assert server.asked == ["/1abc.cif.gz"]
    assert (tmp_path / "1abc.cif").read_bytes() == mmcif()


@pytest.mark.parametrize("mood", ["503", "truncated", "damaged", "page", "stall"])
def test_transient_faults_are_retried(server, tmp_path, mood):
    server.moods = [mood, mood]
    start = time.monotonic()
    fetch("1abc", tmp_path / "1abc.cif", server.url, retries=2, timeout=0.3, first_wait=0.01)
    assert len(server.asked) == 3
    assert (tmp_path / "1abc.cif").read_bytes() == mmcif()
    assert time.monotonic() - start < 8


@pytest.mark.parametrize(
    ("mood", "word", "tries"),
    [
        ("wrong", "9xyz", 1),
        ("page", "web page", 3),
        ("truncated", "100 of", 3),
        ("damaged", "damaged", 3),
        ("503", "503", 3),
    ],
)
def test_another_file_than_the_entry_is_never_written(server, tmp_path, mood, word, tries):
    server.moods = [mood] * 5
    (tmp_path / "1abc.cif").write_text("earlier content")
    with pytest.raises(UserError, match=word):
        fetch("1abc", tmp_path / "1abc.cif", server.url, retries=2, timeout=0.3, first_wait=0.01)
    assert len(server.asked) == tries
    assert (tmp_path / "1abc.cif").read_text() == "earlier content"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_server_without_the_entry_is_asked_for_each_layout(server, tmp_path):
    server.moods = ["404"] * 1000
    with pytest.raises(UserError, match=r"not found .* obsolete entry has a successor"):
        fetch("1abc", tmp_path / "1abc.cif", server.url, retries=2, first_wait=0.01)
    assert not list(tmp_path.iterdir())
    assert server.asked == [f"/{name}" for name in addresses("1abc")]
    assert len(set(server.asked)) == len(server.asked) < 15
    # the archive's own folders, if nothing lies flat
    server.asked.clear()
    server.moods = ["404"] * addresses("1abc").index("ab/1abc.cif.gz")
    fetch("1abc", tmp_path / "1abc.cif", server.url, first_wait=0.01)
    assert server.asked[-1] == "/ab/1abc.cif.gz"


@pytest.mark.parametrize("name", ["../etc", "4v6x.cif", "", "abcd", "1abc/..", "pdb_1"])
def test_an_invalid_pdb_id_is_never_requested(server, tmp_path, name):
    with pytest.raises(UserError, match="PDB id"):
        fetch(name, tmp_path / "x.cif", server.url)
    assert server.asked == []


@pytest.mark.parametrize(
    "layout",
    [
        "1abc.cif.gz",
        "1ABC.CIF",
        "ab/1abc.cif",
        "AB/1abc.cif.gz",
        "data/structures/divided/mmCIF/ab/1abc.cif.gz",
        "data/structures/all/mmCIF/1abc.cif.gz",
        "mmCIF/ab/1abc.cif.gz",
        "pdb_00001abc.cif.gz",
        "ab/pdb_00001abc/pdb_00001abc_xyz.cif.gz",
        "ab/pdb_00001abc/pdb_00001abc_xyz_v1-2.cif.gz",
        "1abc_updated.cif.gz",
    ],
)
@pytest.mark.parametrize("entry", ["1abc", "PDB_00001ABC"])
def test_a_folder_serves_as_mirror_in_every_layout(tmp_path, layout, entry):
    mirror = tmp_path / "a mirror"
    file = mirror / layout
    file.parent.mkdir(parents=True)
    file.write_bytes(WHOLE if layout.endswith("gz") else mmcif())
    (file.parent / file.name.lower().replace("1abc", "2abc")).write_bytes(b"another entry")
    fetch(entry, tmp_path / "1abc.cif", str(mirror))
    assert (tmp_path / "1abc.cif").read_bytes() == mmcif()
    with pytest.raises(UserError, match="3abc"):
        fetch("3abc", tmp_path / "3abc.cif", str(mirror))


def test_the_newest_version_of_an_entry_is_taken(tmp_path):
    folder = tmp_path / "ab/pdb_00001abc"
    folder.mkdir(parents=True)
    for version in ("v1-9", "v1-10", "v1-2"):
        content = mmcif() + f"# {version}\n".encode()
        (folder / f"pdb_00001abc_xyz_{version}.cif").write_bytes(content)
    fetch("1abc", tmp_path / "1abc.cif", str(tmp_path))
    assert (tmp_path / "1abc.cif").read_text().endswith("# v1-10\n")


OBSOLETE = """_pdbx_database_PDB_obs_spr.id {}
_pdbx_database_PDB_obs_spr.date 2020-01-01
_pdbx_database_PDB_obs_spr.pdb_id {}
_pdbx_database_PDB_obs_spr.replace_pdb_id {}
"""


def test_superseded_entries_are_said(cryoetgan, tmp_path):
    old = mmcif() + OBSOLETE.format("OBSLTE", "9XYZ", "1ABC").encode()
    (tmp_path / "1abc.cif").write_bytes(old)
    words = ("structures", "fetch", "1abc", "--mirror", tmp_path, "-o", tmp_path / "s")
    assert "1abc is obsolete (superseded); use 9xyz" in cryoetgan(*words).stderr
    # the successor in place of the entry
    new = mmcif("9xyz") + OBSOLETE.format("SPRSDE", "9XYZ", "1ABC").encode()
    (tmp_path / "1abc.cif").write_bytes(new)
    refused(cryoetgan(*words, code=2), "superseded by 9xyz")
    assert "obsolete" not in cryoetgan("structures", "import", "1abc.cif", "-o", "o.cif").stderr
    pdb = "OBSLTE     31-JAN-94 1ABC      9XYZ 8XYZ\n"
    pdb += "ATOM      1  CA  ALA A   1       1.000   2.000   3.000  1.00  0.00           C\n"
    (tmp_path / "x.pdb").write_text(pdb)
    said = cryoetgan("structures", "import", "x.pdb", "-o", "o.cif").stderr
    assert "1abc is obsolete (superseded); use 9xyz 8xyz" in said


def test_an_unknown_entry_does_not_stop_the_others(server, cryoetgan, tmp_path):
    server.moods = ["404"] * len(addresses("1xxx"))
    done = cryoetgan(
        "structures", "fetch", "1xxx", "1abc", "--mirror", server.url, "-o", tmp_path / "s", code=2
    )
    refused(done, "1xxx", "404")
    assert [path.name for path in sorted((tmp_path / "s").glob("*.cif"))] == ["1abc.cif"]


def test_the_name_option_names_the_file(server, cryoetgan, tmp_path):
    words = ("structures", "fetch", "1abc", "--mirror", server.url, "-o", tmp_path / "s")
    cryoetgan(*words, "--name", "ribosome")
    assert (tmp_path / "s" / "ribosome.cif").exists()
    refused(cryoetgan(*words, "--name", "../x", code=2), "--name")

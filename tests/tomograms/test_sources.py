"""Tomograms by address: downloads, archives, data portal, copick; against local servers."""

import gzip
import hashlib
import http.server
import json
import re
import threading

import numpy as np
import pytest

from cryoetgan.errors import UserError
from cryoetgan.io.download import download
from cryoetgan.io.mrc import read_volume
from cryoetgan.tables import read_images
from cryoetgan.tomograms.sources.addresses import is_remote
from tests.conftest import refused
from tests.tomograms.writing import write_mrc

SHAPE = (12, 16, 20)


class Archive(http.server.BaseHTTPRequestHandler):
    """Files by path, with resuming; paths can stall, break off or fail a number of times."""

    files: dict
    faults: dict
    asked: list
    answers: dict

    def do_GET(self):
        self.asked.append((self.path, self.headers.get("Range")))
        path = self.path
        fault = self.faults.get(path, []) and self.faults[path].pop(0)
        if isinstance(fault, int):
            self.send_error(fault)
            return
        if path not in self.files:
            self.send_error(404)
            return
        content, start = self.files[path], 0
        ranged = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if ranged and fault != "no ranges":
            start = int(ranged[1])
            self.send_response(206)
            claimed = 7 if fault == "wrong range" else start
            self.send_header("Content-Range", f"bytes {claimed}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if fault != "no version":
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        rest = content[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: len(rest) // 2] if fault == "break" else rest)

    def do_POST(self):
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["query"]
        query = re.sub(r"\s+", " ", query)
        self.asked.append((self.path, query))
        root = re.search(r"\{ (\w+)", query)[1]
        text = json.dumps({"data": {root: self.answers[root](query)}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def archive():
    handler = type("Handler", (Archive,), {"files": {}, "faults": {}, "asked": [], "answers": {}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_port}"
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def mrc(tmp_path, rng):
    path = write_mrc(tmp_path / "raw.mrc", rng.standard_normal(SHAPE).astype(np.float32), 13.5)
    return path.read_bytes()


@pytest.fixture
def expected(cryoetgan, tmp_path, mrc):
    cryoetgan("tomograms", "import", "raw.mrc", "-o", "expected.mrc")
    return read_volume(tmp_path / "expected.mrc").data


def test_a_url_is_imported_and_its_download_removed(cryoetgan, tmp_path, archive, mrc, expected):
    archive.files["/some/TS 1.mrc"] = mrc
    archive.files["/some/TS%201.mrc"] = mrc
    cryoetgan("tomograms", "import", f"{archive.url}/some/TS%201.mrc", "-o", "out/t.mrc")
    assert np.array_equal(read_volume(tmp_path / "out" / "t.mrc").data, expected)
    record = json.loads((tmp_path / "out" / "t.mrc.json").read_text())
    assert record["provenance"]["parameters"]["source"].endswith("/some/TS%201.mrc")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["t.mrc", "t.mrc.json"]


def test_an_interrupted_download_resumes_at_its_last_byte(tmp_path, archive, mrc):
    archive.files["/t.mrc"] = mrc
    archive.faults["/t.mrc"] = ["break", 503, "break", "break", "no ranges"]
    path = tmp_path / "scratch"
    download(f"{archive.url}/t.mrc", path, retries=2, first_wait=0.01)
    assert path.read_bytes() == mrc
    starts = [ranged for _, ranged in archive.asked]
    assert starts[1] == starts[2] == f"bytes={len(mrc) // 2}-"
    archive.faults["/t.mrc"] = ["break", "wrong range"]
    download(f"{archive.url}/t.mrc", path, first_wait=0.01)
    assert path.read_bytes() == mrc


def test_a_busy_server_is_asked_again_and_then_reported(tmp_path, archive, mrc):
    archive.files["/t.mrc"] = mrc
    archive.faults["/t.mrc"] = [503] * 9
    with pytest.raises(UserError, match=r"HTTP 503, 3 times.*--retries"):
        download(f"{archive.url}/t.mrc", tmp_path / "scratch", retries=2, first_wait=0.01)
    assert len(archive.asked) == 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ([503], ("HTTP 503", "1 times", "--retries")),
        ([404], ("not found", "404")),
        ([403], ("HTTP 403",)),
        ("page", ("cannot be read as MRC", "a web page?")),
        ("short", ("bytes are missing",)),
    ],
)
def test_a_bad_download_is_refused_and_nothing_is_written(
    cryoetgan, tmp_path, archive, mrc, fault, words
):
    bad = {"page": b"<html>" + b" sorry" * 300, "short": mrc[:-100]}
    archive.files["/t.mrc"] = bad[fault] if isinstance(fault, str) else mrc
    archive.faults["/t.mrc"] = fault if isinstance(fault, list) else []
    url = f"{archive.url}/t.mrc"
    done = cryoetgan("tomograms", "import", url, "-o", "o/t.mrc", "--retries", 0, code=2)
    refused(done, url, *words)
    assert not list((tmp_path / "o").iterdir())


def test_an_unreachable_server_is_one_message(cryoetgan):
    done = cryoetgan(
        "tomograms", "import", "http://127.0.0.1:9/t.mrc", "-o", "t.mrc", "--retries", 0, code=2
    )
    refused(done, "127.0.0.1:9", "1 times")


def test_emdb_and_empiar_by_id(cryoetgan, tmp_path, archive, mrc, expected):
    archive.files["/EMD-1234/map/emd_1234.map.gz"] = gzip.compress(mrc)
    archive.files["/10045/data/some%20tomos/a.rec"] = mrc
    for source in ("emdb:1234", "EMD-1234", "empiar:10045/data/some tomos/a.rec"):
        cryoetgan("tomograms", "import", source, "--mirror", archive.url, "-o", "t.mrc")
        assert np.array_equal(read_volume(tmp_path / "t.mrc").data, expected), source
        (tmp_path / "t.mrc").unlink()
    # a copy of the archive on disk
    (tmp_path / "mirror/EMD-1234/map").mkdir(parents=True)
    (tmp_path / "mirror/EMD-1234/map/emd_1234.map.gz").write_bytes(gzip.compress(mrc))
    cryoetgan("tomograms", "import", "emdb:1234", "--mirror", "mirror", "-o", "t.mrc")
    assert np.array_equal(read_volume(tmp_path / "t.mrc").data, expected)
    done = cryoetgan(
        "tomograms", "import", "emdb:9999", "--mirror", archive.url, "-o", "u.mrc", code=2
    )
    refused(done, "emd_9999.map.gz", "not found", "check the id")


@pytest.mark.parametrize(
    "source",
    ["emdb:12", "empiar:10045", "empiar:10045/../../etc/passwd", "portal:10001", "portal:run/3"],
)
def test_an_invalid_address_is_refused_with_the_valid_forms(cryoetgan, source):
    done = cryoetgan("tomograms", "import", source, "-o", "t.mrc", code=2)
    refused(done, source, "not the address of a tomogram", "portal:tomogram/1234", "emdb:1234")


def test_only_addresses_are_remote():
    assert not any(map(is_remote, ["a.mrc", "folder/b.rec", "./EMD-1234.mrc", "C.mrc", "portal"]))
    assert all(map(is_remote, ["https://x/y.mrc", "EMD-1234", "copick:c.json", "portal:run/1"]))


def test_an_empiar_entry_is_listed(cryoetgan, tmp_path, archive):
    page = '<a href="?C=N">x</a><a href="/up/">Parent</a><a href="../">up</a>'
    page += '<a href="TS%201/">d</a><a href="b.rec">b</a><a href="b.xml">b</a>'
    archive.files["/10045/data/"] = page.encode()
    archive.files["/10045/data/TS%201/"] = b'<a href="b.mrc">b</a><a href="c.mrc.gz">c</a>'
    cryoetgan("tomograms", "list", "empiar:10045", "--mirror", archive.url, "-o", "t.tsv")
    rows = read_images(tmp_path / "t.tsv", None)
    assert [(row.tomogram, row.path) for row in rows] == [
        ("b", "empiar:10045/data/TS 1/b.mrc"),
        ("c", "empiar:10045/data/TS 1/c.mrc.gz"),
        ("b_2", "empiar:10045/data/b.rec"),
    ]
    assert "correct them" in (tmp_path / "t.tsv").read_text().splitlines()[0]
    archive.files["/10046/data/"] = b"<html>nothing</html>"
    done = cryoetgan(
        "tomograms", "list", "empiar:10046", "--mirror", archive.url, "-o", "u.tsv", code=2
    )
    refused(done, "empiar:10046", ".rec")


@pytest.fixture
def portal(archive, mrc):
    """The data portal's GraphQL, as far as we ask it."""
    pytest.importorskip("cryoet_data_portal")
    archive.files["/10000/TS_026.mrc"] = mrc
    both = [
        {
            "id": number,
            "runId": run,
            "voxelSpacing": 7.84,
            "ctfCorrected": corrected,
            "isVisualizationDefault": shown,
            "httpsMrcFile": f"{archive.url}/10000/TS_026.mrc",
        }
        for number, run, corrected, shown in ((5, 1, True, False), (6, 1, True, True), (7, 2, 0, 0))
    ]

    def tomograms(query):
        wanted = re.search(r"where: \{ id: \{ _eq: (\d+)", query)
        return [t for t in both if wanted is None or t["id"] == int(wanted[1])]

    archive.answers["tomograms"] = tomograms
    archive.answers["runs"] = lambda _: [{"id": 1, "name": "TS_026"}, {"id": 2, "name": "TS 27"}]
    archive.answers["tiltseries"] = lambda _: [
        {
            "runId": 1,
            "tiltMin": -51.0,
            "tiltMax": 60.0,
            "tiltStep": 2.0,
            "accelerationVoltage": 300000,
            "sphericalAberrationConstant": 2.7,
        }
    ]
    return archive


def test_the_data_portal_through_its_own_client(cryoetgan, tmp_path, portal, expected):
    mirror = ("--mirror", f"{portal.url}/graphql")
    cryoetgan("tomograms", "list", "portal:dataset/10000", *mirror, "-o", "t.tsv")
    first, second = read_images(tmp_path / "t.tsv", None)
    assert (first.tomogram, first.path) == ("TS_026", "portal:tomogram/6")  # the one shown
    assert (first.tilt_low, first.tilt_high, first.tilt_step) == (-51, 60, 2)
    assert (first.voltage, first.cs, first.ctf) == (300, 2.7, "phase-flipped")
    assert (second.tomogram, second.tilt_low, second.ctf) == ("TS-27", -60, "raw")
    asked = " ".join(query for path, query in portal.asked if path == "/graphql")
    assert "run: { datasetId: { _eq: 10000 } }" in asked
    cryoetgan("tomograms", "import", first.path, *mirror, "-o", "t.mrc")
    found = read_volume(tmp_path / "t.mrc")
    assert found.voxel_size == pytest.approx(7.84)  # the portal's word, not the header's
    assert np.array_equal(found.data, expected)
    done = cryoetgan("tomograms", "import", "portal:tomogram/9", *mirror, "-o", "u.mrc", code=2)
    refused(done, "no tomogram 9", "tomograms list")


def test_an_unreachable_portal_is_one_message(cryoetgan):
    pytest.importorskip("cryoet_data_portal")
    words = ("tomograms", "list", "portal:dataset/1", "--mirror", "http://127.0.0.1:9/graphql")
    refused(cryoetgan(*words, "-o", "t.tsv", code=2), "127.0.0.1:9", "does not answer")


def test_a_list_has_one_row_for_a_specimen(cryoetgan, tmp_path):
    folder = tmp_path / "mirror/10045/data/recs"
    folder.mkdir(parents=True)
    for name in ("TS_1_EVN.mrc", "TS_1_ODD.mrc", "TS_1.rec.gz", "TS_2_denoised.mrc"):
        (folder / name).touch()
    words = ("tomograms", "list", "empiar:10045", "--mirror", tmp_path / "mirror", "-o", "t.tsv")
    cryoetgan(*words)
    assert [row.tomogram for row in read_images(tmp_path / "t.tsv", None)] == [
        "TS_1",
        "TS_2_denoised",
    ]
    text = (tmp_path / "t.tsv").read_text()
    for name in ("TS_1_EVN.mrc", "TS_1_ODD.mrc"):
        assert f"# same specimen: empiar:10045/data/recs/{name}" in text


@pytest.fixture
def project(tmp_path, rng):
    copick = pytest.importorskip("copick")
    config = {
        "config_type": "filesystem",
        "name": "test",
        "description": "",
        "version": "1.0.0",
        "pickable_objects": [],
        "overlay_root": f"local://{tmp_path}/project",
        "overlay_fs_args": {"auto_mkdir": True},
    }
    path = tmp_path / "project.json"
    path.write_text(json.dumps(config))
    root = copick.from_file(str(path))
    data = rng.standard_normal(SHAPE).astype(np.float32)
    spacing = root.new_run("TS-1").new_voxel_spacing(12.0)
    for kind in ("wbp", "denoised"):
        spacing.new_tomogram(kind).from_numpy(data if kind == "wbp" else 0 * data)
    root.new_run("TS-2").new_voxel_spacing(12.0).new_tomogram("wbp").from_numpy(data)
    return data


def test_a_copick_project_through_copick(cryoetgan, tmp_path, project):
    cryoetgan("tomograms", "list", "copick:project.json", "-o", "t.tsv")
    rows = {row.tomogram: row for row in read_images(tmp_path / "t.tsv", None)}
    # a run is one specimen, and its denoised copy is a comment
    assert sorted(rows) == ["TS-1", "TS-2"]
    assert rows["TS-2"].voxel_size == 12
    text = (tmp_path / "t.tsv").read_text()
    assert "# same specimen: copick:project.json?run=TS-1&tomogram=denoised&voxel_size=12" in text
    sources = (rows["TS-1"].path, "copick:project.json?run=TS-2")
    for source in sources:
        cryoetgan("tomograms", "import", source, "--contrast", "bright", "-o", "t.mrc")
        found = read_volume(tmp_path / "t.mrc")
        assert found.voxel_size == pytest.approx(12)
        assert np.corrcoef(found.data.ravel(), project.ravel())[0, 1] > 0.9999


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("copick:project.json", ("run is missing", "TS-1, TS-2")),
        ("copick:project.json?run=TS-3", ("run is 'TS-3'", "TS-1, TS-2")),
        ("copick:project.json?run=TS-1", ("tomogram is missing", "denoised, wbp")),
        ("copick:project.json?run=TS-2&voxel_size=9", ("voxel_size is '9'", "12")),
        ("copick:project.json?run=TS-2&voxel_size=x", ("voxel_size is 'x'", "number")),
        ("copick:gone.json", ("gone.json", "no such copick configuration")),
        ("copick:bad.json", ("bad.json", "not a copick configuration")),
        ("ftp://x/t.mrc", ("ftp://x/t.mrc", "a URL, emdb:1234")),
    ],
)
def test_an_invalid_address_lists_the_choices(cryoetgan, tmp_path, project, source, words):
    (tmp_path / "bad.json").write_text('{"config_type": "nonsense"}')
    refused(cryoetgan("tomograms", "import", source, "-o", "t.mrc", code=2), *words)


def test_a_copick_address_may_hold_variables(monkeypatch, tmp_path):
    pytest.importorskip("copick")
    from cryoetgan.tomograms.sources.copick_project import open_project

    monkeypatch.setenv("MY_PROJECTS", str(tmp_path))
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "none.json"))):
        open_project("copick:$MY_PROJECTS/none.json?run=TS_1")

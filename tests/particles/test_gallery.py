"""The gallery: what a person does with mouse and keyboard is what the workflow reads."""

import json
import re
import socket
import threading
import urllib.error
import urllib.request

import numpy as np
import pandas as pd
import pytest

from cryoetgan.errors import UserError
from cryoetgan.io.star import COORDINATES, read_star
from cryoetgan.io.volume_set import read_volume_set, write_volume_set
from cryoetgan.particles.curation.decisions import change_decisions, read_decisions
from cryoetgan.particles.curation.gallery import (
    GalleryBox,
    draw_sample,
    gallery_boxes,
    gallery_page,
)
from cryoetgan.particles.curation.purity import estimate_purity
from cryoetgan.particles.curation.select import apply_decisions
from cryoetgan.particles.curation.server import MAX_REQUEST_BYTES, DecisionStore, make_server
from tests.browser import chromium
from tests.conftest import refused

CLASSES = ["proteasome", "ribosome"]


def box_set(folder, count=12, kinds=tuple(CLASSES), box=12):
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"rlnTomoName": ["t1", "t2"] * (count // 2)})
    table[COORDINATES] = rng.uniform(10, 50, (count, 3)).round(2)
    table["cryoetganClass"] = [kinds[i % len(kinds)] for i in range(count)]
    table["cryoetganScore"] = np.linspace(0.9, 0.2, count).round(4)
    table["cryoetganId"] = [f"p{i:012d}" for i in range(count)]
    volumes = rng.standard_normal((count, box, box, box)).astype(np.float32)
    write_volume_set(folder / "s.star", volumes, table, 10.0)
    return table


@pytest.fixture
def table(tmp_path):
    return box_set(tmp_path)


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def make_page(folder, **others):
    volumes = read_volume_set(folder / "s.star")
    shown = gallery_boxes(volumes)
    path = folder / "g.html"
    path.write_text(gallery_page(volumes, shown, CLASSES, **({"blind": False} | others)))
    return path


def downloaded(tab, folder):
    folder.mkdir(exist_ok=True)
    tab.set_download_folder(folder)
    tab.click("#download")
    tab.wait(lambda: list(folder.glob("*.csv")))
    return folder


def test_keyboard_decisions_reach_the_selection(table, tmp_path):
    page = make_page(tmp_path)
    with chromium() as tab:
        tab.open(page)
        for key in ("a", "r", "2", "ArrowRight", "1", "z"):
            tab.key(key)
        assert tab.text("#counts") == "2 accepted, 1 rejected, 9 open"
        folder = downloaded(tab, tmp_path / "curation")
        assert tab.external_requests() == []
        assert tab.errors == []
    decisions = read_decisions(folder, CLASSES)
    ids = list(table["cryoetganId"])
    # first accepted as what it was, second rejected, third named; the fourth passed over,
    # and what was said of the fifth was taken back
    assert decisions == {ids[0]: "proteasome", ids[1]: "", ids[2]: "ribosome"}
    kept = apply_decisions(table, decisions)
    assert ids[1] not in set(kept["cryoetganId"])
    assert kept.set_index("cryoetganId").loc[ids[2], "cryoetganClass"] == "ribosome"


def test_mouse_decisions(table, tmp_path):
    page = make_page(tmp_path)
    ids = list(table["cryoetganId"])
    with chromium() as tab:
        tab.open(page)
        box = "[data-id='{}']".format
        tab.click(box(ids[0]))  # accept
        for _ in range(2):
            tab.click(box(ids[1]))  # accept, then reject
        for _ in range(3):
            tab.click(box(ids[2]))  # and back to undecided
        assert tab.text("#counts") == "1 accepted, 1 rejected, 10 open"
        tab.click(box(ids[4]))
        tab.click(box(ids[8]), shift=True)
        assert tab.text("#counts") == "6 accepted, 1 rejected, 5 open"
        assert tab.run(f'document.querySelector("{box(ids[1])}").className') == "box no"
        # what is decided survives a reload of the page; Chromium hands what a page stored to its
        # next process some time later, so on a busy machine the first one may come too early
        counts = "6 accepted, 1 rejected, 5 open"
        tab.wait(lambda: tab.open(page).text("#counts") == counts)


def test_filters_sort_and_decide_what_is_shown(table, tmp_path):
    page = make_page(tmp_path)

    def choose(tab, index, value):
        tab.run(
            f"(() => {{ const s = document.querySelectorAll('#tools select')[{index}];"
            f"s.value = '{value}'; s.dispatchEvent(new Event('change')); }})()"
        )

    seen = "[...document.querySelectorAll('.box:not([hidden])')].map(b => b.dataset.id)"
    with chromium() as tab:
        tab.open(page)
        choose(tab, 1, "ribosome")
        mine = table[table["cryoetganClass"] == "ribosome"]["cryoetganId"]
        assert tab.run(seen) == list(mine)
        choose(tab, 3, "worst")
        assert tab.run(seen) == list(mine)[::-1]
        tab.run("[...document.querySelectorAll('#tools button')][1].click()")  # reject shown
        assert tab.text("#counts") == "0 accepted, 6 rejected, 6 open"
        tab.run("[...document.querySelectorAll('#tools button')][2].click()")  # one undo
        assert tab.text("#counts") == "0 accepted, 0 rejected, 12 open"


def test_the_box_that_has_the_focus_is_seen_whole(tmp_path):
    box_set(tmp_path, 120)
    page = make_page(tmp_path)
    place = (
        "(() => { const r = document.activeElement.getBoundingClientRect();"
        "const h = document.querySelector('header').getBoundingClientRect();"
        "return [r.top - h.bottom, window.innerHeight - r.bottom]; })()"
    )
    with chromium() as tab:
        tab.open(page, 700)
        for key in ["a"] * 100 + ["ArrowUp"] * 20:
            tab.key(key)
            above, below = tab.run(place)
            assert above >= 0, "behind the heading"
            assert below >= 0, "below the window"


@pytest.mark.parametrize("width", [1280, 375])
def test_it_fits_the_window_and_shows_every_plane(table, tmp_path, width):
    page = make_page(tmp_path)
    with chromium() as tab:
        tab.open(page, width)
        assert tab.overflow() <= 0
        shape = tab.run("[document.images[0].naturalWidth, document.images[0].naturalHeight]")
        assert shape == [3 * 12 + 2, 12]


def test_the_blind_page_holds_neither_score_nor_class(table, tmp_path, cryoetgan):
    cryoetgan("particles", "gallery", "s.star", "--sample", "8", "-o", "g.html")
    page = (tmp_path / "g.html").read_text()
    data = data_of(page)
    assert [set(item) for item in data["items"]] == [{"id", "image"}] * 8
    assert data["classes"] == CLASSES
    order = [item["id"] for item in data["items"]]
    assert order != sorted(order)
    with chromium() as tab:
        tab.open(tmp_path / "g.html")
        tab.key("a")  # a bare yes says nothing here
        assert tab.text("#counts") == "0 accepted, 0 rejected, 8 open"
        tab.key("2")
        tab.key("r")
        tab.wait(lambda: tab.text(".box .said") == "✓ ribosome")
        folder = downloaded(tab, tmp_path / "annotated")
    assert [path.name for path in folder.iterdir()] == ["s_blind.csv"]
    done = cryoetgan(
        *("particles", "purity", "annotated/s_blind.csv", "--sample", "g.html.json"),
        *("--annotations", "annotations.star", "-o", "purity.json"),
    )
    assert "2 of 8" in done.stderr
    result = json.loads((tmp_path / "purity.json").read_text())
    assert result["n_annotated"] == 2
    named = read_star(tmp_path / "annotations.star").particles
    true = table.set_index("cryoetganId").loc[order[0]]
    assert list(named["cryoetganId"]) == [order[0]]
    assert list(named["cryoetganClass"]) == ["ribosome"]
    assert np.allclose(named[COORDINATES], true[COORDINATES].to_numpy(float))


def test_the_sample_covers_all_scores_and_classes():
    found = [
        GalleryBox(i, f"p{i}", "many" if i % 10 else "few", 1 - i / 1000, "t", ())
        for i in range(1000)
    ]
    sample = draw_sample(found, 150, 3)
    assert len({box.id for box in sample}) == 150
    kinds = [box.class_name for box in sample]
    assert kinds.count("few") == kinds.count("many") == 75
    for kind, size in (("few", 100), ("many", 900)):
        mine = [box for box in sample if box.class_name == kind]
        assert sum(box.weight for box in mine) == pytest.approx(size)
        scores = np.array([box.score for box in mine])
        # even over the scores, from the best to the worst
        assert np.abs(np.histogram(scores, 5, (0, 1))[0] - 15).max() <= 1
    assert draw_sample(found, 150, 3) == sample
    assert draw_sample(found, 150, 4) != sample
    assert len(draw_sample(found, 5000, 0)) == 1000


def test_purity_is_unbiased_and_its_interval_honest():
    # half of the "few" are right, nine tenths of the "many"; the worse ones have low scores
    rng = np.random.default_rng(2)
    found, truth = [], {}
    for i in range(1000):
        kind = "few" if i % 10 == 0 else "many"
        score = rng.random()
        found.append(GalleryBox(i, f"p{i}", kind, score, "t", ()))
        right = score > (0.5 if kind == "few" else 0.1)
        truth[f"p{i}"] = kind if right else ""
    found.sort(key=lambda box: -box.score)
    exact = np.mean([truth[box.id] != "" for box in found])
    values, inside = [], 0
    for seed in range(30):
        sample = [
            {"id": b.id, "class": b.class_name, "weight": b.weight}
            for b in draw_sample(found, 60, seed)
        ]
        result = estimate_purity(sample, truth)
        values.append(result["purity"])
        inside += result["interval"][0] <= exact <= result["interval"][1]
    assert np.mean(values) == pytest.approx(exact, abs=0.015)
    assert inside >= 28


def test_purity_counts_a_wrong_name_as_wrong():
    sample = [{"id": str(i), "class": "a", "weight": 1.0} for i in range(4)]
    result = estimate_purity(sample, {"0": "a", "1": "b", "2": "", "3": "*"})
    assert result["purity"] == 0.5
    assert result["particles"] == 0.75
    assert result["confusion"] == {"a": {"*": 1, "a": 1, "b": 1, "rejected": 1}}
    # with two classes, a yes without a name confirms neither
    sample.append({"id": "4", "class": "b", "weight": 4.0})
    result = estimate_purity(sample, {"0": "a", "1": "b", "2": "", "3": "*", "4": "b"})
    assert result["classes"]["a"]["purity"] == 0.25
    assert result["purity"] == pytest.approx((4 * 0.25 + 4 * 1) / 8)


@pytest.fixture
def served(table, tmp_path):
    volumes = read_volume_set(tmp_path / "s.star")
    shown = gallery_boxes(volumes)
    ids = [box.id for box in shown]
    path = tmp_path / "curation" / "s.csv"
    server, address = make_server(
        lambda save: gallery_page(volumes, shown, CLASSES, False, None, save),
        DecisionStore(path, ids, CLASSES),
        0,
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield address, path, ids
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_served_page_saves_by_itself(served, tmp_path):
    address, path, ids = served
    with chromium() as tab:
        tab.open(address)
        tab.key("a")
        tab.key("r")
        tab.wait("document.getElementById('saved').textContent === '2 saved'")
        assert tab.errors == []
    assert read_decisions(path.parent, CLASSES) == {ids[0]: "proteasome", ids[1]: ""}


def test_two_open_pages_do_not_undo_each_other(served, tmp_path):
    address, path, ids = served
    with chromium() as one, chromium() as two:
        one.open(address)
        two.open(address)
        one.key("a")
        one.key("r")
        one.wait("document.getElementById('saved').textContent === '2 saved'")
        two.click(f"[data-id='{ids[2]}']")
        two.wait("document.getElementById('saved').textContent === '3 saved'")
        # taken back in one, it is gone; opened anew, a page shows what both decided
        one.key("z")
        one.wait("document.getElementById('saved').textContent === '2 saved'")
        two.open(address)
        two.wait("document.getElementById('counts').textContent.startsWith('2 accepted, 0')")
    assert read_decisions(path.parent, CLASSES) == {ids[0]: "proteasome", ids[2]: "proteasome"}


def post(address, body, host=None):
    asked = urllib.request.Request(address + "decisions", body.encode(), method="POST")
    if host:
        asked.add_header("Host", host)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_server_refuses_malformed_and_foreign_requests(served):
    address, path, ids = served
    good = json.dumps({ids[0]: {"accepted": "yes", "class": "ribosome"}})
    assert post(address, good, "evil.example") == 404
    assert post(address.rsplit("/", 2)[0] + "/guess/", good) == 404
    for bad in (
        "{",
        "[]",
        json.dumps({"stranger": {"accepted": "yes", "class": ""}}),
        json.dumps({ids[0]: {"accepted": "maybe", "class": ""}}),
        json.dumps({ids[0]: {"accepted": "yes", "class": "=cmd"}}),
        json.dumps({ids[0]: "yes"}),
    ):
        assert post(address, bad) == 400
    assert not path.exists()
    assert post(address, good) == 200
    assert path.read_text() == f"id,accepted,class\n{ids[0]},yes,ribosome\n"


def raw_post(address, head, body=b""):
    """Send bytes as they are; return the status of the answer, None if there is none."""
    host, port, secret = re.match(r"http://([^:]+):(\d+)/([^/]+)/", address).groups()
    with socket.create_connection((host, int(port)), timeout=10) as link:
        head = f"POST /{secret}/decisions HTTP/1.0\r\nHost: {host}\r\n{head}\r\n\r\n"
        link.sendall(head.encode("latin-1") + body)
        link.shutdown(socket.SHUT_WR)
        answer = link.makefile("rb").read()
    return int(answer.split()[1]) if answer else None


def test_odd_requests_get_an_answer_and_change_nothing(served, capfd):
    address, path, ids = served
    deep, digits = b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}"
    listed = json.dumps({ids[0]: {"accepted": "yes", "class": ["ribosome"]}}).encode()
    answers = {
        "cut": (f"Content-Length: {len(listed) + 1}", listed),
        "negative": ("Content-Length: -1", b""),
        "superscript": ("Content-Length: \u00b2", b"{}"),
        "none": ("X: y", b"{}"),
        "large": (f"Content-Length: {MAX_REQUEST_BYTES + 1}", b"{}"),
        "deep": (f"Content-Length: {len(deep)}", deep),
        "digits": (f"Content-Length: {len(digits)}", digits),
        "list": (f"Content-Length: {len(listed)}", listed),
        "surrogate": ("Content-Length: 14", b'{"\\ud800": 12}'),
        "bytes": ("Content-Length: 3", b"\xff\xfe\x00"),
    }
    codes = {name: raw_post(address, *sent) for name, sent in answers.items()}
    assert set(codes.values()) == {400, 411, 413}, codes
    assert not path.exists()
    assert "Exception occurred" not in capfd.readouterr().err  # socketserver's traceback


def test_servers_change_single_rows_of_a_file_that_others_write_too(tmp_path):
    path = tmp_path / "cur" / "s.csv"
    path.parent.mkdir()
    # a spreadsheet's byte order mark, a column of a person's own, answers in other spellings
    path.write_text(
        "\ufeffid,accepted,class,note\ngone,No,,ice\np1,TRUE,ribosome,\np2,maybe,,ask\np3,no,,\n",
        encoding="utf-8",
    )
    ids = ["p1", "p2", "p3", "p4"] + [f"q{i}" for i in range(40)]
    one, two = (DecisionStore(path, ids, CLASSES) for _ in range(2))
    assert one.decisions()["p1"] == {"accepted": "yes", "class": "ribosome"}
    assert one.update(b'{"p4": {"accepted": "yes", "class": "ribosome"}}') == 3
    assert two.update(b'{"p3": null}') == 2
    assert path.read_text(encoding="utf-8").splitlines() == [
        "id,accepted,class,note", "gone,No,,ice", "p1,TRUE,ribosome,", "p2,maybe,,ask",
        "p4,yes,ribosome,",
    ]  # fmt: skip

    def click(store, numbers):
        for i in numbers:
            store.update(json.dumps({f"q{i}": {"accepted": "no", "class": ""}}).encode())

    threads = [
        threading.Thread(target=click, args=(store, range(start, 40, 2)))
        for start, store in enumerate((one, two))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {f"q{i}" for i in range(40)} <= set(one.decisions())
    # what a file's owner broke is not written over
    path.write_text("id;accepted\np1;no\n")
    with pytest.raises(UserError, match="commas"):
        one.update(b'{"p1": null}')
    assert path.read_text() == "id;accepted\np1;no\n"


def test_answers_that_contradict_each_other_are_said(tmp_path, caplog):
    change_decisions(tmp_path / "a.csv", {"p": {"accepted": "no", "class": ""}})
    change_decisions(tmp_path / "b.csv", {"p": {"accepted": "yes", "class": "ribosome"}})
    with caplog.at_level("WARNING", "cryoetgan"):
        assert read_decisions(tmp_path, CLASSES) == {"p": "ribosome"}
    assert "different answers" in caplog.text
    (tmp_path / "b.csv").write_text("id,accepted\np,maybe\n")
    with pytest.raises(UserError, match="row 2"):
        read_decisions(tmp_path, CLASSES)


def test_earlier_decisions_are_shown_again(table, tmp_path, cryoetgan):
    (tmp_path / "config/curation").mkdir(parents=True)
    ids = list(table["cryoetganId"])
    path = tmp_path / "config/curation/s.csv"
    # a box that was rejected is not in the next set; its rejection must stay
    change_decisions(path, {name: {"accepted": "no", "class": ""} for name in (ids[3], "earlier")})
    cryoetgan("particles", "gallery", "s.star", "-o", "g.html")
    data = data_of((tmp_path / "g.html").read_text())
    assert data["decisions"] == {ids[3]: {"accepted": "no", "class": ""}}
    before = read_decisions(path.parent, CLASSES)
    with chromium() as tab:
        tab.open(tmp_path / "g.html")
        tab.key("a")
        folder = downloaded(tab, tmp_path / "curation")
    assert read_decisions(folder, CLASSES) == {**before, ids[0]: "proteasome"}


def test_hostile_names_stay_text(tmp_path):
    hostile = "</script><img src=x onerror=alert(1)>"
    box_set(tmp_path)
    volumes = read_volume_set(tmp_path / "s.star")
    # the reader refuses such a class; a page must not depend on that
    volumes.table["cryoetganClass"] = hostile
    page = gallery_page(volumes, gallery_boxes(volumes), [hostile], False)
    assert page.count("<script") == page.count("</script>") == 2
    (tmp_path / "g.html").write_text(page)
    with chromium() as tab:
        tab.open(tmp_path / "g.html")
        assert tab.run("document.querySelectorAll('[onerror]').length") == 0
        assert hostile in tab.run("document.getElementById('tools').textContent")


def test_a_place_picked_twice_is_shown_once(tmp_path):
    table = box_set(tmp_path)
    table.loc[5, "cryoetganId"] = table.loc[0, "cryoetganId"]
    volumes = read_volume_set(tmp_path / "s.star")
    write_volume_set(tmp_path / "twice.star", np.asarray(volumes.volumes), table, 10.0)
    found = gallery_boxes(read_volume_set(tmp_path / "twice.star"))
    assert len(found) == 11
    assert found[0].score == 0.9


def test_the_same_set_gives_the_same_page(table, tmp_path, cryoetgan):
    for name in ("a.html", "b.html"):
        cryoetgan("particles", "gallery", "s.star", "--sample", "6", "--seed", "2", "-o", name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_refusals(table, tmp_path, cryoetgan):
    refused(cryoetgan("particles", "gallery", "s.star", code=2), "-o", "--serve")
    words = ("particles", "gallery", "s.star", "-o", "g.html")
    refused(cryoetgan(*words, "--sample", "0", code=2), "--sample")
    refused(cryoetgan(*words, "--class", "a b", code=2), "--class")
    volumes = np.zeros((1, 12, 12, 12), np.float32)
    write_volume_set(tmp_path / "n.star", volumes, pd.DataFrame({"cryoetganClass": ["a"]}), 10.0)
    refused(cryoetgan("particles", "gallery", "n.star", "-o", "g.html", code=2), "cryoetganId")
    assert not (tmp_path / "g.html").exists()
    (tmp_path / "d.csv").write_text("id,accepted,class\n")
    (tmp_path / "r.json").write_text("{}")
    words = ("particles", "purity", "d.csv", "--sample", "r.json", "-o", "p.json")
    refused(cryoetgan(*words, code=2), "r.json", "--sample")
    (tmp_path / "r.json").write_text('{"sample": [{"id": "a", "class": "b", "weight": 1}]}')
    refused(cryoetgan(*words, code=2), "annotated")

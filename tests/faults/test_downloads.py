"""Servers that stall, lie or change their files, and disks without room."""

import http.server
import threading
import time

import numpy as np
import pytest

from cryoetgan.errors import UserError
from cryoetgan.io.download import TransientError, download, read_page, retry
from tests.faults.test_files import mounted

OLD, NEW = (np.random.default_rng(seed).bytes(60_000) for seed in (1, 2))


class Handler(http.server.BaseHTTPRequestHandler):
    """Runs the next function of `server.script` for each request."""

    def do_GET(self):
        self.server.asked.append(dict(self.headers))
        script = self.server.script
        try:
            (script.pop(0) if len(script) > 1 else script[0])(self)
        except OSError:
            return  # the client has left

    def head(self, status, **fields):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    made.asked, made.script = [], []
    made.url = f"http://127.0.0.1:{made.server_address[1]}/t.mrc"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def whole(body, tag=None, length=True):
    fields = {"ETag": tag} if tag else {}
    fields |= {"Content_Length": str(len(body))} if length else {}

    def answer(handler):
        handler.head(200, **fields)
        handler.wfile.write(body)

    return answer


def broken(body, **fields):
    """Half of a body, then the end of the connection."""

    def answer(handler):
        handler.head(200, Content_Length=str(len(body)), **fields)
        handler.wfile.write(body[: len(body) // 2])

    return answer


def promised(body, **fields):
    """A whole body, and the promise of more."""

    def answer(handler):
        handler.head(200, Content_Length=str(len(body) + 9), **fields)
        handler.wfile.write(body)

    return answer


def rest(body, start=30_000, **fields):
    """The rest of a body, whatever the client asked for."""

    def answer(handler):
        content = f"bytes {start}-{len(body) - 1}/{len(body)}"
        sent = {"Content_Range": content, "Content_Length": str(len(body) - start), **fields}
        handler.head(206, **sent)
        handler.wfile.write(body[start:])

    return answer


@pytest.mark.parametrize(
    ("script", "ranged"),
    [
        # the client asks for the rest only if it can name the version that it has
        ([broken(OLD, ETag='"1"'), rest(OLD, ETag='"1"')], [False, True]),
        ([broken(OLD, Last_Modified="x"), rest(OLD, Last_Modified="x")], [False, True]),
        ([broken(OLD, Last_Modified="x"), rest(OLD)], [False, True]),
        ([broken(OLD), whole(NEW)], [False, False]),
        ([broken(OLD, ETag='W/"1"'), whole(NEW)], [False, False]),
        # the file has changed, and the server says so, or sends the rest of the new one
        ([broken(OLD, ETag='"1"'), whole(NEW, '"2"')], [False, True]),
        ([broken(OLD, ETag='"1"'), rest(NEW, ETag='"2"'), whole(NEW)], [False, True, False]),
        ([broken(OLD, ETag='"1"'), rest(NEW), whole(NEW)], [False, True, False]),
        (
            [broken(OLD, ETag='"1"'), rest(NEW[:-9], ETag='"1"'), whole(NEW)],
            [False, True, False],
        ),
        # parts that nobody asked for
        ([rest(OLD, ETag='"1"'), whole(NEW)], [False, False]),
        ([broken(OLD, ETag='"1"'), rest(OLD, 7, ETag='"1"'), whole(NEW)], [False, True, False]),
        ([lambda handler: handler.head(204), whole(NEW)], [False, False]),
        # a server that has less than it promised
        (
            [promised(OLD, ETag='"1"'), lambda handler: handler.send_error(416), whole(NEW)],
            [False, True, False],
        ),
    ],
)
def test_what_arrives_is_one_file(server, tmp_path, script, ranged):
    server.script = script
    download(server.url, tmp_path / "f", retries=5, first_wait=0.001)
    assert (tmp_path / "f").read_bytes() in (OLD, NEW)
    assert ["Range" in asked for asked in server.asked] == ranged
    assert all(("If-Range" in asked) == ("Range" in asked) for asked in server.asked)


def slow_head(handler):
    for byte in b"HTTP/1.0 200 OK\r\nX: " + b"y" * 60:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.05)


def slow_end(handler):
    """A fast start does not excuse an endless trickle of bytes."""
    handler.head(200)
    handler.wfile.write(OLD)
    for _ in range(200):
        handler.wfile.write(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("answer", "word"), [(slow_head, "no answer in 0.2 s"), (slow_end, "stalls at 6")]
)
def test_a_trickle_of_bytes_is_a_stall(server, tmp_path, answer, word):
    server.script, start = [answer], time.monotonic()
    with pytest.raises(UserError, match=word):
        download(server.url, tmp_path / "f", retries=0, timeout=0.2)
    assert time.monotonic() - start < 2


def endless(handler):
    handler.head(200)
    while True:
        handler.wfile.write(OLD)


@pytest.mark.parametrize("answer", [endless, whole(OLD * 3)])
def test_a_file_above_the_limit_is_refused_once(server, tmp_path, answer):
    server.script = [answer]
    with pytest.raises(UserError, match="above the limit"):
        download(server.url, tmp_path / "f", limit=100_000)
    assert len(server.asked) == 1
    assert not list(tmp_path.iterdir())


def test_a_server_that_always_breaks_off_comes_to_an_end(server, tmp_path):
    server.script = [broken(OLD)]
    with pytest.raises(UserError, match="3 times"):
        download(server.url, tmp_path / "f", retries=2, first_wait=0.001)
    # the first attempt is the only one that received more than any before
    assert len(server.asked) == 3


def test_a_full_disk_is_not_the_servers_fault(server, tmp_path):
    with mounted(tmp_path / "disk") as disk:
        server.script = [whole(OLD * 40, length=False)]
        with pytest.raises(OSError, match="No space left") as caught:
            download(server.url, disk / "f")
        assert caught.value.filename == str(disk / "f")
        server.script = [whole(OLD * 40)]
        with pytest.raises(UserError, match="GB are free"):
            download(server.url, disk / "f")
    assert len(server.asked) == 2


def redirected(handler):
    handler.head(302, Location="ftp://127.0.0.1:9/x")


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (lambda handler: handler.send_error(403, "no\x1b[2J" + "x" * 9000), "HTTP 403"),
        (lambda handler: handler.head(302, Location="file:///etc/passwd"), "HTTP 302"),
        (lambda handler: handler.head(302, Location="/again"), "HTTP 302"),
        (redirected, "unknown url type"),
    ],
)
def test_refusals_of_a_server_are_one_short_message(server, tmp_path, answer, word):
    server.script = [answer]
    with pytest.raises(UserError, match=word) as caught:
        read_page(server.url, timeout=1)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("url", ["http://a b/x", "http://[::1/x", "http://", "x"])
def test_an_invalid_address_is_no_fault_of_a_server(tmp_path, url):
    with pytest.raises(UserError, match=r"invalid address|no host given"):
        download(url, tmp_path / "f", retries=0)


def test_progress_is_measured_from_the_best_attempt():
    sizes = iter([5, 1, 5, 1, 5, 6, 6, 6])

    def attempt():
        raise TransientError("broken")

    with pytest.raises(UserError, match="3 times"):
        retry(attempt, "x", 2, progress=lambda: next(sizes), first_wait=0)
    assert next(sizes, None) is not None

"""Downloads over HTTP: transient faults are retried, large files are resumed."""

import contextlib
import http.client
import logging
import re
import socket
import ssl
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from cryoetgan.errors import UserError, escape_controls, shorten, shown
from cryoetgan.io.files import check_disk_space

log = logging.getLogger("cryoetgan")
T = TypeVar("T")
CHUNK_BYTES = 1 << 18
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
LOG_PERIOD_S = 10.0
MIN_BYTES_PER_S = 4096
"""A slower server counts as stalled: single bytes never trigger the socket's own timeout."""
MAX_BYTES = 256 << 30
"""The largest tomograms have about half of that."""
MAX_PAGE_BYTES = 16 << 20
PROGRESS_BYTES = 4 << 20
"""Bytes received, or a thousandth of a smaller file, that let an attempt count as progress."""
LONGEST_REASON = 200
"""Characters of a server's message."""
TRANSIENT_STATUS = (408, 425, 429)
RANGE_STATUS = 416
"""The server has fewer bytes than it promised."""
NOT_FOUND_STATUS = (404, 410)


class NotFoundError(UserError):
    """The server has no such file."""


class TransientError(Exception):
    """A fault that may be gone at the next attempt."""


class ChangedError(TransientError):
    """The server cannot continue the file that was begun."""


def retry(
    attempt: Callable[[], T],
    name: str,
    retries: int,
    *,
    progress: Callable[[], int] | None = None,
    advice: str = "raise --retries or --timeout",
    first_wait: float = FIRST_WAIT_S,
) -> T:
    """Return the result of `attempt()`, called again after each `TransientError`.

    Up to `retries` further attempts are made, after 1, 2, 4 ... 60 seconds. `progress` returns the
    number of bytes received so far: if it grew during an attempt, that attempt counts as the first
    failure again. After the last failure, the `UserError` has `name` and `advice`, the way out.
    """
    failures, received = 0, progress() if progress else 0
    while True:
        try:
            return attempt()
        except TransientError as error:
            now = progress() if progress else 0
            failures = 1 if now > received else failures + 1
            received = max(now, received)
            if failures > retries:
                raise UserError(
                    f"{name}: {error}, {failures} times; try again later, or {advice}"
                ) from error
            wait = min(first_wait * 2 ** (failures - 1), LONGEST_WAIT_S)
            log.warning("%s: %s; next attempt in %g s", name, error, wait)
            time.sleep(wait)


class Download:
    """The transfer of one file in one or more attempts, each continuing the last one.

    Parameters
    ----------
    url : str
        Address, http or https.
    path : Path
        Scratch file; what it holds is removed.
    timeout : float
        Seconds without an answer, or at less than `MIN_BYTES_PER_S`, after which an attempt ends.
    limit : int
        Largest number of bytes.
    """

    def __init__(self, url: str, path: Path, timeout: float, limit: int = MAX_BYTES) -> None:
        self.url, self.path, self.timeout, self.limit = url, path, timeout, limit
        self.total: int | None = None
        self.largest = 0
        self.start_anew()

    def start_anew(self) -> None:
        """Forget the received bytes."""
        self.path.unlink(missing_ok=True)
        # the server's name of the file's content: parts of two contents must not be joined
        self.version: str | None = None

    def progress(self) -> int:
        """Return a number that grows if an attempt received a share of the file that matters."""
        return self.largest // max(1, min(PROGRESS_BYTES, (self.total or PROGRESS_BYTES) // 1000))

    def attempt(self) -> None:
        """Receive the file, or the rest of it.

        Raises `TransientError` if the connection breaks, stalls or ends early, the server is busy,
        or the file has changed since the last attempt; `UserError` if the file does not exist, is
        refused, or exceeds the limit or the disk.
        """
        if self.version is None:
            self.start_anew()  # a server without versions cannot resume safely
        start = self.path.stat().st_size if self.path.exists() else 0
        try:
            with _open(self.url, start, self.version, self.timeout) as answer:
                start = self._accept(answer, start)
                if self.total is not None:
                    self._check_size(self.total)
                    check_disk_space(self.path, self.total - start, "choose another disk")
                received = self._receive(answer, start)
        except ChangedError:
            self.start_anew()
            raise
        if self.total is not None and received != self.total:
            raise TransientError(f"ended after {received} of {self.total} bytes")

    def _accept(self, answer: http.client.HTTPResponse, start: int) -> int:
        """Return the byte at which an answer starts; learn length and version from its head."""
        version = _version(answer)
        if answer.status == http.client.PARTIAL_CONTENT:
            sent = re.fullmatch(
                r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", "").strip()
            )
            total = int(sent[2]) if sent and sent[2] != "*" else self.total
            # in answer to a date, a server may omit the date (RFC 9110, section 15.3.7), but no tag
            dated = version is None and not (self.version or "").startswith('"')
            same = self.total in (None, total) and (version == self.version or dated)
            if not (start and sent and int(sent[1]) == start and same):
                raise ChangedError("the server resumed with another part or another file")
            self.total = total
            return start
        if answer.status not in (http.client.OK, http.client.NON_AUTHORITATIVE_INFORMATION):
            raise TransientError(f"HTTP {answer.status}")
        # the whole file: the first attempt, a server that does not resume, or a changed file
        self.start_anew()
        length = answer.headers.get("Content-Length", "").strip()
        self.total = int(length) if length.isascii() and length.isdigit() else None
        self.version = version
        return 0

    def _receive(self, answer: http.client.HTTPResponse, received: int) -> int:
        """Append the body of an answer to the file; return the file's length."""
        began = logged = time.monotonic()
        counted = received
        with open(self.path, "ab") as out:
            while part := _read(answer):
                _write(out, part, self.path)
                received += len(part)
                self.largest = max(self.largest, received)
                self._check_size(received)
                now = time.monotonic()
                if now - began > self.timeout:
                    if received - counted < MIN_BYTES_PER_S * (now - began):
                        raise TransientError(f"stalls at {received} bytes")
                    began, counted = now, received
                if now - logged > LOG_PERIOD_S:
                    logged, size = now, "?" if self.total is None else self.total >> 20
                    log.info("%s: %d of %s MB", self.url, received >> 20, size)
        return received

    def _check_size(self, size: int) -> None:
        if size > self.limit:
            self.start_anew()
            raise UserError(
                f"{self.url}: has {size / 1e9:.3g} GB or more, above the limit of "
                f"{self.limit / 1e9:.3g} GB; check the address"
            )


def download(
    url: str,
    path: Path,
    retries: int = 4,
    timeout: float = 60.0,
    first_wait: float = FIRST_WAIT_S,
    limit: int = MAX_BYTES,
) -> None:
    """Write the file at `url` to `path`, a scratch file.

    An interrupted transfer resumes at its last byte if the server can tell that the file is the
    same. An attempt that received new bytes does not count as a failure; see `retry`.
    """
    transfer = Download(url, path, timeout, limit)
    retry(transfer.attempt, url, retries, progress=transfer.progress, first_wait=first_wait)


def read_page(url: str, timeout: float = 60.0) -> str:
    """Return a small text such as a folder's listing; raise `UserError` if it cannot be read."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page")
        download(url, page, retries=1, timeout=timeout, limit=MAX_PAGE_BYTES)
        return page.read_text(encoding="utf-8", errors="replace")


def _version(answer: http.client.HTTPResponse) -> str | None:
    """Return the strong ETag or the date of an answer's file, None if the server gives neither."""
    tag = answer.headers.get("ETag", "").strip()
    if tag and not tag.startswith("W/"):
        return tag
    return answer.headers.get("Last-Modified")


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read1(CHUNK_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise TransientError(shorten(escape_controls(str(error)), LONGEST_REASON)) from error


def _write(out: IO[bytes], part: bytes, path: Path) -> None:
    try:
        out.write(part)
        out.flush()
    except OSError as error:  # a full disk is not the server's fault: no other attempt helps
        raise OSError(error.errno, error.strerror, str(path)) from error


class _Timed:
    """A connection whose head must arrive within its timeout, not only each byte of it."""

    late = False

    def getresponse(self) -> Any:
        timer = threading.Timer(self.timeout, self._give_up)  # type: ignore[attr-defined]
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()  # type: ignore[misc]
        finally:
            timer.cancel()
            if self.late:
                raise TimeoutError(f"no answer in {self.timeout:g} s")  # type: ignore[attr-defined]

    def _give_up(self) -> None:
        self.late = True
        with contextlib.suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]


class _TimedHTTP(_Timed, http.client.HTTPConnection):
    pass


class _TimedHTTPS(_Timed, http.client.HTTPSConnection):
    pass


class _HTTPHandler(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_TimedHTTP, request)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_TimedHTTPS, request, context=ssl.create_default_context())


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https alone: redirects lead to no file and no FTP server."""
    opener = urllib.request.OpenerDirector()
    for kind in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        _HTTPHandler,
        _HTTPSHandler,
    ):
        opener.add_handler(kind())
    return opener


def _open(url: str, start: int, version: str | None, timeout: float) -> http.client.HTTPResponse:
    """Return the server's answer, from byte `start` if its file still has the same version."""
    headers = {"User-Agent": "cryoetgan", "Accept-Encoding": "identity"}
    if start and version is not None:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    try:
        answer = _opener().open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in NOT_FOUND_STATUS:
            raise NotFoundError(f"{url}: not found (HTTP {error.code}); check the id") from error
        if error.code == RANGE_STATUS and start:
            raise ChangedError(f"HTTP {error.code}") from error
        if error.code in TRANSIENT_STATUS or error.code >= 500:
            raise TransientError(f"HTTP {error.code}") from error
        text = " ".join(str(error.reason).split())
        raise UserError(f"{url}: HTTP {error.code} {shown(text)}; check the address") from error
    except (http.client.InvalidURL, UnicodeError) as error:
        raise UserError(f"{url}: invalid address ({error})") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, str):  # before anything was sent: no host, an unknown protocol
            raise UserError(f"{url}: invalid address ({reason})") from error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise UserError(f"{url}: the server's certificate is invalid ({reason})") from error
        text = " ".join(str(reason).split()) or type(reason).__name__
        raise TransientError(shorten(escape_controls(text), LONGEST_REASON)) from error
    except ValueError as error:
        raise UserError(f"{url}: invalid address ({error})") from error
    assert isinstance(answer, http.client.HTTPResponse)
    return answer

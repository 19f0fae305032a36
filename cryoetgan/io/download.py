"""Downloads over HTTP: transient faults are retried, large files are resumed."""

import http.client
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryoetgan.errors import UserError

log = logging.getLogger("cryoetgan")
T = TypeVar("T")
CHUNK_BYTES = 1 << 18
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
LOG_PERIOD_S = 10.0
MIN_BYTES_PER_S = 4096
"""A slower server counts as stalled: single bytes never trigger the socket's own timeout."""
TRANSIENT_STATUS = (408, 425, 429)
NOT_FOUND_STATUS = (404, 410)


class TransientError(Exception):
    """A fault that may be gone at the next attempt."""


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
            received = now
            if failures > retries:
                raise UserError(
                    f"{name}: {error}, {failures} times; try again later, or {advice}"
                ) from error
            wait = min(first_wait * 2 ** (failures - 1), LONGEST_WAIT_S)
            log.warning("%s: %s; next attempt in %g s", name, error, wait)
            time.sleep(wait)


def download(
    url: str, path: Path, retries: int = 4, timeout: float = 60.0, first_wait: float = FIRST_WAIT_S
) -> None:
    """Write the file at `url` to `path`, a scratch file.

    An interrupted transfer resumes at its last byte. An attempt that received new bytes does not
    count as a failure; see `retry`.
    """
    path.unlink(missing_ok=True)
    retry(
        lambda: transfer(url, path, timeout),
        url,
        retries,
        progress=lambda: _size(path),
        first_wait=first_wait,
    )


def read_page(url: str, timeout: float = 60.0) -> str:
    """Return a small text such as a folder's listing; raise `UserError` if it cannot be read."""
    try:
        with _open(url, 0, timeout) as answer:
            return answer.read().decode("utf-8", errors="replace")
    except (TransientError, OSError, http.client.HTTPException) as error:
        raise UserError(f"{url}: {error}; try again later") from error


def _open(url: str, start: int, timeout: float) -> http.client.HTTPResponse:
    """Return the server's answer, from byte `start` if the server can resume."""
    headers = {"User-Agent": "cryoetgan", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=timeout
        )
    except urllib.error.HTTPError as error:
        if error.code in NOT_FOUND_STATUS:
            raise UserError(f"{url}: not found (HTTP {error.code}); check the id") from error
        if error.code in TRANSIENT_STATUS or error.code >= 500:
            raise TransientError(f"HTTP {error.code}") from error
        raise UserError(f"{url}: HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(str(getattr(error, "reason", None) or error)) from error
    except ValueError as error:
        raise UserError(f"{url}: invalid address ({error})") from error
    return answer


def transfer(url: str, path: Path, timeout: float) -> None:
    """Make one attempt to download a file; a partial file at `path` is continued.

    Raises `TransientError` if the connection breaks, stalls for `timeout` seconds or ends early,
    or the server is busy; `UserError` if the file does not exist or the server refuses to send it.
    """
    start, began = _size(path), time.monotonic()
    logged = began
    with _open(url, start, timeout) as answer:
        if answer.status != http.client.PARTIAL_CONTENT:
            start = 0  # the server does not resume
        elif not (answer.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
            path.unlink()
            raise TransientError("the server resumed at another byte")
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        with open(path, "r+b" if start else "wb") as out:
            out.seek(start)
            try:
                while part := answer.read1(CHUNK_BYTES):
                    out.write(part)
                    received, now = out.tell(), time.monotonic()
                    elapsed = now - began
                    if elapsed > timeout and received - start < MIN_BYTES_PER_S * elapsed:
                        raise TransientError(f"stalls at {received} bytes")
                    if now - logged > LOG_PERIOD_S:
                        logged, size = now, "?" if total is None else total >> 20
                        log.info("%s: %d of %s MB", url, received >> 20, size)
            except (OSError, http.client.HTTPException) as error:
                raise TransientError(str(error)) from error
            received = out.tell()
    if total is not None and received != total:
        raise TransientError(f"ended after {received} of {total} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

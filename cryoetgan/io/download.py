"""Download a large file: resumed where the line broke, whole or not at all."""

import http.client
import logging
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from cryoetgan.errors import UserError

log = logging.getLogger("cryoetgan")
CHUNK = 1 << 20
FIRST_WAIT_S = 1.0
SAY_EVERY_S = 10.0
PASSING = (408, 425, 429)
GONE = (404, 410)


class PassingError(Exception):
    """A fault that may be gone on the next try."""


def download(url: str, path: Path, retries: int = 4, timeout: float = 60.0) -> None:
    """Write what `url` sends to `path`; a broken transfer goes on where it stopped.

    Parameters
    ----------
    url : str
        http or https.
    path : Path
        Written piece by piece: name a scratch file.
    retries : int
        Further tries after a passing fault, waiting 1, 2, 4 ... seconds between them; a
        try that brought something new does not count.
    timeout : float
        Seconds without a byte before a try is given up.

    Raises
    ------
    UserError
        Where nothing is there, or the tries are used up.
    """
    path.unlink(missing_ok=True)
    failures = 0
    while True:
        before = path.stat().st_size if path.exists() else 0
        try:
            _transfer(url, path, timeout)
            return
        except PassingError as error:
            now = path.stat().st_size if path.exists() else 0
            failures = 1 if now > before else failures + 1
            if failures > retries:
                raise UserError(
                    f"{url}: {error}, {failures} times; try again later, or raise --retries or "
                    "--timeout"
                ) from error
            wait = FIRST_WAIT_S * 2 ** (failures - 1)
            log.warning("%s: %s; going on at byte %d in %g s", url, error, now, wait)
            time.sleep(wait)


def read_page(url: str, timeout: float = 60.0) -> str:
    """Return a small text such as a folder's listing.

    Raises
    ------
    UserError
        Where it cannot be had.
    """
    try:
        with _open(url, 0, timeout) as answer:
            return answer.read().decode("utf-8", errors="replace")
    except (PassingError, OSError, http.client.HTTPException) as error:
        raise UserError(f"{url}: {error}; try again later") from error


def _open(url: str, start: int, timeout: float) -> http.client.HTTPResponse:
    headers = {"User-Agent": "cryoetgan", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=timeout
        )
    except urllib.error.HTTPError as error:
        if error.code in GONE:
            raise UserError(f"{url}: nothing is there (HTTP {error.code}); check the id") from error
        if error.code in PASSING or error.code >= 500:
            raise PassingError(f"HTTP {error.code}") from error
        raise UserError(f"{url}: HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise PassingError(str(getattr(error, "reason", None) or error)) from error
    except ValueError as error:
        raise UserError(f"{url}: is no address ({error})") from error
    return answer


def _transfer(url: str, path: Path, timeout: float) -> None:
    start = path.stat().st_size if path.exists() else 0
    said = time.monotonic()
    with _open(url, start, timeout) as answer:
        if answer.status != http.client.PARTIAL_CONTENT:
            start = 0  # the server does not resume: from the beginning
        elif not _starts_at(answer.headers.get("Content-Range"), start):
            path.unlink()
            raise PassingError("the server resumed at another byte")
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        with open(path, "r+b" if start else "wb") as out:
            out.seek(start)
            try:
                while chunk := answer.read1(CHUNK):
                    out.write(chunk)
                    if time.monotonic() - said > SAY_EVERY_S:
                        said = time.monotonic()
                        log.info("%s: %d of %s MB", url, out.tell() >> 20, _megabytes(total))
            except (OSError, http.client.HTTPException) as error:
                raise PassingError(str(error)) from error
            got = out.tell()
    if total is not None and got != total:
        raise PassingError(f"ended after {got} of {total} bytes")


def _starts_at(content_range: str | None, start: int) -> bool:
    found = re.match(r"bytes (\d+)-", content_range or "")
    return found is not None and int(found[1]) == start


def _megabytes(total: int | None) -> str:
    return "?" if total is None else str(total >> 20)

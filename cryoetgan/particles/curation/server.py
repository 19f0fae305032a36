"""Serve the gallery on this machine only, and save decisions as they are made."""

import json
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryoetgan.errors import UserError, shown
from cryoetgan.particles.curation.decisions import change_decisions, saved_decisions
from cryoetgan.progress import log

MAX_REQUEST_BYTES = 20_000_000
"""A hundred thousand decisions fit."""
REQUEST_TIMEOUT_S = 30.0
"""Seconds without a byte of a request."""
NO_DECISIONS = b'"decisions":{}'
"""Part of a page's data that is replaced by the current decisions."""


class DecisionStore:
    """The decisions on the boxes of a gallery (its ids and classes), in a CSV file.

    The file may hold decisions on other boxes, and other programs may change it: it is read at each
    request, and only single rows of it are changed.
    """

    def __init__(self, path: Path, ids: Sequence[str], classes: Sequence[str]) -> None:
        self.path, self.ids, self.classes = path, set(ids), {*classes, ""}
        self.decisions()  # a file that cannot be read is refused at once

    def decisions(self) -> dict[str, dict[str, str]]:
        """Return the current decisions on the boxes of the gallery, by id."""
        saved = saved_decisions(self.path)
        return {name: said for name, said in saved.items() if name in self.ids}

    def others(self) -> dict[str, dict[str, str]]:
        """Return the current decisions on boxes that the gallery does not show, by id."""
        saved = saved_decisions(self.path)
        return {name: said for name, said in saved.items() if name not in self.ids}

    def update(self, body: bytes) -> int:
        """Save changes, a JSON mapping of id to decision or null; return the number of decisions.

        Raises `UserError` if the gallery lacks an id or class, or if an answer is not yes or no.
        """
        try:
            changes = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise UserError(f"the request is not JSON ({type(error).__name__})") from error
        if not isinstance(changes, dict):
            raise UserError("decisions must be a JSON mapping by id")
        change_decisions(self.path, {n: self._checked(n, said) for n, said in changes.items()})
        return len(self.decisions())

    def _checked(self, name: str, said: Any) -> dict[str, str] | None:
        if name not in self.ids:
            raise UserError(f"decision on {shown(name)}: the gallery has no such box")
        if said is None:
            return None
        if not isinstance(said, Mapping) or said.get("accepted") not in ("yes", "no"):
            raise UserError(f"decision on {shown(name)}: accepted must be yes or no")
        class_name = said.get("class", "")
        if not isinstance(class_name, str) or class_name not in self.classes:
            raise UserError(f"decision on {shown(name)}: class {shown(class_name)} is unknown")
        return {"accepted": said["accepted"], "class": class_name}


class GalleryServer(ThreadingHTTPServer):
    """Threads of the requests; a broken connection is only logged."""

    daemon_threads = True

    def __init__(self, content: bytes, secret: str, store: DecisionStore, port: int) -> None:
        self.content, self.secret, self.store = content, secret, store
        super().__init__(("127.0.0.1", port), GalleryHandler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a request that could not be answered."""
        log.debug("a request of %s: %s", client_address, sys.exception())


class GalleryHandler(BaseHTTPRequestHandler):
    """Answers the requests of one gallery page."""

    server: GalleryServer
    timeout = REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        """Send the page with the current decisions."""
        if self._is_local() and self.path == f"/{self.server.secret}/":
            self._answer_with(self._page, "text/html; charset=utf-8")
        else:
            self._answer(404, b"not here")

    def do_POST(self) -> None:
        """Save decisions."""
        length = self.headers.get("Content-Length", "")
        if not self._is_local() or self.path != f"/{self.server.secret}/decisions":
            self._answer(404, b"not here")
        elif not (length.isascii() and length.isdigit()):
            self._answer(411, b"the request needs a Content-Length")
        elif len(length) > 12 or int(length) > MAX_REQUEST_BYTES:
            self._discard(MAX_REQUEST_BYTES)  # a client that still sends reads no answer
            self._answer(413, b"too large")
        else:
            body = self.rfile.read(int(length))
            if len(body) < int(length):
                self._answer(400, b"the request is cut short")
            else:
                self._answer_with(lambda: str(self.server.store.update(body)).encode())

    def _discard(self, left: int) -> None:
        while left > 0 and (part := self.rfile.read1(min(left, 1 << 20))):
            left -= len(part)

    def _page(self) -> bytes:
        decisions = json.dumps(self.server.store.decisions()).replace("<", "\\u003c")
        return self.server.content.replace(NO_DECISIONS, f'"decisions":{decisions}'.encode(), 1)

    def _answer_with(self, make: Callable[[], bytes], kind: str = "text/plain") -> None:
        try:
            body = make()
        except (UserError, OSError) as error:
            # a full disk is the server's, anything else the request's or the file's
            code = 400 if isinstance(error, UserError) else 507
            log.warning("decisions are not saved: %s", error)
            self._answer(code, str(error).encode())
        else:
            self._answer(200, body, kind)

    def _is_local(self) -> bool:
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        return host in ("127.0.0.1", "localhost")

    def _answer(self, code: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request."""
        log.debug(format, *args)


def make_server(
    page: Callable[[str], str], store: DecisionStore, port: int
) -> tuple[GalleryServer, str]:
    """Return a server for this machine only, and the address to open.

    `page` returns the HTML without decisions, given the address to which they are sent; port 0 is
    any free one. Other web pages in the same browser can neither read nor write: the address
    holds a secret, and a request under another host's name is refused.
    """
    secret = secrets.token_urlsafe(16)
    content = page(f"/{secret}/decisions").encode()
    try:
        server = GalleryServer(content, secret, store, port)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--port: {port} cannot be used ({error}); give 0 for any free port"
        ) from error
    return server, f"http://127.0.0.1:{server.server_address[1]}/{secret}/"

"""Serve the gallery on this machine only, and save decisions as they are made."""

import csv
import io
import json
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryoetgan.errors import UserError
from cryoetgan.io.files import write_text
from cryoetgan.particles.curation.select import read_csv_decisions
from cryoetgan.progress import log

MAX_REQUEST_BYTES = 20_000_000
"""A hundred thousand decisions fit."""
NO_DECISIONS = b'"decisions":{}'
"""Part of a page's data that is replaced by the current decisions."""


def decisions_csv(decisions: Mapping[str, Any], ids: Sequence[str], classes: Sequence[str]) -> str:
    """Return decisions (id to `accepted`, yes or no, and `class`) as CSV, in the order of the page.

    Raises `UserError` if the page does not have an id or class, or if an answer is not yes or no.
    """
    known, names = set(ids), {*classes, ""}
    for name, decision in decisions.items():
        if name not in known:
            raise UserError(f"decision on '{name}': the gallery has no such box")
        if not isinstance(decision, Mapping) or decision.get("accepted") not in ("yes", "no"):
            raise UserError(f"decision on '{name}': accepted must be yes or no")
        if decision.get("class", "") not in names:
            raise UserError(f"decision on '{name}': class '{decision.get('class')}' is unknown")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "accepted", "class"])
    for name in ids:
        if name in decisions:
            writer.writerow([name, decisions[name]["accepted"], decisions[name].get("class", "")])
    return out.getvalue()


def saved_decisions(path: Path) -> dict[str, dict[str, str]]:
    """Return the decisions of a gallery's CSV file, none if the file does not exist."""
    if not path.exists():
        return {}
    return {
        name: {"accepted": accepted, "class": class_name}
        for _, name, accepted, class_name in read_csv_decisions(path)
        if accepted in ("yes", "no")
    }


class DecisionStore:
    """Current decisions of a gallery (its ids and classes), and the CSV file that keeps them."""

    def __init__(self, path: Path, ids: Sequence[str], classes: Sequence[str]) -> None:
        self.path, self.ids, self.classes = path, ids, classes
        known = set(ids)
        saved = saved_decisions(path)
        self.decisions: dict[str, Any] = {n: said for n, said in saved.items() if n in known}
        self._lock = threading.Lock()

    def update(self, body: bytes) -> int:
        """Apply changes, a JSON mapping of id to decision or null; save all, return their number.

        A page sends only changes, so that two open pages do not overwrite each other.
        """
        changes = json.loads(body)
        if not isinstance(changes, dict):
            raise UserError("decisions must be a JSON mapping by id")
        with self._lock:
            changed = {**self.decisions, **changes}
            changed = {name: decision for name, decision in changed.items() if decision is not None}
            write_text(self.path, decisions_csv(changed, self.ids, self.classes))
            self.decisions = changed
        return len(changed)


def make_server(
    page: Callable[[str], str], store: DecisionStore, port: int
) -> tuple[ThreadingHTTPServer, str]:
    """Return a server for this machine only, and the address to open.

    `page` returns the HTML without decisions, given the address to which they are sent; port 0 is
    any free one. Other web pages in the same browser can neither read nor write: the address
    holds a secret, and a request under another host's name is refused.
    """
    secret = secrets.token_urlsafe(16)
    content = page(f"/{secret}/decisions").encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self._is_local() and self.path == f"/{secret}/":
                decisions = json.dumps(store.decisions).replace("<", "\\u003c")
                whole = content.replace(NO_DECISIONS, f'"decisions":{decisions}'.encode(), 1)
                self._answer(200, "text/html; charset=utf-8", whole)
            else:
                self._answer(404, "text/plain", b"not here")

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not self._is_local() or self.path != f"/{secret}/decisions":
                self._answer(404, "text/plain", b"not here")
            elif not length.isdigit() or int(length) > MAX_REQUEST_BYTES:
                self._answer(413, "text/plain", b"too large")
            else:
                self._save(self.rfile.read(int(length)))

        def _save(self, body: bytes) -> None:
            try:
                count = store.update(body)
            except (UserError, json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
                log.warning("decisions are not saved: %s", error)
                self._answer(400, "text/plain; charset=utf-8", str(error).encode())
            else:
                self._answer(200, "text/plain; charset=utf-8", f"{count}".encode())

        def _is_local(self) -> bool:
            host = self.headers.get("Host", "").rsplit(":", 1)[0]
            return host in ("127.0.0.1", "localhost")

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            log.debug(format, *args)

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--port: {port} cannot be used ({error}); give 0 for any free port"
        ) from error
    server.daemon_threads = True
    return server, f"http://127.0.0.1:{server.server_address[1]}/{secret}/"

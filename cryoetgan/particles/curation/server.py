"""The gallery on this machine's own address: decisions are saved as they are made."""

import csv
import io
import json
import logging
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryoetgan.errors import UserError
from cryoetgan.io.files import write_text

log = logging.getLogger("cryoetgan")
LARGEST = 20_000_000
"""Bytes of a request: a hundred thousand decisions fit."""
UNDECIDED = b'"decisions":{}'
"""In the data of a page without decisions: what was decided since goes there."""


def decisions_csv(decisions: Mapping[str, Any], ids: Sequence[str], classes: Sequence[str]) -> str:
    """Return decisions as CSV: id, accepted (yes or no), class; in the page's order.

    Raises
    ------
    UserError
        Where an id, an answer or a class is not one of those the page knows.
    """
    known, names = set(ids), {*classes, ""}
    for name, said in decisions.items():
        if name not in known:
            raise UserError(f"decision on '{name}', which is no box of this gallery")
        if not isinstance(said, Mapping) or said.get("accepted") not in ("yes", "no"):
            raise UserError(f"decision on '{name}': wanted accepted yes or no")
        if said.get("class", "") not in names:
            raise UserError(f"decision on '{name}': class '{said.get('class')}' is not known")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "accepted", "class"])
    for name in ids:
        if name in decisions:
            said = decisions[name]
            writer.writerow([name, said["accepted"], said.get("class", "")])
    return out.getvalue()


def earlier(path: Path) -> dict[str, dict[str, str]]:
    """Return the decisions of a CSV file that this server wrote, none where there is none."""
    if not path.exists():
        return {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {"id", "accepted"} <= set(reader.fieldnames or []):
            raise UserError(f"{path}: wanted the columns id, accepted[, class]; move it away")
        return {
            row["id"]: {"accepted": row["accepted"], "class": row.get("class") or ""}
            for row in reader
            if row["accepted"] in ("yes", "no")
        }


def make_server(
    page: Callable[[str], str],
    path: Path,
    ids: Sequence[str],
    classes: Sequence[str],
    port: int,
) -> tuple[ThreadingHTTPServer, str]:
    """Return a server for this machine only, and the address to open.

    Parameters
    ----------
    page : callable
        Makes the HTML without decisions, given where they are to be sent.
    path : Path
        The CSV file that is kept current.
    ids, classes : sequence of str
        What decisions may name.
    port : int
        0 for any that is free.

    Notes
    -----
    A request holds what changed, by id (null: undecided again), so that two open pages do not
    undo each other. Other web pages of the same browser can neither read nor write: the address holds a
    secret, and a request under another host's name is refused.
    """
    secret = secrets.token_urlsafe(16)
    content = page(f"/{secret}/decisions").encode()
    known = set(ids)
    state: dict[str, Any] = {name: said for name, said in earlier(path).items() if name in known}
    one_at_a_time = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self._ours() and self.path == f"/{secret}/":
                now = json.dumps(state).replace("<", "\\u003c")
                whole = content.replace(UNDECIDED, f'"decisions":{now}'.encode(), 1)
                self._answer(200, "text/html; charset=utf-8", whole)
            else:
                self._answer(404, "text/plain", b"not here")

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not self._ours() or self.path != f"/{secret}/decisions":
                self._answer(404, "text/plain", b"not here")
            elif not length.isdigit() or int(length) > LARGEST:
                self._answer(413, "text/plain", b"too large")
            else:
                self._save(self.rfile.read(int(length)))

        def _save(self, body: bytes) -> None:
            try:
                changes = json.loads(body)
                if not isinstance(changes, dict):
                    raise UserError("wanted decisions by id")
                with one_at_a_time:
                    now = {**state, **changes}
                    now = {name: said for name, said in now.items() if said is not None}
                    write_text(path, decisions_csv(now, ids, classes))
                    state.clear()
                    state.update(now)
            except (UserError, json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
                log.warning("not saved: %s", error)
                self._answer(400, "text/plain; charset=utf-8", str(error).encode())
                return
            self._answer(200, "text/plain; charset=utf-8", f"{len(now)}".encode())

        def _ours(self) -> bool:
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
        raise UserError(f"--port: {port} cannot be used ({error}); 0 takes any free one") from error
    server.daemon_threads = True
    return server, f"http://127.0.0.1:{server.server_address[1]}/{secret}/"

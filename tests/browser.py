"""A headless Chromium for tests, spoken to over a pipe (the DevTools protocol): no driver needed."""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
TIMEOUT = 60.0


class Page:
    """One tab: what it asked the network for and what its scripts complained of are kept."""

    def __init__(self, process: subprocess.Popen, send: int, receive: int) -> None:
        self.process, self._send, self._receive = process, send, receive
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._loaded = False
        target = self._call("Target.createTarget", {"url": "about:blank"}, session=None)
        attached = {"targetId": target["targetId"], "flatten": True}
        self._session = None
        self._session = self._call("Target.attachToTarget", attached)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def open(self, address: str | Path, width: int = 1280, dark: bool = False) -> "Page":
        """Open a file or address at a width in CSS pixels, in light or dark."""
        phone = width < 600
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": phone}
        self._call("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", {"features": [scheme]})
        if isinstance(address, Path):
            address = address.resolve().as_uri()
        self._loaded = False
        self._call("Page.navigate", {"url": address})
        self.wait(lambda: self._loaded, pump=True)
        return self

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page; its exceptions fail the test."""
        asked = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self._call("Runtime.evaluate", asked)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: Any, pump: bool = False) -> None:
        """Wait for a script's truth, or a function's."""
        end = time.monotonic() + TIMEOUT
        while not (condition() if callable(condition) else self.run(condition)):
            assert time.monotonic() < end, f"waited in vain for {condition}"
            if pump:
                self._read()
            else:
                time.sleep(0.02)

    def key(self, key: str) -> None:
        """Press and release a key."""
        text = {"text": key} if len(key) == 1 else {}
        code = {"Enter": 13, "Backspace": 8, "Delete": 46}.get(key, ord(key.upper()[0]))
        for kind in ("keyDown", "keyUp"):
            extra = text if kind == "keyDown" else {}
            what = {"type": kind, "key": key, "windowsVirtualKeyCode": code, **extra}
            self._call("Input.dispatchKeyEvent", what)

    def click(self, selector: str, shift: bool = False) -> None:
        """Click the middle of an element with the mouse."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            what = {"type": kind, "x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            what |= {"modifiers": 8 if shift else 0}
            self._call("Input.dispatchMouseEvent", what)

    def text(self, selector: str) -> str:
        """Return what an element says, as it is seen."""
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window: 0 is right."""
        return self.run("document.documentElement.scrollWidth - window.innerWidth")

    def downloads_to(self, folder: Path) -> None:
        """Let downloads land in a folder."""
        where = {"behavior": "allow", "downloadPath": str(folder)}
        self._call("Browser.setDownloadBehavior", where, session=None)

    def picture(self, path: Path, whole: bool = True) -> None:
        """Write what is seen as PNG."""
        asked = {"format": "png", "captureBeyondViewport": whole}
        if whole:
            size = self._call("Page.getLayoutMetrics")["cssContentSize"]
            # without its scroll bar the page is laid out as wide as the window
            size["width"] = self.run("window.innerWidth")
            asked["clip"] = {**size, "x": 0, "y": 0, "scale": 1}
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", asked)["data"]))

    def _call(self, method: str, params: dict | None = None, session: str | None = "own") -> dict:
        number = next(self._numbers)
        message: dict = {"id": number, "method": method, "params": params or {}}
        if session == "own" and getattr(self, "_session", None):
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _read(self) -> dict:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._receive], [], [], TIMEOUT)
            assert ready, "the browser says nothing"
            part = os.read(self._receive, 1 << 20)
            assert part, "the browser is gone"
            self._buffer += part
        raw, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(raw)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, params: dict) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])

    def outside(self) -> list[str]:
        """Return the addresses asked for that are neither files nor in the page itself."""
        return [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))]


@contextlib.contextmanager
def chromium(folder: Path):
    """Yield a `Page`, or skip the test where there is no Chromium."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser ({', '.join(NAMES)}): the page is not looked at")
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()

    def wire() -> None:
        # the protocol's pipes are file descriptors 3 and 4 of the browser; the sources are
        # moved out of the way first, for they may be 3 or 4 themselves
        first, second = os.dup(theirs_in), os.dup(theirs_out)
        os.dup2(first, 3)
        os.dup2(second, 4)

    process = subprocess.Popen(
        [found, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=wire,
        start_new_session=True,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Page(process, ours_out, ours_in)
    finally:
        os.close(ours_out)
        os.close(ours_in)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

"""A headless Chromium for tests, driven through a pipe (DevTools protocol) without a driver."""

import atexit
import base64
import contextlib
import functools
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
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


class Browser:
    """One process, and the pipe to its pages."""

    def __init__(self, program: str, profile: Path) -> None:
        theirs_in, self._send = os.pipe()
        self._receive, theirs_out = os.pipe()

        def connect_pipes() -> None:
            # the browser uses file descriptors 3 and 4; our ends are copied first, since they may
            # have these numbers themselves
            first, second = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(first, 3)
            os.dup2(second, 4)

        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=connect_pipes,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._ids = itertools.count(1)
        self._buffer = b""
        self.pages: dict[str, Page] = {}

    def call(self, method: str, params: dict | None = None, session: str | None = None) -> dict:
        """Return the answer to a command; without a session, it is the browser's."""
        number = next(self._ids)
        message: dict = {"id": number, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def read(self) -> dict:
        """Return the next message; an event is kept by its page."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._receive], [], [], TIMEOUT)
            assert ready, f"no answer from the browser in {TIMEOUT:g} s"
            part = os.read(self._receive, 1 << 20)
            assert part, "the browser has exited"
            self._buffer += part
        raw, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(raw)
        if message.get("sessionId") in self.pages:
            page = self.pages[message["sessionId"]]
            page.record_event(message.get("method", ""), message.get("params", {}))
        return message

    def close(self) -> None:
        """End the process."""
        os.close(self._send)
        os.close(self._receive)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Page:
    """One tab; it keeps the requests and the errors of its page."""

    def __init__(self, browser: Browser, context: str) -> None:
        self._browser, self._context = browser, context
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._loaded = False
        where = {"url": "about:blank", "browserContextId": context}
        target = browser.call("Target.createTarget", where)["targetId"]
        attached = {"targetId": target, "flatten": True}
        self._session = browser.call("Target.attachToTarget", attached)["sessionId"]
        browser.pages[self._session] = self
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def open(self, address: str | Path, width: int = 1280, dark: bool = False) -> "Page":
        """Open a file or URL at a width in CSS pixels, in the light or dark scheme."""
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
        """Return the value of a JavaScript expression; an exception fails the test."""
        options = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self._call("Runtime.evaluate", options)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: Any, pump: bool = False) -> None:
        """Wait until a JavaScript expression or a function is true."""
        end = time.monotonic() + TIMEOUT
        while not (condition() if callable(condition) else self.run(condition)):
            assert time.monotonic() < end, f"still false after {TIMEOUT:g} s: {condition}"
            if pump:
                self._browser.read()
            else:
                time.sleep(0.02)

    def key(self, key: str) -> None:
        """Press and release a key."""
        text = {"text": key} if len(key) == 1 else {}
        code = {"Enter": 13, "Backspace": 8, "Delete": 46}.get(key, ord(key.upper()[0]))
        for kind in ("keyDown", "keyUp"):
            extra = text if kind == "keyDown" else {}
            event = {"type": kind, "key": key, "windowsVirtualKeyCode": code, **extra}
            self._call("Input.dispatchKeyEvent", event)

    def click(self, selector: str, shift: bool = False) -> None:
        """Click the centre of an element with the mouse."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            event = {"type": kind, "x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            event |= {"modifiers": 8 if shift else 0}
            self._call("Input.dispatchMouseEvent", event)

    def text(self, selector: str) -> str:
        """Return the visible text of an element."""
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def overflow(self) -> int:
        """Return the pixels by which the page is wider than the window; 0 is correct."""
        return self.run("document.documentElement.scrollWidth - window.innerWidth")

    def set_download_folder(self, folder: Path) -> None:
        """Save downloads in a folder."""
        options = {"behavior": "allow", "downloadPath": str(folder)}
        options["browserContextId"] = self._context
        self._browser.call("Browser.setDownloadBehavior", options)

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Write the page, or only its visible part, as PNG."""
        options = {"format": "png", "captureBeyondViewport": whole}
        if whole:
            size = self._call("Page.getLayoutMetrics")["cssContentSize"]
            # without the scroll bar the layout is as wide as the window
            size["width"] = self.run("window.innerWidth")
            options["clip"] = {**size, "x": 0, "y": 0, "scale": 1}
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", options)["data"]))

    def _call(self, method: str, params: dict | None = None) -> dict:
        return self._browser.call(method, params, self._session)

    def record_event(self, method: str, params: dict) -> None:
        """Keep what an event says of the page."""
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])

    def external_requests(self) -> list[str]:
        """Return the requested URLs that are neither files nor parts of the page."""
        return [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))]


@functools.cache
def start() -> Browser:
    """Return the browser of this process, which ends with it; without Chromium, skip the test."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser found ({', '.join(NAMES)})")
    profile = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
    atexit.register(profile.cleanup)
    browser = Browser(found, Path(profile.name))
    atexit.register(browser.close)
    return browser


@contextlib.contextmanager
def chromium():
    """Yield a `Page` that shares neither storage nor cookies with others."""
    browser = start()
    context = browser.call("Target.createBrowserContext")["browserContextId"]
    try:
        yield Page(browser, context)
    finally:
        browser.call("Target.disposeBrowserContext", {"browserContextId": context})

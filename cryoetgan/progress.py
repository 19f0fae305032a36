"""Progress: a bar on a terminal, otherwise a log line every few seconds."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

log = logging.getLogger("cryoetgan")
T = TypeVar("T")
LINE_EVERY_S = 10.0
"""Seconds between two log lines."""


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` and show the progress and the remaining time.

    Parameters
    ----------
    items : iterable
        Items to process.
    what : str
        The activity, for the user.
    total : int, optional
        Number of items, if `items` has no length.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if log.isEnabledFor(logging.INFO) and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as bar

        yield from bar(items, description=what, total=total, console=Console(stderr=True))
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_EVERY_S:
            last = now
            if total:
                left = (now - start) / done * (total - done)
                log.info("%s: %d of %d, %.0f s left", what, done, total, left)
            else:
                log.info("%s: %d", what, done)

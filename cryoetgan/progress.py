"""A bar on a terminal, a line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

log = logging.getLogger("cryoetgan")
T = TypeVar("T")
LINE_EVERY_S = 10.0


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`, showing how far it is and how long it will take.

    Parameters
    ----------
    items : iterable
        What is worked through.
    what : str
        What is being done, as the user would say it.
    total : int, optional
        How many there are, where `len(items)` does not tell.
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

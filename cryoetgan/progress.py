"""Progress: a bar on a terminal, otherwise a log line every few seconds."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

log = logging.getLogger("cryoetgan")
T = TypeVar("T")
LINE_EVERY_S = 10.0
"""Seconds between two log lines."""


def track(
    items: Iterable[T],
    what: str,
    total: int | None = None,
    fraction: Callable[[], float] | None = None,
) -> Iterator[T]:
    """Yield `items` and show the progress and the remaining time.

    Parameters
    ----------
    items : iterable
        Items to process.
    what : str
        The activity, for the user.
    total : int, optional
        Number of items, if `items` has no length.
    fraction : callable, optional
        Returns the fraction that is done, if the number of items is not known before.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if log.isEnabledFor(logging.INFO) and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bars:
            bar = bars.add_task(what, total=1 if fraction else total)
            for number, item in enumerate(items, start=1):
                yield item
                bars.update(bar, completed=fraction() if fraction else number)
        return
    start = last = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_EVERY_S:
            last = now
            done = fraction() if fraction else number / total if total else 0.0
            shown = f"{100 * done:.0f} %" if fraction else f"{number} of {total}"
            if done:
                log.info("%s: %s, %.0f s left", what, shown, (now - start) * (1 - done) / done)
            else:
                log.info("%s: %d", what, number)

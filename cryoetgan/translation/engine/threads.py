"""The parts of a batch side by side on the cores of a CPU.

PyTorch divides each operation among its threads and waits for all of them after each. The operations
of small volumes are so short that much of the time is lost in waiting.
"""

import functools
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

START_SECONDS = 60
"""Time for the threads to start; after it, an error."""


def in_threads(function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
    """Return the results of a function for each item, as `map` does, without gradients.

    As many threads as PyTorch has share the items. The operations of an item run in one thread, so
    the number of threads changes no bit of the results.
    """
    items = list(zip(*arguments, strict=True))
    count = torch.get_num_threads()
    if count == 1 or len(items) == 1:
        with torch.no_grad():
            return [function(*item) for item in items]
    return list(_pool(count).map(_Call(function), items))


class _Call:
    """A function of one item, to be called in another thread, where gradients are on again."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, item: tuple[Any, ...]) -> Any:
        with torch.no_grad():
            return self.function(*item)


@functools.cache
def _pool(count: int) -> ThreadPoolExecutor:
    """Return threads whose operations use one thread each."""
    started = threading.Barrier(count + 1)

    def start() -> None:
        # the first call in a thread sets the number of its operations' threads: call it before ours
        torch.get_num_threads()
        torch.set_num_threads(1)
        started.wait(START_SECONDS)

    pool = ThreadPoolExecutor(count, initializer=start)
    for _ in range(count):
        pool.submit(int)
    started.wait(START_SECONDS)
    torch.set_num_threads(count)  # this thread's number, and the number of future threads
    return pool

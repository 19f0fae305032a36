"""How much memory a function holds."""

import tracemalloc


def peak(function):
    """Largest sum of numpy arrays alive, MB; inputs and memory maps of files do not count."""
    tracemalloc.start()
    function()
    size = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return size

"""Keep memory-mapped arrays from filling the memory."""

import mmap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OFTEN = 1 << 26
"""Bytes after which pages read or written are given back: bounded, and seldom enough."""


def release(array: NDArray[np.generic]) -> None:
    """Give back the pages of a memory-mapped array; nothing happens to any other.

    Pages once read or written count as the process's memory until the system wants them
    back, so a file read through would look as if it were all held. Read again, they come
    back from the file (or from the system's cache); what was written stays written.
    """
    owner: object = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def read(array: NDArray[np.generic], spans: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Return a float32 copy of a part of a volume, pages given back on the way.

    A page holds more than the part wants of it: read at once, a cube of 100 MB out of wide rows
    would map 600 MB of its file.

    Parameters
    ----------
    array : ndarray
        `(z, y, x)` of any type; memory-mapped is fine.
    spans : sequence of (int, int)
        Start and stop of each axis.
    """
    (first, last), rows, columns = spans
    part = np.empty([b - a for a, b in spans], np.float32)
    held = max(1, array.itemsize * (rows[1] - rows[0]) * array.shape[2])
    often = max(1, OFTEN // held)
    for index, z in enumerate(range(first, last)):
        part[index] = array[z, slice(*rows), slice(*columns)]
        if index % often == often - 1:
            release(array)
    release(array)
    return part


def sections(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield `array[0]`, `array[1]`, ..., to read or fill, giving pages back on the way."""
    often = max(1, OFTEN // max(1, array[0].nbytes))
    for index, section in enumerate(array):
        yield section
        if index % often == often - 1:
            release(array)

"""Bound the memory that memory-mapped arrays take."""

import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RELEASE_EVERY_BYTES = 1 << 26
"""Bytes read or written between two releases of pages: a bound that costs no time."""


def scratch_array(folder: Path | None, kind: type, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return zeros in a file without a name in `folder`; its disk space is taken at once.

    None is the folder of temporary files.

    Raises `OSError` if there is too little. A sparse file would kill the process later instead.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, math.prod(shape) * np.dtype(kind).itemsize)
        return np.memmap(file, kind, "w+", shape=shape)


def release_pages(array: NDArray[np.generic]) -> None:
    """Return the pages of a memory-mapped array to the system; other arrays are left alone.

    A page that was read or written counts as memory of the process until the system needs it. A
    file that was read to its end would therefore seem to be held as a whole. Written values are
    kept, and a later access reads the page again from the file or from the system's cache.
    """
    owner = _mapping(array)
    if owner is not None:
        owner.madvise(mmap.MADV_DONTNEED)


def expect_random_access(array: NDArray[np.generic], random: bool = True) -> None:
    """Tell the system whether single pages of a memory-mapped array are read, and not those around.

    Otherwise each read maps 15 pages beside its own.
    """
    owner = _mapping(array)
    if owner is not None:
        owner.madvise(mmap.MADV_RANDOM if random else mmap.MADV_NORMAL)


def _mapping(array: NDArray[np.generic]) -> mmap.mmap | None:
    """Return the mapped file of an array or of its view, if it has one that takes advice."""
    owner: object = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    return owner if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED") else None


def read_region(
    array: NDArray[np.generic],
    spans: Sequence[tuple[int, int]],
    release_every: int = RELEASE_EVERY_BYTES,
) -> NDArray[np.float32]:
    """Return a float32 copy of a region of a volume `(z, y, x)`; `spans` are starts and stops.

    Pages are released on the way, because a page holds more than its share of the region: a cube
    of 100 MB, read at once from wide rows, would map 600 MB of its file.
    """
    (first, last), rows, columns = spans
    region = np.empty([b - a for a, b in spans], np.float32)
    touched = array.itemsize * (rows[1] - rows[0]) * array.shape[2]
    period = max(1, release_every // max(1, touched))
    for index, z in enumerate(range(first, last)):
        region[index] = array[z, slice(*rows), slice(*columns)]
        if index % period == period - 1:
            release_pages(array)
    release_pages(array)
    return region


def iterate_sections(
    array: NDArray[Any], release_every: int = RELEASE_EVERY_BYTES
) -> Iterator[NDArray[Any]]:
    """Yield `array[0]`, `array[1]`, ..., to read or to fill; pages are released on the way."""
    section_bytes = array[0].nbytes if len(array) else 1
    period = max(1, release_every // max(1, section_bytes))
    for index, section in enumerate(array):
        yield section
        if index % period == period - 1:
            release_pages(array)

"""Keep a memory-mapped tomogram from filling the memory."""

import mmap

import numpy as np
from numpy.typing import NDArray


def release(volume: NDArray[np.generic]) -> None:
    """Give back the pages of a memory-mapped array; nothing happens to any other.

    Pages once read count as the process's memory until the system wants them back, so
    a tomogram read through would look as if it were all held. Read again, they come
    back from the file (or from the system's cache).
    """
    owner: object = volume
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)

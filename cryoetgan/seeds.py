"""Random numbers from (seed, item name): adding one item changes no other."""

import hashlib

import numpy as np


def rng(seed: int, *names: object) -> np.random.Generator:
    """Return the generator that belongs to one named item.

    Parameters
    ----------
    seed : int
        The run's seed.
    *names
        What the numbers are for, from coarse to fine: stage, class, index.

    Returns
    -------
    numpy.random.Generator
        Independent of every other name's, the same on every machine.
    """
    words = hashlib.sha256("\x1f".join(map(str, (seed, *names))).encode()).digest()
    return np.random.default_rng(int.from_bytes(words[:16], "big"))


def integer_seed(seed: int, *names: object) -> int:
    """Return a 63-bit seed for libraries that take an integer (torch.manual_seed)."""
    return int(rng(seed, *names).integers(2**63))

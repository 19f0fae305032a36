"""Random generators by seed and name: an added item does not change the others."""

import hashlib

import numpy as np


def rng(seed: int, *names: object) -> np.random.Generator:
    """Return the random generator of one named item.

    Parameters
    ----------
    seed : int
        Seed of the run.
    *names
        Names of the item, from coarse to fine: stage, class, index.

    Returns
    -------
    numpy.random.Generator
        Independent of all other items, and equal on all machines if seed and names are equal.
    """
    words = hashlib.sha256("\x1f".join(map(str, (seed, *names))).encode()).digest()
    return np.random.default_rng(int.from_bytes(words[:16], "big"))


def integer_seed(seed: int, *names: object) -> int:
    """Return a 63-bit seed for libraries that take an integer (torch.manual_seed)."""
    return int(rng(seed, *names).integers(2**63))

"""How much a generated voxel varies: by Monte Carlo dropout, and by the noise alone.

The paper's section 2.7 in two: what the network is unsure of (dropout on, noise the same), and
what the noise changes (dropout off, new noise). Neither is calibrated: maps to look at.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cryoetgan.io.volume_set import VolumeSet
from cryoetgan.seeds import integer_seed

DROPOUTS = (nn.Dropout, nn.Dropout3d)


class Passing(Protocol):
    """What a translator offers for it."""

    @property
    def generator(self) -> nn.Module:
        """The network."""
        ...

    def passes(
        self, source: VolumeSet, row: int, name: str, seed: int, count: int, fixed: bool
    ) -> Iterator[NDArray[np.float32]]:
        """Yield batches `(N, z, y, x)`, `count` translations of one row in all."""
        ...


def spread(batches: Iterable[NDArray[np.floating]]) -> NDArray[np.float32]:
    """Return the standard deviation (n - 1) of each voxel over all volumes of the batches."""
    count, mean, square = 0, np.zeros(()), np.zeros(())
    for batch in batches:
        for volume in np.asarray(batch, np.float64):
            count += 1
            step = volume - mean
            mean = mean + step / count
            square = square + step * (volume - mean)
    return np.asarray(np.sqrt(square / max(count - 1, 1)), np.float32)


def has_dropout(network: nn.Module) -> bool:
    """Return whether a network drops anything."""
    return any(isinstance(layer, DROPOUTS) and layer.p > 0 for layer in network.modules())


def spreads(
    translator: Passing,
    source: VolumeSet,
    names: Sequence[str],
    passes: int,
    seed: int,
    rows: Iterable[int] | None = None,
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
    """Yield row, SD over dropout with the noise fixed, SD over noise without dropout.

    Grey values are those of the subtomograms trained on. Of all rows, or of those given.
    """
    layers = [m for m in translator.generator.modules() if isinstance(m, DROPOUTS)]
    drops = has_dropout(translator.generator)
    for row in range(len(names)) if rows is None else rows:
        name = names[row]
        by_noise = spread(translator.passes(source, row, name, seed, passes, False))
        by_dropout = np.zeros_like(by_noise)
        if drops:
            for layer in layers:
                layer.train()
            with torch.random.fork_rng():
                torch.manual_seed(integer_seed(seed, "uncertainty", name) % 2**62)
                by_dropout = spread(translator.passes(source, row, name, seed, passes, True))
            for layer in layers:
                layer.eval()
        yield row, by_dropout, by_noise

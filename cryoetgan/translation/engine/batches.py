"""Which volumes come next, and how they reach the device: torch and numpy, nothing else."""

import torch
from torch import Tensor

from cryoetgan.seeds import rng

FREE_SHARE = 0.5
"""Of a GPU's free memory: what volumes may take of it; networks need the rest."""


class Deck:
    """Shuffled passes over a set: each item comes once before any comes again.

    Parameters
    ----------
    count : int
        Items.
    seed : int
        Of the shuffling.
    name : str
        Of the set: decks of two names are shuffled apart.
    """

    def __init__(self, count: int, seed: int, name: str) -> None:
        self.count, self.seed, self.name = count, seed, name
        self.dealt = 0
        """Items dealt so far: all that a resumed run must know."""
        self._lap, self._order = -1, torch.empty(0, dtype=torch.long)

    def deal(self, number: int) -> Tensor:
        """Return the indices of the next `number` items."""
        parts = []
        while number > 0:
            lap, start = divmod(self.dealt, self.count)
            if lap != self._lap:
                order = rng(self.seed, "deck", self.name, lap).permutation(self.count)
                self._lap, self._order = lap, torch.from_numpy(order)
            part = self._order[start : start + number]
            parts.append(part)
            number -= len(part)
            self.dealt += len(part)
        return torch.cat(parts)


class Volumes:
    """Volumes to take batches of: on the device where they fit, else in main memory.

    Parameters
    ----------
    volumes : Tensor
        `(N, 1, z, y, x)`.
    device : torch.device
        Where batches are wanted.
    """

    def __init__(self, volumes: Tensor, device: torch.device) -> None:
        self.device = device
        self.data = volumes.to(device) if _fits(volumes, device) else volumes.cpu()

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, rows: Tensor) -> Tensor:
        """Return the volumes of some rows, on the device."""
        chosen = self.data[rows.to(self.data.device)]
        if chosen.device.type == self.device.type:  # "cuda" is any one's cuda:0
            return chosen
        # page-locked memory goes over while the device computes
        return chosen.pin_memory().to(self.device, non_blocking=True)


def _fits(volumes: Tensor, device: torch.device) -> bool:
    if device.type != "cuda" or volumes.device.type == "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return volumes.numel() * volumes.element_size() <= FREE_SHARE * free

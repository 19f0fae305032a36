"""The order of training volumes, and their way to the device."""

import torch
from torch import Tensor

from cryoetgan.seeds import rng

FREE_MEMORY_FRACTION = 0.5
"""Fraction of a GPU's free memory that volumes may take; the networks need the rest."""


class ShuffledIndices:
    """Shuffled passes over a set: every item is drawn once before any is drawn again.

    `count` is the number of items. Sets of different names are shuffled independently.
    """

    def __init__(self, count: int, seed: int, name: str) -> None:
        self.count, self.seed, self.name = count, seed, name
        self.position = 0
        """Number of items drawn so far; a resumed run needs nothing else."""
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def draw(self, number: int) -> Tensor:
        """Return the indices `(number,)` of the next items."""
        parts = []
        while number > 0:
            epoch, start = divmod(self.position, self.count)
            if epoch != self._epoch:
                order = rng(self.seed, "deck", self.name, epoch).permutation(self.count)
                self._epoch, self._order = epoch, torch.from_numpy(order)
            part = self._order[start : start + number]
            parts.append(part)
            number -= len(part)
            self.position += len(part)
        return torch.cat(parts)


class VolumeLoader:
    """Batches on a device, of volumes `(N, 1, z, y, x)` that are held there if they fit."""

    def __init__(self, volumes: Tensor, device: torch.device) -> None:
        self.device = device
        fits = True
        if device.type == "cuda" and volumes.device.type != "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            fits = volumes.numel() * volumes.element_size() <= FREE_MEMORY_FRACTION * free
        self.data = volumes.to(device) if fits else volumes.cpu()

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, rows: Tensor) -> Tensor:
        """Return the volumes `(B, 1, z, y, x)` of some rows, on the device."""
        chosen = self.data[rows.to(self.data.device)]
        if chosen.device.type == self.device.type:  # a tensor on cuda:0 has type "cuda", too
            return chosen
        # page-locked memory is copied while the device computes
        return chosen.pin_memory().to(self.device, non_blocking=True)

"""A stock of scenes in memory, drawn from at each step."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scenes:
    """A stock of scenes; any signal goes with any noise of the same model.

    Attributes
    ----------
    signal, noise : Tensor
        `(N, 1, z, y, x)` grey values.
    density : Tensor
        `(N, 1, z, y, x)` half precision: what the signals are made of.
    model : Tensor of int
        `(N,)` which imaging model; sorted.
    """

    signal: Tensor
    noise: Tensor
    density: Tensor
    model: Tensor

    def __len__(self) -> int:
        return len(self.signal)

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return `count` signals, noises and densities, by torch's generator."""
        rows = torch.randint(len(self), (count,))
        first = torch.searchsorted(self.model, self.model[rows])
        last = torch.searchsorted(self.model, self.model[rows], right=True)
        others = first + (torch.rand(count) * (last - first)).long()
        return self.signal[rows], self.noise[others], self.density[rows].float()

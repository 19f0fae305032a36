"""Networks of preset `recommended`: physics first, then what its processing adds to it.

u is the signal of a scene through the fitted transfer, n the fitted noise. The filters are shown
one sum, c u + n: what does not know the signal cannot move a label. Untrained it is u + n, and left
as it is; no layer normalises, so the same network makes boxes and whole tomograms, tile by tile.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cryoetgan.translation.cyclegan.networks import LEAK
from cryoetgan.translation.residual.activation import influence
from cryoetgan.translation.residual.filters import answered, put_back

QUICK = 8.0
"""How much faster than filters the curve of grey values learns: it has the farthest to go."""


class Change(nn.Module):
    """3^3 convolutions, residual blocks without norm, last layer zero.

    Parameters
    ----------
    channels : int
        Of the input.
    width, blocks : int
        Channels and residual blocks.
    """

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LeakyReLU(LEAK),
                nn.Conv3d(width, width, 3, padding=1),
                nn.LeakyReLU(LEAK),
                nn.Conv3d(width, width, 3, padding=1),
            )
            for _ in range(blocks)
        )
        self.last = nn.Conv3d(width, 1, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, 1, z, y, x)` of `(B, channels, z, y, x)`; beyond the edges lies zero."""
        features = self.first(x)
        for block in self.blocks:
            features = features + block(features)
        return self.last(functional.leaky_relu(features, LEAK))


class Stage(nn.Module):
    """One step of learned reaction diffusion, x - sum k^T * f(k * x).

    Chen & Pock 2017, doi 10.1109/TPAMI.2016.2596743, each filter's influence f being
    a z + b tanh(s z) + c z exp(-t z^2 / 2): what smooths or sharpens, what flattens (b: total
    variation), what takes small answers away and keeps large ones (c).

    Parameters
    ----------
    filters : int
        Of 3^3 voxels, mean-free at the start.
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        kernels = torch.randn(filters, 1, 3, 3, 3)
        kernels = kernels - kernels.mean(dim=(2, 3, 4), keepdim=True)
        size = kernels.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1, 1)
        self.kernels = nn.Parameter(kernels / size)
        shape = (1, filters, 1, 1, 1)
        self.linear, self.bounded, self.falling = (
            nn.Parameter(torch.zeros(shape)) for _ in range(3)
        )
        self.log_bound, self.log_reach = (nn.Parameter(torch.full(shape, -1.0)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, 1, z, y, x)` of the same; beyond the edges lies the edge's own value."""
        z = answered(functional.pad(x, (2,) * 6, mode="replicate"), self.kernels)
        steep, narrow = torch.exp(-self.log_bound), torch.exp(-2 * self.log_reach)
        f = influence(z, self.linear, self.bounded, self.falling, steep, narrow)
        return x - put_back(f, self.kernels)


class ResidualGenerator(nn.Module):
    """y = x + r(x), x = c u + n: learned reaction diffusion, then a curve of grey values. Any size.

    The contrast c makes up for what r flattens. No gradient reaches it: training holds the slope
    of y on u (`residual_training.py`). It is of u as a whole: the level it moves is the curve's
    to put back.

    Parameters
    ----------
    stages, filters : int
        Steps of diffusion, and filters of each.
    """

    def __init__(self, stages: int = 5, filters: int = 16) -> None:
        super().__init__()
        self.log_contrast = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.stages = nn.ModuleList(Stage(filters) for _ in range(stages))
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.bend = nn.Parameter(torch.zeros(3))

    def radius(self) -> int:
        """Return the receptive radius in voxels."""
        return 2 * len(self.stages)

    def shown(self, signal: Tensor, noise: Tensor) -> Tensor:
        """Return x, what the filters are shown."""
        return torch.exp(self.log_contrast) * signal + noise

    def forward(self, signal: Tensor, noise: Tensor) -> Tensor:
        """Return y `(B, 1, z, y, x)` of signal and noise of that shape, grey values over SD."""
        x = self.shown(signal, noise)
        for stage in self.stages:
            x = stage(x)
        odd, even, level = QUICK * self.bend
        return x * torch.exp(QUICK * self.log_scale) + (odd + even * x) * torch.tanh(x) + level
